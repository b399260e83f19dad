//! Segments scans over HTTP: one [`Segmenter`](sulcus_runtime::Segmenter), loaded once, behind a bounded queue.
//!
//! `POST /v1/segment` takes a NIfTI file as its body, plain or gzipped. The response is the mask that `sulcus predict`
//! writes for the same scan, byte for byte; with `Accept: multipart/form-data` it is the result as JSON and the mask.
//! `GET /v1/openapi.json` describes every path.
//!
//! Three kinds of work never wait for each other. One thread moves bytes (tokio, hyper). Workers read, segment and write
//! scans, one scan each at a time. Between them lies the queue, which refuses a scan (429) when it is full. When a client
//! closes its connection, its scan leaves the queue, or the engine stops after the current tile.
//!
//! # Hostile clients
//!
//! Memory is limited, by default to three quarters of the machine or its container. The bytes of request bodies are counted
//! against a budget, and the need of a scan is estimated from its header before anything is inflated. The number of
//! connections is limited, in total and for each client. A further client still gets a connection, so `/healthz` answers
//! during an attack: the slowest connection that waits for nothing but its client is closed. Uploads and downloads must keep
//! a minimum rate.
//!
//! # Log
//!
//! Each request is logged by `tracing` at level INFO with the target `sulcus_serve::audit`: the client's address, how access
//! was granted, the method, the route, the status and the duration. The log holds no content of a scan and no text that a
//! client wrote.
//!
//! # Viewer
//!
//! [`ViewerServer`] is a second server: it shows scans to one user of this machine. It serves a page and files that were opened at its
//! start, on loopback, behind a random token.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use sulcus_runtime::Segmenter;
//! use sulcus_serve::{Options, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let segmenter = Segmenter::builder().model_bytes(sulcus_runtime::SELF_TEST_MODEL).build()?;
//! // Port 0 selects a free port.
//! let server = Server::bind(segmenter, "127.0.0.1:0".parse()?, Options::default())?;
//! let (address, shutdown) = (server.address(), server.shutdown_handle());
//! let running = std::thread::spawn(move || server.run());
//!
//! let mut client = std::net::TcpStream::connect(address)?;
//! write!(client, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
//! let mut response = String::new();
//! client.read_to_string(&mut response)?;
//! assert!(response.starts_with("HTTP/1.1 200 OK"));
//!
//! // Accepted scans are finished first.
//! shutdown.shutdown();
//! assert!(running.join().is_ok_and(|report| report.is_ok()));
//! # Ok(())
//! # }
//! ```

mod access;
mod connection;
mod connection_table;
mod description;
mod error;
mod memory;
mod metrics;
mod options;
mod problem_details;
mod queue;
mod response;
mod routes;
mod server;
mod upload;
mod viewer;
mod worker;

pub use error::ServeError;
pub use options::{Options, Token};
pub use server::{Server, ShutdownHandle, ShutdownReport};
pub use viewer::{FindPage, SharedData, ViewerServer, ViewerStopper};
pub use worker::SegmentService;
