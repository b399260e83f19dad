//! Circular imports between the files of a crate, and files that are too long.
//!
//! A file that imports from another one depends on it, also through a re-export in a parent module. Two files that depend
//! on each other, directly or through others, can only be understood together. A module and its submodules may import
//! from each other, for example `mod.rs` and its children.
//!
//! Test code is ignored.

mod circles;
mod length;
pub(crate) mod modules;
mod references;
pub(crate) mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::step;

/// Known circles and long files. New ones are refused, and entries that no longer apply must be removed.
const KNOWN: &str = "crates/xtask/known-structure.txt";
const KNOWN_HEAD: &str = "\
# Circular imports and long files that `cargo xtask structure` knows and does not refuse. The aim is an empty list.
# `cargo xtask structure --bless` writes it; it must not grow.
";

/// Checks every library and program of the workspace at `root`, or writes the list of known circles and long files.
///
/// # Errors
/// A paragraph for each new circle, and a line for each file that is too long and for each outdated entry.
pub(crate) fn check(root: &Path, bless: bool) -> Result<(), String> {
    let (mut circles, mut files) = (BTreeMap::new(), BTreeSet::new());
    for target in targets(root)? {
        let program = modules::Crate::read(&target)?;
        for circle in circles::find(&program, &references::edges(&program)) {
            let circle = circle.relative_to(root);
            circles.insert(circle.name(), circle.to_string());
        }
        files.extend(program.files().map(Path::to_path_buf));
    }
    let long = length::long_files(root, &files)?;
    let found = Known { circles: circles.keys().cloned().collect(), long: long.keys().cloned().collect() };
    let path = root.join(KNOWN);
    if bless {
        return std::fs::write(&path, found.to_text())
            .map_err(|e| format!("writing a file: {e}: {}", path.display()));
    }
    let known = std::fs::read_to_string(&path).map_err(|e| format!("reading a file: {e}: {}", path.display()))?;
    let known = Known::parse(&known)?;
    let mut refused = Vec::new();
    let (new, gone) = compare(&found.circles, &known.circles);
    refused.extend(new.iter().filter_map(|name| circles.get(*name).cloned()));
    refused
        .extend(gone.iter().map(|name| format!("this circle no longer exists, remove it from {KNOWN}: {name}")));
    let (new, gone) = compare(&found.long, &known.long);
    refused.extend(new.iter().filter_map(|name| long.get(*name).cloned()));
    refused.extend(gone.iter().map(|name| format!("this file is short enough, remove it from {KNOWN}: {name}")));
    if refused.is_empty() { Ok(()) } else { Err(format!("structure of the sources:\n  {}", refused.join("\n  "))) }
}

/// The root files of every library and program in the workspace.
fn targets(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut command = step::cargo();
    command.current_dir(root).args(["metadata", "--format-version", "1", "--locked", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&step::capture(&mut command)?)
        .map_err(|e| format!("reading the output of cargo metadata: {e}"))?;
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut files = Vec::new();
    for package in list(&metadata, "packages") {
        for target in list(&package, "targets") {
            let is_test = |kind: &Value| {
                kind.as_str().is_some_and(|kind| ["test", "bench", "example", "custom-build"].contains(&kind))
            };
            if list(&target, "kind").iter().any(is_test) {
                continue;
            }
            let path = target.get("src_path").and_then(Value::as_str);
            files.push(PathBuf::from(path.ok_or("cargo metadata has a target without 'src_path'")?));
        }
    }
    if files.is_empty() { Err("cargo metadata lists no target".into()) } else { Ok(files) }
}

/// The list of known circles and long files.
struct Known {
    /// The files of each circle, sorted, separated by spaces.
    circles: BTreeSet<String>,
    long: BTreeSet<String>,
}

impl Known {
    fn parse(text: &str) -> Result<Self, String> {
        let mut known = Self { circles: BTreeSet::new(), long: BTreeSet::new() };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(": ") {
                Some(("circle", files)) => known.circles.insert(files.to_owned()),
                Some(("long", file)) => known.long.insert(file.to_owned()),
                _ => return Err(format!("expected `circle: FILES` or `long: FILE`, found `{line}`: {KNOWN}")),
            };
        }
        Ok(known)
    }

    fn to_text(&self) -> String {
        let circles = self.circles.iter().map(|files| format!("circle: {files}\n"));
        KNOWN_HEAD.to_owned()
            + &circles.chain(self.long.iter().map(|file| format!("long: {file}\n"))).collect::<String>()
    }
}

/// The elements that are only in the first set, and those that are only in the second.
fn compare<'a>(found: &'a BTreeSet<String>, known: &'a BTreeSet<String>) -> (Vec<&'a str>, Vec<&'a str>) {
    (found.difference(known).map(String::as_str).collect(), known.difference(found).map(String::as_str).collect())
}

#[cfg(test)]
mod tests;
