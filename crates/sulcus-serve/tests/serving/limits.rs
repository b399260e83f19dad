use std::time::Duration;

use sulcus_serve::{Options, ServeError, Server};

use crate::client::{Client, segment};
use crate::scans::{OBLIQUE, gzip, nifti, scan};
use crate::server::{Gated, Running, resampling_segmenter, segmenter};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn too_long_body_is_refused_with_and_without_content_length() {
    let long = scan(0);
    let running = Running::start(segmenter(), Options::default().max_body(long.len() as u64 - 1));
    let response = segment(running.address, &long, &[]);
    assert!(response.problem(413, "body-too-large").contains(&format!("at most {}", long.len() - 1)));
    assert_eq!(response.header("connection"), Some("close"));
    // Without Content-Length the received bytes are counted.
    let mut client = Client::connect(running.address);
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.write(format!("{:x}\r\n", long.len()).as_bytes()).unwrap();
    client.write(&long).unwrap();
    client.receive(false).unwrap().problem(413, "body-too-large");
    assert!(client.is_closed());
    // A limit of exactly the length accepts it.
    let fits = Running::start(segmenter(), Options::default().max_body(long.len() as u64));
    assert_eq!(segment(fits.address, &long, &[]).status, 200);
}

#[test]
fn too_long_content_length_is_refused_before_the_body_is_sent() {
    let running = Running::start(segmenter(), Options::default().max_body(1000));
    let mut client = Client::connect(running.address);
    let head = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\nExpect: 100-continue\r\n\r\n";
    client.write(head.as_bytes()).unwrap();
    client.receive(false).unwrap().problem(413, "body-too-large");
    assert!(client.is_closed());
}

#[test]
fn gzip_bomb_is_refused_before_it_is_inflated() {
    // 4 MiB of zeros, a few kilobytes when gzipped.
    let bomb = gzip(&nifti(&[128, 128, 64], &vec![0.0; 128 * 128 * 64], Some(OBLIQUE)));
    assert!(bomb.len() < 10_000);
    let running = Running::start(segmenter(), Options::default().max_body(100_000));
    let detail = segment(running.address, &bomb, &[]).problem(413, "scan-too-large");
    assert!(detail.contains("at most 900000 bytes"), "{detail}");
    // A header with a wrong offset of the voxels.
    let mut lying = nifti(&[4, 4, 4], &[1.0; 64], Some(OBLIQUE));
    lying[108..112].copy_from_slice(&4e9_f32.to_le_bytes());
    segment(running.address, &gzip(&lying), &[]).problem(413, "scan-too-large");
}

#[test]
fn scan_above_the_memory_limit_is_refused() {
    let held = segmenter().loaded_memory_bytes();
    let address = "127.0.0.1:0".parse().unwrap();
    let error = Server::bind(segmenter(), address, Options::default().max_memory(held / 2)).unwrap_err();
    assert!(matches!(error, ServeError::MemoryLimit { .. }), "{error}");
    // The limit leaves 40 MB beside the model; the voxels as f32 need 64 MB.
    let running =
        Running::start(segmenter(), Options::default().max_memory(segmenter().loaded_memory_bytes() + (40 << 20)));
    let large = gzip(&nifti(&[256, 256, 256], &vec![0.0; 1 << 24], Some(OBLIQUE)));
    let detail = segment(running.address, &large, &[]).problem(413, "scan-too-large");
    assert!(detail.starts_with("the memory limit of"), "{detail}");
    assert!(detail.ends_with("(of one worker's share of the server's memory limit)"), "{detail}");
}

#[test]
fn small_scan_with_huge_voxels_is_refused_before_it_is_inflated() {
    let segmenter = resampling_segmenter();
    let limit = segmenter.loaded_memory_bytes() + (500 << 20);
    let running = Running::start(segmenter, Options::default().max_memory(limit));
    // 20 voxels of 100 mm along each axis are 2000 voxels of 1 mm.
    let scan = |mm: f32| {
        let sform = [[mm, 0.0, 0.0, 0.0], [0.0, mm, 0.0, 0.0], [0.0, 0.0, mm, 0.0]];
        let ramp: Vec<f32> = (0..8000_i16).map(f32::from).collect();
        gzip(&nifti(&[20, 20, 20], &ramp, Some(sform)))
    };
    let mut hostile = scan(100.0);
    let detail = segment(running.address, &hostile, &[]).problem(413, "scan-too-large");
    assert!(detail.starts_with("the memory limit of"), "{detail}");
    // The answer is the same when the voxels cannot be inflated.
    let end = hostile.len();
    hostile[end / 2..].fill(0);
    segment(running.address, &hostile, &[]).problem(413, "scan-too-large");
    assert_eq!(segment(running.address, &scan(1.0), &[]).status, 200);
}

#[test]
fn slow_upload_ends_with_408() {
    let running = Running::start(segmenter(), Options::default().idle_timeout(SHORT));
    let mut client = Client::connect(running.address);
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nand then").unwrap();
    let response = client.receive(false).unwrap();
    response.problem(408, "slow-upload");
    assert_eq!(response.header("connection"), Some("close"));
    // A head that never ends and an idle connection are closed too.
    for start in ["POST /v1/seg", ""] {
        let mut client = Client::connect(running.address);
        client.write(start.as_bytes()).unwrap();
        assert!(client.receive(false).is_none_or(|response| response.status == 408), "{start}");
    }
    // Each byte arrives within the idle timeout, but the upload takes too long.
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
fn scan_that_waits_or_runs_too_long_is_cancelled() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default().timeout(SHORT));
    let mut begun = Client::connect(running.address);
    begun.send("POST /v1/segment", &[], &scan(0));
    running.wait_until("sulcus_jobs_in_flight", 1.0);
    let mut waits = Client::connect(running.address);
    waits.send("POST /v1/segment", &[], &scan(1));
    begun.receive(false).unwrap().problem(504, "took-too-long");
    let response = waits.receive(false).unwrap();
    response.problem(503, "waited-too-long");
    assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    running.wait_until("sulcus_queue_length", 0.0);
    gate.open();
    running.wait_until("sulcus_jobs_total{end=\"cancelled\"}", 1.0);
}

#[test]
fn full_queue_refuses_with_429_and_finishes_accepted_scans() {
    let (gated, gate) = Gated::new();
    let running = Running::start(gated, Options::default().queue(2));
    let mut taken: Vec<Client> = (0..3).map(|_| Client::connect(running.address)).collect();
    for (number, client) in taken.iter_mut().enumerate() {
        client.send("POST /v1/segment", &[], &scan(number));
        running.wait_until("sulcus_jobs_in_flight", 1.0);
        running.wait_until("sulcus_queue_length", number as f64);
    }
    for number in 0..3 {
        let response = segment(running.address, &scan(number), &[]);
        response.problem(429, "queue-full");
        assert!(response.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    gate.open();
    let reference = segmenter();
    for (number, client) in taken.iter_mut().enumerate() {
        let expected = crate::scans::expected(&reference, &scan(number), sulcus_io::Compression::Gzip);
        assert!(client.receive(false).unwrap().body == expected, "scan {number}");
    }
}

#[test]
fn bytes_of_all_uploads_are_limited() {
    let running = Running::start(segmenter(), Options::default().max_body(20_000));
    let head = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n";
    let mut held: Vec<Client> = (0..2).map(|_| Client::connect(running.address)).collect();
    for client in &mut held {
        client.write(head.as_bytes()).unwrap();
        client.write(&[0; 19_999]).unwrap();
    }
    running.wait_until("sulcus_held_body_bytes", 39_998.0);
    segment(running.address, &[1; 3000], &[]).problem(429, "queue-full");
    drop(held);
    running.wait_until("sulcus_held_body_bytes", 0.0);
    segment(running.address, &[1; 3000], &[]).problem(400, "unreadable-scan");
}
