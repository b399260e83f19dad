//! `sulcus view` as a process: its output, the files that it serves, how it ends, and which files it leaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::score::named_truth;
use super::support::{RAS, file, nifti, run, scan, sulcus, tiny_model, truth};

struct Served {
    child: Child,
    url: String,
    address: String,
    /// The path of the page, which begins with the token.
    folder: String,
}

impl Served {
    fn start(home: &Path) -> Self {
        Self::with(home, &scan(), &truth())
    }

    fn with(home: &Path, image: &Path, mask: &Path) -> Self {
        let mut command = sulcus(home);
        command.args(["view", "--no-open", "--mask"]).arg(mask).arg(image);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let folder = format!("/{}", path.split_once("index.html").unwrap().0);
        Self { child, address: address.to_owned(), folder, url }
    }

    /// Status, headers and body of a file beside the page.
    fn get(&self, file: &str, host: &str) -> (u16, String, Vec<u8>) {
        self.get_path(&format!("{}{file}", self.folder), host)
    }

    fn get_path(&self, path: &str, host: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        (head[9..12].parse().unwrap(), head, answer[end + 4..].to_vec())
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let killed = Command::new("/bin/kill").args([name, &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn viewer_serves_the_named_files_to_this_machine_only() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(home.path());
    let (url, address) = (&served.url, &served.address);
    assert!(address.starts_with("127.0.0.1:"), "{url}");
    assert!(
        url.ends_with("/index.html?image=data/image.nii.gz&mask=data/mask.nii.gz&mask_name=truth.nii.gz"),
        "{url}"
    );

    let (status, head, page) = served.get_path(url.strip_prefix(&format!("http://{address}")).unwrap(), address);
    assert_eq!((status, String::from_utf8_lossy(&page).contains("<html")), (200, true));
    assert!(head.contains("text/html") && head.contains("Content-Security-Policy: default-src 'none'"), "{head}");
    let (status, head, wasm) = served.get("sulcus_viewer_bg.wasm", address);
    assert_eq!((status, head.contains("application/wasm"), wasm.starts_with(b"\0asm")), (200, true, true));
    let (status, _, data) = served.get("data/image.nii.gz", &address.replace("127.0.0.1", "localhost"));
    assert_eq!((status, data == std::fs::read(scan()).unwrap()), (200, true));

    for path in ["data/truth.nii.gz", "data/../Cargo.toml", "../../etc/passwd", "data//etc/passwd", "nothing.js"] {
        assert_eq!(served.get(path, address).0, 404, "{path}");
    }
    assert_eq!(served.get("data/image.nii.gz", "evil.example").0, 403);
}

/// The page reads only NIfTI, so other formats are converted, with the names that a mask contains.
#[test]
fn other_formats_are_served_as_nifti() {
    let home = tempfile::tempdir().unwrap();
    let names = file(home.path(), "names.ctbl", b"# Color table file\n1 Head 1 2 3 255\n2 Tail 4 5 6 255\n");
    let (image, mask) = (home.path().join("image.mha"), home.path().join("mask.seg.nrrd"));
    run(home.path(), &[&"convert", &scan(), &image]).code(0);
    run(home.path(), &[&"convert", &truth(), &mask, &"--names", &names]).code(0);
    let served = Served::with(home.path(), &image, &mask);
    let (status, _, bytes) = served.get("data/image.nii.gz", &served.address);
    assert_eq!((status, &bytes[344..348]), (200, &b"n+1\0"[..]));
    let read = |bytes: &[u8]| sulcus_io::read_scan_bytes(bytes).unwrap().image;
    assert_eq!(read(&bytes).data(), read(&std::fs::read(scan()).unwrap()).data());
    let (_, _, bytes) = served.get("data/mask.nii.gz", &served.address);
    let (labels, source) = sulcus_io::read_labels_bytes(&bytes).unwrap();
    assert_eq!(labels.data(), sulcus_io::read_labels(&truth()).unwrap().0.data());
    let called: Vec<&str> = source.label_table().unwrap().entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(called, ["Head", "Tail"]);
}

#[test]
fn model_is_served_and_must_be_one() {
    let home = tempfile::tempdir().unwrap();
    let mut command = sulcus(home.path());
    command.args(["view", "--no-open", "--model"]).arg(tiny_model()).arg(scan());
    let served = Served::spawn(command);
    let name = tiny_model().file_name().unwrap().to_string_lossy().into_owned();
    let (_, query) = served.url.split_once('?').unwrap();
    assert!(query.starts_with("image=data/image.nii.gz&model=data/model.onnx"), "{query}");
    assert_eq!(query.contains(&format!("model_name={name}")), name != "model.onnx", "{query}");
    let (status, _, bytes) = served.get("data/model.onnx", &served.address);
    assert_eq!((status, bytes == std::fs::read(tiny_model()).unwrap()), (200, true));
    for module in ["predict.js", "engine.js", "sulcus_viewer_engine.js", "sulcus_viewer_engine_bg.wasm"] {
        assert_eq!(served.get(module, &served.address).0, 200, "{module}");
    }
    run(home.path(), &[&"view", &"--no-open", &scan(), &"--model", &scan()]).code(1).says("model: ");
    run(home.path(), &[&"view", &"--no-open", &scan(), &"--model", &"none.onnx"]).code(1).says("none.onnx");
}

/// The page compares numbers, so the mask gets those that the truth has for the same names.
#[test]
fn mask_is_served_with_the_numbers_of_the_truth() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    named_truth(&at("truth.nii.gz"), ["Anterior", "Posterior"], false);
    named_truth(&at("exchanged.nii.gz"), ["Posterior", "Anterior"], true);
    named_truth(&at("other.nii.gz"), ["Liver", "Anterior"], false);
    let mut command = sulcus(home.path());
    command.args(["view", "--no-open", "--mask"]).arg(at("exchanged.nii.gz"));
    let served = Served::spawn({
        command.arg("--truth").arg(at("truth.nii.gz")).arg(scan());
        command
    });
    let labels = |name: &str| {
        let (_, _, bytes) = served.get(name, &served.address);
        let (labels, source) = sulcus_io::read_labels_bytes(&bytes).unwrap();
        let names: Vec<String> = source.label_table().unwrap().entries().iter().map(|e| e.name.clone()).collect();
        (labels.data().to_vec(), names)
    };
    assert_eq!(labels("data/mask.nii.gz"), labels("data/truth.nii.gz"));
    let other = at("other.nii.gz");
    run(home.path(), &[&"view", &"--no-open", &scan(), &"--mask", &other, &"--truth", &at("truth.nii.gz")])
        .code(1)
        .says("label 1 is named `Liver`, but `Anterior` is expected");
}

/// Other users of this machine can connect to the port too.
#[test]
fn requests_without_the_token_get_403() {
    let home = tempfile::tempdir().unwrap();
    let served = Served::start(home.path());
    for path in ["/", "/index.html", "/data/image.nii.gz", "/index.html/data/image.nii.gz", "/viewer.js"] {
        let (status, _, body) = served.get_path(path, &served.address);
        assert_eq!(status, 403, "{path}");
        assert!(!String::from_utf8_lossy(&body).contains(served.folder.trim_matches('/')), "{path}");
    }
}

#[cfg(unix)]
#[test]
fn signals_end_the_viewer_with_0_and_remove_converted_scans() {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let image = home.path().join("image.mha");
    run(home.path(), &[&"convert", &scan(), &image]).code(0);
    for signal in ["-INT", "-TERM", "-HUP", "-KILL"] {
        let mut command = sulcus(home.path());
        command.env("TMPDIR", &temporary).args(["view", "--no-open"]).arg(&image);
        let mut served = Served::spawn(command);
        assert_eq!(served.get("data/image.nii.gz", &served.address).0, 200);
        // It is served from a file without a name, which disappears even if the program is killed.
        let left = std::fs::read_dir(&temporary).unwrap().count();
        served.signal(signal);
        let code = served.child.wait().unwrap().code();
        assert_eq!((code, left), (if signal == "-KILL" { None } else { Some(0) }, 0), "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn closed_terminal_does_not_end_a_viewer_under_nohup() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(sulcus(home.path()).get_program());
    command.args(["view", "--no-open"]).arg(scan());
    let served = Served::spawn(command);
    served.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(served.get("data/image.nii.gz", &served.address).0, 200);
}

/// The system gives the server 40 file descriptors; other programs open more connections than that.
#[cfg(unix)]
#[test]
fn viewer_survives_more_connections_than_file_descriptors() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 40; exec \"$@\"", "sh"]).arg(sulcus(home.path()).get_program());
    command.args(["view", "--no-open"]).arg(scan());
    let mut served = Served::spawn(command);
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&served.address).unwrap()).collect();
    for _ in 0..3 {
        assert_eq!(served.get("data/image.nii.gz", &served.address).0, 200);
    }
    drop(idle);
    assert_eq!(served.get("index.html", &served.address).0, 200);
    assert_eq!(served.child.try_wait().unwrap(), None);
}

/// Every user of a machine can read the arguments of a program, so the browser gets the address in a file of the user's own.
#[cfg(all(unix, not(target_os = "macos")))]
#[test]
fn browser_gets_the_token_from_a_private_file() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let opener = file(home.path(), "bin/xdg-open", b"#!/bin/sh\nstat -c %a \"$1\" \"${1%/*}\" > \"$HOME/modes\"\ncp \"$1\" \"$HOME/page.part\"\nmv \"$HOME/page.part\" \"$HOME/page.html\"\n");
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", home.path().join("bin").display());
    let mut command = sulcus(home.path());
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    command.env("PATH", path).env("TMPDIR", &temporary).arg("view").arg(scan()).arg("--mask").arg(truth());
    let mut served = Served::spawn(command);
    let page = home.path().join("page.html");
    for _ in 0..200 {
        if page.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&format!("content=\"0; url={}\"", served.url.replace('&', "&amp;"))), "{page}");
    assert_eq!(std::fs::read_to_string(home.path().join("modes")).unwrap(), "600\n700\n");
    served.signal("-TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(temporary).unwrap().count(), 0);
}

#[test]
fn invalid_files_are_reported_before_a_browser_opens() {
    let home = tempfile::tempdir().unwrap();
    let broken = file(home.path(), "broken.nii", &nifti(&[9, 9, 9], &[0.0; 5], Some(RAS)));
    run(home.path(), &[&"view", &"--no-open", &broken]).code(1).says("broken.nii");
    run(home.path(), &[&"view", &"--no-open", &scan(), &"--mask", &home.path().join("gone.nii")])
        .code(1)
        .says("mask");
}

/// A folder of cases with masks that differ from the truth by a different number of voxels.
fn cohort(home: &Path) -> std::path::PathBuf {
    let folder = home.join("cohort");
    let (labels, like) = sulcus_io::read_labels(&truth()).unwrap();
    let names = sulcus_volume::LabelTable::default();
    for (case, shift) in [("good", 1), ("bad", 6), ("worse", 12)] {
        let mut values = labels.data().to_vec();
        values.rotate_right(shift);
        let mask = sulcus_volume::LabelMap::new(*labels.geometry(), values).unwrap();
        for (part, map) in [("masks", &mask), ("labelsTr", &labels)] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
            sulcus_io::write_labels(&folder.join(part).join(format!("{case}.nii.gz")), map, &like, &names)
                .unwrap();
        }
        std::fs::create_dir_all(folder.join("imagesTr")).unwrap();
        std::fs::copy(scan(), folder.join(format!("imagesTr/{case}_0000.nii.gz"))).unwrap();
    }
    folder
}

fn list_of(served: &Served) -> serde_json::Value {
    for _ in 0..200 {
        let (_, _, bytes) = served.get("data/cases.json", &served.address);
        let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        if list["scoring"] == false {
            return list;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the cases were never scored");
}

#[test]
fn cohort_is_listed_with_the_scores_of_evaluate() {
    let home = tempfile::tempdir().unwrap();
    let folder = cohort(home.path());
    std::fs::write(folder.join("masks/bad.nii.gz"), b"damaged").unwrap();
    let mut command = sulcus(home.path());
    command.args(["view", "--no-open"]).arg(&folder);
    let served = Served::spawn(command);
    assert!(served.url.ends_with("/index.html?cases=data/cases.json"), "{}", served.url);
    let list = list_of(&served);
    assert_eq!((&list["format"], &list["format_version"]), (&"sulcus.cases".into(), &1.into()));
    let cases = list["cases"].as_array().unwrap();
    assert_eq!(
        cases.iter().map(|case| case["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["bad", "good", "worse"]
    );
    let evaluated =
        run(home.path(), &[&"evaluate", &"-p", &folder.join("masks"), &"-t", &folder.join("labelsTr"), &"--json"])
            .code(1);
    let summary: serde_json::Value = serde_json::from_str(&evaluated.stdout).unwrap();
    for (case, scores) in cases.iter().skip(1).zip(summary["metric_per_case"].as_array().unwrap()) {
        let dice: Vec<f64> =
            scores["metrics"].as_object().unwrap().values().map(|m| m["Dice"].as_f64().unwrap()).collect();
        let mean = dice.iter().sum::<f64>() / dice.len() as f64;
        assert!((case["dice"].as_f64().unwrap() - mean).abs() < 1e-12, "{case} {mean}");
        assert!(case["problem"].is_null() && case["confidence"].is_null());
    }
    assert!(
        cases[0]["problem"].as_str().unwrap().contains("bad.nii.gz") && cases[0]["dice"].is_null(),
        "{}",
        cases[0]
    );
    // The files are served as they are, and nothing else of the folder.
    let image = &cases[1]["image"][0];
    assert_eq!(image["name"], "good_0000.nii.gz");
    let address = image["address"].as_str().unwrap();
    assert_eq!(served.get(address, &served.address).2, std::fs::read(scan()).unwrap());
    assert_eq!(served.get("data/9.0.0", &served.address).0, 404);
    assert_eq!(served.get("cohort.js", &served.address).0, 200);
    // A file that is gone is no reason to end.
    std::fs::remove_file(folder.join("imagesTr/good_0000.nii.gz")).unwrap();
    assert_eq!(served.get(address, &served.address).0, 404);
    assert_eq!(served.get("index.html", &served.address).0, 200);
}

#[test]
fn folders_that_are_no_cohort_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let folder = cohort(home.path());
    let images = folder.join("imagesTr");
    let view = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        run(home.path(), &[&[&"view" as &dyn AsRef<std::ffi::OsStr>, &"--no-open"], words].concat())
    };
    view(&[&folder.join("masks/none")]).code(1);
    std::fs::create_dir(home.path().join("empty")).unwrap();
    view(&[&home.path().join("empty")]).code(1).says("the folder has no scans");
    view(&[&images, &"--mask", &folder.join("masks/good.nii.gz")]).code(1).says("mask: expected a folder");
    view(&[&images, &"--truth", &home.path().join("empty")]).code(1).says("no truth has the name of an image");
    view(&[&scan(), &"--mask", &folder.join("masks")]).code(1).says("mask: expected a file, found a folder");
}

/// The content of a file in a saved page, as it is stored.
fn carried(page: &str, address: &str) -> Option<Vec<u8>> {
    let (_, rest) = page.split_once(&format!("data-file=\"{address}\""))?;
    let text = rest.split_once('>')?.1.split('<').next()?;
    Some(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap())
}

#[test]
fn saved_page_carries_the_files_with_their_names_and_replaces_an_older_one() {
    let home = tempfile::tempdir().unwrap();
    let page = file(home.path(), "out/page.html", b"older");
    let view =
        file(home.path(), "my view.json", br#"{"format": "sulcus.view", "format_version": 1, "at": [1, 2, 3]}"#);
    let image = home.path().join("image.mha");
    run(home.path(), &[&"convert", &scan(), &image]).code(0);
    let model = tiny_model();
    let ended = run(
        home.path(),
        &[&"view", &image, &"--mask", &truth(), &"--view", &view, &"--model", &model, &"--save", &page],
    );
    let ended = ended.code(0).says("; it contains the files that it shows");
    assert_eq!(ended.stdout, "");
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(carried(&html, "data/mask.nii.gz").unwrap(), std::fs::read(truth()).unwrap());
    assert!(carried(&html, "data/model.onnx").is_some() && carried(&html, "data/view.json").is_some());
    // It was converted.
    assert!(!carried(&html, "data/image.nii.gz").unwrap().is_empty());
    let query = html.split_once("data-query=\"").unwrap().1.split('"').next().unwrap().replace("&amp;", "&");
    let begin = "?image=data/image.nii.gz&image_name=image.mha&mask=data/mask.nii.gz&mask_name=truth.nii.gz\
                 &view=data/view.json&view_name=my%20view.json&model=data/model.onnx";
    assert!(query.starts_with(begin), "{query}");
    assert_eq!(std::fs::read_dir(home.path().join("out")).unwrap().count(), 1, "nothing temporary remains");
}

#[test]
fn pages_that_cannot_be_saved_are_refused_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let page = at("page.html");
    run(home.path(), &[&"view", &scan(), &"--save", &at("page.pdf")]).code(2).says("--save must end in .html");
    run(home.path(), &[&"view", &scan(), &"--save", &page, &"--port", &"80"]).code(2).says("cannot be used with");
    let cohort = at("scans");
    std::fs::create_dir(&cohort).unwrap();
    std::fs::copy(scan(), cohort.join("a.nii.gz")).unwrap();
    run(home.path(), &[&"view", &cohort, &"--save", &page]).code(2).says("this is a folder of scans");
    run(home.path(), &[&"view", &scan(), &"--mask", &at("gone.nii"), &"--save", &page]).code(1).says("gone.nii");
    run(home.path(), &[&"view", &scan(), &"--model", &scan(), &"--save", &page]).code(1).says("model: ");
    let views: [(&[u8], &str); 3] = [
        (b"{}", "view: expected a file of the viewer's *Save view*"),
        (br#"{"format": "sulcus.view", "format_version": 2}"#, "version 1, found `sulcus.view`, version 2"),
        (br#"{"format": "other", "format_version": 1}"#, "found `other`"),
    ];
    for (content, message) in views {
        let view = file(home.path(), "view.json", content);
        run(home.path(), &[&"view", &scan(), &"--view", &view, &"--save", &page]).code(1).says(message);
    }
    let disguised = at("scan.html");
    std::fs::copy(scan(), &disguised).unwrap();
    run(home.path(), &[&"view", &disguised, &"--save", &disguised])
        .code(2)
        .says("would overwrite a file that it shows");
    assert_eq!(std::fs::read(&disguised).unwrap(), std::fs::read(scan()).unwrap());
    assert!(!page.exists());
}
