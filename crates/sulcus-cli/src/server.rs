//! The viewer's server: the embedded page and the files that the user named, to this machine alone.

use std::fs::File;
use std::io::{Cursor, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use include_dir::{Dir, include_dir};
use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

use crate::error::CliError;

/// The built viewer.
static PAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wasm/dist");

/// Nothing but this server may be asked for anything; WebAssembly needs its own word.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file that the page may fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Its name below `/data/`.
    pub(crate) name: &'static str,
    /// Where it lies.
    pub(crate) path: PathBuf,
}

/// What is served, and where.
pub(crate) struct Viewer {
    server: Server,
    address: SocketAddr,
    offers: Vec<Offer>,
}

/// What a request gets.
enum Answer {
    Page { bytes: &'static [u8], mime: &'static str },
    Data(PathBuf),
    Refused(u16, &'static str),
}

impl Viewer {
    /// Listens on loopback; port 0 takes any free one.
    pub(crate) fn bind(port: u16, offers: Vec<Offer>) -> Result<Self, CliError> {
        let failed = |why: String| {
            CliError::failed(format_args!("cannot listen on 127.0.0.1:{port}: {why}"))
                .hint("another program may use this port: choose another with --port, or leave --port out")
        };
        let server = Server::http((Ipv4Addr::LOCALHOST, port)).map_err(|error| failed(error.to_string()))?;
        let address = server.server_addr().to_ip().ok_or_else(|| failed("it got no address".into()))?;
        Ok(Self { server, address, offers })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the server is unblocked.
    pub(crate) fn serve(&self) {
        for request in self.server.incoming_requests() {
            let answer = self.answer(&request);
            // Whoever stops reading keeps nobody else waiting, nor Ctrl-C. A browser that hangs up in the middle is no event.
            std::thread::spawn(move || drop(respond(request, answer)));
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let host = request.headers().iter().find(|h| h.field.equiv("Host")).map(|h| h.value.as_str());
        if !host.is_some_and(|host| is_loopback(host, self.address.port())) {
            // A web page elsewhere can point its own name at 127.0.0.1; the Host header gives it away.
            return Answer::Refused(403, "only 127.0.0.1 and localhost are served");
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return Answer::Refused(405, "only GET is served");
        }
        let path = request.url().split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
        if let Some(name) = path.strip_prefix("data/") {
            return match self.offers.iter().find(|offer| offer.name == name) {
                Some(offer) => Answer::Data(offer.path.clone()),
                None => Answer::Refused(404, "no such file"),
            };
        }
        let path = if path.is_empty() { "index.html" } else { path };
        match (PAGE.get_file(path), mime_of(path)) {
            (Some(file), Some(mime)) => Answer::Page { bytes: file.contents(), mime },
            _ => Answer::Refused(404, "no such file"),
        }
    }
}

/// Lets [`Viewer::serve`] return, from another thread.
impl Viewer {
    pub(crate) fn stop(&self) {
        self.server.unblock();
    }
}

fn respond(request: Request, answer: Answer) -> std::io::Result<()> {
    let (status, mime, length, body): (u16, &str, usize, Box<dyn Read + Send>) = match answer {
        Answer::Page { bytes, mime } => (200, mime, bytes.len(), Box::new(Cursor::new(bytes))),
        Answer::Data(path) => match File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((length, file)) => {
                (200, "application/octet-stream", usize::try_from(length).unwrap_or(usize::MAX), Box::new(file))
            }
            Err(_) => refusal(410, "the file cannot be read any more"),
        },
        Answer::Refused(status, why) => refusal(status, why),
    };
    let headers = [
        ("Content-Type", mime),
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ];
    let headers = headers.into_iter().filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
    // Whole, with its length, whatever its size: pages show how far a download is.
    let answer = Response::new(StatusCode(status), headers, body, Some(length), None);
    request.respond(answer.with_chunked_threshold(usize::MAX))
}

fn refusal(status: u16, why: &'static str) -> (u16, &'static str, usize, Box<dyn Read + Send>) {
    (status, "text/plain; charset=utf-8", why.len(), Box::new(Cursor::new(why)))
}

fn is_loopback(host: &str, port: u16) -> bool {
    ["127.0.0.1", "localhost"].iter().any(|name| host == format!("{name}:{port}") || (port == 80 && host == *name))
}

fn mime_of(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
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

/// Text as it may stand in the query of a URL.
pub(crate) fn percent_encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'/');
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_for_this_machine_is_not_served() {
        assert!(is_loopback("127.0.0.1:8000", 8000) && is_loopback("localhost:8000", 8000));
        for host in ["evil.example:8000", "127.0.0.1:8001", "127.0.0.1", "localhost.evil.example:8000", ""] {
            assert!(!is_loopback(host, 8000), "{host}");
        }
    }

    /// Somebody who asks for a large file and never takes it keeps nobody waiting.
    #[test]
    fn a_client_that_does_not_read_holds_nobody_up() {
        use std::io::Write;
        let large = tempfile::NamedTempFile::new().unwrap();
        large.as_file().set_len(1 << 28).unwrap();
        let offer = Offer { name: "image", path: large.path().to_path_buf() };
        let viewer = std::sync::Arc::new(Viewer::bind(0, vec![offer]).unwrap());
        let port = viewer.address().port();
        let ask = |path: &str| {
            let mut stream = std::net::TcpStream::connect(viewer.address()).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
            write!(stream, "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").unwrap();
            stream
        };
        let serving = std::thread::spawn({
            let viewer = std::sync::Arc::clone(&viewer);
            move || viewer.serve()
        });
        let mut stalled = ask("data/image");
        let mut start = [0; 12];
        stalled.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        let mut page = String::new();
        ask("index.html").read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("</html>"), "{page}");
        viewer.stop();
        serving.join().unwrap();
    }

    #[test]
    fn names_survive_the_query() {
        assert_eq!(percent_encode("a b&c=ü.nii"), "a%20b%26c%3D%C3%BC.nii");
    }
}
