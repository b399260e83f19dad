//! Error responses: problem details as in RFC 9457.

use std::fmt::Display;

use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{Error as RuntimeError, ErrorKind, ScanWarning, with_causes};

/// The media type of problem details.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProblemDetails {
    pub(crate) status: StatusCode,
    /// A stable name for programs.
    pub(crate) code: &'static str,
    /// For people: what was expected, what was found, what to do.
    pub(crate) detail: String,
    /// Why a scan was refused as implausible.
    warnings: Vec<ScanWarning>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct ProblemJson<'a> {
    /// RFC 9457: with `about:blank` the title is the status's own.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "<[ScanWarning]>::is_empty")]
    warnings: &'a [ScanWarning],
}

impl ProblemDetails {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Display) -> Self {
        Self { status, code, detail: detail.to_string(), warnings: Vec::new(), headers: Vec::new() }
    }

    fn with_header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Also closes the connection, because the rest of the request body is not read.
    pub(crate) fn closing(self) -> Self {
        self.with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    fn with_retry_after(self, secs: u64) -> Self {
        self.with_header(RETRY_AFTER, secs)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is nothing at this path; /v1/openapi.json lists the paths of this server",
        )
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("this path allows only {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
            .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-acceptable",
            "the response is available as application/gzip (the mask, .nii.gz), application/octet-stream (the mask, .nii), \
             image/png (the mask of a picture or one slice), application/json (the result without the mask), multipart/form-data or multipart/mixed (the result and the \
             mask, .nii.gz); name one of them in Accept",
        )
    }

    pub(crate) fn not_one_slice(slices: usize) -> Self {
        let detail = format!("a PNG holds one slice, the scan has {slices}; name another type in Accept");
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "token-needed",
            "this server requires a token: send the header `Authorization: Bearer TOKEN`",
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sulcus\""))
    }

    pub(crate) fn foreign_page() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign-page",
            "this server serves only programs on its own machine: the headers Host and, if present, Origin must name \
             127.0.0.1 or localhost",
        )
    }

    pub(crate) fn unsupported_media_type(found: impl Display) -> Self {
        let detail = format!(
            "expected a NIfTI file (.nii or .nii.gz) as the body, sent as application/gzip or application/octet-stream, or a picture, \
             sent as image/png, image/jpeg or image/tiff, \
             found {found}; with curl: --data-binary @scan.nii.gz -H 'Content-Type: application/gzip'"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail)
    }

    pub(crate) fn empty_body() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "empty-body",
            "the body is empty: send a NIfTI file (.nii or .nii.gz) or a picture; with curl: --data-binary @scan.nii.gz",
        )
    }

    pub(crate) fn broken_body() -> Self {
        let detail = "the body ended early, or its chunks are malformed; send it again";
        Self::new(StatusCode::BAD_REQUEST, "broken-body", detail).closing()
    }

    pub(crate) fn body_too_large(max_bytes: u64) -> Self {
        let detail = format!(
            "expected a body of at most {max_bytes} bytes, found more; send the scan gzipped, crop it, or raise the server's \
             limit on bodies"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail).closing()
    }

    pub(crate) fn scan_too_large(max_bytes: u64, found: u64) -> Self {
        let detail = format!(
            "expected a scan that takes at most {max_bytes} bytes of memory when it is inflated, found a header that announces \
             {found}; crop or downsample the scan, or raise the server's limit on bodies"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "scan-too-large", detail)
    }

    pub(crate) fn queue_full(retry_secs: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "queue-full",
            "the queue is full; send this scan again after the seconds in Retry-After",
        )
        .with_retry_after(retry_secs)
    }

    pub(crate) fn stopping() -> Self {
        const RETRY_SECS: u64 = 5;
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping and takes no more scans")
            .with_retry_after(RETRY_SECS)
            .closing()
    }

    pub(crate) fn slow_upload(detail: impl Display) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow-upload", detail).closing()
    }

    pub(crate) fn waited_too_long(secs: f64, retry_secs: u64) -> Self {
        let detail = format!("the scan waited for {secs:.0} s and no worker was free; send it again later");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "waited-too-long", detail).with_retry_after(retry_secs)
    }

    pub(crate) fn took_too_long(secs: f64) -> Self {
        let detail = format!(
            "the scan was not segmented within {secs:.0} s; crop or downsample it, or raise the server's timeout"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "took-too-long", detail)
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an unexpected error occurred while this scan was processed; other scans are not affected. Please report it",
        )
    }

    /// A body that is not a scan.
    pub(crate) fn unreadable_scan(error: &IoError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable-scan", with_causes(error))
    }

    /// A scan that could not be segmented: 413 or 422 when the scan is the cause, 500 otherwise.
    pub(crate) fn segmentation_failed(error: &RuntimeError) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::Pipeline(PipelineError::MemoryLimit { .. } | PipelineError::Memory { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "scan-too-large")
            }
            ErrorKind::Pipeline(PipelineError::Implausible { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "implausible-scan")
            }
            ErrorKind::Pipeline(error) if error.is_about_scan() => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unsuitable-scan")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "engine"),
        };
        let detail = match error.kind() {
            // The runtime reports the limit of one worker, not the server's.
            ErrorKind::Pipeline(PipelineError::MemoryLimit { .. }) => {
                format!("{} (of one worker's share of the server's memory limit)", with_causes(error))
            }
            _ => with_causes(error),
        };
        Self { warnings: error.scan_warnings().to_vec(), ..Self::new(status, code, detail) }
    }
}

impl IntoResponse for ProblemDetails {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let (status, detail, code, warnings) =
            (self.status.as_u16(), self.detail.as_str(), self.code, self.warnings.as_slice());
        let body =
            serde_json::to_vec(&ProblemJson { r#type: "about:blank", title, status, detail, code, warnings });
        let mut response = (self.status, body.unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.headers);
        response
    }
}
