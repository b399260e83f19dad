//! Loads ONNX Runtime. A process loads it at most once and keeps it until it ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::library::{
    Candidate, LibraryOrigin, OrtLibrary, OrtSearch, SearchOutcome, SearchedPlace, candidates, version_of_file,
};
use crate::{Error, ErrorKind, NamedLibrary};

/// The library in use. The environment must outlive every session, and ONNX Runtime allows one per process.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

/// ONNX Runtime, loaded.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    path: PathBuf,
    version: String,
    environment: Environment,
}

impl OnnxRuntime {
    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, such as `1.32.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Searches for ONNX Runtime and loads the first library that works. If this process already uses a library, that one is
/// returned.
///
/// Returns every place that was searched, in order, and `None` if no place contains a usable library.
///
/// # Errors
/// When the user named a library that cannot be used, or a different one than the process uses already.
pub fn find_onnx_runtime(library: &OrtLibrary) -> Result<(Option<OnnxRuntime>, Vec<SearchedPlace>), Error> {
    match library {
        OrtLibrary::Path(path) => {
            let named = NamedLibrary { origin: "the caller".into(), path: path.clone() };
            search(&OrtSearch { named: vec![named], ..OrtSearch::default() })
        }
        OrtLibrary::Search(places) => search(places),
    }
}

fn search(places: &OrtSearch) -> Result<(Option<OnnxRuntime>, Vec<SearchedPlace>), Error> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = Vec::new();
    let candidates = candidates(places);
    if let (Some(runtime), true) = (&*loaded, places.named.is_empty()) {
        report.push(SearchedPlace {
            origin: LibraryOrigin::Process,
            path: runtime.path.clone(),
            outcome: SearchOutcome::Used,
        });
    }
    for Candidate { origin, path, exists } in candidates {
        let outcome = match (&origin, exists) {
            (LibraryOrigin::Named(name), false) => {
                return Err(named_error(
                    name,
                    "there is no such file, and no folder that contains a library",
                    path,
                ));
            }
            (_, false) => SearchOutcome::Missing,
            (_, true) if report.iter().any(|p: &SearchedPlace| p.outcome == SearchOutcome::Used) => {
                SearchOutcome::NotTried
            }
            (LibraryOrigin::Named(name), true) => {
                use_named(&mut loaded, name, &path)?;
                SearchOutcome::Used
            }
            (_, true) => match load(&mut loaded, &path) {
                Ok(()) => SearchOutcome::Used,
                Err(reason) => SearchOutcome::Refused(reason),
            },
        };
        report.push(SearchedPlace { origin, path, outcome });
    }
    let used = report.iter().any(|p| p.outcome == SearchOutcome::Used);
    Ok((loaded.clone().filter(|_| used), report))
}

fn named_error(origin: &str, reason: impl Into<String>, path: PathBuf) -> Error {
    ErrorKind::Library { origin: origin.into(), reason: reason.into(), path }.into()
}

fn use_named(loaded: &mut MutexGuard<'_, Option<OnnxRuntime>>, name: &str, path: &Path) -> Result<(), Error> {
    match &**loaded {
        Some(runtime) if same_file(&runtime.path, path) => Ok(()),
        Some(runtime) => Err(ErrorKind::OtherLibraryLoaded {
            origin: name.into(),
            loaded: runtime.path.clone(),
            path: path.to_path_buf(),
        }
        .into()),
        None => load(loaded, path).map_err(|reason| named_error(name, reason, path.to_path_buf())),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::canonicalize(a), std::fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Loads an existing library. After a failure another one can be tried.
fn load(loaded: &mut MutexGuard<'_, Option<OnnxRuntime>>, path: &Path) -> Result<(), String> {
    // `ort` resolves a relative path against the executable's folder.
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    let builder = ort::init_from(&path).map_err(|e| load_reason(&e))?;
    let environment = builder
        .with_name("sulcus")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|e| e.message().to_owned())?;
    // Without a logger ONNX Runtime prints; with one it reports everything down to single allocations.
    environment.set_log_level(LogLevel::Warning);
    let version = version_of_file(&path).or_else(version_of_build).unwrap_or_else(|| "of unknown version".into());
    tracing::debug!(path = %path.display(), version, "loaded ONNX Runtime");
    **loaded = Some(OnnxRuntime { path, version, environment });
    Ok(())
}

fn load_reason(error: &ort::LoadDynamicError) -> String {
    use ort::LoadDynamicError as E;
    let minimum = ort::MINOR_VERSION;
    match error {
        E::Dlopen { error, path } => {
            let text = error.to_string();
            let text = text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text);
            format!(
                "the system cannot load it ({text}); expected ONNX Runtime 1.{minimum} or newer for this machine"
            )
        }
        E::MissingApi { .. } => format!("it is not ONNX Runtime; expected version 1.{minimum} or newer of it"),
        E::InvalidVersionString => {
            format!("its version cannot be read; expected ONNX Runtime 1.{minimum} or newer")
        }
        E::BadVersion { version_str, .. } => {
            format!("it is ONNX Runtime {version_str}; expected 1.{minimum} or newer")
        }
    }
}

/// Wheels are built from a branch named after the release.
fn version_of_build() -> Option<String> {
    let (_, branch) = ort::info().split_once("git-branch=rel-")?;
    branch.split([',', ' ']).next().map(str::to_owned)
}

/// ONNX Runtime also returns logged messages as errors, so its log is not shown to people.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(location, "{message}"),
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => tracing::debug!(location, "{message}"),
    }
}
