//! The project's own tasks, run as `cargo xtask NAME`. CI runs `cargo xtask test` and nothing else.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task runner's product is what it prints")]

mod api;
mod check;
mod cuda;
mod deny;
mod fuzz;
mod imports;
mod peers;
mod python;
mod rules;
mod sanitize;
mod sbom;
mod setup;
mod step;
mod suite;
mod viewer;
mod vulkan;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  check          formatting, lints, docs, dependency rules, circular imports and long files, public items, licences,
                 the built viewer, the GPU type check
  test           fetches what the tests need, runs check, then every test; ends with 'N passed, N failed, N skipped'
  test --only    the same without check
  test --vulkan  the checks of tests/gpu on a Vulkan device (slow to build; run it manually)
  test --peers   the comparisons with other projects (slow; run it manually): tests/peers/README.md
  test --jupyter the viewer of the Python package in JupyterLab (installs it; run it manually)
  structure [--bless]
                 only the circular imports and long files of check; --bless writes known-structure.txt
  api [--bless]  compares the public items of the libraries with their public-api.txt; --bless writes these files
  sbom           writes a CycloneDX list of the crates in each shipped binary into target/sbom
  sanitize       runs the tests of the unsafe code with the address sanitizer (slow to build; run it manually; Linux on x86_64)
  fuzz [--minutes M] [TARGET]
                 fuzzes the file readers, 20 minutes per target (run it manually; needs a nightly compiler and cargo-fuzz)
  cuda-link      builds the checks of tests/gpu with CUDA, using an installed LLVM 23 (slow; run it manually)
  wasm-kernels   compares the kernels in WebAssembly with SIMD128 and in plain Rust (needs Node.js; run it manually)
  viewer         rebuilds wasm/dist, the browser viewer that the binary embeds
  npm            writes the npm package sulcus-viewer into target/npm, from wasm/dist and wasm/npm
  setup          only fetches what the tests need (ONNX Runtime, Chromium)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = repository();
    let outcome = match words.as_slice() {
        ["check"] => check::all(&root),
        ["test"] => test(&root, true),
        ["test", "--only"] => test(&root, false),
        ["test", "--vulkan"] => vulkan::all(&root),
        ["test", "--peers"] => peers::all(&root),
        ["test", "--jupyter"] => python::jupyter(&root),
        ["structure"] => step::timed("circular imports and long files", || imports::check(&root, false)),
        ["structure", "--bless"] => imports::check(&root, true),
        ["api"] => api::check(&root, false),
        ["api", "--bless"] => api::check(&root, true),
        ["sbom"] => sbom::write(&root),
        ["sanitize"] => sanitize::run(&root),
        ["cuda-link"] => cuda::link(&root),
        ["viewer"] => viewer::build(&root),
        ["npm"] => npm(&root),
        ["wasm-kernels"] => step::timed("the kernels in WebAssembly", || viewer::check_kernels(&root)),
        ["fuzz", words @ ..] => fuzz::run(&root, words),
        ["setup"] => setup::all().map(|_| ()),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("error: there is no task '{}'\n\n{HELP}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The task of CI.
fn test(root: &Path, check: bool) -> Result<(), String> {
    let found = setup::all()?;
    if check {
        check::all(root)?;
    }
    suite::all(root, &found)
}

/// Writes the npm package of the viewer.
fn npm(root: &Path) -> Result<(), String> {
    let folder = step::target_folder(root).join("npm");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("emptying a folder: {e}: {}", folder.display()))?;
    }
    step::run(
        step::cargo()
            .current_dir(root)
            .args(["run", "--release", "--quiet", "--package", "sulcus-page", "--example", "package", "--"])
            .arg(&folder),
    )?;
    println!("{}: `npm pack` there makes the archive", folder.display());
    Ok(())
}

/// The repository's root: two folders above this crate.
fn repository() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder).to_path_buf()
}
