//! A page in one file: `wasm/page/single.js` starts it in the browser.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use sha2::{Digest, Sha256};

use crate::{BUILT, file};

/// The largest size of the data in a page, as they are stored. Browsers limit the length of a text to 512 MiB.
const MAX_DATA_BYTES: usize = 256 << 20;
/// The start of the page, which is replaced.
const INDEX: &str = "index.html";
const START: &str = r#"<script type="module" src="viewer.js"></script>"#;
/// The script that starts a page in one file.
const LOADER: &str = "single.js";
/// Everything between the quotation marks is replaced.
const POLICY: &str = r#"http-equiv="Content-Security-Policy""#;
const CONTENT: &str = "content=\"";
/// The compression of what is not compressed already. Higher levels save about a hundredth.
const LEVEL: u8 = 7;

/// Why a page cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageError {
    /// The data are larger than browsers open in a page.
    TooLarge {
        /// The size of all data, compressed.
        bytes: usize,
        /// The largest permitted size.
        max_bytes: usize,
    },
    /// The viewer was built without a part of the page.
    NotBuilt {
        /// What is missing.
        part: &'static str,
    },
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, max_bytes } => write!(
                f,
                "the data have {} MB compressed, but a page can carry at most {} MB",
                bytes / 1_000_000,
                max_bytes / 1_000_000
            ),
            Self::NotBuilt { part } => write!(f, "the built viewer has no {part}"),
        }
    }
}

impl std::error::Error for PageError {}

/// A page in one file: the viewer with all of its modules, and the data that it opens. It works without a server and without a network, and
/// its content security policy permits neither.
///
/// ```
/// let mut page = sulcus_page::SinglePage::default();
/// page.add("data/image.nii.gz", std::fs::read("../../examples/data/case/image.nii.gz")?)?;
/// page.set_query("image=data/image.nii.gz");
/// let mut html = Vec::new();
/// page.write(&mut html)?;
/// assert!(html.starts_with(b"<!DOCTYPE html>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct SinglePage {
    data: Vec<Element>,
    query: String,
}

/// A file in the page.
#[derive(Debug)]
struct Element {
    name: String,
    bytes: Cow<'static, [u8]>,
    compressed: bool,
}

impl Element {
    /// Compresses the content, unless that makes it no smaller.
    fn new(name: String, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        let bytes = bytes.into();
        // Gzip, PNG and JPEG.
        let is_compressed =
            [&[0x1f, 0x8b][..], b"\x89PNG", &[0xff, 0xd8]].iter().any(|start| bytes.starts_with(start));
        if !is_compressed {
            let smaller = compress_to_vec_zlib(&bytes, LEVEL);
            if smaller.len() < bytes.len() {
                return Self { name, bytes: smaller.into(), compressed: true };
            }
        }
        Self { name, bytes, compressed: false }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mark = if self.compressed { " data-deflate" } else { "" };
        write!(out, "<script type=\"text/plain\" data-file=\"{}\"{mark}>", escaped(&self.name))?;
        // Whole groups of three bytes, so that nothing is padded in between.
        for chunk in self.bytes.chunks(3 << 14) {
            out.write_all(STANDARD.encode(chunk).as_bytes())?;
        }
        writeln!(out, "</script>")
    }
}

impl SinglePage {
    /// Adds a file that the page can open under this address, such as `data/image.nii.gz`.
    ///
    /// # Errors
    /// When the files are larger than a page can carry.
    pub fn add(&mut self, address: impl Into<String>, content: Vec<u8>) -> Result<(), PageError> {
        self.data.push(Element::new(address.into(), content));
        let bytes = self.data.iter().map(|element| element.bytes.len()).sum();
        if bytes > MAX_DATA_BYTES {
            return Err(PageError::TooLarge { bytes, max_bytes: MAX_DATA_BYTES });
        }
        Ok(())
    }

    /// What the page opens and shows: the query of an address, without a question mark, with the addresses of the files.
    pub fn set_query(&mut self, query: impl Into<String>) {
        self.query = query.into();
    }

    /// Writes the page as HTML.
    ///
    /// # Errors
    /// When writing fails, or the viewer is not built completely (a [`PageError`] inside).
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let page = text(INDEX)?;
        let loader = text(LOADER)?.trim();
        let (before, after) = page.split_once(START).ok_or_else(|| not_built("start of the page"))?;
        out.write_all(with_policy(before, loader)?.as_bytes())?;
        let mut files: Vec<_> = BUILT.files().collect();
        files.sort_by_key(|file| file.path());
        for file in files {
            let name = file.path().to_string_lossy();
            if (name.ends_with(".js") || name.ends_with(".wasm")) && name != LOADER {
                Element::new(name.into_owned(), file.contents()).write(out)?;
            }
        }
        for element in &self.data {
            element.write(out)?;
        }
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        writeln!(
            out,
            "<script type=\"text/plain\" id=\"sulcus-start\" data-query=\"{}\"></script>",
            escaped(&query)
        )?;
        write!(out, "<script>{loader}</script>{after}")
    }
}

/// The page with a policy that permits this script, what it makes, and no network.
fn with_policy(page: &str, script: &str) -> io::Result<String> {
    let missing = || not_built("policy of the page");
    let (before, rest) = page.split_once(POLICY).ok_or_else(missing)?;
    let (between, rest) = rest.split_once(CONTENT).ok_or_else(missing)?;
    let (_, after) = rest.split_once('"').ok_or_else(missing)?;
    let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}' blob: 'wasm-unsafe-eval'; worker-src blob:; connect-src blob:; \
         style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    );
    Ok(format!("{before}{POLICY}{between}{CONTENT}{policy}\"{after}"))
}

fn not_built(part: &'static str) -> io::Error {
    io::Error::other(PageError::NotBuilt { part })
}

fn text(name: &'static str) -> io::Result<&'static str> {
    file(name).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or_else(|| not_built(name))
}

/// Text as the value of an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(page: &SinglePage) -> String {
        let mut html = Vec::new();
        page.write(&mut html).unwrap();
        String::from_utf8(html).unwrap()
    }

    /// The content of the element with a name.
    fn stored(html: &str, name: &str) -> Option<(bool, Vec<u8>)> {
        let (_, rest) = html.split_once(&format!("data-file=\"{name}\""))?;
        let (mark, rest) = rest.split_once('>')?;
        Some((!mark.is_empty(), STANDARD.decode(rest.split_once('<')?.0).unwrap()))
    }

    #[test]
    fn page_contains_the_viewer_and_data_and_permits_no_network() {
        let mut page = SinglePage::default();
        let zeros = vec![0; 200_000];
        let random: Vec<u8> =
            (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ (i >> 3) as u8).collect();
        let compressed = [&[0x1f, 0x8b][..], &zeros].concat();
        page.add("data/zeros.nii", zeros.clone()).unwrap();
        page.add("data/a\"<b>.nii.gz", compressed.clone()).unwrap();
        page.add("data/random", random.clone()).unwrap();
        page.set_query("image=data/zeros.nii&image_name=%22&mask=x");
        let html = html(&page);
        let (is_smaller, bytes) = stored(&html, "data/zeros.nii").unwrap();
        assert!(is_smaller && bytes.len() < 1000);
        assert_eq!(miniz_oxide::inflate::decompress_to_vec_zlib(&bytes).unwrap(), zeros);
        assert_eq!(stored(&html, "data/a&quot;&lt;b>.nii.gz"), Some((false, compressed)));
        let (is_smaller, bytes) = stored(&html, "data/random").unwrap();
        assert_eq!(
            if is_smaller { miniz_oxide::inflate::decompress_to_vec_zlib(&bytes).unwrap() } else { bytes },
            random
        );
        assert!(html.contains("data-query=\"?image=data/zeros.nii&amp;image_name=%22&amp;mask=x\""));

        for built in BUILT.files().map(|file| file.path().to_string_lossy()) {
            let expected = (built.ends_with(".js") || built.ends_with(".wasm")) && built != LOADER;
            assert_eq!(stored(&html, &built).is_some(), expected, "{built}");
        }
        let (is_smaller, wasm) = stored(&html, "sulcus_viewer_bg.wasm").unwrap();
        assert!(is_smaller);
        assert_eq!(
            miniz_oxide::inflate::decompress_to_vec_zlib(&wasm).unwrap(),
            file("sulcus_viewer_bg.wasm").unwrap()
        );

        let policy = html.split_once(POLICY).unwrap().1.split_once(CONTENT).unwrap().1.split('"').next().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("http") && !policy.contains("'self'"), "{policy}");
        assert!(!html.contains("src=\"viewer.js\"") && html.contains("<script>"));
    }

    #[test]
    fn data_of_more_than_a_page_can_carry_are_refused() {
        let mut page = SinglePage::default();
        let half = [&[0x1f, 0x8b][..], &vec![0; MAX_DATA_BYTES / 2]].concat();
        page.add("data/a.nii.gz", half.clone()).unwrap();
        let error = page.add("data/b.nii.gz", half).unwrap_err();
        assert_eq!(error.to_string(), "the data have 268 MB compressed, but a page can carry at most 268 MB");
    }
}
