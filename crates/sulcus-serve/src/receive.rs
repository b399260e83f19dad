//! Bodies, read for as long as they come and no further than they may.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;

use crate::budget::{Budget, Lease};
use crate::problem::Problem;

/// A body, and its share of the budget.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    #[expect(dead_code, reason = "held for what happens when it goes")]
    pub(crate) lease: Lease,
}

/// How much, and how slowly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) most: u64,
    /// From its first byte to its last.
    pub(crate) whole: Duration,
    /// From one part to the next.
    pub(crate) pause: Duration,
}

/// Refuses a body that announces itself as too long, before it is sent.
pub(crate) fn check_announced(headers: &HeaderMap, most: u64) -> Result<(), Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > most) { Err(Problem::too_large(most).closing()) } else { Ok(()) }
}

/// Reads a body to its end. What counts is what comes, whatever was announced.
pub(crate) async fn receive(
    mut body: axum::body::Body,
    limits: Limits,
    budget: &Arc<Budget>,
    retry_secs: impl Fn() -> u64,
) -> Result<Body, Problem> {
    let deadline = Instant::now() + limits.whole;
    let (mut bytes, mut lease) = (Vec::new(), Lease::empty(budget));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let frame = match tokio::time::timeout(left.min(limits.pause), body.frame()).await {
            Ok(None) => return Ok(Body { bytes, lease }),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                // Mostly nobody is there to be told.
                let detail = "the body broke off, or its chunks are malformed; send it again";
                return Err(Problem::new(StatusCode::BAD_REQUEST, "broken-body", detail).closing());
            }
            Err(_) if left <= limits.pause => {
                let secs = limits.whole.as_secs_f64();
                return Err(Problem::slow_upload(format_args!("the scan was not uploaded within {secs:.0} s")));
            }
            Err(_) => {
                let secs = limits.pause.as_secs_f64();
                return Err(Problem::slow_upload(format_args!("nothing of the scan came for {secs:.0} s")));
            }
        };
        // Trailers are not looked at.
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limits.most {
            return Err(Problem::too_large(limits.most).closing());
        }
        if !lease.grow(data.len() as u64) || bytes.try_reserve(data.len()).is_err() {
            return Err(Problem::full(retry_secs()).closing());
        }
        bytes.extend_from_slice(&data);
    }
}
