//! The viewer's server, tested as its clients and other users of the same machine use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sulcus_serve::{ServeError, SharedData, ViewerServer, ViewerStopper};

const PAGE: &str = "<!doctype html><title>page</title>";
/// Far longer than a request takes, far shorter than the time limits of the server.
const SOON: Duration = Duration::from_secs(3);

/// A running server with a page and a file, which is stopped when it is dropped.
struct Served {
    address: SocketAddr,
    /// The path of the page, `/TOKEN/index.html`.
    page: String,
    stopper: ViewerStopper,
    running: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Served {
    fn start(file: &File) -> Self {
        Self::sharing(|server| server.share("image.nii.gz", file.try_clone().unwrap()).unwrap())
    }

    fn sharing(share: impl FnOnce(&mut ViewerServer)) -> Self {
        let mut server = ViewerServer::bind(0, |name| (name == "index.html").then_some(PAGE.as_bytes())).unwrap();
        share(&mut server);
        let (address, stopper) = (server.address(), server.stopper());
        let page = server.url("index.html").strip_prefix(&format!("http://{address}")).unwrap().to_owned();
        Self { address, page, stopper, running: Some(std::thread::spawn(move || server.run())) }
    }

    fn with(bytes: &[u8]) -> Self {
        Self::start(&file_of(bytes))
    }

    fn data(&self) -> String {
        self.data_of("image.nii.gz")
    }

    fn data_of(&self, name: &str) -> String {
        self.page.replace("index.html", &format!("data/{name}"))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Sends a request as text, and reads until the connection ends.
    fn raw(&self, request: &str) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        answer(&mut stream)
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, Vec<u8>) {
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.address
        ))
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.ask("GET", path, "")
    }

    /// Checks that the page is served at once.
    fn check_page(&self) {
        let begin = Instant::now();
        let (status, _, body) = self.get(&self.page);
        assert_eq!((status, body.as_slice()), (200, PAGE.as_bytes()));
        assert!(begin.elapsed() < SOON);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.running.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Status, head and body.
fn answer(stream: &mut TcpStream) -> (u16, String, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head[9..12].parse().unwrap(), head, answer[end + 4..].to_vec())
}

#[test]
fn page_and_file_are_served_behind_the_token() {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let served = Served::with(&bytes);
    served.check_page();
    let (status, head, body) = served.get(&served.data());
    assert_eq!((status, body == bytes), (200, true));
    for line in [
        "Content-Length: 3000000",
        "Content-Type: application/octet-stream",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
        "Content-Security-Policy: default-src 'none'; ",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let (status, head, body) = served.ask("HEAD", &served.data(), "");
    assert_eq!((status, body.len(), head.contains("Content-Length: 3000000")), (200, 0, true), "{head}");
    let folder = served.page.replace("index.html", "");
    assert_eq!((served.get(&folder).0, served.get(&format!("{folder}data/truth.nii.gz")).0), (200, 404));
}

#[test]
fn requests_without_the_token_are_refused() {
    let served = Served::with(b"scan");
    let token = served.page.trim_start_matches('/').split('/').next().unwrap();
    assert!(token.len() >= 32 && token.bytes().all(|b| b.is_ascii_hexdigit()), "{token}");
    let mut wrong = token.to_owned();
    wrong.replace_range(0..1, if token.starts_with('0') { "1" } else { "0" });
    for path in [
        "/".to_owned(),
        "/index.html".to_owned(),
        "/data/image.nii.gz".to_owned(),
        format!("/data/image.nii.gz?token={wrong}"),
        format!("/{wrong}/data/image.nii.gz"),
        format!("/{}/data/image.nii.gz", &token[1..]),
        format!("/{}/data/image.nii.gz", token.to_uppercase().replace(|c: char| c.is_numeric(), "A")),
        "//data/image.nii.gz".to_owned(),
    ] {
        let (status, head, body) = served.get(&path);
        assert_eq!(status, 403, "{path}");
        assert!(!head.contains(token) && !String::from_utf8_lossy(&body).contains(token), "{path}");
    }
    // Another server has another token.
    assert_ne!(Served::with(b"scan").page, served.page);
}

#[test]
fn other_hosts_origins_and_methods_are_refused() {
    let served = Served::with(b"scan");
    let (host, data) = (served.address, served.data());
    let refused = |request: String| {
        let (status, _, body) = served.raw(&request);
        assert_eq!((status, body.windows(4).any(|w| w == b"scan")), (403, false), "{request}");
    };
    let close = "Connection: close\r\n\r\n";
    refused(format!("GET {data} HTTP/1.1\r\nHost: evil.example\r\n{close}"));
    refused(format!("GET {data} HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n{close}"));
    refused(format!("GET {data} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\n{close}"));
    refused(format!("GET http://evil.example{data} HTTP/1.1\r\nHost: {host}\r\n{close}"));
    refused(format!("GET {data} HTTP/1.0\r\n\r\n"));
    let own = format!("Origin: http://{host}\r\n");
    assert_eq!(served.ask("GET", &data, &own).0, 200);
    assert_eq!(served.ask("GET", &data, "Range: bytes=0-1\r\n").2, b"scan");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(served.ask(method, &data, "").0, 405, "{method}");
    }
}

#[test]
fn bodies_of_requests_are_not_read() {
    let served = Served::with(b"scan");
    let (status, head, _) = served.raw(&format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000000\r\n\r\n",
        served.data(),
        served.address
    ));
    assert!(status == 405 && head.to_lowercase().contains("connection: close"), "{head}");
    let (status, _, _) = served.raw(&format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n",
        served.data(),
        served.address
    ));
    assert_eq!(status, 405);
    served.check_page();
}

/// Headers without an end, as one line and as many lines.
#[test]
fn size_of_headers_is_limited() {
    for piece in ["a".repeat(1 << 16), "X: a\r\n".repeat(10_000)] {
        let served = Served::with(b"scan");
        let mut stream = served.connect();
        stream.write_all(format!("GET {} HTTP/1.1\r\nX: ", served.page).as_bytes()).unwrap();
        let sent = (0..1000).take_while(|_| stream.write_all(piece.as_bytes()).is_ok()).count();
        assert!(sent < 500, "{sent} parts of {} bytes were accepted", piece.len());
        served.check_page();
    }
}

#[test]
fn connections_without_the_token_do_not_keep_the_user_out() {
    let served = Served::with(&vec![7; 1 << 20]);
    let mut own = served.connect();
    let ask = |stream: &mut TcpStream| {
        write!(stream, "HEAD {} HTTP/1.1\r\nHost: {}\r\n\r\n", served.page, served.address).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        // The rest of the head.
        let mut rest = [0; 4096];
        let _ = stream.read(&mut rest).unwrap();
    };
    ask(&mut own);
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..400 {
        let mut stream = served.connect();
        stream.write_all(b"GET / HT").unwrap();
        idle.push(stream);
    }
    served.check_page();
    // The earlier connection is still open.
    ask(&mut own);
    // Only a few of the others are still open.
    std::thread::sleep(Duration::from_millis(200));
    let is_open = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = idle.iter().filter(|stream| is_open(stream)).count();
    assert!((1..=64).contains(&open), "{open}");
}

#[test]
fn client_that_reads_nothing_delays_no_other() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 28).unwrap();
    let served = Served::start(&file);
    let mut stalled = served.connect();
    write!(stalled, "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", served.data(), served.address).unwrap();
    let mut start = [0; 12];
    stalled.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    served.check_page();
    let begin = Instant::now();
    drop(served);
    assert!(begin.elapsed() < SOON, "a response in progress delays the stop");
}

/// The served file is the one that was opened, even if another file gets its path later.
#[cfg(unix)]
#[test]
fn replaced_path_serves_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, secret) = (folder.path().join("a.nii"), folder.path().join("secret"));
    std::fs::write(&path, b"scan").unwrap();
    std::fs::write(&secret, b"secret").unwrap();
    let served = Served::start(&File::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    assert_eq!(served.get(&served.data()).2, b"scan");
}

#[test]
fn files_of_a_cohort_are_opened_on_request_and_data_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    std::fs::write(&path, b"first").unwrap();
    let list = SharedData::default();
    list.set(*b"before");
    let served = Served::sharing(|server| {
        server.share_path("0.0.0", &path);
        server.share_path("1.0.0", folder.path());
        server.share_data("cases.json", &list);
    });
    let body = |name: &str| {
        let (status, _, body) = served.get(&served.data_of(name));
        (status, String::from_utf8(body).unwrap())
    };
    assert_eq!((body("0.0.0"), body("cases.json")), ((200, "first".into()), (200, "before".into())));
    std::fs::write(&path, b"second").unwrap();
    list.set(*b"after");
    assert_eq!((body("0.0.0"), body("cases.json")), ((200, "second".into()), (200, "after".into())));
    let (status, head, none) = served.ask("HEAD", &served.data_of("cases.json"), "");
    assert_eq!((status, none.len(), head.contains("Content-Length: 5")), (200, 0, true), "{head}");
    assert_eq!((body("1.0.0").0, body("2.0.0").0), (404, 404), "a folder, and what is not shared");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(body("0.0.0").0, 404);
    served.check_page();
}

#[test]
fn file_that_is_truncated_later_ends_the_response_early() {
    let file = file_of(&vec![7; 1 << 20]);
    let served = Served::start(&file);
    file.set_len(1000).unwrap();
    let mut stream = served.connect();
    write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", served.data(), served.address).unwrap();
    let mut whole = Vec::new();
    let _ = stream.read_to_end(&mut whole);
    assert!(whole.len() < 3000, "{}", whole.len());
    served.check_page();
}

#[test]
fn only_regular_files_are_shared_and_a_taken_port_is_refused() {
    let mut server = ViewerServer::bind(0, |_| None).unwrap();
    assert!(server.share("image.nii.gz", File::open("/").unwrap()).is_err());
    let taken = ViewerServer::bind(server.address().port(), |_| None).unwrap_err();
    assert!(matches!(taken, ServeError::Listen { .. }), "{taken}");
    // Stopped before it is started.
    server.stopper().stop();
    server.run().unwrap();
}
