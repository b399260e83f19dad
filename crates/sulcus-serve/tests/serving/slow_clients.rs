//! Clients that send heads and bodies as slowly as they can, to keep others out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sulcus_io::Compression;
use sulcus_serve::Options;

use crate::client::{Client, get, segment};
use crate::scans::{expected, scan};
use crate::server::{Running, segmenter};

/// A head that never ends, or a body of which a byte arrives now and then.
struct SlowConnection(TcpStream);

impl SlowConnection {
    fn open(address: SocketAddr, number: usize) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        let start: &[u8] = match number % 2 {
            0 => b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            _ => b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
        };
        stream.write_all(start)?;
        Ok(Self(stream))
    }

    /// Sends one byte. Returns false when the server has closed the connection.
    fn send_byte(&mut self) -> bool {
        let closed = match self.0.read(&mut [0; 1024]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        !closed && self.0.write_all(b"x").is_ok()
    }
}

#[test]
fn health_checks_and_scans_are_served_during_an_attack_of_slow_connections() {
    /// More than the server keeps open, so that each new connection needs the place of another one.
    const ATTACKERS: usize = 300;
    /// Generous, because the machine may be busy. Without protection the first response takes the idle timeout, 30 seconds.
    const MAX_WAIT: Duration = Duration::from_secs(10);
    const MIN_ROUNDS: usize = 20;
    const MAX_ATTACK: Duration = Duration::from_secs(60);
    let running = Running::start(segmenter(), Options::default().max_connections(200, 100));
    let (address, stop, reopened) = (running.address, AtomicBool::new(false), AtomicUsize::new(0));
    let mask = expected(&segmenter(), &scan(0), Compression::Gzip);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connections: Vec<Option<SlowConnection>> = (0..ATTACKERS).map(|_| None).collect();
            while !stop.load(Ordering::Relaxed) {
                for (number, connection) in connections.iter_mut().enumerate() {
                    if connection.as_mut().is_none_or(|connection| !connection.send_byte()) {
                        *connection = SlowConnection::open(address, number).ok();
                        reopened.fetch_add(1, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        while reopened.load(Ordering::Relaxed) < ATTACKERS {
            std::thread::sleep(Duration::from_millis(5));
        }
        // A panic here would wait for the attackers for ever.
        let outcome = std::panic::catch_unwind(|| {
            let begun = Instant::now();
            // At least until the server has closed one of the connections, which are then opened again.
            for round in 0.. {
                let start = Instant::now();
                if round >= MIN_ROUNDS && reopened.load(Ordering::Relaxed) > ATTACKERS {
                    break;
                }
                assert!(begun.elapsed() < MAX_ATTACK, "the server closed none of the slow connections");
                assert_eq!(get(address, "/healthz").status, 200, "round {round}");
                let response = segment(address, &scan(0), &[]);
                assert!(response.status == 200 && response.body == mask, "round {round}: {}", response.text());
                assert!(start.elapsed() < MAX_WAIT, "round {round} took {:?}", start.elapsed());
            }
        });
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(running.metric("sulcus_connections") <= 117.0);
}

#[test]
fn upload_below_the_minimum_rate_ends_with_408() {
    let options = Options::default().min_rate(1000, Duration::from_millis(300));
    let running = Running::start(segmenter(), options);
    let mut client = Client::connect(running.address);
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n").unwrap();
    for _ in 0..100 {
        if client.write(b"x").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let detail = client.receive(false).unwrap().problem(408, "slow-upload");
    assert!(detail.starts_with("expected at least 1000 bytes of the scan in 0.3 s, found "), "{detail}");
    assert_eq!(segment(running.address, &scan(0), &[]).status, 200);
}
