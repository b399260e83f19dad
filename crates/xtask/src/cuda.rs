//! Links a CUDA build on a machine that has LLVM 23 but cannot download the copy that Burn's CUDA backend fetches.
//!
//! The build script of that backend takes LLVM from a folder below the user's data folder and fetches it if the folder
//! lacks a marker. This task makes such a folder in `target`, with links to the installed LLVM, and builds with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step;

/// The tool that describes the installed LLVM.
const TOOL: &str = "llvm-config-23";
/// The version of LLVM that CubeCL 0.11 uses.
const VERSION: &str = "23.";
/// The crate whose build scripts look for LLVM.
const BUNDLER: &str = "tracel-llvm-bundler";
/// The marker of a complete folder.
const MARKER: &str = ".tracel-llvm-installed";

/// Builds the GPU checks with CUDA.
///
/// # Errors
/// If LLVM is missing or the build fails.
pub(crate) fn link(root: &Path) -> Result<(), String> {
    let tool = std::env::var_os("LLVM_CONFIG").map_or_else(|| PathBuf::from(TOOL), PathBuf::from);
    let version = ask(&tool, "--version").map_err(|why| missing(&why))?;
    if !version.starts_with(VERSION) {
        return Err(missing(&format!("{} is LLVM {version}", tool.display())));
    }
    let lock = read(&root.join("Cargo.lock"))?;
    let bundler = locked_version(&lock, BUNDLER).ok_or_else(|| format!("Cargo.lock names no {BUNDLER}"))?;
    let data = root.join("target/cuda-data");
    let folder = data.join("tracel").join(format!("tracel-llvm-{bundler}"));
    prepare(&folder, &tool, Path::new(&ask(&tool, "--prefix").map_err(|why| missing(&why))?))?;
    let mut command = step::cargo();
    command.current_dir(root).env("XDG_DATA_HOME", &data);
    command.args(["build", "--release", "-p", "sulcus-tests", "--features", "cuda", "--example", "gpu_check"]);
    step::run(&mut command)?;
    println!("built target/release/examples/gpu_check; tests/gpu/README.md explains how to pack and run it");
    Ok(())
}

fn missing(why: &str) -> String {
    format!(
        "a CUDA build needs LLVM 23 ({why}). On Debian sid install llvm-23-dev, zlib1g-dev, libzstd-dev, libxml2-dev and \
         libffi-dev, or name the tool in LLVM_CONFIG. Elsewhere `cargo build --features cuda` fetches a copy of LLVM by itself, \
         if it may use the network"
    )
}

/// What the tool prints for an option.
fn ask(tool: &Path, option: &str) -> Result<String, String> {
    let output = Command::new(tool).arg(option).output().map_err(|e| format!("{}: {e}", tool.display()))?;
    if !output.status.success() {
        return Err(format!("{} {option} ended with {}", tool.display(), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The version of a package in a lock file.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// Makes a folder with links to everything of an installed LLVM except its tool, which [`wrapper`] replaces.
fn prepare(folder: &Path, tool: &Path, prefix: &Path) -> Result<(), String> {
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|e| failed(folder, e))?;
    }
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).map_err(|e| failed(&bin, e))?;
    for (from, to) in [(prefix.to_path_buf(), folder.to_path_buf()), (prefix.join("bin"), bin.clone())] {
        for entry in fs::read_dir(&from).map_err(|e| failed(&from, e))? {
            let entry = entry.map_err(|e| failed(&from, e))?;
            let name = entry.file_name();
            if name != "bin" && name != "llvm-config" {
                link_to(&entry.path(), &to.join(name))?;
            }
        }
    }
    let file = bin.join("llvm-config");
    fs::write(&file, wrapper(tool)).map_err(|e| failed(&file, e))?;
    make_executable(&file)?;
    let marker = folder.join(MARKER);
    fs::write(&marker, "").map_err(|e| failed(&marker, e))
}

#[cfg(unix)]
fn link_to(target: &Path, link: &Path) -> Result<(), String> {
    std::os::unix::fs::symlink(target, link).map_err(|e| format!("{}: {e}", link.display()))
}

#[cfg(unix)]
fn make_executable(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o755);
    fs::set_permissions(file, permissions).map_err(|e| format!("{}: {e}", file.display()))
}

#[cfg(not(unix))]
fn link_to(_: &Path, _: &Path) -> Result<(), String> {
    Err("this task runs on Linux only".into())
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<(), String> {
    Err("this task runs on Linux only".into())
}

/// A script that answers as the tool does, with two differences: Polly is left out, because Debian has no archives of it, and
/// the system's libraries are named instead of given as paths, as CubeCL's build scripts expect.
fn wrapper(tool: &Path) -> String {
    format!(
        r#"#!/bin/sh
tool='{}'
case " $* " in
*" --libs "* | *" --libnames "*) "$tool" "$@" | tr ' ' '\n' | grep -vi polly | tr '\n' ' ' ;;
*" --system-libs "*) "$tool" "$@" | tr ' ' '\n' | sed -E 's#^.*/lib([^/]*)\.(so|a)[0-9.]*$#-l\1#' | tr '\n' ' ' ;;
*) exec "$tool" "$@" ;;
esac
"#,
        tool.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_comes_from_the_lock_file() {
        let lock = "[[package]]\nname = \"other\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"tracel-llvm-bundler\"\nversion = \"23.1.0-4\"\n";
        assert_eq!(locked_version(lock, BUNDLER), Some("23.1.0-4"));
        assert_eq!(locked_version(lock, "absent"), None);
    }

    #[test]
    fn lock_file_of_this_project_names_the_bundler() {
        let lock = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock")).unwrap();
        assert!(locked_version(&lock, BUNDLER).unwrap().starts_with(VERSION));
    }

    #[test]
    fn missing_tool_is_an_error_that_names_the_packages() {
        let why = ask(Path::new("/no/such/llvm-config"), "--version").unwrap_err();
        assert!(missing(&why).contains("llvm-23-dev"), "{why}");
    }

    #[cfg(unix)]
    #[test]
    fn prepared_folder_leaves_polly_out_and_names_system_libraries() {
        let home = tempfile_dir();
        let prefix = home.join("llvm");
        for folder in ["bin", "lib", "include"] {
            fs::create_dir_all(prefix.join(folder)).unwrap();
        }
        let tool = home.join("tool");
        let script = "#!/bin/sh\ncase \"$*\" in *--libs*) echo -lLLVMCore -lPolly -lLLVMSupport ;; \
                      *--system-libs*) echo -lm /usr/lib/x86_64-linux-gnu/libz3.so /usr/lib/libzstd.so.1.5 ;; *) echo 23.1.4 ;; esac\n";
        fs::write(&tool, script).unwrap();
        make_executable(&tool).unwrap();
        let folder = home.join("folder");
        prepare(&folder, &tool, &prefix).unwrap();
        let wrapped = folder.join("bin/llvm-config");
        assert_eq!(ask(&wrapped, "--libs").unwrap(), "-lLLVMCore -lLLVMSupport");
        assert_eq!(ask(&wrapped, "--system-libs").unwrap(), "-lm -lz3 -lzstd");
        assert_eq!(ask(&wrapped, "--version").unwrap(), "23.1.4");
        assert!(folder.join("include").is_dir() && folder.join(MARKER).is_file());
        fs::remove_dir_all(home).unwrap();
    }

    #[cfg(unix)]
    fn tempfile_dir() -> PathBuf {
        let home = std::env::temp_dir().join(format!("xtask-cuda-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        home
    }
}
