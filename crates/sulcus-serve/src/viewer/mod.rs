//! The viewer's server: an embedded page and opened files, for one user of this machine.
//!
//! Other users of a machine can connect to its loopback addresses too. Every path therefore starts with a random token,
//! and any other path is refused: `http://127.0.0.1:PORT/TOKEN/index.html`. The links of the page are relative, so its
//! own requests contain the token. The token is not a cookie, because a browser sends a cookie to every port of an
//! address, including those of other users' servers.
//!
//! Files are opened before the server runs and are read from the open handle, even if another file gets their path later. The
//! files of a cohort, of which there may be thousands, are listed before the server runs and opened when they are requested.

mod file_body;
mod respond;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use self::file_body::SharedFile;
use self::respond::{Shared, Site};
use crate::connection::{WriteTimeout, close_gracefully};
use crate::connection_table::{ConnectionLimits, ConnectionPlace, ConnectionTable};
use crate::upload::MinRate;
use crate::{ServeError, Token};

/// Maximum number of open connections. A browser opens six.
const MAX_CONNECTIONS: usize = 64;
/// Maximum size of a request's line and headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Time limit for the head of a request and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a client must accept at least this many bytes of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_RATE: MinRate = MinRate { bytes: 10_000, window: Duration::from_secs(10) };
/// Number of random bytes in a token.
const TOKEN_BYTES: usize = 24;

/// Finds a file of the embedded page by its name.
pub type FindPage = fn(&str) -> Option<&'static [u8]>;

/// Listens on loopback after it is created, and responds after it is started.
#[derive(Debug)]
pub struct ViewerServer {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    site: Site,
    stop: Arc<watch::Sender<bool>>,
}

/// Stops a [`ViewerServer`], from any thread.
#[derive(Debug, Clone)]
pub struct ViewerStopper(Arc<watch::Sender<bool>>);

/// Data that a [`ViewerServer`] serves, as they are at the time of a request. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct SharedData(Arc<RwLock<Bytes>>);

impl SharedData {
    /// Replaces the data.
    pub fn set(&self, data: impl Into<Vec<u8>>) {
        // A panic cannot leave them half written.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Bytes::from(data.into());
    }

    fn get(&self) -> Bytes {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ViewerStopper {
    /// Makes [`ViewerServer::run`] return, at once if it is called later.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl ViewerServer {
    /// Listens on 127.0.0.1 and generates a token; port 0 selects a free port.
    ///
    /// # Errors
    /// If the port is in use, or the system provides no random bytes.
    pub fn bind(port: u16, page: FindPage) -> Result<Self, ServeError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| ServeError::Listen { address, source })?;
        let token = random_token()?;
        let site = Site::new(address.port(), Token::new(&token)?, page);
        let (stop, _) = watch::channel(false);
        Ok(Self { listener, address, token, site, stop: Arc::new(stop) })
    }

    /// Serves an opened file as `data/NAME`. Its length is the current one.
    ///
    /// # Errors
    /// If it is not a regular file.
    pub fn share(&mut self, name: impl Into<String>, file: File) -> std::io::Result<()> {
        self.site.share(name.into(), Shared::Open(SharedFile::new(file)?));
        Ok(())
    }

    /// Serves whatever regular file is at a path when it is requested, as `data/NAME`.
    pub fn share_path(&mut self, name: impl Into<String>, path: impl Into<PathBuf>) {
        self.site.share(name.into(), Shared::Path(path.into()));
    }

    /// Serves data that may change, as `data/NAME`.
    pub fn share_data(&mut self, name: impl Into<String>, data: &SharedData) {
        self.site.share(name.into(), Shared::Data(data.clone()));
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a page, with the token: `page` is its name and query, such as `index.html?image=data/image.nii`.
    /// Everyone who knows it can read the shared files.
    pub fn url(&self, page: &str) -> String {
        format!("http://{}/{}/{page}", self.address, self.token)
    }

    /// A handle that stops the server.
    pub fn stopper(&self) -> ViewerStopper {
        ViewerStopper(Arc::clone(&self.stop))
    }

    /// Handles requests until it is stopped. Responses in progress are then interrupted.
    ///
    /// # Errors
    /// If the system provides no event queue.
    pub fn run(self) -> Result<(), ServeError> {
        let Self { listener, site, stop, .. } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut stopped = stop.subscribe();
        let ended = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::select! {
                () = accept(&listener, Arc::new(site)) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
            Ok(())
        });
        // A thread that reads a file for a client may be in the middle of a read.
        runtime.shutdown_background();
        ended
    }
}

fn random_token() -> Result<String, ServeError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn accept(listener: &tokio::net::TcpListener, site: Arc<Site>) {
    /// The system has no file descriptor left; connections that end free some.
    const PAUSE: Duration = Duration::from_millis(20);
    let limits = ConnectionLimits { total: MAX_CONNECTIONS, per_client: MAX_CONNECTIONS };
    let connections = Arc::new(ConnectionTable::new(limits));
    let mut warned = false;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Otherwise every connection belongs to the user, and this one is closed at once.
                if let Some(place) = connections.add(client.ip()) {
                    tokio::spawn(serve(stream, Arc::clone(&site), place));
                }
                // In a flood of connections, each one still gets a chance to be read before the next is accepted.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!("a connection was not accepted: {error}");
                }
                connections.close_slowest();
                sleep(PAUSE).await;
            }
        }
    }
}

/// Handles requests of one client until either side ends the connection, or it is closed to make room for another one.
async fn serve(stream: TcpStream, site: Arc<Site>, place: ConnectionPlace) {
    tokio::select! {
        () = handle_requests(stream, &site, &place) => {}
        () = place.activity().closed() => {}
    }
}

async fn handle_requests(stream: TcpStream, site: &Site, place: &ConnectionPlace) {
    let _ = stream.set_nodelay(true);
    let activity = place.activity();
    let io = TokioIo::new(WriteTimeout::new(stream, Arc::clone(activity), MIN_RATE, WRITE_TIMEOUT));
    // A connection that has sent the token is never closed to make room.
    let trusted = OnceLock::new();
    let service = service_fn(|request| {
        let response = site.respond(&request, || {
            trusted.get_or_init(|| activity.wait_for_server());
        });
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(2 * MAX_HEADER_BYTES)
        .title_case_headers(true)
        .serve_connection(io, service)
        .without_shutdown()
        .await;
    if let Ok(parts) = served {
        close_gracefully(parts.io.into_inner().into_inner()).await;
    }
}
