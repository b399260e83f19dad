use std::time::Duration;

use sulcus_serve::{Options, ServeError, Server};

use crate::client::{Client, segment};
use crate::scans::{OBLIQUE, gzip, nifti, scan};
use crate::server::{Gated, Running, segmenter};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_body_that_is_too_long_is_refused_announced_or_not() {
    let long = scan(0);
    let running = Running::start(segmenter(), Options::default().max_body(long.len() as u64 - 1));
    let answer = segment(running.address, &long, &[]);
    assert!(answer.problem(413, "body-too-large").contains(&format!("at most {}", long.len() - 1)));
    assert_eq!(answer.header("connection"), Some("close"));
    // Announced by nobody: counted as it comes.
    let mut client = Client::connect(running.address);
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.write(format!("{:x}\r\n", long.len()).as_bytes()).unwrap();
    client.write(&long).unwrap();
    client.receive(false).unwrap().problem(413, "body-too-large");
    assert!(client.is_over());
    // One byte less fits.
    let fits = Running::start(segmenter(), Options::default().max_body(long.len() as u64));
    assert_eq!(segment(fits.address, &long, &[]).status, 200);
}

#[test]
fn an_announced_body_is_refused_before_it_is_sent() {
    let running = Running::start(segmenter(), Options::default().max_body(1000));
    let mut client = Client::connect(running.address);
    let head = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\nExpect: 100-continue\r\n\r\n";
    client.write(head.as_bytes()).unwrap();
    client.receive(false).unwrap().problem(413, "body-too-large");
    assert!(client.is_over());
}

#[test]
fn a_scan_that_inflates_beyond_the_limit_is_refused_before_it_is_inflated() {
    // 4 MiB of zeros, a few kilobytes when gzipped.
    let bomb = gzip(&nifti(&[128, 128, 64], &vec![0.0; 128 * 128 * 64], Some(OBLIQUE)));
    assert!(bomb.len() < 10_000);
    let running = Running::start(segmenter(), Options::default().max_body(100_000));
    let detail = segment(running.address, &bomb, &[]).problem(413, "scan-too-large");
    assert!(detail.contains("at most 900000 bytes"), "{detail}");
    // A header that lies about where its voxels begin.
    let mut lying = nifti(&[4, 4, 4], &[1.0; 64], Some(OBLIQUE));
    lying[108..112].copy_from_slice(&4e9_f32.to_le_bytes());
    segment(running.address, &gzip(&lying), &[]).problem(413, "scan-too-large");
}

#[test]
fn a_memory_limit_is_kept_by_refusing() {
    let held = segmenter().loaded_memory_bytes();
    let address = "127.0.0.1:0".parse().unwrap();
    let error = Server::bind(segmenter(), address, Options::default().max_memory(held / 2)).unwrap_err();
    assert!(matches!(error, ServeError::MemoryLimit { .. }), "{error}");
    // Room for the model and a little: not for 64 MB as numbers.
    let running =
        Running::start(segmenter(), Options::default().max_memory(segmenter().loaded_memory_bytes() + (40 << 20)));
    let large = gzip(&nifti(&[256, 256, 256], &vec![0.0; 1 << 24], Some(OBLIQUE)));
    let detail = segment(running.address, &large, &[]).problem(413, "scan-too-large");
    assert!(detail.starts_with("the memory limit of"), "{detail}");
    assert!(detail.ends_with("(of one worker's share of the server's memory limit)"), "{detail}");
}

#[test]
fn a_slow_upload_ends_with_408() {
    let running = Running::start(segmenter(), Options::default().patience(SHORT));
    let mut client = Client::connect(running.address);
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nand then").unwrap();
    let answer = client.receive(false).unwrap();
    answer.problem(408, "slow-upload");
    assert_eq!(answer.header("connection"), Some("close"));
    // A head that never ends, and a connection that asks for nothing, are ended too.
    for start in ["POST /v1/seg", ""] {
        let mut client = Client::connect(running.address);
        client.write(start.as_bytes()).unwrap();
        assert!(client.receive(false).is_none_or(|answer| answer.status == 408), "{start}");
    }
    // A byte at a time, each in time, and too slow all the same.
    let running = Running::start(segmenter(), Options::default().timeout(2 * SHORT));
    let mut client = Client::connect(running.address);
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").unwrap();
    for _ in 0..40 {
        if client.write(b"x").is_err() {
            break;
        }
        std::thread::sleep(SHORT / 10);
    }
    client.receive(false).unwrap().problem(408, "slow-upload");
}

#[test]
fn a_scan_that_waits_or_works_too_long_is_given_up() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default().timeout(SHORT));
    let mut begun = Client::connect(running.address);
    begun.send("POST /v1/segment", &[], &scan(0));
    running.until("sulcus_jobs_in_flight", 1.0);
    let mut waits = Client::connect(running.address);
    waits.send("POST /v1/segment", &[], &scan(1));
    begun.receive(false).unwrap().problem(504, "took-too-long");
    let answer = waits.receive(false).unwrap();
    answer.problem(503, "waited-too-long");
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    running.until("sulcus_queue_length", 0.0);
    gate.open();
    running.until("sulcus_jobs_total{end=\"cancelled\"}", 1.0);
}

#[test]
fn a_full_queue_refuses_with_429_and_what_it_took_is_answered() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default().queue(2));
    let mut taken: Vec<Client> = (0..3).map(|_| Client::connect(running.address)).collect();
    for (number, client) in taken.iter_mut().enumerate() {
        client.send("POST /v1/segment", &[], &scan(number));
        running.until("sulcus_jobs_in_flight", 1.0);
        running.until("sulcus_queue_length", number as f64);
    }
    for number in 0..3 {
        let answer = segment(running.address, &scan(number), &[]);
        answer.problem(429, "queue-full");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    gate.open();
    let reference = segmenter();
    for (number, client) in taken.iter_mut().enumerate() {
        let expected = crate::scans::expected(&reference, &scan(number), sulcus_io::Compression::Gzip);
        assert!(client.receive(false).unwrap().body == expected, "scan {number}");
    }
}

#[test]
fn bodies_on_their_way_have_a_budget() {
    let running = Running::start(segmenter(), Options::default().max_body(20_000));
    let head = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n";
    let mut held: Vec<Client> = (0..2).map(|_| Client::connect(running.address)).collect();
    for client in &mut held {
        client.write(head.as_bytes()).unwrap();
        client.write(&[0; 19_999]).unwrap();
    }
    running.until("sulcus_held_body_bytes", 39_998.0);
    segment(running.address, &[1; 3000], &[]).problem(429, "queue-full");
    drop(held);
    running.until("sulcus_held_body_bytes", 0.0);
    segment(running.address, &[1; 3000], &[]).problem(400, "unreadable-scan");
}
