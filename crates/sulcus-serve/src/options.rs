use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::ServeError;

/// What a server may use, and whom it answers.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) queue: usize,
    pub(crate) workers: usize,
    pub(crate) max_body: u64,
    pub(crate) max_memory: Option<u64>,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) token: Option<Token>,
    pub(crate) anyone: bool,
    pub(crate) signals: bool,
}

impl Default for Options {
    /// A queue of 16, one worker, bodies of up to 512 MB, 5 minutes, no token, signals left alone.
    fn default() -> Self {
        Self {
            queue: 16,
            workers: 1,
            max_body: 512_000_000,
            max_memory: None,
            timeout: Duration::from_secs(300),
            patience: Duration::from_secs(30),
            token: None,
            anyone: false,
            signals: false,
        }
    }
}

impl Options {
    /// A scan may take this many times [`Options::max_body`] in memory: its bytes inflated, and its voxels as numbers. A file
    /// of whole numbers of 8 bits takes four times its size as numbers, a gzipped one of 16 bits perhaps nine.
    pub(crate) const INFLATION: u64 = 9;
    /// Bodies that are held at a time, as a multiple of [`Options::max_body`].
    pub(crate) const HELD: u64 = 2;

    /// Scans that may wait while workers are busy; one more is refused with 429.
    pub fn queue(self, scans: usize) -> Self {
        Self { queue: scans, ..self }
    }

    /// Scans that are worked on at the same time. They share the models' engine. Zero counts as one.
    pub fn workers(self, scans: usize) -> Self {
        Self { workers: scans.max(1), ..self }
    }

    /// The longest body that is read, in bytes; a longer one is refused with 413. What is inflated of it, and its voxels as
    /// numbers, may take nine times as much.
    pub fn max_body(self, bytes: u64) -> Self {
        Self { max_body: bytes, ..self }
    }

    /// What the process may hold, in bytes; a scan that needs more is refused with 413. It is shared out among bodies that
    /// wait and workers.
    pub fn max_memory(self, bytes: u64) -> Self {
        Self { max_memory: Some(bytes), ..self }
    }

    /// How long a scan may take from the end of its upload to its answer, and its upload as well.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long a client may send or take nothing in the middle of a request or an answer, 30 seconds unless said.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whoever asks must know this; `/healthz` alone answers everyone.
    pub fn token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Without a token too, an address that other machines reach is listened on.
    pub fn allow_anyone(self) -> Self {
        Self { anyone: true, ..self }
    }

    /// Ctrl-C and SIGTERM stop the server as [`Stopper::stop`](crate::Stopper::stop) does.
    pub fn stop_on_signals(self) -> Self {
        Self { signals: true, ..self }
    }
}

/// The secret of `Authorization: Bearer …`, kept as its hash.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// Fewer characters can be tried out.
    const SHORTEST: usize = 16;

    /// Takes the secret; white space around it, such as the end of a line in a file, is not part of it.
    ///
    /// # Errors
    /// When it has fewer than 16 characters, or others than printable ASCII without spaces.
    pub fn new(secret: &str) -> Result<Self, ServeError> {
        let secret = secret.trim();
        let refuse =
            |found: String| Err(ServeError::Token { expected: "16 or more printable ASCII characters", found });
        if let Some(at) = secret.chars().position(|c| !c.is_ascii_graphic()) {
            return refuse(format!("another one at position {}", at + 1));
        }
        if secret.len() < Self::SHORTEST {
            return refuse(format!("{} of them", secret.len()));
        }
        Ok(Self(hash(secret.as_bytes())))
    }

    /// Whether it is this one. Hashes are compared, all of both: how long that takes says nothing about the secret.
    pub(crate) fn is(&self, said: &[u8]) -> bool {
        let differing = self.0.iter().zip(hash(said)).fold(0, |all, (a, b)| all | (a ^ b));
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
    fn a_token_is_printable_long_enough_and_never_shown() {
        let token = Token::new("  0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in ["0123456789abcdeF", "0123456789abcde", "0123456789abcdef ", ""] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token");
        let says = |secret| Token::new(secret).unwrap_err().to_string();
        assert!(says("").ends_with("found 0 of them"));
        assert!(says("short").ends_with("found 5 of them"));
        assert!(says("0123456789 abcdef").ends_with("another one at position 11"));
        assert!(!says("secret-of-höllental").contains("secret"));
    }
}
