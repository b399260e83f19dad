//! What a request gets that gets nothing else: a problem object (RFC 9457).

use std::fmt::Display;

use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{Error as RuntimeError, ErrorKind, with_causes};

/// Its media type.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// For programs; clients may rely on it.
    pub(crate) code: &'static str,
    /// For people: what was expected, what was found, what to do.
    pub(crate) detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Shown<'a> {
    /// RFC 9457: with `about:blank` the title is the status's own.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Display) -> Self {
        Self { status, code, detail: detail.to_string(), headers: Vec::new() }
    }

    fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, after which the connection ends: what the client still sends is not wanted.
    pub(crate) fn closing(self) -> Self {
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    fn retry_in(self, secs: u64) -> Self {
        self.with(RETRY_AFTER, secs)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is nothing at this path; /v1/openapi.json lists what there is",
        )
    }

    pub(crate) fn method(allowed: &'static str) -> Self {
        let detail = format_args!("this path takes {allowed} alone").to_string();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "token-needed",
            "this server asks for its token: send the header `Authorization: Bearer TOKEN`",
        )
        .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sulcus\""))
    }

    pub(crate) fn foreign() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign-page",
            "without a token this server answers programs on its own machine alone, called 127.0.0.1 or localhost, and no \
             web page of another origin",
        )
    }

    pub(crate) fn too_large(most: u64) -> Self {
        let detail = format_args!(
            "expected a body of at most {most} bytes, found more; send the scan gzipped, crop it, or raise the server's \
             --max-body"
        )
        .to_string();
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    }

    pub(crate) fn scan_too_large(most: u64, found: u64) -> Self {
        let detail = format_args!(
            "expected a scan that takes at most {most} bytes of memory once it is inflated, found one whose header announces \
             {found}; crop or downsample it, or raise the server's --max-body"
        )
        .to_string();
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "scan-too-large", detail)
    }

    pub(crate) fn full(retry_secs: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "queue-full",
            "as many scans wait as may; send this one again after the seconds in Retry-After",
        )
        .retry_in(retry_secs)
    }

    pub(crate) fn stopping() -> Self {
        const BACK_SOON: u64 = 5;
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping and takes no more scans")
            .retry_in(BACK_SOON)
            .closing()
    }

    pub(crate) fn slow_upload(what: impl Display) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-upload", what).closing()
    }

    pub(crate) fn waited_too_long(secs: f64, retry_secs: u64) -> Self {
        let detail = format_args!("the scan waited for {secs:.0} s and no worker was free; send it again later")
            .to_string();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "waited-too-long", detail).retry_in(retry_secs)
    }

    pub(crate) fn took_too_long(secs: f64) -> Self {
        let detail = format_args!(
            "the scan was not segmented within {secs:.0} s; crop or downsample it, or raise the server's --timeout"
        )
        .to_string();
        Self::new(StatusCode::GATEWAY_TIMEOUT, "took-too-long", detail)
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server met something in this scan that it did not expect; it goes on with others. Please report it",
        )
    }

    /// A body that is no scan.
    pub(crate) fn unreadable(error: &IoError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable-scan", with_causes(error))
    }

    /// A scan that gets no mask: for what it is (422, 413), or for what failed here (500).
    pub(crate) fn unsegmented(error: &RuntimeError) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::Pipeline(PipelineError::MemoryLimit { .. } | PipelineError::Memory { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "scan-too-large")
            }
            ErrorKind::Pipeline(
                PipelineError::Channels { .. } | PipelineError::NonFinite { .. } | PipelineError::Volume(_),
            ) => (StatusCode::UNPROCESSABLE_ENTITY, "unsuitable-scan"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "engine"),
        };
        let detail = match error.kind() {
            // What one worker may hold is all that it knows of.
            ErrorKind::Pipeline(PipelineError::MemoryLimit { .. }) => {
                format!("{} (of one worker's share of the server's memory limit)", with_causes(error))
            }
            _ => with_causes(error),
        };
        Self::new(status, code, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let (status, detail, code) = (self.status.as_u16(), self.detail.as_str(), self.code);
        let text = serde_json::to_vec(&Shown { r#type: "about:blank", title, status, detail, code });
        let mut response = (self.status, text.unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.headers);
        response
    }
}
