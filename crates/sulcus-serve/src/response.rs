//! The response to a segmented scan: which format the client accepts (RFC 9110, section 12.5.1), the result as JSON, and
//! how result and mask are encoded.

use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sulcus_runtime::Report;

use crate::problem_details::ProblemDetails;

/// The header that carries the result beside a mask.
const RESULT_HEADER: &str = "sulcus-result";

/// How a segmented scan is sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseFormat {
    /// The mask as `.nii.gz`.
    GzippedMask,
    /// The mask as `.nii`.
    PlainMask,
    /// The mask as `.png`, for a picture or one slice.
    Png,
    /// The result without the mask.
    Json,
    /// The result and the mask as `.nii.gz`. Browsers and other JavaScript programs parse this multipart type, and no
    /// other, with `Response.formData()`. Python's `email` and other MIME parsers read it too.
    FormData,
    /// The same parts, for MIME libraries that expect the generic type.
    Multipart,
}

impl ResponseFormat {
    /// In order of preference where the client has none.
    const ALL: [Self; 6] =
        [Self::GzippedMask, Self::PlainMask, Self::Png, Self::Json, Self::FormData, Self::Multipart];

    fn media_type(self) -> &'static str {
        match self {
            Self::GzippedMask => "application/gzip",
            Self::PlainMask => "application/octet-stream",
            Self::Png => "image/png",
            Self::Json => "application/json",
            Self::FormData => "multipart/form-data",
            Self::Multipart => "multipart/mixed",
        }
    }

    /// The format that the request's `Accept` prefers. Without `Accept` it is the gzipped mask.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Self, ProblemDetails> {
        let ranges: Vec<MediaRange> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(MediaRange::parse)
            .collect();
        if ranges.is_empty() {
            return Ok(Self::GzippedMask);
        }
        let mut best: Option<(Self, f32)> = None;
        for format in Self::ALL {
            // The most specific matching range sets the quality.
            let matching = ranges.iter().filter_map(|range| Some((range.specificity(format)?, range.quality)));
            let quality = matching.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, quality)| quality);
            if quality > best.map_or(0.0, |(_, quality)| quality) {
                best = Some((format, quality));
            }
        }
        best.map(|(format, _)| format).ok_or_else(ProblemDetails::not_acceptable)
    }
}

/// A media range of `Accept`.
struct MediaRange {
    media_type: String,
    quality: f32,
}

impl MediaRange {
    /// Returns `None` for a malformed range, which is ignored.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| !media_type.is_empty())?.to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(Some(1.0), |q| q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q)))?;
        Some(Self { media_type, quality })
    }

    fn specificity(&self, format: ResponseFormat) -> Option<u8> {
        let exact = format.media_type();
        match self.media_type.as_str() {
            "*/*" => Some(0),
            "application/x-gzip" => (format == ResponseFormat::GzippedMask).then_some(2),
            range if range == exact => Some(2),
            range => range
                .strip_suffix('*')
                .is_some_and(|prefix| prefix.ends_with('/') && exact.starts_with(prefix))
                .then_some(1),
        }
    }
}

/// A segmented scan, ready to be sent.
#[derive(Debug)]
pub(crate) struct SegmentResponse {
    pub(crate) format: ResponseFormat,
    /// The encoded mask; empty for [`ResponseFormat::Json`].
    pub(crate) mask: Vec<u8>,
    pub(crate) result: SegmentResult,
}

impl IntoResponse for SegmentResponse {
    fn into_response(self) -> Response {
        let Self { format, mask, result } = self;
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("accept"));
        let mut content_type = HeaderValue::from_static(format.media_type());
        let body = match format {
            ResponseFormat::Json => serde_json::to_vec(&result).unwrap_or_default(),
            ResponseFormat::GzippedMask | ResponseFormat::PlainMask | ResponseFormat::Png => {
                let disposition = match format {
                    ResponseFormat::GzippedMask => "attachment; filename=\"mask.nii.gz\"",
                    ResponseFormat::Png => "attachment; filename=\"mask.png\"",
                    _ => "attachment; filename=\"mask.nii\"",
                };
                headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
                if let Some(value) = result.into_header().and_then(|text| HeaderValue::from_str(&text).ok()) {
                    headers.insert(RESULT_HEADER, value);
                }
                mask
            }
            ResponseFormat::FormData | ResponseFormat::Multipart => {
                let json = serde_json::to_vec(&result).unwrap_or_default();
                let boundary = boundary(&json, &mask);
                let value = format!("{}; boundary={boundary}", format.media_type());
                if let Ok(value) = HeaderValue::from_str(&value) {
                    content_type = value;
                }
                multipart(&boundary, &json, &mask)
            }
        };
        headers.insert(CONTENT_TYPE, content_type);
        (headers, body).into_response()
    }
}

/// A line that occurs in neither part: it holds a hash of both.
fn boundary(json: &[u8], mask: &[u8]) -> String {
    let hash = Sha256::new().chain_update(json).chain_update(mask).finalize();
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("sulcus-{digits}")
}

/// The parts `result` and `mask` (RFC 2046, section 5.1; RFC 7578).
fn multipart(boundary: &str, json: &[u8], mask: &[u8]) -> Vec<u8> {
    let result_head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"result\"\r\nContent-Type: application/json\r\n\r\n"
    );
    let mask_head = format!(
        "\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"mask\"; filename=\"mask.nii.gz\"\r\nContent-Type: \
         application/gzip\r\n\r\n"
    );
    let end = format!("\r\n--{boundary}--\r\n");
    [result_head.as_bytes(), json, mask_head.as_bytes(), mask, end.as_bytes()].concat()
}

/// The result of a segmentation beside its mask, with the same fields as `sulcus predict --json`.
#[derive(Debug, Serialize)]
pub(crate) struct SegmentResult {
    pub(crate) models: Vec<String>,
    #[serde(flatten)]
    pub(crate) report: Report,
}

impl SegmentResult {
    /// One line of ASCII, as a header needs it. The labels are left out when the line would be too long; `None` when the
    /// rest is too long as well.
    fn into_header(mut self) -> Option<String> {
        /// What proxies accept of one header by default.
        const MAX_LENGTH: usize = 4096;
        let complete = escape_non_ascii(&serde_json::to_string(&self).ok()?);
        if complete.len() <= MAX_LENGTH {
            return Some(complete);
        }
        self.report.labels.clear();
        Some(escape_non_ascii(&serde_json::to_string(&self).ok()?)).filter(|rest| rest.len() <= MAX_LENGTH)
    }
}

fn escape_non_ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use sulcus_runtime::LabelVolume;

    use super::*;

    fn result(labels: usize, name: &str) -> SegmentResult {
        let label = |i: usize| LabelVolume {
            name: format!("{name} {i}"),
            value: i as u16,
            values: vec![i as u16],
            voxels: 10,
            ml: Some(0.01),
            mm2: None,
        };
        let mut report = Report::default();
        report.engine = "tract".into();
        report.device = "cpu".into();
        report.precision = "fp32".into();
        report.tiles = 1;
        report.labels = (1..=labels).map(label).collect();
        SegmentResult { models: vec!["Höhle".into()], report }
    }

    #[test]
    fn header_is_ascii_and_parses_to_the_same_names() {
        let text = result(1, "Großhirn 🧠").into_header().unwrap();
        assert!(text.is_ascii() && text.contains("\\ud83e\\udde0"), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["labels"]["Großhirn 🧠 1"]["voxels"], 10);
        assert_eq!(read["models"][0], "Höhle");
    }

    #[test]
    fn header_leaves_out_labels_that_do_not_fit_and_then_is_absent() {
        let text = result(200, "Structure").into_header().unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(read.get("labels").is_none() && read["tiles"] == 1, "{text}");
        let mut long = result(1, "x");
        long.models = vec!["x".repeat(5000)];
        assert_eq!(long.into_header(), None);
    }

    #[test]
    fn multipart_holds_all_of_117_labels_and_the_mask() {
        // A mask that looks like the end of a part.
        let mask = b"\x1f\x8b\r\n--sulcus-\r\n\0\xff".to_vec();
        let json = serde_json::to_vec(&result(117, "Großhirn")).unwrap();
        assert!(json.len() > 4096 && !result(117, "Großhirn").into_header().unwrap().contains("labels"));
        let format = ResponseFormat::FormData;
        let response = SegmentResponse { format, mask: mask.clone(), result: result(117, "Großhirn") };
        let response = response.into_response();
        assert!(response.headers().get(RESULT_HEADER).is_none());
        let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(axum::body::to_bytes(response.into_body(), usize::MAX)).unwrap();
        assert_eq!(body, multipart(boundary, &json, &mask));
        assert_eq!(String::from_utf8_lossy(&body).matches(&format!("--{boundary}")).count(), 3);
        assert!(body.windows(json.len()).any(|part| part == json));
        assert!(body.ends_with(&[&mask[..], format!("\r\n--{boundary}--\r\n").as_bytes()].concat()));
    }

    #[test]
    fn accept_selects_the_preferred_format() {
        use ResponseFormat::{FormData, GzippedMask, Json, Multipart, PlainMask};
        let negotiate = |accept: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            ResponseFormat::negotiate(&headers).map_err(|p| p.status.as_u16())
        };
        for (accept, expected) in [
            ("*/*", GzippedMask),
            ("", GzippedMask),
            ("application/*", GzippedMask),
            ("application/json", Json),
            ("APPLICATION/JSON ; q=0.5", Json),
            ("application/x-gzip", GzippedMask),
            ("application/octet-stream, application/gzip;q=0.9", PlainMask),
            ("application/json;q=0.2, */*;q=0.1", Json),
            ("application/gzip;q=0, */*", PlainMask),
            ("text/html, application/json;q=0.001", Json),
            ("multipart/form-data", FormData),
            ("multipart/mixed", Multipart),
            ("multipart/*", FormData),
            ("multipart/form-data;q=0.5, multipart/mixed", Multipart),
            ("application/gzip;q=nonsense", GzippedMask),
        ] {
            assert_eq!(negotiate(accept), Ok(expected), "{accept}");
        }
        for accept in ["text/html", "application/json;q=0", "application/problem+json", "multipart/related", "*"] {
            assert_eq!(negotiate(accept), Err(406), "{accept}");
        }
        assert_eq!(ResponseFormat::negotiate(&HeaderMap::new()), Ok(GzippedMask));
    }
}
