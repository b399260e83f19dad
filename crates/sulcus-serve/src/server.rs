use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::budget::Budget;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::model::Limits;
use crate::queue::Queue;
use crate::routes::{Shared, router, stopping};
use crate::work::Worker;
use crate::{Options, Segments, ServeError, connection, description, model};

/// More wait in the system's own line.
const CONNECTIONS: u32 = 512;
/// How long clients have to take what was finished, and abandoned work to end, before the server goes.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Listens already, and answers once it runs.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    stopper: Stopper,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Scans that were accepted and given up, because it was asked to stop twice.
    pub abandoned: usize,
}

/// Asks a server to stop, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<usize>>);

impl Stopper {
    /// The first time: nothing new is taken, what was accepted is finished. The second time: that is given up as well.
    pub fn stop(&self) {
        self.0.send_modify(|asked| *asked += 1);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on an address; port 0 takes any that is free. Clients may connect from now on, and are answered by
    /// [`Server::run`].
    ///
    /// # Errors
    /// When the address can't be had, other machines could reach it and neither a token nor leave for anyone was given, or the
    /// memory limit is less than what is held already.
    pub fn bind(segments: impl Segments, address: SocketAddr, options: Options) -> Result<Self, ServeError> {
        Self::check_reach(address, &options)?;
        let segments: Arc<dyn Segments> = Arc::new(segments);
        let segmenter = segments.segmenter();
        let share = Share::of(&options, segmenter.loaded_memory_bytes())?;
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| ServeError::Listen { address, source })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (asked, asked_seen) = watch::channel(0);
        let stopper = Stopper(Arc::new(asked));
        if options.signals {
            // From here on, so that a signal between this and `run` is not lost.
            let _context = runtime.enter();
            listen_for_signals(&stopper)?;
        }
        let limits = Limits {
            max_body_bytes: share.max_body,
            queue: options.queue,
            workers: options.workers,
            timeout_secs: options.timeout.as_secs_f64(),
        };
        let (model, openapi) =
            (model::page(segmenter, limits), description::page(options.token.is_some(), share.max_body));
        let guard = match options.token {
            Some(token) => Guard::Token(token),
            None if options.anyone => Guard::Nobody,
            None => Guard::Local,
        };
        let (queue, metrics) =
            (Arc::new(Queue::new(options.queue, options.workers)), Arc::new(Metrics::default()));
        let worker = |_| Worker {
            segments: Arc::clone(&segments),
            queue: Arc::clone(&queue),
            metrics: Arc::clone(&metrics),
            most_to_read: share.most_to_read,
            max_memory: share.of_worker,
        };
        let workers = (0..options.workers).map(worker).collect();
        let shared = Shared {
            queue,
            metrics,
            budget: Arc::new(Budget::new(share.held)),
            guard,
            asked: asked_seen,
            connections: Arc::new(Semaphore::new(CONNECTIONS as usize)),
            most_connections: CONNECTIONS as usize,
            max_body: share.max_body,
            timeout: options.timeout,
            patience: options.patience,
            places: options.queue,
            workers: options.workers,
            model: model.into(),
            openapi: openapi.into(),
        };
        Ok(Self { runtime, listener, address, stopper, shared: Arc::new(shared), workers })
    }

    /// That only those reach an address who may: for callers who want to know before they load a model.
    ///
    /// # Errors
    /// [`ServeError::Unprotected`].
    pub fn check_reach(address: SocketAddr, options: &Options) -> Result<(), ServeError> {
        let protected = address.ip().is_loopback() || options.token.is_some() || options.anyone;
        if protected { Ok(()) } else { Err(ServeError::Unprotected { address }) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Answers requests until it is stopped; then finishes the scans that it has accepted.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn run(self) -> Result<Ended, ServeError> {
        let Self { runtime, listener, shared, workers, stopper, .. } = self;
        let (alive, all_ended) = mpsc::channel(1);
        for (number, worker) in workers.into_iter().enumerate() {
            let alive = alive.clone();
            let work = move || {
                worker.run();
                drop(alive);
            };
            if let Err(source) = std::thread::Builder::new().name(format!("sulcus-serve-{number}")).spawn(work) {
                shared.queue.close();
                return Err(source.into());
            }
        }
        drop(alive);
        let ended = runtime.block_on(serve(listener, shared, all_ended));
        drop(stopper);
        Ok(ended?)
    }
}

/// What the memory is shared out to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// Of all bodies together.
    held: u64,
    max_body: u64,
    /// Of a scan, while it is read.
    most_to_read: u64,
    /// What the process may hold as one worker sees it, which knows of no other.
    of_worker: Option<u64>,
}

impl Share {
    fn of(options: &Options, loaded: u64) -> Result<Self, ServeError> {
        let held = options.max_body.saturating_mul(Options::HELD);
        let most_to_read = options.max_body.saturating_mul(Options::INFLATION);
        let Some(limit) = options.max_memory else {
            return Ok(Self { held, max_body: options.max_body, most_to_read, of_worker: None });
        };
        let free = limit.checked_sub(loaded).filter(|free| *free > 0);
        let free = free.ok_or(ServeError::MemoryLimit { limit, held: loaded })?;
        // A quarter is for bodies that wait.
        let held = held.min(free / 4);
        let of_worker = loaded + (free - held) / options.workers as u64;
        Ok(Self { held, max_body: options.max_body.min(held), most_to_read, of_worker: Some(of_worker) })
    }
}

async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut all_ended: mpsc::Receiver<()>,
) -> std::io::Result<Ended> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(Arc::clone(&shared));
    let mut asked = shared.asked.clone();
    tokio::select! {
        () = accept(&listener, &shared, &router) => {}
        () = stopping(&mut asked, 1) => {}
    }
    drop(listener);
    shared.queue.close();
    let mut abandoned = 0;
    tokio::select! {
        _ = all_ended.recv() => {}
        () = stopping(&mut asked, 2) => {
            abandoned = shared.queue.abandon();
            // An engine in the middle of a tile can't be stopped; one that never ends it is left to the process's end.
            let _ = timeout(LAST_WAIT, all_ended.recv()).await;
        }
    }
    let _ = timeout(LAST_WAIT, shared.connections.acquire_many(CONNECTIONS)).await;
    Ok(Ended { abandoned })
}

async fn accept(listener: &tokio::net::TcpListener, shared: &Arc<Shared>, router: &axum::Router) {
    /// The system is out of something, files perhaps, which an ending connection may give back.
    const BREATH: Duration = Duration::from_millis(50);
    // A place is waited for before a client is taken, and is the client's once there is one: nobody else takes places.
    while let Ok(place) = shared.connections.acquire().await {
        drop(place);
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&shared.connections).try_acquire_owned() else { continue };
                let connection = connection::serve(stream, Arc::clone(shared), router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a connection could not be taken: {error}");
                sleep(BREATH).await;
            }
        }
    }
}

#[cfg(unix)]
fn listen_for_signals(stopper: &Stopper) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signals, stopper) = (signal(kind)?, stopper.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                stopper.stop();
            }
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn listen_for_signals(stopper: &Stopper) -> std::io::Result<()> {
    let stopper = stopper.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_out_and_a_limit_below_what_is_held_is_refused() {
        let options = Options::default().max_body(100).workers(2);
        let free = Share::of(&options, 1000).unwrap();
        assert_eq!(free, Share { held: 200, max_body: 100, most_to_read: 900, of_worker: None });
        let tight = Share::of(&options.clone().max_memory(1200), 1000).unwrap();
        assert_eq!(tight, Share { held: 50, max_body: 50, most_to_read: 900, of_worker: Some(1075) });
        for limit in [10, 1000] {
            let error = Share::of(&options.clone().max_memory(limit), 1000).unwrap_err();
            assert!(matches!(error, ServeError::MemoryLimit { held: 1000, .. }), "{error}");
        }
    }

    #[test]
    fn other_machines_need_a_token_or_leave_for_anyone() {
        let reach = |host: &str, options: &Options| Server::check_reach(host.parse().unwrap(), options).is_ok();
        let (none, anyone) = (Options::default(), Options::default().allow_anyone());
        let token = Options::default().token(crate::Token::new("0123456789abcdef").unwrap());
        for host in ["127.0.0.1:0", "[::1]:0", "127.9.9.9:80"] {
            assert!(reach(host, &none), "{host}");
        }
        for host in ["0.0.0.0:0", "[::]:0", "10.0.0.1:80"] {
            assert!(!reach(host, &none) && reach(host, &token) && reach(host, &anyone), "{host}");
        }
    }
}
