//! Everything that is checked without running a test.

use std::path::Path;

use crate::{api, deny, imports, rules, step, viewer};

/// Runs every check, the quick ones first, and reports all that failed.
///
/// # Errors
/// The failures, one a line.
pub(crate) fn all(root: &Path) -> Result<(), String> {
    let outcomes = [
        step::timed("dependency rules", || rules::check(root)),
        step::timed("circular imports and long files", || imports::check(root, false)),
        step::timed("the built viewer", || viewer::check(root)),
        step::run(step::cargo().current_dir(root).args(["fmt", "--all", "--check"])),
        deny::check(root),
        // One profile everywhere, so that the big dependencies are compiled once a kind of build.
        step::run(step::cargo().current_dir(root).args([
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])),
        step::run(step::cargo().current_dir(root).env("RUSTDOCFLAGS", "-D warnings").args([
            "doc",
            "--release",
            "--workspace",
            "--no-deps",
        ])),
        step::timed("public items of the libraries", || api::check(root, false)),
        // With DOCS_RS set, the CUDA backend's build script does not download its compiler: types can be checked on a
        // machine without a GPU or the bundle. The test is the one of `cargo xtask test --vulkan`.
        step::run(step::cargo().current_dir(root).env("DOCS_RS", "1").args([
            "check",
            "--release",
            "-p",
            "sulcus-train",
            "--features",
            "cuda,vulkan",
            "--lib",
            "--test",
            "vulkan",
        ])),
    ];
    let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nerror: ")) }
}
