//! Segments scans over HTTP: one [`Segmenter`](sulcus_runtime::Segmenter), loaded once, behind a bounded queue.
//!
//! A scan is the body of `POST /v1/segment`, a NIfTI file as it is or gzipped; the answer is the mask that `sulcus predict`
//! writes for the same scan, byte for byte. What else there is, `GET /v1/openapi.json` describes.
//!
//! Three kinds of work never wait for each other. One thread moves bytes (tokio, hyper); workers read, segment and write
//! scans, one each at a time; between them lies the queue, which refuses what does not fit (429) rather than grow. Bodies
//! that are held have a budget of bytes, so that memory is bounded whatever clients do. A client that hangs up takes its
//! scan along: out of the queue, or out of the engine after the tile at hand.
//!
//! [`ViewerServer`] is another server, which shows scans to one user of this machine: a page and opened files, on loopback,
//! behind a random token.
//!
//! Nothing of a scan is logged: method, path of a known route, status and seconds, that is all.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! use sulcus_runtime::Segmenter;
//! use sulcus_serve::{Options, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let segmenter = Segmenter::builder().model_bytes(sulcus_runtime::SELF_TEST_MODEL).build()?;
//! // Port 0 takes any free one.
//! let server = Server::bind(segmenter, "127.0.0.1:0".parse()?, Options::default())?;
//! let (address, stopper) = (server.address(), server.stopper());
//! let running = std::thread::spawn(move || server.run());
//!
//! let mut client = std::net::TcpStream::connect(address)?;
//! write!(client, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK"));
//!
//! // What was accepted is finished first.
//! stopper.stop();
//! assert!(running.join().is_ok_and(|ended| ended.is_ok()));
//! # Ok(())
//! # }
//! ```

mod answer;
mod budget;
mod connection;
mod description;
mod error;
mod guard;
mod histogram;
mod metrics;
mod model;
mod negotiate;
mod options;
mod outcome;
mod problem;
mod queue;
mod receive;
mod routes;
mod segments;
mod server;
mod stall;
mod viewer;
mod visit;
mod work;

pub use error::ServeError;
pub use options::{Options, Token};
pub use segments::Segments;
pub use server::{Ended, Server, Stopper};
pub use viewer::{FindPage, ViewerServer, ViewerStopper};
