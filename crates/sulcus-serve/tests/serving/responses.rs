use sulcus_io::Compression;
use sulcus_runtime::ort::{NamedLibrary, OrtLibrary, OrtSearch};
use sulcus_runtime::{Device, Engine, SELF_TEST_MODEL, Segmenter};

use crate::client::{Client, get, request, segment};
use crate::scans::{expected, gzip, nifti, scan};
use crate::server::{Running, segmenter};
use sulcus_serve::Options;

#[test]
fn mask_equals_that_of_the_runtime() {
    let (running, reference) = (Running::with_defaults(), segmenter());
    for number in 0..4 {
        let scan = scan(number);
        let [gzipped, plain] = [Compression::Gzip, Compression::None].map(|c| expected(&reference, &scan, c));
        assert!(plain[352..].iter().any(|voxel| *voxel != 0), "an empty mask tests nothing");
        // The content decides whether the body is gzipped, whatever its type says.
        for (sent, kind) in [(scan.clone(), "application/gzip"), (gzip(&scan), "application/octet-stream")] {
            let response = segment(running.address, &sent, &[("Content-Type", kind)]);
            assert_eq!((response.status, response.header("content-type")), (200, Some("application/gzip")));
            assert!(response.body == gzipped, "scan {number} as {kind}");
            assert_eq!(response.header("content-disposition"), Some("attachment; filename=\"mask.nii.gz\""));
        }
        let response = segment(running.address, &scan, &[("Accept", "application/octet-stream")]);
        assert_eq!(response.header("content-type"), Some("application/octet-stream"));
        assert!(response.body == plain, "scan {number}");
    }
}

#[test]
fn mask_of_each_engine_equals_that_of_the_runtime() {
    let mut builders = [Engine::Tract, Engine::Native].map(|engine| Segmenter::builder().engine(engine)).to_vec();
    match std::env::var_os("SULCUS_ORT_LIB") {
        None => sulcus_harness::skip_part("there is no ONNX Runtime; set SULCUS_ORT_LIB"),
        Some(path) => {
            let named = vec![NamedLibrary { origin: "$SULCUS_ORT_LIB".into(), path: path.into() }];
            let library = OrtLibrary::Search(OrtSearch { named, ..OrtSearch::local() });
            builders.push(Segmenter::builder().engine(Engine::Ort).device(Device::Cpu).ort_library(library));
        }
    }
    for builder in builders {
        let build = || builder.clone().model_bytes(SELF_TEST_MODEL).build().unwrap();
        let engine = build().engine().to_string();
        let running = Running::start(build(), Options::default().workers(2));
        let response = segment(running.address, &scan(1), &[]);
        assert!(response.body == expected(&build(), &scan(1), Compression::Gzip), "{engine}");
        let result: serde_json::Value = serde_json::from_str(response.header("sulcus-result").unwrap()).unwrap();
        assert_eq!(result["engine"], engine.as_str());
        assert_eq!(get(running.address, "/v1/model").json()["engine"], engine.as_str());
    }
}

#[test]
fn result_counts_the_voxels_of_the_mask() {
    let running = Running::with_defaults();
    let mask = segment(running.address, &scan(2), &[("Accept", "application/octet-stream")]);
    let result: serde_json::Value = serde_json::from_str(mask.header("sulcus-result").unwrap()).unwrap();
    let json = segment(running.address, &scan(2), &[("Accept", "application/json")]);
    assert_eq!((json.status, json.header("content-type")), (200, Some("application/json")));
    let json = json.json();
    let (labels, source) = sulcus_io::read_labels_bytes(&mask.body).unwrap();
    let counts = labels.counts();
    assert!(counts.len() > 1);
    for entry in source.label_table().unwrap().entries() {
        for result in [&result, &json] {
            let amount = &result["labels"][&entry.name];
            assert_eq!(amount["value"], entry.value);
            assert_eq!(
                amount["voxels"].as_u64().unwrap() as usize,
                counts.get(&entry.value).copied().unwrap_or(0)
            );
        }
    }
    assert!(
        result["tiles"].as_u64() > Some(0)
            && result["seconds"]["total"].as_f64() > result["seconds"]["engine"].as_f64()
    );
    assert!(result.get("warnings").is_none());
    // The same warning as from `predict`.
    let ramp: Vec<f32> = (0..256_i16).map(f32::from).collect();
    let unplaced = nifti(&[8, 8, 4], &ramp, None);
    let result = segment(running.address, &unplaced, &[("Accept", "application/json")]).json();
    let warning = &result["warnings"][0];
    assert_eq!(warning["kind"], "unknown_orientation", "{result}");
    assert!(warning["message"].as_str().unwrap().contains("left and right are unknown"), "{result}");
    // Where the segmenter is strict it is an error.
    let strict = Segmenter::builder().model_bytes(SELF_TEST_MODEL).engine(Engine::Tract).strict(true).build();
    let running = Running::start(strict.unwrap(), Options::default());
    let refused = segment(running.address, &unplaced, &[]);
    assert_eq!(refused.json()["warnings"], result["warnings"], "the same objects as without `strict`");
    let detail = refused.problem(422, "implausible-scan");
    assert!(detail.contains("left and right are unknown"), "{detail}");
    assert_eq!(segment(running.address, &scan(2), &[]).status, 200);
}

#[test]
fn multipart_has_the_result_and_the_mask() {
    let (running, reference) = (Running::with_defaults(), segmenter());
    for media_type in ["multipart/form-data", "multipart/mixed"] {
        let response = segment(running.address, &scan(3), &[("Accept", media_type)]);
        assert_eq!(response.status, 200);
        let content_type = response.header("content-type").unwrap();
        let boundary = content_type.strip_prefix(&format!("{media_type}; boundary=")).unwrap();
        let mask = expected(&reference, &scan(3), Compression::Gzip);
        let end = [&mask[..], format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
        assert!(response.body.ends_with(&end));
        let head = String::from_utf8_lossy(&response.body[..response.body.len() - end.len()]).into_owned();
        let parts: Vec<&str> = head.split(&format!("--{boundary}\r\n")).collect();
        let [preamble, result, mask_head] = parts[..] else { panic!("{head}") };
        assert_eq!(preamble, "");
        assert!(
            mask_head.contains("name=\"mask\"; filename=\"mask.nii.gz\"\r\nContent-Type: application/gzip\r\n")
        );
        let (result_head, result) = result.split_once("\r\n\r\n").unwrap();
        assert!(result_head.contains("name=\"result\"\r\nContent-Type: application/json"), "{result_head}");
        let result: serde_json::Value = serde_json::from_str(result.trim_end()).unwrap();
        let json = segment(running.address, &scan(3), &[("Accept", "application/json")]).json();
        assert_eq!((&result["labels"], &result["tiles"]), (&json["labels"], &json["tiles"]));
    }
}

#[test]
fn volume_smaller_than_the_patch_is_padded() {
    let running = Running::with_defaults();
    let values = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0];
    let response = segment(running.address, &nifti(&[3, 2, 1], &values, Some(crate::scans::OBLIQUE)), &[]);
    assert_eq!(response.status, 200);
    assert_eq!(sulcus_io::read_labels_bytes(&response.body).unwrap().0.geometry().shape(), [3, 2, 1]);
}

#[test]
fn connection_serves_several_requests_and_a_chunked_body() {
    let (running, reference) = (Running::with_defaults(), segmenter());
    let mut client = Client::connect(running.address);
    for number in 0..3 {
        client.send("POST /v1/segment", &[], &scan(number));
        assert!(client.receive(false).unwrap().body == expected(&reference, &scan(number), Compression::Gzip));
        client.send("GET /healthz", &[], b"");
        assert_eq!(client.receive(false).unwrap().text(), "{\"status\":\"ok\"}");
    }
    client.write(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for part in scan(1).chunks(1000) {
        client.write(format!("{:x}\r\n", part.len()).as_bytes()).unwrap();
        client.write(part).unwrap();
        client.write(b"\r\n").unwrap();
    }
    client.write(b"0\r\n\r\n").unwrap();
    assert!(client.receive(false).unwrap().body == expected(&reference, &scan(1), Compression::Gzip));
}

#[test]
fn model_and_openapi_pages_are_served() {
    let running = Running::with_defaults();
    let model = get(running.address, "/v1/model").json();
    assert_eq!(model["models"][0]["labels"][0]["value"], 1);
    assert_eq!(model["models"][0]["precision"], "fp32");
    assert_eq!(model["limits"]["queue"], 16);
    let described = get(running.address, "/v1/openapi.json").json();
    assert_eq!(
        (described["openapi"].as_str(), described["security"].as_array().unwrap().len()),
        (Some("3.1.0"), 0)
    );
    let head = request(running.address, "HEAD /v1/model", &[], b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    assert_eq!(head.header("cache-control"), Some("no-store"));
}

#[test]
fn metrics_count_requests_and_jobs() {
    let running = Running::with_defaults();
    segment(running.address, &scan(0), &[]);
    segment(running.address, b"nonsense", &[]);
    get(running.address, "/v1/segment/Doe_John");
    let metrics = get(running.address, "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = metrics.text();
    for line in [
        "sulcus_requests_total{method=\"POST\",path=\"/v1/segment\",status=\"200\"} 1",
        "sulcus_requests_total{method=\"POST\",path=\"/v1/segment\",status=\"400\"} 1",
        "sulcus_requests_total{method=\"GET\",path=\"other\",status=\"404\"} 1",
        "sulcus_jobs_total{end=\"done\"} 1",
        "sulcus_jobs_total{end=\"failed\"} 1",
        "sulcus_jobs_total{end=\"panicked\"} 0",
        "sulcus_job_seconds_count{stage=\"engine\"} 1",
        "sulcus_request_seconds_count{path=\"/v1/segment\"} 2",
        "sulcus_queue_length 0",
        "sulcus_jobs_in_flight 0",
        "sulcus_held_body_bytes 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    assert!(!text.contains("Doe"));
    // Each metric family has its HELP and TYPE lines.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(
            text.contains(&format!("# TYPE {family} ")) && text.contains(&format!("# HELP {family} ")),
            "{line}"
        );
    }
}
