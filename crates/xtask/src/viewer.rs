//! Builds the browser viewer into `wasm/dist`, and detects built files that are older than their sources.
//!
//! The built files are committed, so that a plain `cargo build` of the command line embeds them. Only this task creates
//! them.

mod shrink;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use shrink::{optimise, shorten, shorten_page};
use toolchain::{DEBIAN_RUSTC, Toolchain};

const TARGET: &str = "wasm32-unknown-unknown";
/// The files that a browser loads to view and compare NIfTI files, and their maximum size, compressed like by a web server.
const CORE: Part = Part {
    name: "sulcus-viewer",
    module: Some(Speed::Small),
    pages: &["index.html", "viewer.js"],
    max_gzipped_bytes: 95 * 1024,
};
/// The files that are loaded on demand.
const TOOLS: Part = Part {
    name: "sulcus-viewer-tools",
    module: Some(Speed::Small),
    pages: &["tools.js", "elements.js", "requests.js", "headers.js"],
    max_gzipped_bytes: 160 * 1024,
};
/// The files that are loaded to read DICOM and other formats.
const FORMATS: Part = Part {
    name: "sulcus-viewer-formats",
    module: Some(Speed::Small),
    pages: &["loading.js", "worker.js"],
    max_gzipped_bytes: 400 * 1024,
};
/// The files that are loaded to read pictures.
const PICTURES: Part = Part {
    name: "sulcus-viewer-pictures",
    module: Some(Speed::Small),
    pages: &["decoder.js"],
    max_gzipped_bytes: 280 * 1024,
};
/// The files that are loaded to save a DICOM segmentation.
const SEGMENTATION: Part = Part {
    name: "sulcus-viewer-segmentation",
    module: Some(Speed::Small),
    pages: &["encoder.js"],
    max_gzipped_bytes: 450 * 1024,
};
/// The files that are loaded to predict.
const ENGINE: Part = Part {
    name: "sulcus-viewer-engine",
    module: Some(Speed::Fast),
    pages: &["predict.js", "engine.js"],
    max_gzipped_bytes: 400 * 1024,
};
/// The files that are loaded to show surfaces.
const SURFACES: Part = Part {
    name: "sulcus-viewer-surfaces",
    module: Some(Speed::Small),
    pages: &["meshes.js", "webgl.js", "mesher.js"],
    max_gzipped_bytes: 60 * 1024,
};
const RECORD: &str = "sources.sha256";
/// The files and folders that determine the built viewer.
const SOURCES: [&str; 37] = [
    "wasm/Cargo.toml",
    "wasm/src",
    "wasm/page",
    "wasm/engine/Cargo.toml",
    "wasm/engine/src",
    "wasm/formats/Cargo.toml",
    "wasm/formats/src",
    "wasm/pictures/Cargo.toml",
    "wasm/pictures/src",
    "wasm/segmentation/Cargo.toml",
    "wasm/segmentation/src",
    "wasm/surfaces/Cargo.toml",
    "wasm/surfaces/src",
    "wasm/tools/Cargo.toml",
    "wasm/tools/src",
    "crates/sulcus-dicom/Cargo.toml",
    "crates/sulcus-dicom/src",
    "crates/sulcus-volume/Cargo.toml",
    "crates/sulcus-volume/src",
    "crates/sulcus-io/Cargo.toml",
    "crates/sulcus-io/src",
    "crates/sulcus-mesh/Cargo.toml",
    "crates/sulcus-mesh/src",
    "crates/sulcus-metrics/Cargo.toml",
    "crates/sulcus-metrics/src",
    "crates/sulcus-model/Cargo.toml",
    "crates/sulcus-model/src",
    "crates/sulcus-onnx/Cargo.toml",
    "crates/sulcus-onnx/src",
    "crates/sulcus-pipeline/Cargo.toml",
    "crates/sulcus-pipeline/src",
    "crates/sulcus-kernels/Cargo.toml",
    "crates/sulcus-kernels/src",
    "crates/sulcus-engine/Cargo.toml",
    "crates/sulcus-engine/src",
    "crates/sulcus-runtime/Cargo.toml",
    "crates/sulcus-runtime/src",
];
/// The files that are loaded to review a cohort.
const COHORT: Part = Part { name: "cohort.js", module: None, pages: &["cohort.js"], max_gzipped_bytes: 6 * 1024 };
/// The script that starts a page in one file.
const SINGLE: Part = Part { name: "single.js", module: None, pages: &["single.js"], max_gzipped_bytes: 2 * 1024 };
/// The script that is loaded in a page that another one embeds.
const BRIDGE: Part = Part { name: "bridge.js", module: None, pages: &["bridge.js"], max_gzipped_bytes: 4 * 1024 };
/// What a module is compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speed {
    /// Small.
    Small,
    /// Fast, with SIMD128, which browsers have had since 2021 (Safari: 2023).
    Fast,
}

impl Speed {
    /// The profile in the workspace's `Cargo.toml`.
    fn profile(self) -> &'static str {
        match self {
            Self::Small => "viewer",
            Self::Fast => "viewer-engine",
        }
    }

    /// The target features beyond those that every browser since 2022 has.
    fn features(self) -> &'static str {
        match self {
            Self::Small => "",
            Self::Fast => "+simd128",
        }
    }
}

/// Files of the page that are loaded together, with a WebAssembly module and its glue or without.
struct Part {
    /// The package of the module, or what the part is called without one.
    name: &'static str,
    /// What the module is compiled for, if there is one.
    module: Option<Speed>,
    pages: &'static [&'static str],
    max_gzipped_bytes: usize,
}

impl Part {
    /// The name of the module's files, without ending.
    fn stem(&self) -> String {
        self.name.replace('-', "_")
    }

    fn wasm(&self) -> String {
        format!("{}_bg.wasm", self.stem())
    }

    fn glue(&self) -> String {
        format!("{}.js", self.stem())
    }

    /// The files in `wasm/dist`.
    fn files(&self) -> Vec<String> {
        let of_module = self.module.iter().flat_map(|_| [self.glue(), self.wasm()]);
        self.pages.iter().map(|page| (*page).to_owned()).chain(of_module).collect()
    }

    fn build(&self, root: &Path, staging: &Path) -> Result<(), String> {
        if let Some(speed) = self.module {
            self.build_module(speed, root, staging)?;
        }
        for page in self.pages {
            let text = read(&root.join("wasm/page").join(page))?;
            write(
                &staging.join(page),
                &if page.ends_with(".js") { shorten(&text, "js")? } else { shorten_page(&text)? },
            )?;
        }
        Ok(())
    }

    fn build_module(&self, speed: Speed, root: &Path, staging: &Path) -> Result<(), String> {
        let built = compile_target(root, &["--package", self.name, "--lib"], speed, speed.features())?;
        let module = built.join(format!("{}.wasm", self.stem()));
        let bindgen = wasm_bindgen(root)?;
        run(Command::new(bindgen)
            .args(["--target", "web", "--no-typescript", "--omit-default-module-path"])
            .args(["--remove-name-section", "--remove-producers-section", "--out-dir"])
            .args([staging, &module]))?;
        optimise(&staging.join(self.wasm()), speed)?;
        let glue = staging.join(self.glue());
        write(&glue, &shorten(&read(&glue)?, "js")?)
    }

    /// The size of the files, compressed.
    fn check_size(&self, dist: &Path) -> Result<usize, String> {
        /// The header and trailer of a gzip member.
        const FRAME: usize = 18;
        let mut total = 0;
        for name in self.files() {
            let path = dist.join(name);
            let bytes = fs::read(&path).map_err(|e| format!("reading: {e}: {}", path.display()))?;
            total += miniz_oxide::deflate::compress_to_vec(&bytes, 9).len() + FRAME;
        }
        if total > self.max_gzipped_bytes {
            return Err(format!(
                "{} has {total} bytes gzipped, at most {} are allowed: {}",
                self.name,
                self.max_gzipped_bytes,
                dist.display()
            ));
        }
        Ok(total)
    }
}

const PARTS: [Part; 10] = [CORE, SINGLE, BRIDGE, TOOLS, COHORT, FORMATS, PICTURES, SEGMENTATION, SURFACES, ENGINE];

/// Compiles the viewer and writes `wasm/dist`.
///
/// # Errors
/// One line with the failed step and what to do.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let sources = hash_of_sources(root)?;
    let staging = root.join("target/wasm/dist");
    remove_folder(&staging)?;
    make_folder(&staging)?;
    let mut record = format!("{sources}  sources\n");
    for part in PARTS {
        part.build(root, &staging)?;
        let size = part.check_size(&staging)?;
        say(&format!("viewer: {} has {:.1} KB gzipped", part.name, size as f64 / 1024.0));
        for name in part.files() {
            record += &format!("{}  {name}\n", hash_of_file(&staging.join(&name))?);
        }
    }
    write(&staging.join(RECORD), &record)?;
    let dist = root.join("wasm/dist");
    make_folder(&dist)?;
    for name in PARTS.iter().flat_map(Part::files).chain([RECORD.to_owned()]) {
        let partial = dist.join(format!("{name}.partial"));
        fs::copy(staging.join(&name), &partial)
            .and_then(|_| fs::rename(&partial, dist.join(&name)))
            .map_err(|e| format!("writing the built viewer: {e}: {}", dist.join(&name).display()))?;
    }
    Ok(())
}

/// Checks that `wasm/dist` was built from its sources and does not exceed its maximum size.
///
/// # Errors
/// One line with the difference and the command to run.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let dist = root.join("wasm/dist");
    let path = dist.join(RECORD);
    let again = "run `cargo xtask viewer`";
    let record = fs::read_to_string(&path)
        .map_err(|e| format!("the viewer is not built: {e}; {again}: {}", path.display()))?;
    let recorded = |name: &str| {
        record.lines().filter_map(|line| line.split_once("  ")).find(|(_, n)| *n == name).map(|(hash, _)| hash)
    };
    if recorded("sources") != Some(hash_of_sources(root)?.as_str()) {
        return Err(format!("the built viewer is older than its sources; {again}: {}", dist.display()));
    }
    for name in PARTS.iter().flat_map(Part::files) {
        if recorded(&name) != Some(hash_of_file(&dist.join(&name))?.as_str()) {
            return Err(format!("this file was changed after the build; {again}: {}", dist.join(&name).display()));
        }
    }
    PARTS.iter().try_for_each(|part| part.check_size(&dist).map(|_| ()))
}

/// Compares the kernels in WebAssembly with SIMD128 and in plain Rust, on Node.js: both must give the same bits.
///
/// # Errors
/// One line with the difference, or what is missing.
pub(crate) fn check_kernels(root: &Path) -> Result<(), String> {
    const RUN: &str = "WebAssembly.instantiate(require('fs').readFileSync(process.argv[1])).then(({ instance }) => \
                       console.log(BigInt.asUintN(64, instance.exports.digest()).toString()))";
    let digest = |features: &str| {
        let built = compile_target(root, &["--package", "sulcus-kernels-digest", "--lib"], Speed::Fast, features)?;
        let module = built.join("sulcus_kernels_digest.wasm");
        let printed = output(Command::new("node").args(["--eval", RUN]).arg(&module))?;
        printed.parse::<u64>().map_err(|e| format!("the digest of the kernels is no number: {e}: {printed}"))
    };
    let (vectors, plain) = (digest(Speed::Fast.features())?, digest("")?);
    // The lowest bit tells which instructions were used.
    if vectors % 2 != 1 || plain % 2 != 0 {
        return Err("the kernels did not use the instructions that they were compiled for".to_owned());
    }
    if vectors / 2 != plain / 2 {
        return Err(format!("the kernels give other bits with SIMD128: {vectors:x} instead of {plain:x}"));
    }
    Ok(())
}

/// Compiles a target of a package for WebAssembly with target features; returns the folder with what was built.
fn compile_target(root: &Path, target: &[&str], speed: Speed, features: &str) -> Result<PathBuf, String> {
    // Cargo would compile everything again each time that the flags of a profile change.
    let is_usual = features == speed.features();
    let target_dir = root.join(if is_usual { "target/wasm" } else { "target/wasm-plain" });
    let mut flags = remapped_paths(root);
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root)
        .arg("build")
        .args(target)
        .args(["--profile", speed.profile(), "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env_remove("RUSTFLAGS");
    if !features.is_empty() {
        flags.push(format!("-Ctarget-feature={features}"));
    }
    let toolchain = Toolchain::find()?;
    if !matches!(toolchain, Toolchain::Plain) {
        // A standard library that is compiled with the viewer, for size and without the texts of panics, saves a fifth.
        cargo.args(["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"]);
        cargo.env("RUSTC_BOOTSTRAP", "1");
        flags.extend(["-Zunstable-options", "-Cpanic=immediate-abort"].map(str::to_owned));
    }
    if let Toolchain::Debian { linker } = toolchain {
        cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTDOC", "/usr/bin/rustdoc");
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    run(cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")))?;
    Ok(target_dir.join(TARGET).join(speed.profile()))
}

/// Removes the paths of this machine from panic messages, which contain the paths of their sources.
fn remapped_paths(root: &Path) -> Vec<String> {
    let home = std::env::home_dir().unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    let library =
        if sysroot.is_empty() { PathBuf::new() } else { Path::new(&sysroot).join("lib/rustlib/src/rust") };
    [(cargo_home.join("registry/src"), "registry"), (root.to_path_buf(), "sulcus"), (library, "rust")]
        .into_iter()
        .filter(|(from, _)| !from.as_os_str().is_empty())
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect()
}

/// The wasm-bindgen tool in the version of `Cargo.lock`: tool and library must have the same version.
fn wasm_bindgen(root: &Path) -> Result<PathBuf, String> {
    let version = locked_version(root, "wasm-bindgen")?;
    let has_version = |tool: &Path| {
        output(Command::new(tool).arg("--version")).is_ok_and(|v| v.split_whitespace().nth(1) == Some(&version))
    };
    let on_path = PathBuf::from("wasm-bindgen");
    if has_version(&on_path) {
        return Ok(on_path);
    }
    let folder = tools_folder()?.join(format!("wasm-bindgen-{version}"));
    let tool = folder.join("bin/wasm-bindgen");
    if !has_version(&tool) {
        say(&format!("viewer: installing wasm-bindgen {version} into {} (some minutes, once)", folder.display()));
        run(Command::new("cargo")
            .args(["install", "wasm-bindgen-cli", "--version", &format!("={version}"), "--root"])
            .arg(&folder)
            .env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(tool)
}

fn locked_version(root: &Path, package: &str) -> Result<String, String> {
    let path = root.join("Cargo.lock");
    let lock = fs::read_to_string(&path).map_err(|e| format!("reading the lock file: {e}: {}", path.display()))?;
    let name = format!("name = \"{package}\"");
    lock.lines()
        .skip_while(|line| *line != name)
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .ok_or_else(|| format!("{package} is not in the lock file: {}", path.display()))
}

/// The folder for build tools: `$SULCUS_TOOLS`, else the user's cache folder; never inside the clone.
fn tools_folder() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SULCUS_TOOLS")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("sulcus/tools")))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/sulcus/tools")))
        .ok_or_else(|| "no home folder to keep the build tools in: set SULCUS_TOOLS to a folder".to_owned())
}

/// One hash of the sorted paths and contents of all sources, independent of the line ends of the system.
fn hash_of_sources(root: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(root, source, &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{file}\n{}\n", hash_of_file(&root.join(&file))?));
    }
    Ok(hex(&hash.finalize()))
}

fn collect(root: &Path, relative: &str, files: &mut Vec<String>) -> Result<(), String> {
    let path = root.join(relative);
    if path.is_file() {
        files.push(relative.to_owned());
        return Ok(());
    }
    let fail = |e| format!("reading the viewer's sources: {e}: {}", path.display());
    for entry in fs::read_dir(&path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        collect(root, &format!("{relative}/{}", name.to_string_lossy()), files)?;
    }
    Ok(())
}

fn hash_of_file(path: &Path) -> Result<String, String> {
    let mut bytes = fs::read(path).map_err(|e| format!("reading: {e}: {}", path.display()))?;
    bytes.retain(|b| *b != b'\r');
    Ok(hex(&Sha256::digest(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} failed ({status}): {command:?}")),
        Err(e) => Err(format!("{name} could not be started: {e}")),
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let out = command.stderr(Stdio::null()).output().map_err(|e| e.to_string())?;
    if !out.status.success() {
        return Err(format!("{command:?} failed ({})", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn make_folder(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("creating a folder: {e}: {}", path.display()))
}

fn remove_folder(path: &Path) -> Result<(), String> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("emptying a folder: {e}: {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("reading: {e}: {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("writing: {e}: {}", path.display()))
}

/// Progress for people, on standard error.
#[expect(clippy::print_stderr, reason = "a task runner talks to the person who runs it")]
fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_sources_change_the_hash_but_line_ends_do_not() {
        let root = std::env::temp_dir().join(format!("sulcus-viewer-hash-{}", std::process::id()));
        let file = root.join("wasm/src/lib.rs");
        for source in SOURCES {
            fs::create_dir_all(root.join(source)).unwrap();
        }
        let hash_with = |text: &str| {
            fs::write(&file, text).unwrap();
            hash_of_sources(&root).unwrap()
        };
        let first = hash_with("fn a() {}\nfn b() {}\n");
        assert_eq!(hash_with("fn a() {}\r\nfn b() {}\r\n"), first);
        assert_ne!(hash_with("fn a() {}\nfn c() {}\n"), first);
        hash_with("fn a() {}\nfn b() {}\n");
        fs::write(root.join("wasm/src/new.rs"), "").unwrap();
        assert_ne!(hash_of_sources(&root).unwrap(), first, "a file more");
        let error = check(&root).unwrap_err();
        assert!(error.contains("cargo xtask viewer"), "{error}");
        fs::remove_dir_all(&root).unwrap();
    }
}
