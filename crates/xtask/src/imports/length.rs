//! The length of files, without their tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A longer file contains more than one concept.
const MAX_LINES: usize = 500;

/// Each file that is too long, by its path relative to `root`, with a sentence about it.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn long_files(root: &Path, files: &BTreeSet<PathBuf>) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for file in files {
        let text =
            std::fs::read_to_string(file).map_err(|e| format!("reading a source: {e}: {}", file.display()))?;
        let lines = lines_without_tests(&text);
        if lines > MAX_LINES {
            let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy().replace('\\', "/");
            let sentence = format!("{lines} lines without tests, at most {MAX_LINES} are allowed: {name}");
            found.insert(name, sentence);
        }
    }
    Ok(found)
}

/// Lines before `#[cfg(test)] mod …`.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let tests = lines.windows(2).position(|pair| match pair {
        ["#[cfg(test)]", next] => next.starts_with("mod ") || next.starts_with("#["),
        _ => false,
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_not_counted() {
        assert_eq!(lines_without_tests("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_without_tests("fn a() {}\n#[cfg(test)]\nuse x::Y;\nfn b() {}\n"), 4);
    }

    #[test]
    fn long_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = BTreeSet::from(["long.rs", "short.rs"].map(|name| folder.path().join(name)));
        for (file, lines) in files.iter().zip([MAX_LINES + 1, MAX_LINES]) {
            std::fs::write(file, "// line\n".repeat(lines)).unwrap();
        }
        let found: Vec<String> = long_files(folder.path(), &files).unwrap().into_values().collect();
        assert_eq!(found, ["501 lines without tests, at most 500 are allowed: long.rs"]);
    }
}
