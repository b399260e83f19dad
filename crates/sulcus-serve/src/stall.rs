//! A connection that is given up when its client takes nothing for too long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Writing waits this long for the client and no longer; reading is timed by whoever reads.
#[derive(Debug)]
pub(crate) struct Stall {
    stream: TcpStream,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, waiting: None }
    }

    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn timed<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stall {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stall {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.timed(cx, poll)
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
        self.timed(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Writes 32 MB, which no system buffers, to a client.
    fn write(patience: Duration, client: impl FnOnce(std::net::TcpStream) + Send + 'static) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let connected = std::net::TcpStream::connect(listener.local_addr()?)?;
            let mut stall = Stall::new(listener.accept().await?.0, patience);
            let client = std::thread::spawn(move || client(connected));
            let block = vec![0; 1 << 20];
            for _ in 0..32 {
                stall.write_all(&block).await?;
            }
            stall.shutdown().await?;
            client.join().map_err(|_| io::ErrorKind::Other.into())
        })
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_waited_for() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let idle = write(Duration::from_millis(200), move |_connected| {
            let _ = ended.recv();
        });
        assert_eq!(idle.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(end);
        // All of it takes longer than the patience, no part of it does.
        write(Duration::from_secs(2), |mut connected| {
            let (mut block, mut taken) = (vec![0; 1 << 16], 0);
            while let Ok(read @ 1..) = connected.read(&mut block) {
                taken += read;
                std::thread::sleep(Duration::from_millis(8));
            }
            assert_eq!(taken, 32 << 20);
        })
        .unwrap();
    }
}
