//! Fetches files over HTTPS, within limits of time and size.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::error::{CliError, Context};
use crate::output::human_bytes;

/// Time limits for a server.
#[derive(Debug, Clone, Copy)]
struct Patience {
    connect: Duration,
    /// From the request to the first bytes of the response.
    answer: Duration,
    /// Between two parts of a file.
    pause: Duration,
    /// Time limit of a file, in addition to the time that it takes at the rate below.
    start: Duration,
    /// Minimum rate in bytes per second.
    min_rate: u64,
}

/// A server that is slower than a bad mobile connection cannot deliver files of many megabytes.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(30),
    answer: Duration::from_secs(60),
    pause: Duration::from_secs(30),
    start: Duration::from_secs(60),
    min_rate: 10_000,
};

/// Which addresses are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// Only addresses with encryption, also after redirects.
    Https,
    /// Also addresses without encryption.
    HttpsAndHttp,
}

/// Fetches files.
pub(crate) struct Client {
    agent: ureq::Agent,
    patience: Patience,
}

impl Client {
    pub(crate) fn new(protocols: Protocols) -> Self {
        Self::with_patience(protocols, PATIENCE)
    }

    fn with_patience(protocols: Protocols, patience: Patience) -> Self {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(protocols == Protocols::Https)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.pause))
            .timeout_per_write(Some(patience.pause))
            .build()
            .into();
        Self { agent, patience }
    }

    /// Writes the file at `url` to `out` and calls `progress` with the number of received bytes. A file of more than
    /// `max_bytes` is an error.
    pub(crate) fn fetch(
        &self,
        url: &str,
        accept: Option<&str>,
        max_bytes: u64,
        out: &mut dyn Write,
        mut progress: impl FnMut(u64),
    ) -> Result<(), CliError> {
        let mut request = self.agent.get(url);
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        let mut answer = request.call().map_err(|error| refused(url, &error))?;
        let too_large =
            || CliError::failed(format_args!("the file exceeds the limit of {}: {url}", human_bytes(max_bytes)));
        let announced = answer.body().content_length();
        if announced.is_some_and(|bytes| bytes > max_bytes) {
            return Err(too_large());
        }
        let mut body = answer.body_mut().as_reader();
        let mut block = vec![0; 1 << 16];
        let (begin, mut received) = (Instant::now(), 0);
        loop {
            let read = body.read(&mut block).context(format_args!("downloading {url}"))?;
            let Some(part) = block.get(..read).filter(|part| !part.is_empty()) else { break };
            received += part.len() as u64;
            if received > max_bytes {
                return Err(too_large());
            }
            if begin.elapsed() > self.patience.start + self.time_for(received) {
                return Err(CliError::failed(format_args!(
                    "the server is too slow: received {} in {} s: {url}",
                    human_bytes(received),
                    begin.elapsed().as_secs()
                )));
            }
            out.write_all(part).context("writing the downloaded file")?;
            progress(received);
        }
        if announced.is_some_and(|bytes| bytes != received) {
            return Err(CliError::failed(format_args!(
                "the download ended early, after {}: {url}",
                human_bytes(received)
            )));
        }
        Ok(())
    }

    fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes / self.patience.min_rate.max(1))
    }
}

fn refused(url: &str, error: &ureq::Error) -> CliError {
    match error {
        ureq::Error::RequireHttpsOnly(address) => CliError::failed(format_args!(
            "the server redirects to an address without encryption, {address}: {url}"
        ))
        .hint("--allow-http permits such addresses; the SHA-256 of the wheel is checked either way"),
        _ => CliError::failed(format_args!("could not fetch from the package index: {error}: {url}")).hint(
            "on a machine without network: fetch the onnxruntime wheel elsewhere (`pip download --no-deps onnxruntime`) \
             and give it with --from FILE.whl",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Fetches from a server that responds to each request with the output of `answer`.
    fn fetch(
        protocols: Protocols,
        max_bytes: u64,
        answer: impl Fn(&mut TcpStream) + Send + 'static,
    ) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/wheel", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                answer(&mut stream);
            }
        });
        let patience = Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_millis(500),
            pause: Duration::from_millis(300),
            start: Duration::from_secs(1),
            min_rate: 1000,
        };
        let mut out = Vec::new();
        match Client::with_patience(protocols, patience).fetch(&url, None, max_bytes, &mut out, |_| {}) {
            Ok(()) => Ok(out),
            Err(CliError::Failed { message, .. }) => Err(message),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    fn head(length: usize) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes()
    }

    #[test]
    fn oversized_and_truncated_files_are_refused() {
        let both = Protocols::HttpsAndHttp;
        let send = |announced: usize, sent: usize| {
            move |stream: &mut TcpStream| {
                let _ = stream.write_all(&[head(announced), vec![7; sent]].concat());
            }
        };
        assert_eq!(fetch(both, 1000, send(1000, 1000)), Ok(vec![7; 1000]));
        let error = fetch(both, 999, send(1000, 1000)).unwrap_err();
        assert!(error.contains("exceeds the limit of 999 bytes"), "{error}");
        assert!(fetch(both, 1000, send(1000, 900)).is_err());
        let unannounced = |stream: &mut TcpStream| {
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(&[&head[..], &[7; 100_000]].concat());
        };
        let error = fetch(both, 50_000, unannounced).unwrap_err();
        assert!(error.contains("exceeds the limit of 50.0 kB"), "{error}");
        assert_eq!(fetch(both, 100_000, unannounced).map(|bytes| bytes.len()), Ok(100_000));
    }

    #[test]
    fn stalled_and_slow_servers_are_abandoned() {
        let both = Protocols::HttpsAndHttp;
        let silent = |_: &mut TcpStream| std::thread::sleep(Duration::from_secs(20));
        let stopping = |stream: &mut TcpStream| {
            let _ = stream.write_all(&[head(1000), vec![7; 10]].concat());
            std::thread::sleep(Duration::from_secs(20));
        };
        let trickling = |stream: &mut TcpStream| {
            let _ = stream.write_all(&head(1000));
            while stream.write_all(&[7]).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let begin = Instant::now();
        assert!(fetch(both, 1000, silent).unwrap_err().contains("timeout"));
        assert!(fetch(both, 1000, stopping).unwrap_err().contains("timeout"));
        let error = fetch(both, 1000, trickling).unwrap_err();
        assert!(error.contains("too slow"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn address_without_encryption_gets_no_request() {
        let error = fetch(Protocols::Https, 1000, |_| panic!("asked")).unwrap_err();
        assert!(error.contains("without encryption"), "{error}");
    }
}
