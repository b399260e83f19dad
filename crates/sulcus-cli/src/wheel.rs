//! ONNX Runtime from a Python wheel: which one fits this machine, and what of it is needed.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{CliError, Context};

/// The least version that the engine can use.
const LEAST_VERSION: &[u32] = &[1, 22];
/// More than any wheel with GPU libraries has, in bytes: a server that sends more is not PyPI.
const MAX_BYTES: u64 = 2 << 30;

/// A package's files, as the simple API of package indexes lists them (PEP 691).
#[derive(Debug, Deserialize)]
struct Listing {
    files: Vec<Wheel>,
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Wheel {
    /// Its name, which says for which system it is.
    pub(crate) filename: String,
    /// Where it lies; may be relative to the listing.
    pub(crate) url: String,
    hashes: Hashes,
    #[serde(default)]
    yanked: Yanked,
    /// In bytes.
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

/// Either a word why, or true or false.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Yanked {
    Is(bool),
    Why(String),
}

impl Default for Yanked {
    fn default() -> Self {
        Self::Is(false)
    }
}

/// The system that wheels are chosen for, as Rust names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct System {
    os: &'static str,
    arch: &'static str,
}

impl System {
    /// The one that this program was built for.
    pub(crate) const THIS: Self = Self { os: std::env::consts::OS, arch: std::env::consts::ARCH };

    fn takes(self, platform: &str) -> bool {
        match (self.os, self.arch) {
            ("linux", arch) => platform.contains("manylinux") && platform.ends_with(arch),
            ("macos", "aarch64") => platform.starts_with("macosx") && platform.ends_with("arm64"),
            ("macos", _) => platform.starts_with("macosx") && platform.ends_with("x86_64"),
            ("windows", "x86_64") => platform == "win_amd64",
            ("windows", "aarch64") => platform == "win_arm64",
            _ => false,
        }
    }
}

/// Asks an index for a package's newest wheel for this system.
pub(crate) fn find(index: &str, package: &str) -> Result<Wheel, CliError> {
    let url = format!("{}/{package}/", index.trim_end_matches('/'));
    let mut answer = agent()
        .get(&url)
        .header("Accept", "application/vnd.pypi.simple.v1+json")
        .call()
        .map_err(|error| offline(&url, &error))?;
    let listing: Listing = serde_json::from_reader(answer.body_mut().as_reader())
        .context(format_args!("reading the package index (expected PEP 691 JSON): {url}"))?;
    newest(listing.files, System::THIS).ok_or_else(|| {
        CliError::failed(format_args!(
            "the package index has no {package} {} or newer for {} on {}: {url}",
            LEAST_VERSION.iter().map(u32::to_string).collect::<Vec<_>>().join("."),
            System::THIS.os,
            System::THIS.arch
        ))
        .hint("without ONNX Runtime the embedded engine is used; it gives the same masks, more slowly")
    })
}

fn offline(url: &str, error: &ureq::Error) -> CliError {
    CliError::failed(format_args!("could not fetch from the package index: {error}: {url}")).hint(
        "on a machine without network: fetch the onnxruntime wheel elsewhere (`pip download --no-deps onnxruntime`) \
         and give it with --from FILE.whl",
    )
}

fn agent() -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    ureq::Agent::config_builder().tls_config(tls).build().into()
}

fn newest(files: Vec<Wheel>, system: System) -> Option<Wheel> {
    let usable = files.into_iter().filter(|wheel| wheel.yanked == Yanked::Is(false));
    let rated = usable.filter_map(|wheel| {
        let [_, version, python, _, platform] = tags(&wheel.filename)?;
        let version = numbers(version)?;
        // The library inside is the same for every Python; the tag only makes the choice definite.
        let fits = version.as_slice() >= LEAST_VERSION && system.takes(platform);
        let rank = (version, python.to_owned());
        fits.then_some((rank, wheel))
    });
    rated.max_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, wheel)| wheel)
}

/// Name, version, Python, ABI and platform of a wheel without build number.
fn tags(filename: &str) -> Option<[&str; 5]> {
    let parts: Vec<&str> = filename.strip_suffix(".whl")?.split('-').collect();
    parts.try_into().ok()
}

/// `None` for versions with letters: previews.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// Downloads a wheel and checks its hash. `progress` hears how many bytes have come.
pub(crate) fn download(wheel: &Wheel, index: &str, mut progress: impl FnMut(u64)) -> Result<Vec<u8>, CliError> {
    let Some(expected) = &wheel.hashes.sha256 else {
        return Err(CliError::failed(format_args!(
            "the package index gives no SHA-256 for {}, so it cannot be checked",
            wheel.filename
        )));
    };
    let url = if wheel.url.contains("://") {
        wheel.url.clone()
    } else {
        let origin: String = index.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        format!("{origin}/{}", wheel.url.trim_start_matches('/'))
    };
    let mut answer = agent().get(&url).call().map_err(|error| offline(&url, &error))?;
    let mut body = answer.body_mut().with_config().limit(MAX_BYTES).reader();
    let mut bytes = Vec::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let read = body.read(&mut block).context(format_args!("downloading {url}"))?;
        let Some(part) = block.get(..read).filter(|part| !part.is_empty()) else { break };
        bytes.extend_from_slice(part);
        progress(bytes.len() as u64);
    }
    let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    if !found.eq_ignore_ascii_case(expected) {
        return Err(CliError::failed(format_args!(
            "the downloaded wheel is damaged: expected SHA-256 {expected}, found {found}: {url}"
        )));
    }
    Ok(bytes)
}

/// Unpacks the libraries of a wheel into a folder; returns the path of ONNX Runtime itself.
pub(crate) fn unpack(wheel: &[u8], folder: &Path) -> Result<PathBuf, CliError> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(wheel)).context("opening the wheel")?;
    let mut library = None;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).context("reading the wheel")?;
        let name = member.name().context("reading the wheel")?.into_owned();
        let Some(file) = sulcus_runtime::ort::wheel_member(&name) else { continue };
        let path = folder.join(file);
        let mut out = std::fs::File::create(&path).context(format_args!("writing {}", path.display()))?;
        std::io::copy(&mut member, &mut out).context(format_args!("unpacking {}", path.display()))?;
        if file.contains("onnxruntime") && !file.contains("onnxruntime_providers_") {
            library = Some(path);
        }
    }
    library.ok_or_else(|| {
        CliError::failed(
            "the wheel holds no ONNX Runtime library for this system (onnxruntime/capi/libonnxruntime*)",
        )
        .hint("give a wheel of the package onnxruntime, onnxruntime-gpu or onnxruntime-openvino that was made for this system")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel(filename: &str, yanked: bool) -> Wheel {
        Wheel {
            filename: filename.into(),
            url: String::new(),
            hashes: Hashes { sha256: None },
            yanked: Yanked::Is(yanked),
            size: None,
        }
    }

    #[test]
    fn the_newest_release_for_the_system_is_taken() {
        let files = || {
            vec![
                wheel("onnxruntime-1.9.0-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", false),
                wheel("onnxruntime-1.32.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", false),
                wheel("onnxruntime-1.32.0-cp314-cp314t-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", false),
                wheel("onnxruntime-1.32.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", false),
                wheel("onnxruntime-1.33.0rc1-cp311-cp311-manylinux_2_27_x86_64.whl", false),
                wheel("onnxruntime-1.34.0-cp311-cp311-manylinux_2_27_x86_64.whl", true),
                wheel("onnxruntime-1.31.0-cp311-cp311-macosx_14_0_arm64.whl", false),
                wheel("onnxruntime-1.31.0-cp311-cp311-win_amd64.whl", false),
                wheel("onnxruntime-1.40.0.tar.gz", false),
            ]
        };
        let pick = |os, arch| newest(files(), System { os, arch }).map(|w| w.filename);
        assert!(pick("linux", "x86_64").unwrap().starts_with("onnxruntime-1.32.0-cp314"));
        assert!(pick("linux", "aarch64").unwrap().contains("aarch64"));
        assert!(pick("macos", "aarch64").unwrap().contains("arm64"));
        assert!(pick("windows", "x86_64").unwrap().contains("win_amd64"));
        assert_eq!(pick("freebsd", "x86_64"), None);
    }

    #[test]
    fn a_listing_is_read_as_pypi_writes_it() {
        let listing: Listing = serde_json::from_str(
            r#"{"meta": {"api-version": "1.4"}, "name": "onnxruntime", "files": [
                {"filename": "a.whl", "hashes": {"sha256": "00"}, "requires-python": null, "size": 3, "url": "https://x/a.whl", "yanked": false},
                {"filename": "b.whl", "hashes": {}, "url": "b.whl", "yanked": "broken"}]}"#,
        )
        .unwrap();
        assert_eq!(listing.files[1].yanked, Yanked::Why("broken".into()));
        assert_eq!(listing.files[0].size, Some(3));
    }
}
