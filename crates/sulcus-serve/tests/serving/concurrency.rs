use std::sync::atomic::{AtomicUsize, Ordering};

use sulcus_io::Compression;
use sulcus_serve::Options;

use crate::client::{Client, segment};
use crate::scans::{expected, scan};
use crate::server::{Running, segmenter};

/// Each client checks that every mask belongs to its own scan. `tests/peers/serve_load.py` is the long form.
#[test]
fn concurrent_clients_get_their_own_masks_or_429() {
    const CLIENTS: usize = 8;
    const SCANS: usize = 12;
    let running = Running::start(segmenter(), Options::default().queue(3).workers(2));
    let (reference, refused) = (segmenter(), AtomicUsize::new(0));
    let masks: Vec<Vec<u8>> = (0..SCANS).map(|n| expected(&reference, &scan(n), Compression::Gzip)).collect();
    for (number, mask) in masks.iter().enumerate() {
        assert!(masks.iter().skip(number + 1).all(|other| other != mask), "equal scans test nothing");
    }
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (running, masks, refused) = (&running, &masks, &refused);
            scope.spawn(move || {
                let mut held = Client::connect(running.address);
                for round in 0..SCANS {
                    let number = (client * 5 + round) % SCANS;
                    loop {
                        // Every other request uses a new connection.
                        let response = if round % 2 == 0 {
                            segment(running.address, &scan(number), &[])
                        } else {
                            held.send("POST /v1/segment", &[], &scan(number));
                            held.receive(false).unwrap()
                        };
                        if response.status == 200 {
                            assert!(response.body == masks[number], "client {client} got another scan's mask");
                            break;
                        }
                        response.problem(429, "queue-full");
                        refused.fetch_add(1, Ordering::Relaxed);
                        if response.header("connection") == Some("close") && round % 2 == 1 {
                            held = Client::connect(running.address);
                        }
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                }
            });
        }
    });
    assert_eq!(running.metric("sulcus_jobs_total{end=\"done\"}"), (CLIENTS * SCANS) as f64);
    assert_eq!((running.metric("sulcus_queue_length"), running.metric("sulcus_held_body_bytes")), (0.0, 0.0));
    let refusals = "sulcus_requests_total{method=\"POST\",path=\"/v1/segment\",status=\"429\"}";
    assert_eq!(running.metric(refusals), refused.load(Ordering::Relaxed) as f64);
}
