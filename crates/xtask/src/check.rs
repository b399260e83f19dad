//! All checks that do not run a test.

use std::path::Path;

use crate::{api, deny, imports, rules, step, viewer};

/// Runs every check, the fast ones first, and reports all failures.
///
/// # Errors
/// The failures, one per line.
pub(crate) fn all(root: &Path) -> Result<(), String> {
    let outcomes = [
        step::timed("dependency rules", || rules::check(root)),
        step::timed("circular imports and long files", || imports::check(root, false)),
        step::timed("the built viewer", || viewer::check(root)),
        step::run(step::cargo().current_dir(root).args(["fmt", "--all", "--check"])),
        deny::check(root),
        // One profile everywhere, so that large dependencies are compiled only once per kind of build.
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
        // If DOCS_RS is set, the build script of the CUDA backend does not download its compiler, so types can be checked
        // on a machine without a GPU. The program is that of `cargo xtask test --vulkan` and of tests/gpu/README.md.
        step::run(step::cargo().current_dir(root).env("DOCS_RS", "1").args([
            "check",
            "--release",
            "-p",
            "sulcus-tests",
            "--features",
            "cuda,vulkan",
            "--example",
            "gpu_check",
        ])),
    ];
    let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nerror: ")) }
}
