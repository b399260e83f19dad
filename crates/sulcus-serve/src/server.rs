use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::access::AccessPolicy;
use crate::connection_table::{ConnectionLimits, ConnectionTable};
use crate::description::{ClientLimits, model_json, openapi_json};
use crate::memory::MemoryLimits;
use crate::metrics::Metrics;
use crate::queue::JobQueue;
use crate::routes::{ServerState, router, shutdown_requested};
use crate::upload::{ByteBudget, UploadLimits};
use crate::worker::Worker;
use crate::{Options, SegmentService, ServeError, connection};

/// Connections that the operating system holds until they are accepted. With the standard library's 128, a burst of connections
/// makes others wait for a second, until TCP tries again.
const BACKLOG: u32 = 1024;
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
        let memory =
            MemoryLimits::new(&options, segmenter.loaded_memory_bytes(), sulcus_runtime::machine_memory_bytes())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listen = || {
            let _context = runtime.enter();
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // As the standard library does. On Windows the option has another meaning.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?.into_std()?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| ServeError::Listen { address, source })?;
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
            max_memory_bytes: memory.process,
        };
        // Connections that wait for their scans take no places from others.
        let jobs = options.queue.saturating_add(options.workers);
        let ConnectionLimits { total, per_client } = options.connections;
        let connection_limits =
            ConnectionLimits { total: total.saturating_add(jobs), per_client: per_client.saturating_add(jobs) };
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
            connections: Arc::new(ConnectionTable::new(connection_limits)),
            memory_limit: memory.process,
            upload_limits: UploadLimits {
                max_bytes: memory.max_body,
                timeout: options.timeout,
                idle_timeout: options.idle_timeout,
                min_rate: options.min_rate,
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

async fn serve(
    listener: TcpListener,
    state: Arc<ServerState>,
    mut all_ended: mpsc::Receiver<()>,
) -> std::io::Result<ShutdownReport> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(Arc::clone(&state));
    let (open, mut all_closed) = mpsc::channel(1);
    let mut requests = state.shutdown_requests.clone();
    tokio::select! {
        () = accept(&listener, &state, &router, &open) => {}
        () = shutdown_requested(&mut requests, 1) => {}
    }
    drop((listener, open));
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
    let _ = timeout(SHUTDOWN_WAIT, all_closed.recv()).await;
    Ok(ShutdownReport { abandoned })
}

/// Accepts connections, and never stops. Each connection holds a clone of `open` while it lives.
async fn accept(
    listener: &tokio::net::TcpListener,
    state: &Arc<ServerState>,
    router: &axum::Router,
    open: &mpsc::Sender<()>,
) {
    /// Until a connection that is told to close has closed.
    const RETRY_DELAY: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let client = client.ip().to_canonical();
                // Without a place the connection closes at once.
                if let Some(place) = state.connections.add(client) {
                    let connection = connection::serve(stream, client, place, Arc::clone(state), router.clone());
                    let open = open.clone();
                    tokio::spawn(async move {
                        connection.await;
                        drop(open);
                    });
                }
                // In a flood of connections, each one still gets a chance to be read before the next is accepted.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                // The error is usually a lack of file descriptors.
                tracing::warn!("a connection was not accepted: {error}");
                state.connections.close_slowest();
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
