use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::access::AccessPolicy;
use crate::description::{ClientLimits, model_json, openapi_json};
use crate::metrics::Metrics;
use crate::queue::JobQueue;
use crate::routes::{ServerState, router, shutdown_requested};
use crate::upload::{ByteBudget, UploadLimits};
use crate::worker::Worker;
use crate::{Options, SegmentService, ServeError, connection};

/// Further clients wait in the operating system's accept queue.
const MAX_CONNECTIONS: u32 = 512;
/// How long a shutdown waits for clients to read their responses, and for abandoned jobs to stop.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// A bound server. It accepts connections at once and handles them in [`Server::run`].
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: ShutdownHandle,
    state: Arc<ServerState>,
    workers: Vec<Worker>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Number of accepted scans that were cancelled by a second shutdown request.
    pub abandoned: usize,
}

/// Stops a server, from any thread.
#[derive(Debug, Clone)]
pub struct ShutdownHandle(Arc<watch::Sender<usize>>);

impl ShutdownHandle {
    /// Requests a shutdown. After the first request the server accepts no scan and finishes the accepted ones. After the
    /// second request it cancels them.
    pub fn shutdown(&self) {
        self.0.send_modify(|requests| *requests += 1);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on an address; port 0 selects a free port. Clients can connect from now on. [`Server::run`] handles their
    /// requests.
    ///
    /// # Errors
    /// When the address cannot be bound, when other machines can reach it and neither a token nor
    /// [`Options::allow_anyone`] was set, or when the memory limit is below what the process already holds.
    pub fn bind(service: impl SegmentService, address: SocketAddr, options: Options) -> Result<Self, ServeError> {
        Self::check_exposure(address, &options)?;
        let service: Arc<dyn SegmentService> = Arc::new(service);
        let segmenter = service.segmenter();
        let memory = MemoryLimits::new(&options, segmenter.loaded_memory_bytes())?;
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| ServeError::Listen { address, source })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, shutdown_requests) = watch::channel(0);
        let shutdown = ShutdownHandle(Arc::new(sender));
        if options.stop_on_signals {
            // The handlers are installed here, so that a signal before `run` is not lost.
            let _context = runtime.enter();
            listen_for_signals(&shutdown)?;
        }
        let client_limits = ClientLimits {
            max_body_bytes: memory.max_body,
            queue: options.queue,
            workers: options.workers,
            timeout_secs: options.timeout.as_secs_f64(),
        };
        let model_json = model_json(segmenter, client_limits).into();
        let openapi_json = openapi_json(options.token.is_some(), memory.max_body).into();
        let access = match options.token {
            Some(token) => AccessPolicy::Token(token),
            None if options.allow_anyone => AccessPolicy::Anyone,
            None => AccessPolicy::LocalPrograms,
        };
        let (queue, metrics) =
            (Arc::new(JobQueue::new(options.queue, options.workers)), Arc::new(Metrics::default()));
        let worker = |_| Worker {
            service: Arc::clone(&service),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
            max_read_bytes: memory.max_read,
            max_memory: memory.per_worker,
        };
        let workers = (0..options.workers).map(worker).collect();
        let state = ServerState {
            queue,
            metrics,
            body_budget: Arc::new(ByteBudget::new(memory.held_bodies)),
            access,
            shutdown_requests,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
            max_connections: MAX_CONNECTIONS as usize,
            upload_limits: UploadLimits {
                max_bytes: memory.max_body,
                timeout: options.timeout,
                idle_timeout: options.idle_timeout,
            },
            timeout: options.timeout,
            idle_timeout: options.idle_timeout,
            queue_capacity: options.queue,
            workers: options.workers,
            model_json,
            openapi_json,
        };
        Ok(Self { runtime, listener, address, shutdown, state: Arc::new(state), workers })
    }

    /// Checks that an address is safe to listen on with these options. Callers can use it before they load a model;
    /// [`Server::bind`] repeats it.
    ///
    /// # Errors
    /// [`ServeError::Unprotected`].
    pub fn check_exposure(address: SocketAddr, options: &Options) -> Result<(), ServeError> {
        let protected = address.ip().is_loopback() || options.token.is_some() || options.allow_anyone;
        if protected { Ok(()) } else { Err(ServeError::Unprotected { address }) }
    }

    /// The address that the server listens on, with its actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that stops the server.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// Handles requests until a shutdown is requested, then finishes the accepted scans.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn run(self) -> Result<ShutdownReport, ServeError> {
        let Self { runtime, listener, state, workers, shutdown, .. } = self;
        let (alive, all_ended) = mpsc::channel(1);
        for (number, worker) in workers.into_iter().enumerate() {
            let alive = alive.clone();
            let work = move || {
                worker.run();
                drop(alive);
            };
            if let Err(source) = std::thread::Builder::new().name(format!("sulcus-serve-{number}")).spawn(work) {
                state.queue.close();
                return Err(source.into());
            }
        }
        drop(alive);
        let report = runtime.block_on(serve(listener, state, all_ended));
        drop(shutdown);
        Ok(report?)
    }
}

/// How the memory of the process is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MemoryLimits {
    /// Bytes of all request bodies together.
    held_bodies: u64,
    /// Bytes of one request body.
    max_body: u64,
    /// Bytes that one scan may take while it is read.
    max_read: u64,
    /// Bytes that the process may hold, as one worker sees it. A worker does not count the others.
    per_worker: Option<u64>,
}

impl MemoryLimits {
    fn new(options: &Options, loaded: u64) -> Result<Self, ServeError> {
        let held_bodies = options.max_body.saturating_mul(Options::HELD_BODIES_FACTOR);
        let max_read = options.max_body.saturating_mul(Options::READ_FACTOR);
        let Some(limit) = options.max_memory else {
            return Ok(Self { held_bodies, max_body: options.max_body, max_read, per_worker: None });
        };
        let free = limit.checked_sub(loaded).filter(|free| *free > 0);
        let free = free.ok_or(ServeError::MemoryLimit { limit, held: loaded })?;
        // Request bodies get at most a quarter.
        let held_bodies = held_bodies.min(free / 4);
        let per_worker = loaded + (free - held_bodies) / options.workers as u64;
        let max_body = options.max_body.min(held_bodies);
        Ok(Self { held_bodies, max_body, max_read, per_worker: Some(per_worker) })
    }
}

async fn serve(
    listener: TcpListener,
    state: Arc<ServerState>,
    mut all_ended: mpsc::Receiver<()>,
) -> std::io::Result<ShutdownReport> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(Arc::clone(&state));
    let mut requests = state.shutdown_requests.clone();
    tokio::select! {
        () = accept(&listener, &state, &router) => {}
        () = shutdown_requested(&mut requests, 1) => {}
    }
    drop(listener);
    state.queue.close();
    let mut abandoned = 0;
    tokio::select! {
        _ = all_ended.recv() => {}
        () = shutdown_requested(&mut requests, 2) => {
            abandoned = state.queue.abandon();
            // An engine cannot be stopped inside a tile. If it hangs, the end of the process ends it.
            let _ = timeout(SHUTDOWN_WAIT, all_ended.recv()).await;
        }
    }
    let _ = timeout(SHUTDOWN_WAIT, state.connections.acquire_many(MAX_CONNECTIONS)).await;
    Ok(ShutdownReport { abandoned })
}

async fn accept(listener: &tokio::net::TcpListener, state: &Arc<ServerState>, router: &axum::Router) {
    /// The error is usually a lack of file descriptors. A connection that ends frees one.
    const RETRY_DELAY: Duration = Duration::from_millis(50);
    // The permit is taken again after `accept`, because only this loop takes permits.
    while let Ok(permit) = state.connections.acquire().await {
        drop(permit);
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&state.connections).try_acquire_owned() else { continue };
                let connection = connection::serve(stream, Arc::clone(state), router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

#[cfg(unix)]
fn listen_for_signals(shutdown: &ShutdownHandle) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signals, shutdown) = (signal(kind)?, shutdown.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                shutdown.shutdown();
            }
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn listen_for_signals(shutdown: &ShutdownHandle) -> std::io::Result<()> {
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            shutdown.shutdown();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_and_a_limit_below_the_loaded_model_is_refused() {
        let options = Options::default().max_body(100).workers(2);
        let unlimited = MemoryLimits::new(&options, 1000).unwrap();
        assert_eq!(unlimited, MemoryLimits { held_bodies: 200, max_body: 100, max_read: 900, per_worker: None });
        let tight = MemoryLimits::new(&options.clone().max_memory(1200), 1000).unwrap();
        let expected = MemoryLimits { held_bodies: 50, max_body: 50, max_read: 900, per_worker: Some(1075) };
        assert_eq!(tight, expected);
        for limit in [10, 1000] {
            let error = MemoryLimits::new(&options.clone().max_memory(limit), 1000).unwrap_err();
            assert!(matches!(error, ServeError::MemoryLimit { held: 1000, .. }), "{error}");
        }
    }

    #[test]
    fn address_that_others_can_reach_needs_a_token_or_allow_anyone() {
        let accepts =
            |host: &str, options: &Options| Server::check_exposure(host.parse().unwrap(), options).is_ok();
        let (none, anyone) = (Options::default(), Options::default().allow_anyone());
        let token = Options::default().token(crate::Token::new("0123456789abcdef").unwrap());
        for host in ["127.0.0.1:0", "[::1]:0", "127.9.9.9:80"] {
            assert!(accepts(host, &none), "{host}");
        }
        for host in ["0.0.0.0:0", "[::]:0", "10.0.0.1:80"] {
            assert!(!accepts(host, &none) && accepts(host, &token) && accepts(host, &anyone), "{host}");
        }
    }
}
