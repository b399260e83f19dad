//! The npm package `sulcus-viewer`: the custom element of `wasm/npm`, the page in one file, and the built page for servers.

use std::borrow::Cow;
use std::io;

use include_dir::{Dir, include_dir};

use crate::{BUILT, SinglePage};

static ELEMENT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wasm/npm");
const LICENCES: [(&str, &str); 2] = [
    ("LICENSE-MIT", include_str!("../../../LICENSE-MIT")),
    ("LICENSE-APACHE", include_str!("../../../LICENSE-APACHE")),
];

/// The files of the package: their paths, with `/` between folders, and contents.
///
/// # Errors
/// When the viewer is not built completely.
pub fn npm_package() -> io::Result<Vec<(String, Cow<'static, [u8]>)>> {
    let mut html = Vec::new();
    SinglePage::default().write(&mut html)?;
    let html = String::from_utf8(html).map_err(io::Error::other)?;
    let mut files: Vec<(String, Cow<'static, [u8]>)> = LICENCES
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Cow::Borrowed(text.as_bytes())))
        .chain([("page.js".to_owned(), format!("export default {};\n", string(&html)).into_bytes().into())])
        .collect();
    for file in ELEMENT.files() {
        let name = file.path().to_string_lossy().into_owned();
        let content = if name == "package.json" {
            let text = file.contents_utf8().unwrap_or_default();
            text.replace("\"version\": \"0.0.0\"", concat!("\"version\": \"", env!("CARGO_PKG_VERSION"), "\""))
                .into_bytes()
                .into()
        } else {
            file.contents().into()
        };
        files.push((name, content));
    }
    for file in BUILT.files() {
        let name = file.path().to_string_lossy();
        // A record of the build, and the start of the page in one file.
        if !name.ends_with(".sha256") && name != "single.js" {
            files.push((format!("page/{name}"), file.contents().into()));
        }
    }
    Ok(files)
}

/// The script of the custom element `<sulcus-viewer>`, a module. Where its file `page.js` is missing, the element needs its property `page`.
pub fn element_script() -> &'static str {
    include_str!("../../../wasm/npm/sulcus-viewer.js")
}

/// A string of JavaScript. HTML has no control characters besides those that are escaped here.
fn string(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_has_every_file_that_it_names() {
        let files = npm_package().unwrap();
        let named = |name: &str| files.iter().find(|(path, _)| path == name).map(|(_, content)| content);
        let manifest: serde_json::Value = serde_json::from_slice(named("package.json").unwrap()).unwrap();
        assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
        let exported =
            ["types", "default"].map(|key| [".", "./react"].map(|path| manifest["exports"][path][key].clone()));
        for path in exported.iter().flatten() {
            let path = path.as_str().unwrap().trim_start_matches("./");
            assert!(named(path).is_some(), "{path}");
        }
        for path in manifest["files"].as_array().unwrap() {
            let path = path.as_str().unwrap();
            assert!(files.iter().any(|(name, _)| name == path || name.starts_with(&format!("{path}/"))), "{path}");
        }
        assert!(named("page/index.html").is_some() && named("page/single.js").is_none());
    }

    #[test]
    fn page_is_a_string_of_javascript() {
        assert_eq!(string("a\"\\\n\u{2028}</script>"), r#""a\"\\\n\u2028</script>""#);
    }
}
