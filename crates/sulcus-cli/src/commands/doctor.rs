//! `sulcus doctor`: engines, devices and libraries, and whether they compute what they should.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary, SearchOutcome, SearchedPlace};
use sulcus_runtime::{Device, Engine, Error as RuntimeError, ErrorKind, Segmenter};
use sulcus_train::{DeviceChoice, Precision};

use crate::args::DoctorArgs;
use crate::error::{CliError, Context, with_causes};
use crate::ui::{Ui, human_secs};
use crate::{output, tiny};

#[derive(Serialize)]
struct Report {
    version: &'static str,
    system: String,
    processors: usize,
    model: String,
    onnx_runtime: LibraryReport,
    engines: Vec<EngineReport>,
    devices: Vec<DeviceReport>,
}

#[derive(Serialize)]
struct LibraryReport {
    found: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Why a library that was named cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    looked: Vec<PlaceReport>,
}

#[derive(Serialize)]
struct PlaceReport {
    origin: String,
    path: PathBuf,
    outcome: String,
}

#[derive(Serialize)]
struct EngineReport {
    name: EngineName,
    available: bool,
    golden: Golden,
}

/// The engine's name as JSON text.
#[derive(Clone, Copy)]
struct EngineName(Engine);

impl Serialize for EngineName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.name())
    }
}

#[derive(Serialize)]
struct Golden {
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct DeviceReport {
    name: String,
    used_for: &'static str,
    available: bool,
    /// Whether somebody has seen sulcus compute the right thing on such a device.
    verified: bool,
    /// The golden case on it; not where the engines' replay is the same, or nothing can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    golden: Option<Golden>,
    note: String,
}

pub(crate) fn run(args: &DoctorArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let model = match &args.model {
        Some(path) => read_model(path)?,
        None => tiny::MODEL.to_vec(),
    };
    let (runtime, onnx_runtime) = look_for_library(library);
    let mut engines = vec![replay_engine(Engine::Tract, &model, library)];
    if runtime.is_some() {
        engines.insert(0, replay_engine(Engine::Ort, &model, library));
    } else {
        let error = onnx_runtime.error.clone().unwrap_or_else(|| "ONNX Runtime was not found".to_owned());
        let golden = Golden { passed: false, seconds: None, error: Some(error) };
        engines.insert(0, EngineReport { name: EngineName(Engine::Ort), available: false, golden });
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        model: args.model.as_deref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string()),
        onnx_runtime,
        engines,
        devices: devices(runtime.as_ref(), &model, library),
    };
    if args.json {
        output::pretty_json(&report)?;
    } else {
        print(&report)?;
    }
    verdict(&report, ui)
}

/// What is no model would only fail once an engine.
fn read_model(path: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = std::fs::read(path).context(format_args!("reading the model {}", path.display()))?;
    match sulcus_onnx::read_spec(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(CliError::failed(format_args!("{}: {}", with_causes(&error), path.display()))),
    }
}

fn look_for_library(library: &OrtLibrary) -> (Option<OnnxRuntime>, LibraryReport) {
    let place = |place: SearchedPlace| PlaceReport {
        origin: place.origin.to_string(),
        path: place.path,
        outcome: match place.outcome {
            SearchOutcome::Used => "used".to_owned(),
            other => other.to_string(),
        },
    };
    match sulcus_runtime::ort::find_onnx_runtime(library) {
        Ok((runtime, places)) => {
            let report = LibraryReport {
                found: runtime.is_some(),
                path: runtime.as_ref().map(|r| r.path().to_path_buf()),
                version: runtime.as_ref().map(|r| r.version().to_owned()),
                error: None,
                looked: places.into_iter().map(place).collect(),
            };
            (runtime, report)
        }
        Err(error) => {
            let error = Some(with_causes(&error));
            (None, LibraryReport { found: false, path: None, version: None, error, looked: Vec::new() })
        }
    }
}

/// The golden case on one engine and device.
fn replay(engine: Engine, device: Device, model: &[u8], library: &OrtLibrary) -> Result<Golden, RuntimeError> {
    let start = Instant::now();
    let segmenter = Segmenter::builder()
        .model_bytes(model)
        .engine(engine)
        .device(device)
        .ort_library(library.clone())
        .build()?;
    segmenter.replay_golden()?;
    Ok(Golden { passed: true, seconds: Some(start.elapsed().as_secs_f64()), error: None })
}

fn failed(error: &RuntimeError) -> Golden {
    Golden { passed: false, seconds: None, error: Some(with_causes(error)) }
}

fn replay_engine(engine: Engine, model: &[u8], library: &OrtLibrary) -> EngineReport {
    let replayed = replay(engine, Device::Cpu, model, library);
    let available =
        !replayed.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::NeedsOnnxRuntime { .. }));
    let golden = replayed.unwrap_or_else(|error| failed(&error));
    EngineReport { name: EngineName(engine), available, golden }
}

fn devices(runtime: Option<&OnnxRuntime>, model: &[u8], library: &OrtLibrary) -> Vec<DeviceReport> {
    let mut found = Vec::new();
    for device in [Device::Cpu, Device::OpenVino, Device::Cuda(0), Device::TensorRt(0)] {
        let (available, note) = match (device, runtime) {
            (Device::Cpu, None) => (true, "embedded engine".to_owned()),
            (_, None) => (false, without_runtime(device)),
            (_, Some(runtime)) => match sulcus_runtime::ort::check_device(runtime, device) {
                Ok(()) => (true, "ONNX Runtime".to_owned()),
                Err(error) => (false, with_causes(&error)),
            },
        };
        // The processor's is that of the engines.
        let golden = (available && device != Device::Cpu)
            .then(|| replay(Engine::Ort, device, model, library).unwrap_or_else(|error| failed(&error)));
        let verified = !matches!(device, Device::Cuda(_) | Device::TensorRt(_));
        found.push(DeviceReport {
            name: device.to_string(),
            used_for: "prediction",
            available,
            verified,
            golden,
            note,
        });
    }
    for device in [DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Vulkan(0)] {
        let (available, note) = match device.resolve() {
            Ok((found, description)) => {
                let precisions: Vec<String> = Precision::of(&found).iter().map(ToString::to_string).collect();
                (true, format!("{description}; {}{}", precisions.join(", "), partly_verified(device)))
            }
            Err(error) => (false, with_causes(&error)),
        };
        let (used_for, verified) = ("training", !matches!(device, DeviceChoice::Cuda(_)));
        found.push(DeviceReport { name: device.to_string(), used_for, available, verified, golden: None, note });
    }
    found
}

/// What brings the library that a device needs.
fn without_runtime(device: Device) -> String {
    let option = match device {
        Device::OpenVino => " --openvino",
        Device::Cuda(_) | Device::TensorRt(_) => " --gpu",
        Device::Auto | Device::Cpu | Device::Vulkan(_) => "",
    };
    format!("needs ONNX Runtime, which was not found; `sulcus runtime install{option}` fetches one that has it")
}

/// What was seen of such a device. Vulkan's kernels were compared with the processor's on a software device.
fn partly_verified(device: DeviceChoice) -> &'static str {
    match device {
        DeviceChoice::Vulkan(_) => " (fp32 verified on a software device; fp16 and several devices unverified)",
        DeviceChoice::Auto | DeviceChoice::Cpu | DeviceChoice::Cuda(_) => "",
    }
}

/// Stands before what is said of a device on which nobody has seen sulcus compute the right thing.
const UNVERIFIED: &str = "unverified on such a device; ";

fn print(report: &Report) -> Result<(), CliError> {
    output::line(format_args!(
        "sulcus {} on {}, {} processors",
        report.version, report.system, report.processors
    ))?;
    let library = &report.onnx_runtime;
    output::line("\nONNX Runtime")?;
    match (&library.path, &library.version, &library.error) {
        (Some(path), Some(version), _) => output::line(format_args!("  version {version}: {}", path.display()))?,
        (_, _, Some(error)) => output::line(format_args!("  cannot be used: {error}"))?,
        _ => output::line("  not found; predictions run on the embedded engine, more slowly")?,
    }
    output::line("  looked for in this order:")?;
    for place in &library.looked {
        output::line(format_args!("    {} ({}): {}", place.path.display(), place.origin, place.outcome))?;
    }
    output::line("\nengines")?;
    for engine in &report.engines {
        let golden = match (&engine.golden.error, engine.golden.seconds) {
            (Some(error), _) => format!("FAILED: {error}"),
            (None, seconds) => format!("golden prediction is right, {}", human_secs(seconds.unwrap_or(0.0))),
        };
        let state = match (engine.available, &engine.golden.error) {
            (true, _) => golden,
            (false, Some(reason)) => format!("not available: {}", reason.lines().next().unwrap_or_default()),
            (false, None) => "not available".to_owned(),
        };
        output::line(format_args!("  {:<6} {state}", engine.name.0.name()))?;
    }
    output::line(format_args!("  model: {}", report.model))?;
    output::line("\ndevices")?;
    for device in &report.devices {
        let mark = if device.available { "yes" } else { "no" };
        let unverified = if device.verified { "" } else { UNVERIFIED };
        let golden = match &device.golden {
            None => String::new(),
            Some(Golden { error: Some(error), .. }) => format!("; FAILED: {error}"),
            Some(Golden { seconds, .. }) => {
                format!("; golden prediction is right, {}", human_secs(seconds.unwrap_or(0.0)))
            }
        };
        output::line(format_args!(
            "  {:<10} {:<10} {mark:<4} {unverified}{}{golden}",
            device.used_for, device.name, device.note
        ))?;
    }
    Ok(())
}

/// An absent library is no failure unless somebody named one; a wrong golden prediction always is.
fn verdict(report: &Report, ui: Ui) -> Result<(), CliError> {
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
        ui.hint("`sulcus runtime install` fetches ONNX Runtime, which is faster");
    }
    Ok(())
}
