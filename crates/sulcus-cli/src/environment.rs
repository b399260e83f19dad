//! The only place that reads environment variables.

use std::ffi::OsString;
use std::path::PathBuf;

/// Settings from environment variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `SULCUS_ORT_LIB`: the ONNX Runtime library to use.
    pub(crate) sulcus_ort_lib: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`: the same, by the name that the crate `ort` uses.
    pub(crate) ort_dylib_path: Option<PathBuf>,
    /// Active Python environments (`VIRTUAL_ENV`, `CONDA_PREFIX`), innermost first.
    pub(crate) python_environments: Vec<PathBuf>,
    /// Folders of `PATH`: a Python environment in one of them may contain ONNX Runtime.
    pub(crate) path: Vec<PathBuf>,
    /// This program's folder for the user's data, where the system has one.
    pub(crate) data_dir: Option<PathBuf>,
    /// This program's folder for caches, where the system has one.
    pub(crate) cache_dir: Option<PathBuf>,
    /// `SULCUS_TOKEN`: the token of the clients of `sulcus serve`.
    pub(crate) token: Option<Secret>,
    /// Whether `NO_COLOR` is set and not empty.
    pub(crate) no_color: bool,
}

/// A value that is never printed.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) OsString);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_lookup(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| get(name).map(PathBuf::from);
        Self {
            sulcus_ort_lib: path("SULCUS_ORT_LIB"),
            ort_dylib_path: path("ORT_DYLIB_PATH"),
            python_environments: ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(path).collect(),
            path: get("PATH").map(|all| std::env::split_paths(&all).collect()).unwrap_or_default(),
            data_dir: data_home(&path).map(|dir| dir.join("sulcus")),
            cache_dir: cache_home(&path).map(|dir| dir.join("sulcus")),
            token: get("SULCUS_TOKEN").map(Secret),
            no_color: get("NO_COLOR").is_some(),
        }
    }

    /// The folder into which `runtime install` installs ONNX Runtime.
    pub(crate) fn runtime_dir(&self) -> Option<PathBuf> {
        self.data_dir.as_ref().map(|dir| dir.join("onnxruntime"))
    }
}

#[cfg(target_os = "windows")]
fn data_home(path: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("LOCALAPPDATA")
}

#[cfg(target_os = "macos")]
fn data_home(path: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("HOME").map(|home| home.join("Library/Application Support"))
}

/// The XDG base directory specification requires that a relative `XDG_DATA_HOME` is ignored.
#[cfg(not(any(target_os = "windows", target_os = "macos")))]
fn data_home(path: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("XDG_DATA_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| path("HOME").map(|home| home.join(".local/share")))
}

#[cfg(target_os = "windows")]
fn cache_home(path: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("LOCALAPPDATA")
}

#[cfg(target_os = "macos")]
fn cache_home(path: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("HOME").map(|home| home.join("Library/Caches"))
}

#[cfg(not(any(target_os = "windows", target_os = "macos")))]
fn cache_home(path: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    path("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).or_else(|| path("HOME").map(|home| home.join(".cache")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn relative_data_home_is_ignored() {
        let read = |pairs: &'static [(&str, &str)]| {
            Environment::from_lookup(|name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
            })
        };
        let relative = read(&[("XDG_DATA_HOME", "here"), ("HOME", "/home/a")]);
        assert_eq!(relative.data_dir.unwrap(), PathBuf::from("/home/a/.local/share/sulcus"));
        let absolute = read(&[("XDG_DATA_HOME", "/data"), ("HOME", "/home/a")]);
        assert_eq!(absolute.runtime_dir().unwrap(), PathBuf::from("/data/sulcus/onnxruntime"));
        assert_eq!(read(&[]).data_dir, None);
        let relative = read(&[("XDG_CACHE_HOME", "here"), ("HOME", "/home/a")]);
        assert_eq!(relative.cache_dir.unwrap(), PathBuf::from("/home/a/.cache/sulcus"));
    }
}
