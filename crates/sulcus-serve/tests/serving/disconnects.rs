use sulcus_serve::Options;

use crate::client::{Client, segment};
use crate::scans::scan;
use crate::server::{Gated, Running};

const GONE: &str = "sulcus_requests_total{method=\"POST\",path=\"/v1/segment\",status=\"499\"}";

#[test]
fn disconnect_removes_the_scan_from_queue_and_engine() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default());
    let mut working = Client::connect(running.address);
    working.send("POST /v1/segment", &[], &scan(0));
    running.wait_until("sulcus_jobs_in_flight", 1.0);
    let mut waiting = Client::connect(running.address);
    waiting.send("POST /v1/segment", &[], &scan(1));
    let mut staying = Client::connect(running.address);
    staying.send("POST /v1/segment", &[], &scan(2));
    running.wait_until("sulcus_queue_length", 2.0);

    drop(waiting);
    running.wait_until("sulcus_queue_length", 1.0);
    drop(working);
    running.wait_until(GONE, 2.0);
    gate.open();
    // The engine stopped after its first tile, and the remaining client gets its mask.
    assert_eq!(staying.receive(false).unwrap().status, 200);
    assert_eq!(running.metric("sulcus_jobs_total{end=\"cancelled\"}"), 1.0);
    assert_eq!(running.metric("sulcus_jobs_total{end=\"done\"}"), 1.0);
    assert_eq!(running.metric("sulcus_held_body_bytes"), 0.0);
}

#[test]
fn disconnect_during_an_upload_frees_its_memory() {
    let running = Running::with_defaults();
    for head in ["Content-Length: 5000", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(running.address);
        client
            .write(format!("POST /v1/segment HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n800\r\n").as_bytes())
            .unwrap();
        client.write(&scan(0)[..1000]).unwrap();
        drop(client);
    }
    // Half a head, nothing, and malformed bytes.
    for start in ["POST /v1/segment HT", "", "\0\u{1}\u{2}\r\n\r\n"] {
        let mut client = Client::connect(running.address);
        client.write(start.as_bytes()).unwrap();
    }
    running.wait_until("sulcus_held_body_bytes", 0.0);
    assert_eq!(segment(running.address, &scan(0), &[]).status, 200);
    // Only the connection that reads the metric is left.
    running.wait_until("sulcus_connections", 1.0);
}
