use std::net::SocketAddr;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Other machines can reach the address, and clients need no token.
    #[error(
        "{address} can be reached from other machines, and no token was given, so anyone there could send scans; set a \
         token, listen on a loopback address, or allow anyone"
    )]
    Unprotected {
        /// The requested address.
        address: SocketAddr,
    },
    /// A token that no request can carry, or that is too short to be safe.
    #[error("the token cannot be used: expected {expected}, found {found}")]
    Token {
        /// What a token must be.
        expected: &'static str,
        /// What was wrong; never the token itself.
        found: String,
    },
    /// The memory limit is below what the process already holds.
    #[error(
        "the memory limit of {:.0} MB is too small: the program holds {:.0} MB with the model loaded; raise the limit",
        *limit as f64 / 1e6, *held as f64 / 1e6
    )]
    MemoryLimit {
        /// The limit, in bytes.
        limit: u64,
        /// The bytes held before the first scan.
        held: u64,
    },
    /// The operating system gave no thread, signal handler or event queue.
    #[error("the server could not be started")]
    System {
        /// The error of the operating system.
        #[from]
        source: std::io::Error,
    },
}
