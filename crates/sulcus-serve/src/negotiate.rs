//! What a client sends and what it takes (RFC 9110, sections 8.3 and 12.5.1).

use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};

use crate::problem::Problem;

/// What a scan is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The mask, `.nii.gz`.
    Gzip,
    /// The mask, `.nii`.
    Plain,
    /// What is said of it, without it.
    Json,
}

impl Form {
    /// What is preferred first.
    const ALL: [Self; 3] = [Self::Gzip, Self::Plain, Self::Json];

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/gzip",
            Self::Plain => "application/octet-stream",
            Self::Json => "application/json",
        }
    }

    fn is(self, media_type: &str) -> bool {
        media_type == self.media_type() || (self == Self::Gzip && media_type == "application/x-gzip")
    }

    /// The one that the client likes best; the mask, gzipped, when it says nothing.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let ranges: Vec<Range> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(Range::parse)
            .collect();
        if ranges.is_empty() {
            return Ok(Self::Gzip);
        }
        let mut best: Option<(Self, f32)> = None;
        for form in Self::ALL {
            // The most specific range that covers it decides.
            let covering = ranges.iter().filter_map(|range| Some((range.specificity(form)?, range.quality)));
            let quality = covering.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, quality)| quality);
            if quality > best.map_or(0.0, |(_, least)| least) {
                best = Some((form, quality));
            }
        }
        best.map(|(form, _)| form).ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "not-acceptable",
                "the answer can be had as application/gzip (the mask, .nii.gz), application/octet-stream (the mask, .nii) or \
                 application/json (volumes and seconds); name one of them in Accept",
            )
        })
    }
}

/// A media range of `Accept`.
struct Range {
    kind: String,
    quality: f32,
}

impl Range {
    /// One that cannot be read covers nothing.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().filter(|kind| !kind.is_empty())?.to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.map_or(Some(1.0), |q| q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q)))?;
        Some(Self { kind, quality })
    }

    fn specificity(&self, form: Form) -> Option<u8> {
        match self.kind.as_str() {
            "*/*" => Some(0),
            "application/*" => Some(1),
            kind => form.is(kind).then_some(2),
        }
    }
}

/// A body is told by its content; a type that says that it is something else is refused before it is sent.
pub(crate) fn check_sent(headers: &HeaderMap) -> Result<(), Problem> {
    /// `application/x-nifti` and its like have no registration; programs send them.
    const TAKEN: [&str; 8] = [
        "application/gzip",
        "application/octet-stream",
        "application/x-gzip",
        "application/nifti",
        "application/x-nifti",
        "application/vnd.nifti",
        "image/nifti",
        "binary/octet-stream",
    ];
    let refuse = |what: String| {
        let detail = format!(
            "expected a NIfTI file (.nii or .nii.gz) as the body, sent as application/gzip or application/octet-stream, \
             found {what}; with curl: --data-binary @scan.nii.gz -H 'Content-Type: application/gzip'"
        );
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", detail))
    };
    let text =
        |value: &axum::http::HeaderValue| value.to_str().unwrap_or("one that is no text").to_ascii_lowercase();
    for value in headers.get_all(CONTENT_TYPE) {
        let value = text(value);
        let kind = value.split(';').next().unwrap_or_default().trim();
        if !TAKEN.contains(&kind) {
            return refuse(format!("the type `{}`", excerpt(kind)));
        }
    }
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = text(value);
        if !["", "identity", "gzip", "x-gzip"].contains(&value.trim()) {
            return refuse(format!("the encoding `{}`", excerpt(&value)));
        }
    }
    Ok(())
}

fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_the_client_likes_best_is_sent() {
        let form = |accept: &str| Form::accepted(&headers(&[(ACCEPT, accept)])).map_err(|p| p.status.as_u16());
        for (accept, expected) in [
            ("*/*", Form::Gzip),
            ("", Form::Gzip),
            ("application/*", Form::Gzip),
            ("application/json", Form::Json),
            ("APPLICATION/JSON ; q=0.5", Form::Json),
            ("application/x-gzip", Form::Gzip),
            ("application/octet-stream, application/gzip;q=0.9", Form::Plain),
            ("application/json;q=0.2, */*;q=0.1", Form::Json),
            ("application/gzip;q=0, */*", Form::Plain),
            ("text/html, application/json;q=0.001", Form::Json),
        ] {
            assert_eq!(form(accept), Ok(expected), "{accept}");
        }
        for accept in
            ["text/html", "application/json;q=0", "application/gzip;q=nonsense", "application/problem+json"]
        {
            assert_eq!(
                form(accept),
                if accept.contains("nonsense") { Ok(Form::Gzip) } else { Err(406) },
                "{accept}"
            );
        }
        assert_eq!(Form::accepted(&HeaderMap::new()), Ok(Form::Gzip));
    }

    #[test]
    fn what_is_plainly_no_scan_is_refused_by_its_type() {
        let status = |name, value: &str| check_sent(&headers(&[(name, value)])).map_err(|p| p.status.as_u16());
        for kind in ["application/gzip", "Application/Octet-Stream; x=y", "application/x-nifti"] {
            assert_eq!(status(CONTENT_TYPE, kind), Ok(()), "{kind}");
        }
        for kind in ["application/json", "multipart/form-data; boundary=x", "text/plain", "image/png", ""] {
            assert_eq!(status(CONTENT_TYPE, kind), Err(415), "{kind}");
        }
        assert_eq!((status(CONTENT_ENCODING, "gzip"), status(CONTENT_ENCODING, "br")), (Ok(()), Err(415)));
        assert_eq!(check_sent(&HeaderMap::new()), Ok(()));
    }
}
