//! A package index: finds the requested wheel among the files of a package.

use serde::Deserialize;

use super::download::Client;
use super::pinned::Pinned;
use super::{Hash, MIN_VERSION, Package, System, version_numbers};
use crate::error::{CliError, Context};

/// Many times the size of the page of a package with hundreds of wheels, in bytes.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The wheel that is requested from an index.
#[derive(Debug)]
pub(crate) enum Wanted<'a> {
    /// The wheel that is installed by default.
    Pinned(&'a Pinned),
    /// The wheel of another version, with this hash.
    Version { package: Package, version: &'a str, hash: &'a Hash },
}

impl Wanted<'_> {
    fn package(&self) -> Package {
        match self {
            Self::Pinned(pinned) => pinned.package,
            Self::Version { package, .. } => *package,
        }
    }

    /// The expected hash of the wheel.
    pub(crate) fn hash(&self) -> Hash {
        match self {
            Self::Pinned(pinned) => pinned.hash(),
            Self::Version { hash, .. } => (*hash).clone(),
        }
    }
}

/// A wheel on an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub(crate) filename: String,
    pub(crate) url: String,
    /// Size in bytes, if the index contains it.
    pub(crate) size: Option<u64>,
    /// Whether the publisher has withdrawn it.
    pub(crate) yanked: bool,
}

/// The files of a package, in the form of the simple API of package indexes (PEP 691).
#[derive(Debug, Deserialize)]
struct Listing {
    files: Vec<Listed>,
}

/// One file of a package.
#[derive(Debug, Deserialize)]
struct Listed {
    /// File name, which contains the system.
    filename: String,
    /// Address, which may be relative to the page.
    url: String,
    #[serde(default)]
    hashes: Hashes,
    #[serde(default)]
    yanked: Yanked,
    size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

impl Hashes {
    fn is(&self, hash: &Hash) -> Option<bool> {
        self.sha256.as_ref().map(|listed| listed.parse().as_ref() == Ok(hash))
    }
}

/// Either a reason, or true or false.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Yanked {
    Is(bool),
    Reason(String),
}

impl Default for Yanked {
    fn default() -> Self {
        Self::Is(false)
    }
}

/// Requests a wheel for this system from an index.
pub(crate) fn find(client: &Client, index: &str, wanted: &Wanted<'_>) -> Result<Wheel, CliError> {
    let package = wanted.package().name();
    let listing_url = format!("{}/{package}/", index.trim_end_matches('/'));
    let mut bytes = Vec::new();
    let accept = "application/vnd.pypi.simple.v1+json";
    client.fetch(&listing_url, Some(accept), MAX_LISTING_BYTES, &mut bytes, |_| {})?;
    let listing: Listing = serde_json::from_slice(&bytes)
        .context(format_args!("reading the package index (expected PEP 691 JSON): {listing_url}"))?;
    let found = match wanted {
        Wanted::Pinned(pinned) => pinned_in(listing.files, pinned, &listing_url)?,
        Wanted::Version { version, hash, .. } => version_in(listing.files, version, hash, System::THIS),
    };
    let Some(found) = found else {
        return Err(missing(wanted, &listing_url));
    };
    Ok(Wheel {
        url: resolve(&listing_url, &found.url),
        filename: found.filename,
        size: found.size,
        yanked: found.yanked != Yanked::Is(false),
    })
}

fn missing(wanted: &Wanted<'_>, listing_url: &str) -> CliError {
    match wanted {
        Wanted::Pinned(pinned) => {
            CliError::failed(format_args!("the package index does not have {}: {listing_url}", pinned.filename)).hint(
                "select another wheel with --ort-version and --sha256, or fetch this one elsewhere and give it with --from",
            )
        }
        Wanted::Version { package, version, hash } => CliError::failed(format_args!(
            "the package index has no {} {version} for {} on {} with the SHA-256 {hash}: {listing_url}",
            package.name(),
            System::THIS.os,
            System::THIS.arch
        ))
        .hint("the page of the package on the index lists the hashes of its files; give the one of a wheel for this system"),
    }
}

/// The pinned file. A file with its name and another hash is refused before it is fetched.
fn pinned_in(files: Vec<Listed>, pinned: &Pinned, listing_url: &str) -> Result<Option<Listed>, CliError> {
    let Some(found) = files.into_iter().find(|file| file.filename == pinned.filename) else { return Ok(None) };
    if found.hashes.is(&pinned.hash()) == Some(false) {
        return Err(CliError::failed(format_args!(
            "the package index lists {} with an unexpected SHA-256: expected {}, found {}: \
             {listing_url}",
            pinned.filename,
            pinned.hash(),
            found.hashes.sha256.unwrap_or_default()
        ))
        .hint("the file was replaced, which never happens on the official index: do not use this index"));
    }
    Ok(Some(found))
}

/// The file of a version for a system, with this hash.
fn version_in(files: Vec<Listed>, version: &str, hash: &Hash, system: System) -> Option<Listed> {
    files.into_iter().find(|file| {
        let fits =
            tags(&file.filename).is_some_and(|[_, of, _, _, platform]| of == version && system.takes(platform));
        fits && file.hashes.is(hash) == Some(true)
    })
}

/// Name, version, Python, ABI and platform in the name of a wheel without build number.
pub(super) fn tags(filename: &str) -> Option<[&str; 5]> {
    let parts: Vec<&str> = filename.strip_suffix(".whl")?.split('-').collect();
    parts.try_into().ok()
}

/// Whether the engine supports a version.
pub(crate) fn check_version(version: &str) -> Result<(), CliError> {
    let numbers = version_numbers(version)
        .ok_or_else(|| CliError::usage("--ort-version: expected a release, such as 1.32.0"))?;
    if numbers.as_slice() < MIN_VERSION {
        let least: Vec<String> = MIN_VERSION.iter().map(u32::to_string).collect();
        return Err(CliError::usage(format_args!(
            "--ort-version: expected {} or newer, found {version}",
            least.join(".")
        )));
    }
    Ok(())
}

/// The absolute address of a link on a page.
fn resolve(page: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let (scheme, rest) = page.split_once("://").unwrap_or(("https", page));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let origin = format!("{scheme}://{host}");
    if link.starts_with('/') {
        return format!("{origin}{link}");
    }
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    let mut rest = link;
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            folders.pop();
            rest = after;
        } else if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else {
            folders.push(rest);
            return format!("{origin}/{}", folders.join("/"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(filename: &str, digit: char) -> Listed {
        Listed {
            filename: filename.into(),
            url: String::new(),
            hashes: Hashes { sha256: Some(digit.to_string().repeat(64)) },
            yanked: Yanked::Is(false),
            size: None,
        }
    }

    #[test]
    fn version_is_found_for_the_system_and_by_its_hash() {
        let files = || {
            vec![
                listed("onnxruntime-1.31.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", 'a'),
                listed("onnxruntime-1.32.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", 'b'),
                listed("onnxruntime-1.31.0-cp314-cp314t-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", 'c'),
                listed("onnxruntime-1.31.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", 'd'),
                listed("onnxruntime-1.31.0-cp311-cp311-macosx_14_0_arm64.whl", 'e'),
                listed("onnxruntime-1.31.0-cp311-cp311-win_amd64.whl", 'f'),
                listed("onnxruntime-1.31.0.tar.gz", '0'),
            ]
        };
        let pick = |digit: char, os, arch| {
            let hash = digit.to_string().repeat(64).parse().unwrap();
            version_in(files(), "1.31.0", &hash, System { os, arch }).map(|file| file.filename)
        };
        assert!(pick('c', "linux", "x86_64").unwrap().contains("cp314t"));
        assert!(pick('d', "linux", "aarch64").unwrap().contains("aarch64"));
        assert!(pick('e', "macos", "aarch64").unwrap().contains("arm64"));
        assert!(pick('f', "windows", "x86_64").unwrap().contains("win_amd64"));
        // Another version, another system, no wheel.
        for (digit, os) in [('b', "linux"), ('d', "linux"), ('a', "freebsd"), ('0', "linux"), ('1', "linux")] {
            assert_eq!(pick(digit, os, "x86_64"), None, "{digit} {os}");
        }
    }

    #[test]
    fn page_in_the_form_of_pypi_is_read() {
        let listing: Listing = serde_json::from_str(
            r#"{"meta": {"api-version": "1.4"}, "name": "onnxruntime", "files": [
                {"filename": "a.whl", "hashes": {"sha256": "00"}, "requires-python": null, "size": 3, "url": "https://x/a.whl", "yanked": false},
                {"filename": "b.whl", "hashes": {}, "url": "b.whl", "yanked": "broken"}]}"#,
        )
        .unwrap();
        assert_eq!(listing.files[1].yanked, Yanked::Reason("broken".into()));
        assert_eq!(listing.files[0].size, Some(3));
        let hash = "0".repeat(64).parse().unwrap();
        assert_eq!((listing.files[0].hashes.is(&hash), listing.files[1].hashes.is(&hash)), (Some(false), None));
    }

    #[test]
    fn links_are_resolved_against_the_page() {
        let page = "https://mirror.example:8443/root/simple/onnxruntime/";
        for (link, whole) in [
            ("https://other.example/a.whl", "https://other.example/a.whl"),
            ("/files/a.whl", "https://mirror.example:8443/files/a.whl"),
            ("a.whl", "https://mirror.example:8443/root/simple/onnxruntime/a.whl"),
            ("./a.whl", "https://mirror.example:8443/root/simple/onnxruntime/a.whl"),
            ("../../files/a.whl", "https://mirror.example:8443/root/files/a.whl"),
            ("../../../../../a.whl", "https://mirror.example:8443/a.whl"),
        ] {
            assert_eq!(resolve(page, link), whole);
        }
    }
}
