//! Loading ONNX Runtime. A process holds one: it is loaded at most once, and kept until the process ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::library::{Candidate, Origin, OrtLibrary, OrtSearch, Outcome, Place, candidates, version_of_file};
use crate::{Error, ErrorKind, NamedLibrary};

/// The one in use; the environment must outlive every session, and ONNX Runtime allows one a process.
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

/// Looks for ONNX Runtime and loads the first library that works. With a runtime already in use in this process,
/// that one is taken.
///
/// Gives every place that was looked at, in order; `None` where no place held a usable library.
///
/// # Errors
/// When the user named a library that cannot be used, or another one than the process already uses.
pub fn find_onnx_runtime(library: &OrtLibrary) -> Result<(Option<OnnxRuntime>, Vec<Place>), Error> {
    match library {
        OrtLibrary::Path(path) => {
            let named = NamedLibrary { origin: "the caller".into(), path: path.clone() };
            search(&OrtSearch { named: vec![named], ..OrtSearch::default() })
        }
        OrtLibrary::Search(places) => search(places),
    }
}

fn search(places: &OrtSearch) -> Result<(Option<OnnxRuntime>, Vec<Place>), Error> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = Vec::new();
    let candidates = candidates(places);
    if let (Some(runtime), true) = (&*loaded, places.named.is_empty()) {
        report.push(Place { origin: Origin::Process, path: runtime.path.clone(), outcome: Outcome::Used });
    }
    for Candidate { origin, path, exists } in candidates {
        let outcome = match (&origin, exists) {
            (Origin::Named(name), false) => {
                return Err(named_error(name, "there is no such file, and no folder that holds one", path));
            }
            (_, false) => Outcome::Missing,
            (_, true) if report.iter().any(|p: &Place| p.outcome == Outcome::Used) => Outcome::NotTried,
            (Origin::Named(name), true) => {
                use_named(&mut loaded, name, &path)?;
                Outcome::Used
            }
            (_, true) => match load(&mut loaded, &path) {
                Ok(()) => Outcome::Used,
                Err(reason) => Outcome::Refused(reason),
            },
        };
        report.push(Place { origin, path, outcome });
    }
    let used = report.iter().any(|p| p.outcome == Outcome::Used);
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

/// Loads a library that exists. A failure leaves nothing behind: another one can be tried.
fn load(loaded: &mut MutexGuard<'_, Option<OnnxRuntime>>, path: &Path) -> Result<(), String> {
    // `ort` takes a relative path from the executable's folder on.
    let path = std::path::absolute(path).map_err(|e| e.to_string())?;
    let builder = ort::init_from(&path).map_err(|e| load_reason(&e))?;
    let environment = builder
        .with_name("sulcus")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|e| e.message().to_owned())?;
    // With a logger of ours, ONNX Runtime hands over everything down to each allocation.
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

/// What ONNX Runtime logs as an error comes back as an error from the call as well, so nothing of it is for people.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(location, "{message}"),
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => tracing::debug!(location, "{message}"),
    }
}
