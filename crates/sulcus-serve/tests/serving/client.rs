//! A minimal HTTP client, which can also send malformed requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that the body is problem details with this status and code. Returns its detail.
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(
            (problem["status"].as_u64(), problem["type"].as_str()),
            (Some(status.into()), Some("about:blank"))
        );
        problem["detail"].as_str().unwrap().to_owned()
    }
}

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        // No test waits forever.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends raw bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a complete request.
    pub(crate) fn send(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{line} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += "Host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || line.starts_with("POST") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.write(format!("{head}\r\n").as_bytes()).unwrap();
        // A server that refuses the head may close the connection before it has read the body.
        let _ = self.write(body);
    }

    /// Reads the next response. Returns `None` when the connection ended instead.
    pub(crate) fn receive(&mut self, head_only: bool) -> Option<Response> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        let length = response.header("content-length").unwrap_or("0").parse().unwrap();
        if !head_only {
            response.body.resize(length, 0);
            self.stream.read_exact(&mut response.body).unwrap();
        }
        Some(response)
    }

    /// Whether the server has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// Sends one request on a new connection.
pub(crate) fn request(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut client = Client::connect(address);
    client.send(line, headers, body);
    client.receive(line.starts_with("HEAD")).unwrap()
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    request(address, &format!("GET {path}"), &[], b"")
}

pub(crate) fn segment(address: SocketAddr, scan: &[u8], headers: &[(&str, &str)]) -> Response {
    request(address, "POST /v1/segment", headers, scan)
}
