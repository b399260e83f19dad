//! The places where ONNX Runtime is searched. This module neither loads it nor reads environment variables: the caller
//! passes the libraries that its user named.

use std::fmt;
use std::path::{Path, PathBuf};

/// The ONNX Runtime library to use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrtLibrary {
    /// This file, or the library in this folder. If it cannot be used, that is an error.
    Path(PathBuf),
    /// The first library of a search that works.
    Search(OrtSearch),
}

/// The places where ONNX Runtime is searched, in the order of the fields. The first library that loads is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrtSearch {
    /// Libraries that the user named, in order of precedence. Only the first one is used; if it cannot be used, that is
    /// an error.
    pub named: Vec<NamedLibrary>,
    /// The folder of the executable.
    pub executable_folder: Option<PathBuf>,
    /// The folder into which the user's ONNX Runtime was installed.
    pub data_folder: Option<PathBuf>,
    /// Prefixes of Python environments (`VIRTUAL_ENV`, `CONDA_PREFIX`, [`python_prefixes`]), whose `onnxruntime`
    /// package holds the library.
    pub python_prefixes: Vec<PathBuf>,
    /// Whether to search the system's library folders.
    pub system: bool,
}

impl OrtLibrary {
    /// Whether the caller names a library, which is never skipped.
    pub(crate) fn is_named(&self) -> bool {
        match self {
            Self::Path(_) => true,
            Self::Search(search) => !search.named.is_empty(),
        }
    }
}

/// A library, or a folder that contains it, that the user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLibrary {
    /// The option or environment variable that names it, for messages.
    pub origin: String,
    /// The file or folder.
    pub path: PathBuf,
}

impl OrtSearch {
    /// The folder of the executable and the folders of the system, which are known without reading environment variables.
    pub fn local() -> Self {
        let executable = std::env::current_exe().ok();
        Self {
            executable_folder: executable.as_deref().and_then(Path::parent).map(Path::to_path_buf),
            system: true,
            ..Self::default()
        }
    }
}

/// Why a place was searched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LibraryOrigin {
    /// The user named it by an option or a variable.
    Named(String),
    /// The executable's folder.
    Executable,
    /// The user's data folder.
    DataFolder,
    /// A Python environment.
    Python,
    /// The system's library folders.
    System,
    /// This process already uses it.
    Process,
}

impl fmt::Display for LibraryOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named(name) => name,
            Self::Executable => "beside the executable",
            Self::DataFolder => "the user's data folder",
            Self::Python => "the Python environment",
            Self::System => "the system",
            Self::Process => "already in use",
        })
    }
}

/// A place that was searched, and the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchedPlace {
    /// Why it was searched.
    pub origin: LibraryOrigin,
    /// The library, or the folder that does not contain one.
    pub path: PathBuf,
    /// The result.
    pub outcome: SearchOutcome,
}

/// The result of the search in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchOutcome {
    /// No such file or folder, or no library in it.
    Missing,
    /// A file that is not a usable ONNX Runtime, with the reason.
    Refused(String),
    /// The library in use.
    Used,
    /// A library exists, but an earlier place had one too.
    NotTried,
}

impl fmt::Display for SearchOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not there"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Used => f.write_str("used"),
            Self::NotTried => f.write_str("found, but not used, because an earlier one was found"),
        }
    }
}

/// A place before it is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) origin: LibraryOrigin,
    pub(crate) path: PathBuf,
    pub(crate) exists: bool,
}

/// The places of a search in order. A library that the user named excludes every other place.
pub(crate) fn candidates(search: &OrtSearch) -> Vec<Candidate> {
    if let Some(named) = search.named.first() {
        return vec![in_file_or_folder(LibraryOrigin::Named(named.origin.clone()), &named.path)];
    }
    let mut found: Vec<Candidate> = Vec::new();
    found.extend(search.executable_folder.iter().map(|f| in_file_or_folder(LibraryOrigin::Executable, f)));
    found.extend(search.data_folder.iter().map(|f| in_file_or_folder(LibraryOrigin::DataFolder, f)));
    for prefix in &search.python_prefixes {
        let folders = package_folders(prefix);
        if folders.is_empty() {
            found.push(Candidate { origin: LibraryOrigin::Python, path: prefix.clone(), exists: false });
        }
        found.extend(folders.iter().map(|f| in_file_or_folder(LibraryOrigin::Python, f)));
    }
    if search.system {
        found.extend(system_folders().iter().map(|f| in_file_or_folder(LibraryOrigin::System, f)));
    }
    let mut seen = Vec::new();
    found.retain(|candidate| {
        let new = !seen.contains(&candidate.path);
        seen.push(candidate.path.clone());
        new
    });
    found
}

fn in_file_or_folder(origin: LibraryOrigin, path: &Path) -> Candidate {
    if !path.is_dir() {
        return Candidate { origin, path: path.to_path_buf(), exists: path.is_file() };
    }
    match library_in(path) {
        Some(library) => Candidate { origin, path: library, exists: true },
        None => Candidate { origin, path: path.to_path_buf(), exists: false },
    }
}

/// The newest ONNX Runtime in a folder. A name without a version counts as the newest, because such a link selects the
/// version to use.
fn library_in(folder: &Path) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let version = library_version(entry.file_name().to_str()?)?;
            Some((version.is_empty(), version, entry.path()))
        })
        .max()
        .map(|(_, _, path)| path)
}

/// The numbers in the name of an ONNX Runtime library (empty when it has none); `None` for any other file.
fn library_version(name: &str) -> Option<Vec<u32>> {
    let version = if cfg!(windows) {
        return name.eq_ignore_ascii_case("onnxruntime.dll").then(Vec::new);
    } else if cfg!(target_vendor = "apple") {
        name.strip_prefix("libonnxruntime")?.strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so")?
    };
    if version.is_empty() {
        return Some(Vec::new());
    }
    version.strip_prefix('.')?.split('.').map(|part| part.parse().ok()).collect()
}

/// The version in the name of a library, such as `1.30.0`.
pub(crate) fn version_of_file(path: &Path) -> Option<String> {
    let version = library_version(path.file_name()?.to_str()?)?;
    let parts: Vec<String> = version.iter().map(u32::to_string).collect();
    (parts.len() > 1).then(|| parts.join("."))
}

/// The folders where pip and conda put the native part of the `onnxruntime` package below a prefix.
fn package_folders(prefix: &Path) -> Vec<PathBuf> {
    let mut packages = vec![prefix.to_path_buf(), prefix.join("Lib").join("site-packages")];
    for lib in ["lib", "lib64"] {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(prefix.join(lib))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("python"))
            .map(|entry| entry.path())
            .collect();
        versions.sort();
        for version in versions {
            packages.push(version.join("site-packages"));
            packages.push(version.join("dist-packages"));
        }
    }
    packages.into_iter().map(|p| p.join("onnxruntime").join("capi")).filter(|p| p.is_dir()).collect()
}

/// The system's library folders. None on Windows: the `onnxruntime.dll` in its System32 belongs to Windows and is
/// too old.
fn system_folders() -> Vec<PathBuf> {
    if cfg!(windows) {
        return Vec::new();
    }
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders: &[&str] = if cfg!(target_vendor = "apple") {
        &["/opt/homebrew/lib", "/usr/local/lib"]
    } else {
        &["/usr/local/lib", triplet.as_str(), "/usr/lib64", "/usr/lib"]
    };
    folders.iter().map(PathBuf::from).collect()
}

/// The prefixes of the Python interpreters in these folders (those of a `PATH`), links followed: `/opt/py/bin/python3`
/// has the prefix `/opt/py`.
pub fn python_prefixes(folders: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let names = if cfg!(windows) { ["python.exe", "python3.exe"] } else { ["python3", "python"] };
    let mut prefixes = Vec::new();
    for folder in folders {
        for name in names {
            let interpreter = folder.join(name);
            if !interpreter.is_file() {
                continue;
            }
            // The interpreter of a virtual environment is a link to that of the system; its packages are beside the link.
            let resolved = std::fs::canonicalize(&interpreter).ok();
            for path in [Some(interpreter), resolved].into_iter().flatten() {
                let folder = if cfg!(windows) { path.parent() } else { path.parent().and_then(Path::parent) };
                if let Some(prefix) = folder.map(Path::to_path_buf).filter(|p| !prefixes.contains(p)) {
                    prefixes.push(prefix);
                }
            }
        }
    }
    prefixes
}

/// Whether a member of the `onnxruntime` wheel (a zip file) is needed to run models, and the file name under which to
/// unpack it: the library itself, its provider libraries, and for `onnxruntime-openvino` the libraries that OpenVINO
/// needs on a processor, all into one folder.
pub fn wheel_member(name: &str) -> Option<&str> {
    let file = name.strip_prefix("onnxruntime/capi/")?;
    let plain = !file.contains(['/', '\\']);
    let library = library_version(file).is_some() || file.contains("onnxruntime_providers_");
    (plain && (library || is_of_openvino(file))).then_some(file)
}

/// OpenVINO's libraries without those of unsupported devices, and the thread pool that it uses.
fn is_of_openvino(file: &str) -> bool {
    let name = file.strip_prefix("lib").unwrap_or(file);
    let other_device = ["intel_gpu", "intel_npu"].iter().any(|device| name.contains(device));
    let shared = name.contains(".so") || name.ends_with(".dll");
    shared && !other_device && (name.starts_with("openvino") || name.starts_with("tbb"))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            sulcus_testing::write_file(&folder.path().join(file), b"");
        }
        folder
    }

    fn paths(search: &OrtSearch, root: &Path) -> Vec<(String, String, bool)> {
        candidates(search)
            .into_iter()
            .map(|c| {
                let path = c.path.strip_prefix(root).unwrap_or(&c.path).display().to_string();
                (c.origin.to_string(), path, c.exists)
            })
            .collect()
    }

    #[test]
    fn newest_library_of_a_folder_is_found_by_version_number() {
        let root =
            folder(&["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.30.0", "libonnxruntime_providers_shared.so"]);
        assert_eq!(library_in(root.path()), Some(root.path().join("libonnxruntime.so.1.30.0")));
        std::fs::write(root.path().join("libonnxruntime.so"), b"").unwrap();
        assert_eq!(library_in(root.path()), Some(root.path().join("libonnxruntime.so")));
    }

    #[test]
    fn other_files_are_ignored() {
        assert_eq!(library_version("libonnxruntime.so"), Some(vec![]));
        assert_eq!(library_version("libonnxruntime.so.1"), Some(vec![1]));
        assert_eq!(library_version("libonnxruntime.so.1.32.0"), Some(vec![1, 32, 0]));
        for other in
            ["libonnxruntime_providers_cuda.so", "libonnxruntime.so.bak", "libonnxruntime.sob", "onnxruntime.dll"]
        {
            assert_eq!(library_version(other), None, "{other}");
        }
    }

    #[test]
    fn places_have_the_documented_order() {
        let root = folder(&[
            "data/libonnxruntime.so.1.30.0",
            "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0",
        ]);
        let search = OrtSearch {
            named: Vec::new(),
            executable_folder: Some(root.path().join("bin")),
            data_folder: Some(root.path().join("data")),
            python_prefixes: vec![root.path().join("venv"), root.path().join("other")],
            system: false,
        };
        let expected = [
            ("beside the executable", "bin", false),
            ("the user's data folder", "data/libonnxruntime.so.1.30.0", true),
            (
                "the Python environment",
                "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0",
                true,
            ),
            ("the Python environment", "other", false),
        ];
        assert_eq!(paths(&search, root.path()), expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c)));
    }

    #[test]
    fn named_library_excludes_every_other_place() {
        let root = folder(&["data/libonnxruntime.so.1.30.0", "mine/libonnxruntime.so"]);
        let named = |origin: &str, path| NamedLibrary { origin: origin.into(), path: root.path().join(path) };
        let search = OrtSearch {
            named: vec![named("--ort-lib", "mine"), named("$ORT_DYLIB_PATH", "theirs")],
            data_folder: Some(root.path().join("data")),
            system: true,
            ..OrtSearch::default()
        };
        assert_eq!(
            paths(&search, root.path()),
            [("--ort-lib".to_owned(), "mine/libonnxruntime.so".to_owned(), true)]
        );
    }

    #[test]
    fn prefixes_of_link_and_target_of_an_interpreter_are_found() {
        let root = folder(&["real/bin/python3.12"]);
        let bin = root.path().join("venv/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink(root.path().join("real/bin/python3.12"), bin.join("python3")).unwrap();
        let real = std::fs::canonicalize(root.path().join("real")).unwrap();
        assert_eq!(python_prefixes([root.path().join("empty"), bin]), [root.path().join("venv"), real]);
    }

    #[test]
    fn only_the_libraries_of_a_wheel_are_unpacked() {
        for (member, file) in [
            ("onnxruntime/capi/libonnxruntime.so.1.32.0", Some("libonnxruntime.so.1.32.0")),
            ("onnxruntime/capi/libonnxruntime_providers_shared.so", Some("libonnxruntime_providers_shared.so")),
            ("onnxruntime/capi/libonnxruntime_providers_cuda.so", Some("libonnxruntime_providers_cuda.so")),
            ("onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so", None),
            ("onnxruntime/capi/training/libonnxruntime.so.1", None),
            ("onnxruntime/capi/../libonnxruntime_providers_evil.so", None),
            ("onnxruntime/capi/libopenvino.so.2541", Some("libopenvino.so.2541")),
            ("onnxruntime/capi/libopenvino_intel_cpu_plugin.so", Some("libopenvino_intel_cpu_plugin.so")),
            ("onnxruntime/capi/libtbb.so.12", Some("libtbb.so.12")),
            ("onnxruntime/capi/libopenvino_intel_gpu_plugin.so", None),
            ("onnxruntime/tools/add_openvino_win_libs.py", None),
            ("onnxruntime/__init__.py", None),
        ] {
            assert_eq!(wheel_member(member), file, "{member}");
        }
    }
}
