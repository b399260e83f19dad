//! One connection of a client, from its first request to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
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

use crate::routes::{ServerState, respond, shutdown_requested};

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Handles requests until the client or a shutdown ends the connection.
pub(crate) async fn serve(stream: TcpStream, state: Arc<ServerState>, router: Router) {
    // A response is written as a whole. Waiting for more data to send would only delay small ones.
    let _ = stream.set_nodelay(true);
    let mut shutdown_requests = state.shutdown_requests.clone();
    let idle_timeout = state.idle_timeout;
    let io = TokioIo::new(WriteTimeout::new(stream, idle_timeout));
    let service = service_fn(move |request| -> ResponseFuture {
        let response = respond(Arc::clone(&state), router.clone(), request);
        Box::pin(async { Ok(response.await) })
    });
    // The timeout covers a request's head, and the time until the next request on an idle connection.
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .serve_connection(io, service);
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
async fn close_gracefully(mut stream: TcpStream) {
    const MAX_WAIT: Duration = Duration::from_secs(5);
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut discarded = [0; 1 << 14];
    let drain = async { while stream.read(&mut discarded).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(MAX_WAIT, drain).await;
}

/// A stream whose writes fail when the client accepts no data for too long. Reads have no timeout here; hyper and
/// [`crate::upload`] time them.
#[derive(Debug)]
struct WriteTimeout {
    stream: TcpStream,
    max_wait: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    fn new(stream: TcpStream, max_wait: Duration) -> Self {
        Self { stream, max_wait, deadline: None }
    }

    fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn with_deadline<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.deadline = None;
            return poll;
        }
        let max_wait = self.max_wait;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(max_wait)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.with_deadline(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    /// Writes 32 MB, which no system buffers, to a client.
    fn write(max_wait: Duration, client: impl FnOnce(std::net::TcpStream) + Send + 'static) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let connected = std::net::TcpStream::connect(listener.local_addr()?)?;
            let mut stream = WriteTimeout::new(listener.accept().await?.0, max_wait);
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
    fn write_fails_for_a_client_that_reads_nothing_and_waits_for_a_slow_one() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let idle = write(Duration::from_millis(200), move |_connected| {
            let _ = ended.recv();
        });
        assert_eq!(idle.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(end);
        // The whole transfer takes longer than the timeout, but no single write does.
        write(Duration::from_secs(2), |mut connected| {
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
