//! All checks that do not run a test.

use std::path::Path;
use std::process::Command;

use crate::{api, deny, imports, rules, step, viewer};

/// The features of the command line and of the programs in `tests/gpu`, which turn on those of the other crates. The latter alone would do for clippy,
/// but docs are built without the dependencies of tests, so their dependencies would be checked once more.
const GPU_FEATURES: &str = "sulcus-cli/cuda,sulcus-cli/vulkan,sulcus-tests/cuda,sulcus-tests/vulkan";

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
        step::run(with_gpu_code(root, "clippy").args(["--all-targets", "--", "-D", "warnings"])),
        step::run(with_gpu_code(root, "doc").arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings")),
        step::timed("public items of the libraries", || api::check(root, false)),
    ];
    let failures: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nerror: ")) }
}

/// A command on the whole workspace with the code for GPUs, whose types are checked on a machine without a GPU: if DOCS_RS is set, the build
/// script of the CUDA backend does not download its compiler.
///
/// All checks have the same profile and features, so that the dependencies are checked only once.
fn with_gpu_code(root: &Path, command: &str) -> Command {
    let mut cargo = step::cargo();
    cargo.current_dir(root).env("DOCS_RS", "1").args([
        command,
        "--release",
        "--workspace",
        "--features",
        GPU_FEATURES,
    ]);
    cargo
}
