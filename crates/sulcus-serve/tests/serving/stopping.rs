use std::net::TcpStream;
use std::time::{Duration, Instant};

use sulcus_io::Compression;
use sulcus_serve::Options;

use crate::client::Client;
use crate::scans::{expected, scan};
use crate::server::{Gated, Running, segmenter};

/// Until nobody can connect any more.
fn until_closed(running: &Running) {
    let start = Instant::now();
    while TcpStream::connect(running.address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_accepted_is_finished_and_nothing_new_is_taken() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default());
    let mut accepted: Vec<Client> = (0..3).map(|_| Client::connect(running.address)).collect();
    for (number, client) in accepted.iter_mut().enumerate() {
        client.send("POST /v1/segment", &[], &scan(number));
    }
    running.until("sulcus_jobs_in_flight", 1.0);
    running.until("sulcus_queue_length", 2.0);
    // One in the middle of its upload, and one that has asked for nothing yet.
    let mut uploading = Client::connect(running.address);
    uploading.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc").unwrap();
    // Of the scan in the engine the body is gone already.
    let held = scan(1).len() + scan(2).len() + b"abc".len();
    running.until("sulcus_held_body_bytes", held as f64);
    let mut idle = Client::connect(running.address);
    idle.send("GET /healthz", &[], b"");
    assert_eq!(idle.receive(false).unwrap().status, 200);

    running.stopper.stop();
    until_closed(&running);
    uploading.receive(false).unwrap().problem(503, "stopping");
    assert!(idle.is_over());
    gate.open();
    let reference = segmenter();
    for (number, client) in accepted.iter_mut().enumerate() {
        let answer = client.receive(false).unwrap();
        assert!(answer.body == expected(&reference, &scan(number), Compression::Gzip), "scan {number}");
        assert!(client.is_over());
    }
    assert_eq!(running.ended().abandoned, 0);
}

#[test]
fn a_second_stop_gives_up_what_was_accepted() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default());
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(running.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("POST /v1/segment", &[], &scan(number));
    }
    running.until("sulcus_queue_length", 1.0);
    running.stopper.stop();
    running.stopper.stop();
    clients[1].receive(false).unwrap().problem(503, "stopping");
    gate.open();
    clients[0].receive(false).unwrap().problem(503, "stopping");
    assert_eq!(running.ended().abandoned, 2);
}

#[test]
fn an_idle_server_ends_at_once() {
    let running = Running::plain();
    let start = Instant::now();
    running.stopper.stop();
    assert_eq!(running.ended().abandoned, 0);
    assert!(start.elapsed() < Duration::from_secs(5));
}
