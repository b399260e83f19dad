//! Finds a compiler for WebAssembly on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{TARGET, output, say};

const RUSTUP_TIME_LIMIT: Duration = Duration::from_secs(120);
/// Debian's compiler for the web.
pub(super) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Sources of the standard library for wasm, the best first.
pub(super) enum Toolchain {
    /// Compiled with the viewer, from the sources that rustup has for its toolchain.
    Sources,
    /// Compiled with the viewer by Debian's `rustc-web` from `rust-web-src`, if rustup cannot fetch anything.
    Debian {
        /// Usually that of the rustup toolchain: Debian's compiler does not include one.
        linker: PathBuf,
    },
    /// As shipped by rustup; the viewer is larger.
    Plain,
}

impl Toolchain {
    /// The first one that is available, after asking rustup for missing components.
    ///
    /// # Errors
    /// A line that says what to install.
    pub(super) fn find() -> Result<Self, String> {
        let sysroot = |rustc| output(Command::new(rustc).args(["--print", "sysroot"]));
        let has_sources = |rustc| {
            sysroot(rustc)
                .is_ok_and(|path| Path::new(&path).join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file())
        };
        if has_sources("rustc") || rustup(&["component", "add", "rust-src"]) && has_sources("rustc") {
            return Ok(Self::Sources);
        }
        let sysroots = ["rustc", DEBIAN_RUSTC].into_iter().filter_map(|rustc| sysroot(rustc).ok());
        if has_sources(DEBIAN_RUSTC)
            && let Some(linker) = linker(sysroots)
        {
            say("viewer: rustup has no sources of the standard library; using Debian's rustc-web");
            return Ok(Self::Debian { linker });
        }
        if has_target_std() || rustup(&["target", "add", TARGET]) && has_target_std() {
            return Ok(Self::Plain);
        }
        Err(format!(
            "the viewer needs Rust's standard library for {TARGET}: `rustup component add rust-src`, \
             or on Debian `apt install rustc-web rust-web-src lld`"
        ))
    }
}

/// Asks rustup without showing output; it may be missing or unable to fetch anything.
fn rustup(arguments: &[&str]) -> bool {
    let mut command = Command::new("rustup");
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    run_within(&mut command, RUSTUP_TIME_LIMIT)
}

fn has_target_std() -> bool {
    let libdir = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    let Ok(entries) = libdir.and_then(|dir| fs::read_dir(dir).map_err(|e| e.to_string())) else {
        return false;
    };
    entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with("libstd-"))
}

fn linker(sysroots: impl Iterator<Item = String>) -> Option<PathBuf> {
    let in_sysroot = sysroots.flat_map(|sysroot| {
        let hosts = fs::read_dir(Path::new(&sysroot).join("lib/rustlib")).into_iter().flatten().flatten();
        hosts.map(|host| host.path().join("bin/rust-lld")).collect::<Vec<_>>()
    });
    in_sysroot.chain(["/usr/bin/rust-lld", "/usr/bin/wasm-ld"].map(PathBuf::from)).find(|path| path.is_file())
}

/// Runs a command without showing output; false if it fails or takes longer than `limit`.
fn run_within(command: &mut Command, limit: Duration) -> bool {
    let Ok(mut child) = command.stdin(Stdio::null()).spawn() else {
        return false;
    };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(100)),
            _ => {
                // Past its time limit or lost: in both cases it did not succeed.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}
