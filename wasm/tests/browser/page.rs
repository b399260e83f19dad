//! One page load of the viewer in headless Chromium.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server::Server;

/// Ends a page that hangs. A prediction on a busy machine takes more than a minute.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// The result of one page load.
pub(crate) struct Visit {
    pub(crate) html: String,
    width: usize,
    /// RGB.
    pixels: Vec<u8>,
}

impl Visit {
    /// The value of a data attribute of the page's body.
    pub(crate) fn data(&self, name: &str) -> Option<String> {
        let tag = self.html.split('<').find(|tag| tag.starts_with("body"))?;
        Some(tag.split_once(&format!("data-{name}=\""))?.1.split('"').next()?.to_owned())
    }

    /// The text of the element with an id, without tags.
    pub(crate) fn text(&self, id: &str) -> String {
        let Some((before, rest)) = self.html.split_once(&format!("id=\"{id}\"")) else { return String::new() };
        let tag: String =
            before.rsplit('<').next().unwrap_or("").chars().take_while(|c| c.is_alphanumeric()).collect();
        let rest = rest.split_once('>').map_or("", |(_, rest)| rest);
        let inner = rest.split(&format!("</{tag}>")).next().unwrap_or("");
        let mut text = String::new();
        for piece in inner.split('<') {
            text += piece.split_once('>').map_or(piece, |(_, text)| text);
            text.push(' ');
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Whether the element with an id is shown.
    pub(crate) fn shows(&self, id: &str) -> bool {
        self.html.split('<').find(|tag| tag.contains(&format!("id=\"{id}\""))).is_some_and(|tag| {
            let tag = tag.split('>').next().unwrap_or(tag);
            !tag.contains("hidden")
        })
    }

    /// Letters at the left, right, top and bottom edges of the three planes.
    pub(crate) fn edges(&self) -> Vec<String> {
        let letters = |side: &str| {
            let mark = format!("class=\"edge {side}\">");
            self.html.split(&mark).skip(1).filter_map(|rest| rest.chars().next()).collect::<Vec<_>>()
        };
        let sides = ["l", "r", "t", "b"].map(letters);
        (0..3).map(|plane| sides.iter().filter_map(|side| side.get(plane)).collect()).collect()
    }

    /// The picture on each canvas of a plane: width, height, RGB.
    pub(crate) fn canvases(&self) -> Vec<(usize, usize, Vec<u8>)> {
        self.pictures("box")
    }

    /// The picture on each element whose place is in a data attribute: width, height, RGB.
    pub(crate) fn pictures(&self, attribute: &str) -> Vec<(usize, usize, Vec<u8>)> {
        let mark = format!("data-{attribute}=\"");
        let boxes = self.html.split(&mark).skip(1).map(|rest| {
            let numbers = rest.split('"').next().unwrap_or_default().split(',');
            let numbers: Vec<usize> = numbers.map(|n| n.parse().unwrap()).collect();
            <[usize; 4]>::try_from(numbers).unwrap()
        });
        boxes
            .map(|[x, y, width, height]| {
                let rows = (y..y + height).flat_map(|row| {
                    let start = (row * self.width + x) * 3;
                    self.pixels[start..start + width * 3].iter().copied()
                });
                (width, height, rows.collect())
            })
            .collect()
    }
}

/// Opens the viewer with `query`. The test is skipped where there is no browser.
pub(crate) fn visit(name: &str, query: &str, files: &[(&str, &[u8])], script: &str) -> Visit {
    visit_at("1200,1000", name, query, files, script)
}

/// Opens the viewer in a window of this width and height.
pub(crate) fn visit_at(size: &str, name: &str, query: &str, files: &[(&str, &[u8])], script: &str) -> Visit {
    visit_with(&["--disable-gpu"], size, name, query, files, script)
}

/// Opens the viewer in a browser with some more flags.
pub(crate) fn visit_with(
    flags: &[&str],
    size: &str,
    name: &str,
    query: &str,
    files: &[(&str, &[u8])],
    script: &str,
) -> Visit {
    let browser = sulcus_harness::chromium();
    let files: HashMap<String, Vec<u8>> = files.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect();
    let server = Server::start(files, script);
    let profile = tempfile::tempdir().unwrap();
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let picture = pictures.join(format!("{name}.png"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-quic", "--no-first-run"])
        .args(flags)
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"])
        .args(["--force-device-scale-factor=1", &format!("--window-size={size}")])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("http://{}/index.html?{query}", server.address))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let html = server.report.recv_timeout(RUN_LIMIT);
    if html.is_err() {
        child.kill().ok();
    }
    child.wait().unwrap();
    let html = html.expect("the page never became ready");
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(picture).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let channels = frame.color_type.samples();
    let pixels = pixels.chunks_exact(channels).flat_map(|p| p[..3].iter().copied()).collect();
    Visit { html, width: frame.width as usize, pixels }
}
