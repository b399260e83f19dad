use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::ServeError;
use crate::connection_table::ConnectionLimits;
use crate::upload::MinRate;

/// The limits of a server, and who may use it.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) queue: usize,
    pub(crate) workers: usize,
    pub(crate) max_body: u64,
    pub(crate) max_memory: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) min_rate: MinRate,
    pub(crate) connections: ConnectionLimits,
    pub(crate) token: Option<Token>,
    pub(crate) allow_anyone: bool,
    pub(crate) stop_on_signals: bool,
}

impl Default for Options {
    /// A queue of 16 scans, one worker, bodies of up to 512 MB, three quarters of the machine's memory, a timeout of 5 minutes,
    /// 512 connections, of which 256 for one client, no token, no signal handlers.
    fn default() -> Self {
        Self {
            queue: 16,
            workers: 1,
            max_body: 512_000_000,
            max_memory: None,
            timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(30),
            min_rate: MinRate { bytes: 10_000, window: Duration::from_secs(10) },
            connections: ConnectionLimits { total: 512, per_client: 256 },
            token: None,
            allow_anyone: false,
            stop_on_signals: false,
        }
    }
}

impl Options {
    /// Memory that a scan may take while it is read (inflated bytes plus voxels as `f32`), as a multiple of
    /// [`Options::max_body`]. A file of 8-bit voxels takes four times its size as `f32`, a gzipped file of 16-bit voxels
    /// about nine times.
    pub(crate) const READ_FACTOR: u64 = 9;
    /// Bytes of all request bodies that are held at a time, as a multiple of [`Options::max_body`].
    pub(crate) const HELD_BODIES_FACTOR: u64 = 2;

    /// Number of scans that may wait while all workers are busy. A further scan is refused with 429.
    pub fn queue(self, scans: usize) -> Self {
        Self { queue: scans, ..self }
    }

    /// Number of scans that are segmented at the same time. They share the engine. Zero counts as one.
    pub fn workers(self, scans: usize) -> Self {
        Self { workers: scans.max(1), ..self }
    }

    /// Maximum length of a request body, in bytes. A longer body is refused with 413. The inflated bytes and the voxels as
    /// numbers may take nine times as much.
    pub fn max_body(self, bytes: u64) -> Self {
        Self { max_body: bytes, ..self }
    }

    /// Memory that the process may hold, in bytes. A scan that needs more is refused with 413. The limit is divided among
    /// the held request bodies and the workers. Defaults to three quarters of the memory of the machine, or of its container,
    /// where the operating system reports it (Linux).
    pub fn max_memory(self, bytes: u64) -> Self {
        Self { max_memory: Some(bytes), ..self }
    }

    /// Maximum duration of an upload, and maximum duration from the end of the upload to the response.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long a client may pause in the middle of a request or a response. Defaults to 30 seconds.
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// The least number of bytes that an upload must bring in each `window`, unless it ends. A slower upload is refused with
    /// 408. A client that reads its response more slowly is disconnected. Defaults to 10 kB in 10 seconds.
    pub fn min_rate(self, bytes: u64, window: Duration) -> Self {
        Self { min_rate: MinRate { bytes, window }, ..self }
    }

    /// How many connections may be open at a time, in total and from one client, which is an IPv4 address or an IPv6 network of
    /// 64 bits. Connections of scans in the queue come on top. When there are more, the slowest of them is closed.
    pub fn max_connections(self, total: usize, per_client: usize) -> Self {
        Self { connections: ConnectionLimits { total: total.max(1), per_client: per_client.max(1) }, ..self }
    }

    /// Requires this token in every request except `/healthz`.
    pub fn token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Allows an address that other machines can reach although clients need no token. Connections over the loopback interface
    /// still need a `Host` and, if present, an `Origin` that names this machine: the user's browser would otherwise open the
    /// server to every web page.
    pub fn allow_anyone(self) -> Self {
        Self { allow_anyone: true, ..self }
    }

    /// Makes Ctrl-C and SIGTERM call [`ShutdownHandle::shutdown`](crate::ShutdownHandle::shutdown).
    pub fn stop_on_signals(self) -> Self {
        Self { stop_on_signals: true, ..self }
    }
}

/// The secret of `Authorization: Bearer …`, stored as its hash.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// A shorter secret could be found by trial.
    const MIN_LENGTH: usize = 16;

    /// Hashes the secret. Surrounding white space, such as the newline at the end of a file, is removed first.
    ///
    /// # Errors
    /// When the secret has fewer than 16 characters, or a character that is not printable ASCII.
    pub fn new(secret: &str) -> Result<Self, ServeError> {
        let secret = secret.trim();
        let refuse =
            |found: String| Err(ServeError::Token { expected: "16 or more printable ASCII characters", found });
        if let Some(at) = secret.chars().position(|c| !c.is_ascii_graphic()) {
            return refuse(format!("another character at position {}", at + 1));
        }
        if secret.len() < Self::MIN_LENGTH {
            return refuse(format!("{} characters", secret.len()));
        }
        Ok(Self(hash(secret.as_bytes())))
    }

    /// Compares the hashes in constant time, so that the duration reveals nothing about the secret.
    pub(crate) fn matches(&self, candidate: &[u8]) -> bool {
        let differing = self.0.iter().zip(hash(candidate)).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_must_be_long_printable_ascii_and_is_never_shown() {
        let token = Token::new("  0123456789abcdef\n").unwrap();
        assert!(token.matches(b"0123456789abcdef"));
        for other in ["0123456789abcdeF", "0123456789abcde", "0123456789abcdef ", ""] {
            assert!(!token.matches(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token");
        let message = |secret| Token::new(secret).unwrap_err().to_string();
        assert!(message("").ends_with("found 0 characters"));
        assert!(message("short").ends_with("found 5 characters"));
        assert!(message("0123456789 abcdef").ends_with("another character at position 11"));
        assert!(!message("secret-of-höllental").contains("secret"));
    }
}
