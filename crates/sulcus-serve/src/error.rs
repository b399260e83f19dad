use std::net::SocketAddr;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be had.
    #[error(
        "cannot listen on {address}: {source}\nhint: another program may use this port: choose another one, or 0 for any that is free"
    )]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anyone in the network would be answered.
    #[error(
        "{address} can be reached from other machines, and no token was given: anyone there could send scans; give a token, listen on 127.0.0.1, or say that anyone may"
    )]
    Unprotected {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// A token that no request could carry, or that could be guessed.
    #[error("the token cannot be used: expected {expected}, found {found}")]
    Token {
        /// What a token must be.
        expected: &'static str,
        /// What this one is; never the token itself.
        found: String,
    },
    /// A memory limit below what is held already.
    #[error(
        "the memory limit of {:.0} MB is too small: the program holds {:.0} MB with the model loaded; raise the limit",
        *limit as f64 / 1e6, *held as f64 / 1e6
    )]
    MemoryLimit {
        /// The limit, in bytes.
        limit: u64,
        /// What is held before the first scan, in bytes.
        held: u64,
    },
    /// The system gave no thread, signal or event queue.
    #[error("the server could not be started: {source}")]
    System {
        /// What it said.
        #[from]
        source: std::io::Error,
    },
}
