//! `sulcus serve` as a process: its output, its exit code, and that its masks are those of `predict`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::support::{bundled, file, predict, run, scan, sulcus, tiny_model};

struct Served {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    said: Value,
    address: SocketAddr,
}

impl Served {
    /// Starts a server on a free port, with the tiny model on the built-in engine, and waits until it answers.
    fn start(command: &mut Command, more: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--engine", "tract", "--port", "0", "--json", "-m"])
            .arg(tiny_model())
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let address = said["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, stderr, said, address }
    }

    fn ask(&self, line: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        stream
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("/bin/kill").args([name, &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }

    /// The exit code and standard error.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status, head and body.
fn answer(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head[9..12].parse().unwrap(), head, answer[end + 4..].to_vec())
}

#[test]
fn serve_help_matches_the_documented_options() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(home.path(), &[&"serve", &"--help"]).code(0).stdout);
}

#[test]
fn served_mask_equals_the_file_of_predict() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(&mut sulcus(home.path()), &[]);
    assert_eq!((&served.said["engine"], &served.said["token"]), (&Value::from("tract"), &Value::from(false)));
    let scans = [scan(), bundled("hippocampus/imagesTr/hippocampus_039.nii.gz")];
    for (number, scan) in scans.iter().enumerate() {
        let bytes = std::fs::read(scan).unwrap();
        for (ending, accept) in [("nii.gz", "application/gzip"), ("nii", "application/octet-stream")] {
            let mask = home.path().join(format!("mask_{number}.{ending}"));
            let said = predict(home.path(), &[scan], &mask, &["--json"]).code(0).json_lines();
            let (status, head, body) =
                answer(served.ask("POST /v1/segment", &format!("Accept: {accept}\r\n"), &bytes));
            assert_eq!(status, 200, "{head}");
            assert!(body == std::fs::read(&mask).unwrap(), "{number} {ending}");
            let result = head.lines().find_map(|line| line.strip_prefix("sulcus-result: ")).unwrap();
            let result: Value = serde_json::from_str(result).unwrap();
            assert_eq!((&result["labels"], &result["tiles"]), (&said[0]["labels"], &said[0]["tiles"]));
        }
    }
}

#[test]
fn picture_is_served_as_predict_writes_it() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(&mut sulcus(home.path()), &[]);
    let spacing = sulcus_volume::Spacing::new([1.0; 3]).unwrap();
    let grid = sulcus_volume::Geometry::of_picture([40, 30, 1], spacing, sulcus_volume::GridUnit::Pixel).unwrap();
    let image = sulcus_volume::Image::new(grid, 1, (0..1200).map(|i| (i % 199) as f32).collect()).unwrap();
    let (file, mask) = (home.path().join("eye.png"), home.path().join("mask.png"));
    sulcus_io::write_image(&file, &image, &grid.into()).unwrap();
    predict(home.path(), &[&file], &mask, &[]).code(0);
    let types = "Content-Type: image/png\r\nAccept: image/png\r\n";
    let (status, head, body) = answer(served.ask("POST /v1/segment", types, &std::fs::read(&file).unwrap()));
    assert_eq!(status, 200, "{head}");
    assert!(body == std::fs::read(&mask).unwrap());
    assert!(head.to_ascii_lowercase().contains("content-type: image/png"), "{head}");
    // A scan of several slices does not fit into a PNG, which is known before it is segmented.
    let volume = std::fs::read(scan()).unwrap();
    let (status, _, body) = answer(served.ask("POST /v1/segment", "Accept: image/png\r\n", &volume));
    assert_eq!(status, 406);
    assert!(String::from_utf8_lossy(&body).contains("a PNG holds one slice, the scan has 36"));
}

#[cfg(unix)]
#[test]
fn signal_stops_the_server_after_the_accepted_scans() {
    let home = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(scan()).unwrap();
    for signal in ["-TERM", "-INT"] {
        let served = Served::start(&mut sulcus(home.path()), &[]);
        let streams: Vec<TcpStream> = (0..4).map(|_| served.ask("POST /v1/segment", "", &bytes)).collect();
        // Waits until the server has accepted all four requests.
        loop {
            let (_, _, text) = answer(served.ask("GET /metrics", "", b""));
            let text = String::from_utf8_lossy(&text).into_owned();
            let number = |name: &str| -> usize {
                let of = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
                text.lines().find_map(of).unwrap_or(0)
            };
            let answered = number("sulcus_jobs_total{end=\"done\"}");
            if answered + number("sulcus_queue_length ") + number("sulcus_jobs_in_flight ") >= 4 {
                break;
            }
        }
        served.signal(signal);
        for stream in streams {
            assert_eq!(answer(stream).0, 200);
        }
        let (code, said) = served.ended();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("serving this machine only; Ctrl-C ends it"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn log_contains_no_patient_data() {
    // The audit log is on by default.
    check_log(&[]);
    check_log(&["-v", "-v"]);
}

#[cfg(unix)]
fn check_log(more: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(&mut sulcus(home.path()), more);
    let mut bytes = std::fs::read(scan()).unwrap();
    bytes.truncate(500);
    answer(served.ask("POST /v1/segment?name=Doe", "X-Patient: Doe^John\r\n", &bytes));
    answer(served.ask("GET /patients/Doe_John", "Authorization: Bearer Doe\r\n", b""));
    served.signal("-TERM");
    let (code, said) = served.ended();
    assert_eq!(code, Some(0));
    assert!(said.contains("POST /v1/segment 400 in ") && said.contains("GET other 404 in "), "{said}");
    assert_eq!(said.matches("client=127.0.0.1 access=\"local\"").count(), 2, "{said}");
    assert!(!said.contains("Doe"), "{said}");
}

#[cfg(unix)]
#[test]
fn quiet_server_writes_no_audit_log() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(&mut sulcus(home.path()), &["-q"]);
    answer(served.ask("GET /healthz", "", b""));
    served.signal("-TERM");
    assert_eq!(served.ended(), (Some(0), String::new()));
}

#[test]
fn token_is_read_from_file_or_environment_and_never_printed() {
    let home = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef-secret";
    let path = file(home.path(), "token", format!("{token}\n").as_bytes());
    let from_file = Served::start(&mut sulcus(home.path()), &["--token-file", path.to_str().unwrap()]);
    let from_environment = Served::start(sulcus(home.path()).env("SULCUS_TOKEN", token), &[]);
    for served in [from_file, from_environment] {
        assert_eq!(served.said["token"], true);
        assert!(!served.said.to_string().contains(token));
        assert_eq!(answer(served.ask("GET /v1/model", "", b"")).0, 401);
        let bearer = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(answer(served.ask("GET /v1/model", &bearer, b"")).0, 200);
    }
    // With a token, other machines may reach the server.
    let served = Served::start(sulcus(home.path()).env("SULCUS_TOKEN", token), &["--host", "0.0.0.0"]);
    assert!(served.address.ip().is_unspecified());
}

#[test]
fn invalid_server_options_are_refused_at_start() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny_model();
    let mut newer = std::fs::read(&model).unwrap();
    let version = b"\"format_version\":1,";
    let at = newer.windows(version.len()).position(|w| w == version).unwrap();
    newer[at + version.len() - 2] = b'9';
    let newer = file(home.path(), "newer.onnx", &newer);
    let text = file(home.path(), "text.onnx", b"a model, honestly");
    let short = file(home.path(), "short", b"secret");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().port().to_string();
    let serve = |code: i32, says: &str, arguments: &[&str]| {
        let output = sulcus(home.path()).arg("serve").args(arguments).output().unwrap();
        let ended = super::support::ended(output).code(code).says(says);
        assert!(ended.stdout.is_empty() && !ended.stderr.contains("secret"), "{arguments:?}: {}", ended.stderr);
    };
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let (model, newer, text, short) = (name(&model), name(&newer), name(&text), name(&short));
    serve(1, "not an ONNX file", &["-m", &text, "--port", "0"]);
    serve(1, "format version is 9, this program knows 1 to", &["-m", &newer, "--port", "0"]);
    serve(1, "missing.onnx", &["-m", "missing.onnx", "--port", "0"]);
    let busy = ["-m", &model, "--engine", "tract", "--port", &taken];
    serve(1, "cannot listen on 127.0.0.1:", &busy);
    serve(1, "16 or more printable ASCII characters, found 6", &["-m", &model, "--token-file", &short]);
    serve(1, "could not read the token", &["-m", &model, "--token-file", "nowhere"]);
    serve(2, "no token was given", &["-m", &model, "--host", "0.0.0.0"]);
    serve(2, "no token was given", &["-m", &model, "--host", "::"]);
    serve(2, "too small", &["-m", &model, "--engine", "tract", "--port", "0", "--max-memory", "1MB"]);
    serve(2, "expected an IP address", &["-m", &model, "--host", "scans.example"]);
    serve(2, "cannot be used with", &["-m", &model, "--allow-anyone", "--token-file", &short]);
    serve(2, "at least 1", &["-m", &model, "--workers", "0"]);
    serve(2, "--model", &[]);
}
