//! The responses of the viewer's server.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::{Body as _, Incoming};

use super::file_body::SharedFile;
use super::{FindPage, SharedData};
use crate::Token;

/// The page may load only from this server. WebAssembly needs a permission of its own.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Headers of every response.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

const TEXT: &str = "text/plain; charset=utf-8";

/// The served files and the permitted clients.
pub(super) struct Site {
    port: u16,
    token: Token,
    page: FindPage,
    files: HashMap<String, Shared>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("port", &self.port).field("files", &self.files).finish_non_exhaustive()
    }
}

/// What is served under a name.
#[derive(Debug)]
pub(super) enum Shared {
    Open(SharedFile),
    Path(PathBuf),
    Data(SharedData),
}

/// A refusal: its status and its message.
type Refusal = (StatusCode, &'static str);

impl Site {
    pub(super) fn new(port: u16, token: Token, page: FindPage) -> Self {
        Self { port, token, page, files: HashMap::new() }
    }

    pub(super) fn share(&mut self, name: String, shared: Shared) {
        self.files.insert(name, shared);
    }

    /// Responds to any request. Calls `trust` if the request contains the token.
    pub(super) fn respond(&self, request: &Request<Incoming>, trust: impl FnOnce()) -> Response {
        let answer = self.admit(request.uri(), request.headers()).and_then(|path| {
            trust();
            self.find(request.method(), path)
        });
        let mut response = answer.unwrap_or_else(|(status, why)| {
            let mut response = (status, why).into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
            response
        });
        let headers = response.headers_mut();
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        if !request.body().is_end_stream() {
            // The body of a request is not read, so no request can follow one with a body.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The path behind the token, if the client may read it.
    fn admit<'a>(&self, uri: &'a Uri, headers: &HeaderMap) -> Result<&'a str, Refusal> {
        if !names_this_server(uri, headers, self.port) {
            return Err((
                StatusCode::FORBIDDEN,
                "only requests from this server's own pages at 127.0.0.1 or localhost are allowed",
            ));
        }
        let path = uri.path().trim_start_matches('/');
        let (token, rest) = path.split_once('/').unwrap_or((path, ""));
        if !self.token.matches(token.as_bytes()) {
            let why =
                "this address lacks the viewer's token: open the address that the viewer printed when it started";
            return Err((StatusCode::FORBIDDEN, why));
        }
        Ok(rest)
    }

    fn find(&self, method: &Method, path: &str) -> Result<Response, Refusal> {
        const NO_SUCH_FILE: Refusal = (StatusCode::NOT_FOUND, "no such file");
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET is served"));
        }
        if let Some(name) = path.strip_prefix("data/") {
            const UNREADABLE: Refusal = (StatusCode::NOT_FOUND, "the file cannot be read any more");
            let head = *method == Method::HEAD;
            let body = |file: &SharedFile| if head { Body::empty() } else { Body::new(file.body()) };
            let (length, body) = match self.files.get(name).ok_or(NO_SUCH_FILE)? {
                Shared::Open(file) => (file.length(), body(file)),
                Shared::Path(path) => {
                    let file = File::open(path).and_then(SharedFile::new).map_err(|_| UNREADABLE)?;
                    (file.length(), body(&file))
                }
                Shared::Data(data) => {
                    let data = data.get();
                    (data.len() as u64, if head { Body::empty() } else { Body::from(data) })
                }
            };
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_LENGTH, HeaderValue::from(length)),
            ];
            return Ok((headers, body).into_response());
        }
        let name = if path.is_empty() { "index.html" } else { path };
        let (bytes, media_type) = (self.page)(name).zip(media_type(name)).ok_or(NO_SUCH_FILE)?;
        Ok(([(CONTENT_TYPE, HeaderValue::from_static(media_type))], bytes).into_response())
    }
}

/// Whether a request is meant for this server and does not come from a page of another site. A page of another site can
/// let its own host name resolve to 127.0.0.1, or send requests to this server directly; the headers `Host` and `Origin`
/// reveal both.
fn names_this_server(uri: &Uri, headers: &HeaderMap, port: u16) -> bool {
    let hosts: Vec<Option<&str>> = headers.get_all(HOST).iter().map(|value| value.to_str().ok()).collect();
    let authority = uri.authority().map(|authority| Some(Authority::as_str(authority)));
    let origins =
        headers.get_all(ORIGIN).iter().map(|value| value.to_str().ok().and_then(|v| v.strip_prefix("http://")));
    let is_this = |host: Option<&str>| host.is_some_and(|host| is_loopback(host, port));
    !hosts.is_empty() && hosts.into_iter().chain(authority).chain(origins).all(is_this)
}

fn is_loopback(host: &str, port: u16) -> bool {
    ["127.0.0.1", "localhost"].iter().any(|name| host == format!("{name}:{port}") || (port == 80 && host == *name))
}

fn media_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "ico" => "image/x-icon",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_and_pages_of_other_sites_are_refused() {
        let admitted = |uri: &'static str, pairs: &[(HeaderName, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            names_this_server(&Uri::from_static(uri), &headers, 8000)
        };
        for host in ["127.0.0.1:8000", "localhost:8000"] {
            assert!(admitted("/", &[(HOST, host)]), "{host}");
            assert!(admitted("/", &[(HOST, host), (ORIGIN, &format!("http://{host}"))]), "{host}");
        }
        for host in ["evil.example:8000", "127.0.0.1:8001", "127.0.0.1", "localhost.evil.example:8000", ""] {
            assert!(!admitted("/", &[(HOST, host)]), "{host}");
            assert!(!admitted("/", &[(HOST, "localhost:8000"), (HOST, host)]), "{host}");
        }
        for origin in ["http://evil.example", "null", "https://localhost:8000", "http://localhost:8001"] {
            assert!(!admitted("/", &[(HOST, "localhost:8000"), (ORIGIN, origin)]), "{origin}");
        }
        assert!(!admitted("/", &[]));
        assert!(!admitted("http://evil.example/", &[(HOST, "localhost:8000")]));
        assert!(is_loopback("localhost", 80));
    }
}
