//! Request bodies: their type, their length, the time they may take, and the memory that all of them may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use crate::problem_details::ProblemDetails;

/// A complete request body.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) bytes: Vec<u8>,
    #[expect(dead_code, reason = "returns its bytes to the budget when it is dropped")]
    pub(crate) reservation: ByteReservation,
}

/// The least number of bytes in each window of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinRate {
    pub(crate) bytes: u64,
    pub(crate) window: Duration,
}

/// Limits on one upload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UploadLimits {
    pub(crate) max_bytes: u64,
    /// From the first byte to the last.
    pub(crate) timeout: Duration,
    /// From one part to the next.
    pub(crate) idle_timeout: Duration,
    pub(crate) min_rate: MinRate,
}

/// Refuses a `Content-Type` or `Content-Encoding` that names something other than a NIfTI file or a picture, before the body is sent.
/// What the body is, its content decides.
pub(crate) fn check_content_type(headers: &HeaderMap) -> Result<(), ProblemDetails> {
    /// `application/x-nifti` and similar types are not registered, but programs send them.
    const ACCEPTED: [&str; 11] = [
        "application/gzip",
        "application/octet-stream",
        "application/x-gzip",
        "application/nifti",
        "application/x-nifti",
        "application/vnd.nifti",
        "image/nifti",
        "binary/octet-stream",
        "image/png",
        "image/jpeg",
        "image/tiff",
    ];
    let text = |value: &HeaderValue| value.to_str().unwrap_or("(not text)").to_ascii_lowercase();
    for value in headers.get_all(CONTENT_TYPE) {
        let value = text(value);
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if !ACCEPTED.contains(&media_type) {
            return Err(ProblemDetails::unsupported_media_type(format_args!(
                "the type `{}`",
                excerpt(media_type)
            )));
        }
    }
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = text(value);
        if !["", "identity", "gzip", "x-gzip"].contains(&value.trim()) {
            return Err(ProblemDetails::unsupported_media_type(format_args!(
                "the encoding `{}`",
                excerpt(&value)
            )));
        }
    }
    Ok(())
}

fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    text.chars().take(MAX_CHARS).collect()
}

/// Refuses a body whose `Content-Length` is above the limit, before the body is sent.
pub(crate) fn check_content_length(headers: &HeaderMap, max_bytes: u64) -> Result<(), ProblemDetails> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(bytes) if bytes > max_bytes => Err(ProblemDetails::body_too_large(max_bytes)),
        _ => Ok(()),
    }
}

/// Reads a body to its end. The limits apply to the received bytes, whatever length was announced.
pub(crate) async fn receive_upload(
    mut body: axum::body::Body,
    limits: UploadLimits,
    budget: &Arc<ByteBudget>,
    retry_secs: impl Fn() -> u64,
) -> Result<Upload, ProblemDetails> {
    let UploadLimits { max_bytes, timeout, idle_timeout, min_rate } = limits;
    let deadline = Instant::now() + timeout;
    let (mut bytes, mut reservation) = (Vec::new(), ByteReservation::empty(budget));
    let (mut window_end, mut window_bytes) = (Instant::now() + min_rate.window, 0);
    loop {
        let now = Instant::now();
        if now >= window_end {
            if window_bytes < min_rate.bytes {
                let (min, secs) = (min_rate.bytes, min_rate.window.as_secs_f64());
                let detail =
                    format_args!("expected at least {min} bytes of the scan in {secs:.1} s, found {window_bytes}");
                return Err(ProblemDetails::slow_upload(detail));
            }
            (window_end, window_bytes) = (now + min_rate.window, 0);
        }
        let remaining = deadline.saturating_duration_since(now);
        let wait = remaining.min(idle_timeout).min(window_end - now);
        let frame = match tokio::time::timeout(wait, body.frame()).await {
            Ok(None) => return Ok(Upload { bytes, reservation }),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(ProblemDetails::broken_body()),
            Err(_) if wait == remaining => {
                let detail = format_args!("the scan was not uploaded within {:.0} s", timeout.as_secs_f64());
                return Err(ProblemDetails::slow_upload(detail));
            }
            Err(_) if wait == idle_timeout => {
                let detail = format_args!("no part of the scan arrived for {:.0} s", idle_timeout.as_secs_f64());
                return Err(ProblemDetails::slow_upload(detail));
            }
            // The window has ended.
            Err(_) => continue,
        };
        // Trailers are ignored.
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > max_bytes {
            return Err(ProblemDetails::body_too_large(max_bytes));
        }
        if !reservation.grow(data.len() as u64) || bytes.try_reserve(data.len()).is_err() {
            return Err(ProblemDetails::queue_full(retry_secs()).closing());
        }
        window_bytes += data.len() as u64;
        bytes.extend_from_slice(&data);
    }
}

/// Bytes of request bodies that all requests together may hold.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    max: u64,
    held: AtomicU64,
}

impl ByteBudget {
    pub(crate) fn new(max: u64) -> Self {
        Self { max, held: AtomicU64::new(0) }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// The part of a [`ByteBudget`] that one request holds. Dropping it returns the bytes.
#[derive(Debug)]
pub(crate) struct ByteReservation {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

impl ByteReservation {
    pub(crate) fn empty(budget: &Arc<ByteBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Reserves more bytes, or returns false when the budget has too few. Callers reserve what has arrived and not what was
    /// announced, so a client that announces much and sends nothing blocks nobody.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let within_budget = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.budget.max);
        let reserved = self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within_budget).is_ok();
        if reserved {
            self.bytes += bytes;
        }
        reserved
    }
}

impl Drop for ByteReservation {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_refuses_beyond_its_maximum_and_gets_all_bytes_back() {
        let budget = Arc::new(ByteBudget::new(10));
        let (mut a, mut b) = (ByteReservation::empty(&budget), ByteReservation::empty(&budget));
        assert!(a.grow(6) && !b.grow(5) && b.grow(4) && !a.grow(1) && !a.grow(u64::MAX));
        assert_eq!(budget.held(), 10);
        drop(a);
        assert!(b.grow(6) && budget.held() == 10);
        drop(b);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn content_types_other_than_nifti_are_refused() {
        let status = |name, value: &str| {
            let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
            check_content_type(&headers).map_err(|p| p.status.as_u16())
        };
        for media_type in ["application/gzip", "Application/Octet-Stream; x=y", "application/x-nifti", "image/png"]
        {
            assert_eq!(status(CONTENT_TYPE, media_type), Ok(()), "{media_type}");
        }
        for media_type in ["application/json", "multipart/form-data; boundary=x", "text/plain", "image/gif", ""] {
            assert_eq!(status(CONTENT_TYPE, media_type), Err(415), "{media_type}");
        }
        assert_eq!((status(CONTENT_ENCODING, "gzip"), status(CONTENT_ENCODING, "br")), (Ok(()), Err(415)));
        assert_eq!(check_content_type(&HeaderMap::new()), Ok(()));
    }
}
