//! A web server for one page load. It serves the built viewer, the files of a test and a script that controls the page.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// The browser takes its screenshot when the page and all its images have loaded. The server answers the request for this
/// image only when the script is done. Unlike Chromium's virtual time, this does not change the clock of the page.
const HOLD: &str = r#"<script type="module" src="/test/script.js"></script><img src="/test/hold" alt="" hidden>"#;
const HOLD_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) report: Receiver<String>,
}

struct Content {
    files: HashMap<String, Vec<u8>>,
    script: String,
    done: (Mutex<bool>, Condvar),
    report: Mutex<Sender<String>>,
}

impl Server {
    /// Serves `files` under `/data/`; `script` runs once the page is ready, and the page's HTML is reported after it.
    pub(crate) fn start(files: HashMap<String, Vec<u8>>, script: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, report) = channel();
        let script = format!(
            "const frame = () => new Promise((go) => requestAnimationFrame(() => go()));
             const until = async (what) => {{ while (!what()) await frame(); }};
             const $ = (selector) => document.querySelector(selector);
             try {{
               await until(() => document.body.dataset.ready);
               // The browser changes the height of the window before it takes the screenshot.
               $('#views').style.gridAutoRows = '330px';
               dispatchEvent(new Event('resize'));
               {script}
             }} catch (error) {{ $('#error').textContent += ` The test's script failed: ${{error}}`; }}
             await frame(); await frame(); await frame();
             await fetch('/test/done', {{ method: 'POST', body: document.documentElement.outerHTML }});"
        );
        let done = (Mutex::new(false), Condvar::new());
        let content = Arc::new(Content { files, script, done, report: Mutex::new(sender) });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&content);
                // A browser that closes a connection early is not an error of the test.
                thread::spawn(move || answer(&content, stream).ok());
            }
        });
        Self { address, report }
    }
}

fn answer(content: &Content, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let path = request.split_whitespace().nth(1).unwrap_or("/").split('?').next().unwrap_or("/");
    let (kind, body) = match path {
        "/test/script.js" => ("text/javascript", content.script.clone().into_bytes()),
        "/test/hold" => {
            let (done, changed) = &content.done;
            let waiting = changed.wait_timeout_while(done.lock().unwrap(), HOLD_LIMIT, |done| !*done);
            drop(waiting);
            ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec())
        }
        "/test/done" => {
            let mut html = vec![0; length];
            reader.read_exact(&mut html)?;
            content.report.lock().unwrap().send(String::from_utf8_lossy(&html).into_owned()).ok();
            *content.done.0.lock().unwrap() = true;
            content.done.1.notify_all();
            ("text/plain", Vec::new())
        }
        _ => match path.strip_prefix("/data/").and_then(|name| content.files.get(name)) {
            Some(bytes) => ("application/octet-stream", bytes.clone()),
            None => built(path),
        },
    };
    let status = if kind.is_empty() { "404 Not Found" } else { "200 OK" };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.flush()
}

fn built(path: &str) -> (&'static str, Vec<u8>) {
    // Tests of several crates use this server.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let dist = folders.map(|folder| folder.join("dist")).find(|dist| dist.join("index.html").is_file()).unwrap();
    let name = path.trim_start_matches('/');
    let kind = match name {
        "index.html" => "text/html",
        _ if name.contains('/') => return ("", b"not found".to_vec()),
        _ if name.ends_with(".js") => "text/javascript",
        _ if name.ends_with(".wasm") => "application/wasm",
        _ => return ("", b"not found".to_vec()),
    };
    let body = fs::read(dist.join(name)).unwrap_or_default();
    if name != "index.html" {
        return (kind, body);
    }
    (kind, String::from_utf8_lossy(&body).replace("</body>", &format!("{HOLD}</body>")).into_bytes())
}
