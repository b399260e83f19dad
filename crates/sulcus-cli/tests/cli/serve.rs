use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use super::support::{RAS, file, nifti, run, scan, sulcus, truth};

struct Served {
    child: Child,
    url: String,
    address: String,
}

impl Served {
    fn start(home: &std::path::Path) -> Self {
        Self::with(home, &scan(), &truth())
    }

    fn with(home: &std::path::Path, image: &std::path::Path, mask: &std::path::Path) -> Self {
        let mut child = sulcus(home)
            .args(["view", "--no-open", "--mask"])
            .arg(mask)
            .arg(image)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
        Self { child, url, address }
    }

    /// Status, headers and body.
    fn get(&self, path: &str, host: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        (head[9..12].parse().unwrap(), head, answer[end + 4..].to_vec())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_viewer_serves_the_named_files_to_this_machine_alone() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(home.path());
    let (url, address) = (&served.url, &served.address);
    assert!(address.starts_with("127.0.0.1:"), "{url}");
    assert!(
        url.ends_with("/index.html?image=/data/image.nii.gz&mask=/data/mask.nii.gz&image_name=image.nii.gz"),
        "{url}"
    );

    let (status, head, page) = served.get("/index.html?image=/data/image.nii.gz", address);
    assert_eq!((status, String::from_utf8_lossy(&page).contains("<html")), (200, true));
    assert!(head.contains("text/html") && head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
    let (status, head, wasm) = served.get("/sulcus_viewer_bg.wasm", address);
    assert_eq!((status, head.contains("application/wasm"), wasm.starts_with(b"\0asm")), (200, true, true));
    let (status, _, data) = served.get("/data/image.nii.gz", &address.replace("127.0.0.1", "localhost"));
    assert_eq!((status, data == std::fs::read(scan()).unwrap()), (200, true));

    for path in
        ["/data/truth.nii.gz", "/data/../Cargo.toml", "/../../etc/passwd", "/data//etc/passwd", "/nothing.js"]
    {
        assert_eq!(served.get(path, address).0, 404, "{path}");
    }
    assert_eq!(served.get("/data/image.nii.gz", "evil.example").0, 403);
}

/// The page reads NIfTI alone, so everything else is given to it as such, with the names that a mask carries.
#[test]
fn what_the_page_does_not_read_is_served_as_nifti() {
    let home = tempfile::tempdir().unwrap();
    let names = file(home.path(), "names.ctbl", b"# Color table file\n1 Head 1 2 3 255\n2 Tail 4 5 6 255\n");
    let (image, mask) = (home.path().join("image.mha"), home.path().join("mask.seg.nrrd"));
    run(home.path(), &[&"convert", &scan(), &image]).code(0);
    run(home.path(), &[&"convert", &truth(), &mask, &"--names", &names]).code(0);
    let served = Served::with(home.path(), &image, &mask);
    let (status, _, bytes) = served.get("/data/image.nii.gz", &served.address);
    assert_eq!((status, &bytes[344..348]), (200, &b"n+1\0"[..]));
    let read = |bytes: &[u8]| sulcus_io::read_scan_bytes(bytes).unwrap().image;
    assert_eq!(read(&bytes).data(), read(&std::fs::read(scan()).unwrap()).data());
    let (_, _, bytes) = served.get("/data/mask.nii.gz", &served.address);
    let (labels, source) = sulcus_io::read_labels_bytes(&bytes).unwrap();
    assert_eq!(labels.data(), sulcus_io::read_labels(&truth()).unwrap().0.data());
    let called: Vec<&str> = source.label_table().unwrap().entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(called, ["Head", "Tail"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_viewer_with_0() {
    let home = tempfile::tempdir().unwrap();
    let mut served = Served::start(home.path());
    let killed = std::process::Command::new("/bin/kill").args(["-INT", &served.child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_shown_is_said_before_a_browser_opens() {
    let home = tempfile::tempdir().unwrap();
    let broken = file(home.path(), "broken.nii", &nifti(&[9, 9, 9], &[0.0; 5], Some(RAS)));
    run(home.path(), &[&"view", &"--no-open", &broken]).code(1).says("broken.nii");
    run(home.path(), &[&"view", &"--no-open", &scan(), &"--mask", &home.path().join("gone.nii")])
        .code(1)
        .says("mask");
}
