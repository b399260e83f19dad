//! `sulcus runtime install` against package indexes on this machine, good and bad ones.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::support::{Ended, ended, file, sulcus};

/// The name of a wheel for this system.
fn wheel_name(version: &str) -> String {
    let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", arch) => format!("manylinux_2_28_{arch}"),
        ("macos", "aarch64") => "macosx_14_0_arm64".into(),
        ("macos", _) => "macosx_13_0_x86_64".into(),
        ("windows", "aarch64") => "win_arm64".into(),
        _ => "win_amd64".into(),
    };
    format!("onnxruntime-{version}-cp313-cp313-{platform}.whl")
}

fn library_name() -> &'static str {
    if cfg!(windows) {
        "onnxruntime.dll"
    } else if cfg!(target_vendor = "apple") {
        "libonnxruntime.1.32.0.dylib"
    } else {
        "libonnxruntime.so.1.32.0"
    }
}

fn wheel(library: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file(format!("onnxruntime/capi/{}", library_name()), options).unwrap();
    writer.write_all(library).unwrap();
    writer.finish().unwrap().into_inner()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The page of an index with one file.
fn listing(filename: &str, url: &str, hash: Option<&str>) -> Vec<u8> {
    let hashes = hash.map(|hash| format!("\"sha256\": \"{hash}\"")).unwrap_or_default();
    format!("{{\"files\": [{{\"filename\": \"{filename}\", \"url\": \"{url}\", \"hashes\": {{{hashes}}}}}]}}")
        .into()
}

fn found(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A server on this machine that responds with the output of `answer` for a path.
struct Index {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Index {
    fn start(tls: Option<rustls::ServerConfig>, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/simple", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (tls, counted) = (tls.map(Arc::new), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                if let Some(config) = &tls {
                    let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                    let mut stream = rustls::StreamOwned::new(connection, stream);
                    respond(&mut stream, &answer);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                } else {
                    respond(&mut stream, &answer);
                }
            }
        });
        Self { url, requests }
    }

    fn plain(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        Self::start(None, answer)
    }

    /// With the certificate of [`certificate`].
    fn encrypted(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let key = PrivateKeyDer::from_pem_file(certificate().with_file_name("key.pem")).unwrap();
        let certificate = CertificateDer::from_pem_file(certificate()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::start(Some(config), answer)
    }

    /// One wheel, listed with a hash.
    fn with(filename: &str, listed: Option<&str>, bytes: Vec<u8>) -> Self {
        let page = listing(filename, &format!("/files/{filename}"), listed);
        Self::plain(move |path| found(if path.starts_with("/files/") { &bytes } else { &page }))
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn respond(stream: &mut (impl Read + Write), answer: &impl Fn(&str) -> Vec<u8>) {
    let (mut request, mut block) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut block) {
            Ok(read @ 1..) => request.extend_from_slice(&block[..read]),
            _ => return,
        }
    }
    let line = String::from_utf8_lossy(&request).into_owned();
    let _ = stream.write_all(&answer(line.split(' ').nth(1).unwrap_or_default()));
    let _ = stream.flush();
}

/// For a server at 127.0.0.1. Certificate and key are only used in these tests; nothing else trusts them.
fn certificate() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/tls/cert.pem")
}

fn install(home: &Path, arguments: &[&str]) -> Ended {
    let mut command = sulcus(home);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("SSL_CERT_FILE", certificate()).args(["runtime", "install"]).args(arguments);
    ended(command.output().unwrap())
}

/// Asserts that nothing was installed and no file is left.
fn check_nothing_is_left(home: &Path) {
    let folder = home.join("data/sulcus");
    let left: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn address_without_encryption_needs_an_option() {
    let home = tempfile::tempdir().unwrap();
    let index = Index::plain(|_| panic!("asked"));
    install(home.path(), &["--index", &index.url]).code(2).says("--allow-http");
    assert_eq!(index.requests(), 0);
    check_nothing_is_left(home.path());
}

#[test]
fn redirects_and_links_from_https_to_http_are_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let plain = Index::plain(|_| panic!("asked"));
    let (hash, version) = ("ab".repeat(32), ["--ort-version", "1.32.0", "--sha256"]);
    let moved = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}/onnxruntime/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        plain.url
    );
    let redirecting = Index::encrypted(move |_| moved.clone().into_bytes());
    let page = listing(&wheel_name("1.32.0"), &format!("{}/a.whl", plain.url), Some(&hash));
    let linking = Index::encrypted(move |_| found(&page));
    for index in [&redirecting, &linking] {
        let arguments = [&version[..], &[&hash, "--index", &index.url]].concat();
        install(home.path(), &arguments).code(1).says("an address without encryption");
        assert!(index.requests() > 0);
    }
    assert_eq!(plain.requests(), 0);
    check_nothing_is_left(home.path());
}

#[test]
fn default_wheel_is_pinned_regardless_of_the_index() {
    let home = tempfile::tempdir().unwrap();
    let other = wheel(b"another library");
    // The requested file, which is for this system.
    let pinned =
        install(home.path(), &["--allow-http", "--index", &Index::plain(|_| found(b"{\"files\": []}")).url])
            .code(1)
            .stderr;
    let (_, after) = pinned.split_once("does not have ").unwrap();
    let name = after.split(": ").next().unwrap();
    // An index that lists another hash, one that lists none, and one that sends another file.
    let lying = Index::with(name, Some(&sha256(&other)), other.clone());
    install(home.path(), &["--allow-http", "--index", &lying.url]).code(1).says("lists onnxruntime-");
    assert_eq!(lying.requests(), 1, "the wheel was fetched");
    let silent = Index::with(name, None, other);
    install(home.path(), &["--allow-http", "--index", &silent.url])
        .code(1)
        .says("the downloaded wheel is not the expected one: expected SHA-256");
    check_nothing_is_left(home.path());
}

#[test]
fn other_version_needs_its_hash() {
    let home = tempfile::tempdir().unwrap();
    let (name, library) = (wheel_name("1.30.0"), wheel(b"not a library at all"));
    let hash = sha256(&library);
    let index = Index::with(&name, Some(&hash), library.clone());
    let ask = |url: &str, more: &[&str]| install(home.path(), &[&["--allow-http", "--index", url], more].concat());
    ask(&index.url, &["--ort-version", "1.30.0"]).code(2).says("--sha256");
    ask(&index.url, &["--sha256", &hash]).code(2).says("--sha256 belongs to");
    ask(&index.url, &["--ort-version", "1.21.0", "--sha256", &hash]).code(2).says("expected 1.22 or newer");
    ask(&index.url, &["--ort-version", "1.30.0", "--sha256", "ab"]).code(2).says("64 hexadecimal digits");
    assert_eq!(index.requests(), 0);
    let wrong = "ab".repeat(32);
    ask(&index.url, &["--ort-version", "1.30.0", "--sha256", &wrong]).code(1).says("no onnxruntime 1.30.0 for ");
    ask(&index.url, &["--ort-version", "1.31.0", "--sha256", &hash]).code(1).says("no onnxruntime 1.31.0 for ");
    // The hash is the expected one, so that the library is loaded.
    ask(&index.url, &["--ort-version", "1.30.0", "--sha256", &hash]).code(1).says("checking the library");
    // The index has the right hash for a wrong file: damaged, truncated, or announced with more than the maximum size.
    let mut damaged = library.clone();
    damaged[50] ^= 1;
    let damaged = Index::with(&name, Some(&hash), damaged);
    ask(&damaged.url, &["--ort-version", "1.30.0", "--sha256", &hash]).code(1).says("is not the expected one");
    let page = listing(&name, "/files/a.whl", Some(&hash));
    for (announced, says) in [(library.len() + 1000, ""), (3 << 30, "exceeds the limit of 1073.7 MB")] {
        let (page, library) = (page.clone(), library.clone());
        let index = Index::plain(move |path| {
            if !path.starts_with("/files/") {
                return found(&page);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n");
            [head.as_bytes(), &library].concat()
        });
        ask(&index.url, &["--ort-version", "1.30.0", "--sha256", &hash]).code(1).says(says);
    }
    let endless =
        Index::plain(|_| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40).into_bytes());
    ask(&endless.url, &[]).code(1).says("exceeds the limit of 67.1 MB");
    check_nothing_is_left(home.path());
}

#[test]
fn own_wheel_needs_a_known_hash() {
    let home = tempfile::tempdir().unwrap();
    let bytes = wheel(b"not a library at all");
    let path = file(home.path(), "own.whl", &bytes);
    let from = ["--from", path.to_str().unwrap()];
    install(home.path(), &from).code(1).says(&format!("its SHA-256 is {}", sha256(&bytes)));
    let wrong = "ab".repeat(32);
    install(home.path(), &[&from[..], &["--sha256", &wrong]].concat()).code(1).says("is not the expected one");
    let right = sha256(&bytes);
    install(home.path(), &[&from[..], &["--sha256", &right]].concat()).code(1).says("checking the library");
    install(home.path(), &[&from[..], &["--ort-version", "1.32.0", "--sha256", &right]].concat()).code(2);
    check_nothing_is_left(home.path());
}

#[test]
fn library_is_installed_with_a_record_of_its_hashes() {
    let Some(library) = std::env::var_os("SULCUS_ORT_LIB").map(PathBuf::from).filter(|path| path.is_file()) else {
        sulcus_harness::skip("SULCUS_ORT_LIB does not name an ONNX Runtime library");
    };
    let home = tempfile::tempdir().unwrap();
    let library = std::fs::read(library).unwrap();
    let bytes = wheel(&library);
    let (name, hash) = (wheel_name("1.32.0"), sha256(&bytes));
    let page = listing(&name, &format!("../../files/{name}"), Some(&hash));
    let index = Index::encrypted(move |path| found(if path.starts_with("/files/") { &bytes } else { &page }));
    let arguments = ["--ort-version", "1.32.0", "--sha256", &hash, "--index", &index.url];
    // The second installation replaces the first.
    for _ in 0..2 {
        let installed = install(home.path(), &arguments).code(0);
        let path = home.path().join("data/sulcus/onnxruntime").join(library_name());
        assert_eq!(installed.stdout.trim(), path.to_str().unwrap());
        assert!(std::fs::read(&path).unwrap() == library);
        let record = std::fs::read(path.with_file_name("install.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(
            record,
            serde_json::json!({
                "format_version": 1,
                "wheel": name,
                "wheel_sha256": hash,
                "files": {library_name(): sha256(&library)},
            })
        );
    }
    assert_eq!(std::fs::read_dir(home.path().join("data/sulcus")).unwrap().count(), 1);
    let doctor = ended(sulcus(home.path()).args(["doctor", "--json"]).output().unwrap()).code(0);
    assert!(doctor.stdout.contains("data/sulcus/onnxruntime"), "{}", doctor.stdout);
}

#[test]
fn doctor_fails_if_an_installed_file_was_changed() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data/sulcus/onnxruntime");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(library_name()), "not the library").unwrap();
    let files = serde_json::json!({library_name(): sha256(b"the library")});
    let record = serde_json::json!({"format_version": 1, "wheel": "a.whl", "wheel_sha256": "", "files": files});
    std::fs::write(folder.join("install.json"), record.to_string()).unwrap();
    let doctor = ended(sulcus(home.path()).arg("doctor").output().unwrap()).code(1);
    doctor.says("was changed after the installation").says("hint: `sulcus runtime install`");
}
