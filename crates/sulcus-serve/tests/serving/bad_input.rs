//! Bodies that are not scans, or not scans for this model: each gets problem details, and the server continues.

use crate::client::{get, request, segment};
use crate::scans::{OBLIQUE, gzip, nifti, scan};
use crate::server::{Gated, Running};
use sulcus_serve::Options;

#[test]
fn unusable_scans_are_refused_with_the_reason() {
    let running = Running::with_defaults();
    let values = vec![1.0; 512];
    let whole = nifti(&[8, 8, 8], &values, Some(OBLIQUE));
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let not_a_number = |value: f32| {
        let mut values = values.clone();
        (values[7], values[100]) = (value, value);
        nifti(&[8, 8, 8], &values, Some(OBLIQUE))
    };
    let singular =
        nifti(&[8, 8, 8], &values, Some([[1.0, 2.0, 0.0, 0.0], [2.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]));
    let gzipped = gzip(&scan(0));
    let (unreadable, unsuitable) = ((400, "unreadable-scan"), (422, "unsuitable-scan"));
    let implausible = (422, "implausible-scan");
    for (name, body, (status, code), says) in [
        ("text", b"hello, I am not a scan at all".to_vec(), unreadable, "expected NIfTI"),
        ("zeros", vec![0; 4000], unreadable, "only zeros"),
        (
            "a picture",
            b"\x89PNG\r\n\x1a\n and so on".to_vec(),
            unreadable,
            "cannot read the PNG picture: its data is damaged",
        ),
        ("an NRRD file", b"NRRD0004\ntype: float\n".to_vec(), unreadable, "an NRRD file"),
        ("half a header", whole[..200].to_vec(), unreadable, "348"),
        ("half its voxels", whole[..900].to_vec(), unreadable, "8 × 8 × 8"),
        ("truncated gzip", gzipped[..gzipped.len() * 3 / 4].to_vec(), unreadable, "gzip data ends"),
        ("damaged gzip", [&gzipped[..12], &[0xff; 40], &gzipped[52..]].concat(), unreadable, "gzip"),
        ("gzipped text", gzip(b"hello, I am not a scan at all"), unreadable, "expected NIfTI"),
        ("a pair's header", with(344, b"ni1\0"), unreadable, ".img"),
        ("an axis of length 0", with(44, &0_i16.to_le_bytes()), unreadable, "0"),
        ("a negative axis", with(42, &(-8_i16).to_le_bytes()), unreadable, "-8"),
        ("a singular transform", singular, unreadable, "sform"),
        ("a transform of NaN", with(280, &f32::NAN.to_le_bytes()), unreadable, "sform"),
        ("complex numbers", with(70, &32_i16.to_le_bytes()), unreadable, "complex"),
        ("NaN", not_a_number(f32::NAN), unsuitable, "2 voxel(s) that are not finite"),
        ("infinity", not_a_number(f32::INFINITY), unsuitable, "2 voxel(s) that are not finite"),
        (
            "two channels",
            nifti(&[8, 8, 8, 2], &vec![1.0; 1024], Some(OBLIQUE)),
            unsuitable,
            "expects 1 channel(s)",
        ),
        ("a constant", whole.clone(), implausible, "channel `MRI` is 1 in every voxel"),
        ("five axes", nifti(&[2, 2, 2, 2, 2], &[0.0; 32], Some(OBLIQUE)), unreadable, "2 × 2 × 2 × 2 × 2"),
    ] {
        let detail = segment(running.address, &body, &[]).problem(status, code);
        assert!(detail.contains(says), "{name}: expected `{says}` in: {detail}");
    }
    segment(running.address, b"", &[]).problem(400, "empty-body");
    assert_eq!(segment(running.address, &scan(0), &[]).status, 200);
}

#[test]
fn wrong_method_path_or_type_is_refused_with_advice() {
    let running = Running::with_defaults();
    let request =
        |line: &str, headers: &[(&str, &str)], body: &[u8]| request(running.address, line, headers, body);
    for kind in ["application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"] {
        let detail =
            request("POST /v1/segment", &[("Content-Type", kind)], &scan(0)).problem(415, "unsupported-type");
        assert!(detail.contains("--data-binary"), "{detail}");
    }
    request("POST /v1/segment", &[("Content-Encoding", "br")], &scan(0)).problem(415, "unsupported-type");
    request("POST /v1/segment", &[("Accept", "text/html")], &scan(0)).problem(406, "not-acceptable");
    for (line, allow) in [
        ("GET /v1/segment", "POST"),
        ("PUT /v1/segment", "POST"),
        ("POST /v1/model", "GET, HEAD"),
        ("DELETE /metrics", "GET, HEAD"),
    ] {
        let response = request(line, &[], b"");
        response.problem(405, "method-not-allowed");
        assert_eq!(response.header("allow"), Some(allow), "{line}");
    }
    let head = request("HEAD /v1/segment", &[], b"");
    assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
    for path in
        ["GET /", "GET /v1", "GET /v1/model/", "POST /v1/segment/x", "GET /healthz/../metrics", "GET //metrics"]
    {
        request(path, &[], b"").problem(404, "not-found");
    }
}

#[test]
fn panic_is_500_and_the_next_scan_is_segmented() {
    let (gated, gate) = Gated::new();
    gate.open();
    let running = Running::start(gated, Options::default());
    let explosive = nifti(&[8, 8, 4], &vec![Gated::PANIC_VALUE; 256], Some(OBLIQUE));
    for _ in 0..3 {
        segment(running.address, &explosive, &[]).problem(500, "internal");
        assert_eq!(segment(running.address, &scan(0), &[]).status, 200);
    }
    let text = get(running.address, "/metrics").text();
    assert!(
        text.contains("sulcus_jobs_total{end=\"panicked\"} 3\n") && text.contains("sulcus_jobs_in_flight 0\n"),
        "{text}"
    );
}
