//! One client's connection, from its first request to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::routes::{Shared, respond, stopping};
use crate::stall::Stall;

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Answers requests until either side has enough.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, router: Router) {
    // Answers are written at once, and small ones are not to wait for the next.
    let _ = stream.set_nodelay(true);
    let mut asked = shared.asked.clone();
    let patience = shared.patience;
    let io = TokioIo::new(Stall::new(stream, patience));
    let service = service_fn(move |request| -> Answering {
        let answer = respond(Arc::clone(&shared), router.clone(), request);
        Box::pin(async { Ok(answer.await) })
    });
    // The same patience for a request's head, and for an idle connection's next one.
    let mut connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(patience).serve_connection(io, service);
    let mut told = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = stopping(&mut asked, 1), if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if ended.is_ok() {
        linger(connection.into_parts().io.into_inner().into_inner()).await;
    }
}

/// Says that nothing more comes, and waits for the client to say the same. To close on a client that is still sending a body
/// that was refused would take the answer from it before it has read it.
pub(crate) async fn linger(mut stream: TcpStream) {
    const LONGEST: Duration = Duration::from_secs(5);
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut waste = [0; 1 << 14];
    let drain = async { while stream.read(&mut waste).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(LONGEST, drain).await;
}
