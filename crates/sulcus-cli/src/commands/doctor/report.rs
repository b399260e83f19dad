//! The report of `sulcus doctor`: its JSON, its text, and whether it is a failure.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sulcus_runtime::Engine;

use crate::error::CliError;
use crate::output::{self, Ui, human_secs};

#[derive(Serialize)]
pub(super) struct DoctorReport {
    pub(super) version: &'static str,
    pub(super) system: String,
    pub(super) processors: usize,
    pub(super) model: String,
    pub(super) onnx_runtime: LibraryReport,
    pub(super) engines: Vec<EngineReport>,
    /// What `auto` takes for the model; absent if it cannot be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auto: Option<AutoReport>,
    pub(super) devices: Vec<DeviceReport>,
}

/// The engine and device that `auto` takes.
#[derive(Serialize)]
pub(super) struct AutoReport {
    pub(super) engine: EngineName,
    pub(super) device: String,
    pub(super) notes: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct LibraryReport {
    pub(super) found: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// Why a library that the user named cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What is wrong with the files that `sulcus runtime install` installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changed_installation: Option<String>,
    pub(super) looked: Vec<PlaceReport>,
}

#[derive(Serialize)]
pub(super) struct PlaceReport {
    pub(super) origin: String,
    pub(super) path: PathBuf,
    pub(super) outcome: String,
}

#[derive(Serialize)]
pub(super) struct EngineReport {
    pub(super) name: EngineName,
    pub(super) available: bool,
    pub(super) golden: Golden,
}

/// Serialises an engine as its name.
#[derive(Clone, Copy)]
pub(super) struct EngineName(pub(super) Engine);

impl Serialize for EngineName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.name())
    }
}

#[derive(Serialize)]
pub(super) struct Golden {
    pub(super) passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Serialize)]
pub(super) struct DeviceReport {
    pub(super) name: String,
    pub(super) used_for: &'static str,
    pub(super) available: bool,
    /// Whether the results of sulcus have been checked on such a device.
    pub(super) verified: bool,
    /// The golden prediction on the device; absent for the CPU, where the engines report it, and where nothing can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) golden: Option<Golden>,
    pub(super) note: String,
}

/// Prefix of the note on a device on which the results of sulcus have not been checked.
const UNVERIFIED: &str = "unverified on such a device; ";

/// Prints the report for people.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn print(report: &DoctorReport) -> Result<(), CliError> {
    output::line(format_args!(
        "sulcus {} on {}, {} processors",
        report.version, report.system, report.processors
    ))?;
    let library = &report.onnx_runtime;
    output::line("\nONNX Runtime")?;
    match (&library.path, &library.version, &library.error) {
        (Some(path), Some(version), _) => output::line(format_args!("  version {version}: {}", path.display()))?,
        (_, _, Some(error)) => output::line(format_args!("  cannot be used: {error}"))?,
        _ => output::line("  not found; it runs on GPUs, and models that the native engine does not know")?,
    }
    if let Some(changed) = &library.changed_installation {
        output::line(format_args!("  FAILED: {changed}"))?;
    }
    output::line("  searched in this order:")?;
    for place in &library.looked {
        output::line(format_args!("    {} ({}): {}", place.path.display(), place.origin, place.outcome))?;
    }
    output::line("\nengines")?;
    for engine in &report.engines {
        let golden = match (&engine.golden.error, engine.golden.seconds) {
            (Some(error), _) => format!("FAILED: {error}"),
            (None, seconds) => format!("golden prediction passed, {}", human_secs(seconds.unwrap_or(0.0))),
        };
        let state = match (engine.available, &engine.golden.error) {
            (true, _) => golden,
            (false, Some(reason)) => format!("not available: {}", reason.lines().next().unwrap_or_default()),
            (false, None) => "not available".to_owned(),
        };
        output::line(format_args!("  {:<6} {state}", engine.name.0.name()))?;
    }
    output::line(format_args!("  model: {}", report.model))?;
    if let Some(auto) = &report.auto {
        output::line(format_args!("  auto: {} on {}", auto.engine.0.name(), auto.device))?;
        auto.notes.iter().try_for_each(|note| output::line(format_args!("    {note}")))?;
    }
    output::line("\ndevices")?;
    for device in &report.devices {
        let mark = if device.available { "yes" } else { "no" };
        let unverified = if device.verified { "" } else { UNVERIFIED };
        let golden = match &device.golden {
            None => String::new(),
            Some(Golden { error: Some(error), .. }) => format!("; FAILED: {error}"),
            Some(Golden { seconds, .. }) => {
                format!("; golden prediction passed, {}", human_secs(seconds.unwrap_or(0.0)))
            }
        };
        output::line(format_args!(
            "  {:<10} {:<10} {mark:<4} {unverified}{}{golden}",
            device.used_for, device.name, device.note
        ))?;
    }
    Ok(())
}

/// A missing library is a failure only if the user named it; changed files of an installation and a wrong golden prediction
/// always are.
///
/// # Errors
/// The failure.
pub(super) fn verdict(report: &DoctorReport, ui: Ui) -> Result<(), CliError> {
    if let Some(changed) = &report.onnx_runtime.changed_installation {
        return Err(CliError::failed(changed).hint("`sulcus runtime install` installs ONNX Runtime again"));
    }
    if let Some(error) = &report.onnx_runtime.error {
        return Err(CliError::failed(error));
    }
    let wrong: Vec<&EngineReport> = report.engines.iter().filter(|e| e.available && !e.golden.passed).collect();
    if !wrong.is_empty() {
        let names: Vec<&str> = wrong.iter().map(|e| e.name.0.name()).collect();
        let why = wrong.iter().find_map(|e| e.golden.error.clone()).unwrap_or_default();
        return Err(CliError::failed(format_args!(
            "the golden prediction failed on {}: {why}: {}",
            names.join(" and "),
            Path::new(&report.model).display()
        )));
    }
    let wrong = report.devices.iter().find_map(|d| Some((&d.name, d.golden.as_ref()?.error.as_ref()?)));
    if let Some((name, why)) = wrong {
        return Err(CliError::failed(format_args!(
            "the golden prediction failed on the device {name}: {why}: {}",
            Path::new(&report.model).display()
        )));
    }
    if report.engines.iter().all(|e| !e.available) {
        let why = report.engines.last().and_then(|e| e.golden.error.clone()).unwrap_or_default();
        return Err(CliError::failed(why));
    }
    if !report.onnx_runtime.found {
        ui.advice("`sulcus runtime install` fetches ONNX Runtime, for GPUs and for models that the native engine does not know");
    }
    Ok(())
}
