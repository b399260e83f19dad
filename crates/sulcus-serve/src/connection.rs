//! One connection of a client, from its first request to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use crate::connection_table::{ConnectionActivity, ConnectionPlace};
use crate::routes::{ClientConnection, ServerState, respond, shutdown_requested};
use crate::upload::MinRate;

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Handles requests until the client, a shutdown or the connection table ends the connection.
pub(crate) async fn serve(
    stream: TcpStream,
    address: IpAddr,
    place: ConnectionPlace,
    state: Arc<ServerState>,
    router: Router,
) {
    tokio::select! {
        () = handle_requests(stream, address, &place, state, router) => {}
        () = place.activity().closed() => {}
    }
}

async fn handle_requests(
    stream: TcpStream,
    address: IpAddr,
    place: &ConnectionPlace,
    state: Arc<ServerState>,
    router: Router,
) {
    /// A head is at most as long. It also limits what hyper buffers for each connection.
    const MAX_BUFFER: usize = 1 << 16;
    // A response is written as a whole. Waiting for more data to send would only delay small ones.
    let _ = stream.set_nodelay(true);
    let over_loopback = stream.local_addr().is_ok_and(|local| local.ip().to_canonical().is_loopback());
    let client = ClientConnection { address, over_loopback, activity: Arc::clone(place.activity()) };
    let mut shutdown_requests = state.shutdown_requests.clone();
    let idle_timeout = state.idle_timeout;
    let io = WriteTimeout::new(stream, Arc::clone(place.activity()), state.upload_limits.min_rate, idle_timeout);
    let service = service_fn(move |request| -> ResponseFuture {
        let response = respond(Arc::clone(&state), router.clone(), client.clone(), request);
        Box::pin(async { Ok(response.await) })
    });
    // The timeout covers a request's head, and the time until the next request on an idle connection.
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(io), service);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = shutdown_requested(&mut shutdown_requests, 1), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if ended.is_ok() {
        close_gracefully(connection.into_parts().io.into_inner().into_inner()).await;
    }
}

/// Ends the sending direction and reads until the client does the same. Closing at once on a client that still sends a
/// refused body would reset the connection before the client has read the response.
pub(crate) async fn close_gracefully(mut stream: TcpStream) {
    const MAX_WAIT: Duration = Duration::from_secs(5);
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut discarded = [0; 1 << 14];
    let drain = async { while stream.read(&mut discarded).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(MAX_WAIT, drain).await;
}

/// A stream whose writes fail when the client accepts too few bytes for too long. It also counts the bytes of both directions.
/// Reads have no timeout here; hyper and [`crate::upload`] time them.
#[derive(Debug)]
pub(crate) struct WriteTimeout {
    stream: TcpStream,
    activity: Arc<ConnectionActivity>,
    max_wait: Duration,
    /// What the client must accept during `max_wait`.
    min_bytes: u64,
    /// Since the last time that the client had accepted enough: the deadline, and the bytes until now.
    slow: Option<(Pin<Box<Sleep>>, u64)>,
}

impl WriteTimeout {
    pub(crate) fn new(
        stream: TcpStream,
        activity: Arc<ConnectionActivity>,
        min_rate: MinRate,
        max_wait: Duration,
    ) -> Self {
        let windows = max_wait.as_secs_f64() / min_rate.window.as_secs_f64().max(f64::MIN_POSITIVE);
        let min_bytes = (min_rate.bytes as f64 * windows) as u64;
        Self { stream, activity, max_wait, min_bytes: min_bytes.max(1), slow: None }
    }

    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn with_deadline(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &poll {
            Poll::Ready(Ok(written)) => {
                self.activity.transferred(*written);
                let total = self.slow.as_ref().map_or(0, |(_, bytes)| *bytes) + *written as u64;
                match &mut self.slow {
                    Some((_, bytes)) if total < self.min_bytes => *bytes = total,
                    _ => self.slow = None,
                }
                poll
            }
            Poll::Ready(Err(_)) => poll,
            Poll::Pending => {
                let max_wait = self.max_wait;
                let (deadline, _) = self.slow.get_or_insert_with(|| (Box::pin(sleep(max_wait)), 0));
                deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.activity.transferred(buf.filled().len() - before);
        poll
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.with_deadline(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when all is written.
        self.slow = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.with_deadline(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::net::TcpListener;

    use super::*;
    use crate::connection_table::{ConnectionLimits, ConnectionTable};

    /// Writes 32 MB, which no system buffers, to a client that must accept `min_bytes` during `max_wait`.
    fn write(
        max_wait: Duration,
        min_bytes: u64,
        client: impl FnOnce(std::net::TcpStream) + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let connected = std::net::TcpStream::connect(listener.local_addr()?)?;
            let limits = ConnectionLimits { total: 1, per_client: 1 };
            let address = IpAddr::from([127, 0, 0, 1]);
            let place = Arc::new(ConnectionTable::new(limits)).add(address).ok_or(io::ErrorKind::Other)?;
            let min_rate = MinRate { bytes: min_bytes, window: max_wait };
            let accepted = listener.accept().await?.0;
            let mut stream = WriteTimeout::new(accepted, Arc::clone(place.activity()), min_rate, max_wait);
            let client = std::thread::spawn(move || client(connected));
            let block = vec![0; 1 << 20];
            for _ in 0..32 {
                stream.write_all(&block).await?;
            }
            stream.shutdown().await?;
            client.join().map_err(|_| io::ErrorKind::Other.into())
        })
    }

    #[test]
    fn write_fails_for_a_client_that_reads_too_little_and_waits_for_a_slow_one() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let idle = write(Duration::from_millis(200), 1, move |_connected| {
            let _ = ended.recv();
        });
        assert_eq!(idle.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(end);
        // Each read is soon enough, but all together are too few. The system's buffers take a few megabytes at once.
        let trickle = write(Duration::from_millis(500), 64 << 20, |mut connected| {
            let mut block = vec![0; 1 << 12];
            while let Ok(1..) = connected.read(&mut block) {
                std::thread::sleep(Duration::from_millis(8));
            }
        });
        assert_eq!(trickle.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // The whole transfer takes longer than the timeout, but no single write does.
        write(Duration::from_secs(2), 1, |mut connected| {
            let (mut block, mut received) = (vec![0; 1 << 16], 0);
            while let Ok(read @ 1..) = connected.read(&mut block) {
                received += read;
                std::thread::sleep(Duration::from_millis(8));
            }
            assert_eq!(received, 32 << 20);
        })
        .unwrap();
    }
}
