use std::net::TcpStream;
use std::time::{Duration, Instant};

use sulcus_io::Compression;
use sulcus_serve::Options;

use crate::client::Client;
use crate::scans::{expected, scan};
use crate::server::{Gated, Running, segmenter};

/// Waits until the server accepts no connection.
fn wait_until_closed(running: &Running) {
    let start = Instant::now();
    while TcpStream::connect(running.address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn shutdown_finishes_accepted_scans_and_refuses_new_ones() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default());
    let mut accepted: Vec<Client> = (0..3).map(|_| Client::connect(running.address)).collect();
    for (number, client) in accepted.iter_mut().enumerate() {
        client.send("POST /v1/segment", &[], &scan(number));
    }
    running.wait_until("sulcus_jobs_in_flight", 1.0);
    running.wait_until("sulcus_queue_length", 2.0);
    // One client in the middle of its upload, and one idle client.
    let mut uploading = Client::connect(running.address);
    uploading.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc").unwrap();
    // The body of the running scan is already dropped.
    let held = scan(1).len() + scan(2).len() + b"abc".len();
    running.wait_until("sulcus_held_body_bytes", held as f64);
    let mut idle = Client::connect(running.address);
    idle.send("GET /healthz", &[], b"");
    assert_eq!(idle.receive(false).unwrap().status, 200);

    running.shutdown.shutdown();
    wait_until_closed(&running);
    uploading.receive(false).unwrap().problem(503, "stopping");
    assert!(idle.is_closed());
    gate.open();
    let reference = segmenter();
    for (number, client) in accepted.iter_mut().enumerate() {
        let response = client.receive(false).unwrap();
        assert!(response.body == expected(&reference, &scan(number), Compression::Gzip), "scan {number}");
        assert!(client.is_closed());
    }
    assert_eq!(running.join().abandoned, 0);
}

#[test]
fn second_shutdown_request_cancels_accepted_scans() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default());
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(running.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("POST /v1/segment", &[], &scan(number));
    }
    running.wait_until("sulcus_queue_length", 1.0);
    running.shutdown.shutdown();
    running.shutdown.shutdown();
    clients[1].receive(false).unwrap().problem(503, "stopping");
    gate.open();
    clients[0].receive(false).unwrap().problem(503, "stopping");
    assert_eq!(running.join().abandoned, 2);
}

#[test]
fn idle_server_ends_at_once() {
    let running = Running::with_defaults();
    let start = Instant::now();
    running.shutdown.shutdown();
    assert_eq!(running.join().abandoned, 0);
    assert!(start.elapsed() < Duration::from_secs(5));
}
