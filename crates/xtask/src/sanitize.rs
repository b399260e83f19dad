//! Runs the tests of the unsafe code with the address sanitizer.
//!
//! Everything is compiled again, into a separate folder. Miri would find more, but needs a nightly compiler and supports
//! neither the vector instructions of `sulcus-kernels` nor calls into C.

use std::path::Path;

use crate::step;

/// The flags that instrument this project's code and the crates that it is linked with.
const FLAGS: &str = "-Zsanitizer=address -Cforce-frame-pointers=yes";
/// Tests of the C interface that start other programs. These programs are not instrumented, so they cannot load an
/// instrumented library.
const OTHER_PROGRAMS: [&str; 2] = ["programs::", "header::"];

/// Runs the tests of `sulcus-kernels` and of the C interface.
///
/// # Errors
/// When the sanitizer finds something, a test fails, or this platform has no sanitizer.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the address sanitizer is set up for Linux on x86_64".to_owned());
    }
    let folder = step::target_folder(root).join("sanitize");
    let cargo = || {
        let mut command = step::cargo();
        // The sanitizer is an unstable option of the compiler, which accepts it if this variable is set. A target is
        // named, so that build scripts and procedural macros, which the compiler loads, are not instrumented.
        command.current_dir(root).env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS);
        // Memory that engines keep until the process ends is not a leak; `cargo xtask test` checks for leaks with
        // valgrind.
        command.env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=1");
        command.args(["test", "--release", "--target", "x86_64-unknown-linux-gnu", "--target-dir"]).arg(&folder);
        command
    };
    step::run(cargo().args(["-p", "sulcus-kernels", "--lib"]))?;
    let mut capi = cargo();
    capi.args(["-p", "sulcus-capi", "--lib", "--test", "capi", "--"]);
    step::run(capi.args(OTHER_PROGRAMS.iter().flat_map(|name| ["--skip", name])))
}
