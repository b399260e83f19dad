//! `sulcus doctor`: lists engines, devices and libraries, and checks their results with a golden prediction.

mod report;

use std::path::Path;
use std::time::Instant;

use sulcus_plan::DeviceChoice;
use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary, SearchOutcome, SearchedPlace};
use sulcus_runtime::{Device, Engine, Error as RuntimeError, ErrorKind, Segmenter};
use sulcus_train::{find_device, supported_precisions};

use crate::args::DoctorArgs;
use crate::error::{CliError, Context, with_causes};
use crate::ort_package::record::InstallRecord;
use crate::output::{self, Ui};
use crate::tiny;
use report::{
    AutoReport, DeviceReport, DoctorReport, EngineName, EngineReport, Golden, LibraryReport, PlaceReport,
};

pub(crate) fn run(args: &DoctorArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let model = match &args.model {
        Some(path) => read_model(path)?,
        None => tiny::MODEL.to_vec(),
    };
    // Before a library is loaded, because a damaged one could end the process.
    let changed_installation = check_installation(library);
    let (runtime, mut onnx_runtime) = find_library(library);
    onnx_runtime.changed_installation = changed_installation;
    let mut engines =
        Vec::from([Engine::Native, Engine::Tract].map(|engine| replay_engine(engine, &model, library)));
    if runtime.is_some() {
        engines.insert(0, replay_engine(Engine::Ort, &model, library));
    } else {
        let error = onnx_runtime.error.clone().unwrap_or_else(|| "ONNX Runtime was not found".to_owned());
        let golden = Golden { passed: false, seconds: None, error: Some(error) };
        engines.insert(0, EngineReport { name: EngineName(Engine::Ort), available: false, golden });
    }
    let report = DoctorReport {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        model: args.model.as_deref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string()),
        onnx_runtime,
        engines,
        auto: automatic_choice(&model, library),
        devices: devices(runtime.as_ref(), &model, library),
    };
    if args.json {
        output::pretty_json(&report)?;
    } else {
        report::print(&report)?;
    }
    report::verdict(&report, ui)
}

/// What `auto` takes for a model.
fn automatic_choice(model: &[u8], library: &OrtLibrary) -> Option<AutoReport> {
    let segmenter = Segmenter::builder().model_bytes(model).ort_library(library.clone()).build().ok()?;
    Some(AutoReport {
        engine: EngineName(segmenter.engine()),
        device: segmenter.device().to_string(),
        notes: segmenter.notes().iter().map(ToString::to_string).collect(),
    })
}

/// Reads a model file. A file that is not a model is refused here, once instead of once per engine.
fn read_model(path: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = std::fs::read(path).context(format_args!("reading the model {}", path.display()))?;
    sulcus_onnx::read_file_spec(&bytes).context(format_args!("reading the model {}", path.display()))?;
    Ok(bytes)
}

fn find_library(library: &OrtLibrary) -> (Option<OnnxRuntime>, LibraryReport) {
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
                changed_installation: None,
                looked: places.into_iter().map(place).collect(),
            };
            (runtime, report)
        }
        Err(error) => {
            let error = Some(with_causes(&error));
            let report = LibraryReport {
                found: false,
                path: None,
                version: None,
                error,
                changed_installation: None,
                looked: Vec::new(),
            };
            (None, report)
        }
    }
}

/// What is wrong with the files that `sulcus runtime install` installed, if anything.
fn check_installation(library: &OrtLibrary) -> Option<String> {
    let OrtLibrary::Search(search) = library else { return None };
    InstallRecord::check(search.data_folder.as_deref()?).err()
}

/// Replays the golden case on one engine and device.
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
    // The native engine refuses graphs of other projects, which another engine can run.
    let cannot_run = |error: &RuntimeError| match error.kind() {
        ErrorKind::NeedsOnnxRuntime { .. } => true,
        ErrorKind::Graph { engine, .. } => *engine == Engine::Native,
        _ => false,
    };
    let available = !replayed.as_ref().is_err_and(cannot_run);
    let golden = replayed.unwrap_or_else(|error| failed(&error));
    EngineReport { name: EngineName(engine), available, golden }
}

fn devices(runtime: Option<&OnnxRuntime>, model: &[u8], library: &OrtLibrary) -> Vec<DeviceReport> {
    let mut found = Vec::new();
    for device in [Device::Cpu, Device::OpenVino, Device::Cuda(0), Device::TensorRt(0)] {
        let (available, note) = match (device, runtime) {
            (Device::Cpu, None) => (true, "built-in engine".to_owned()),
            (_, None) => (false, without_runtime(device)),
            (_, Some(runtime)) => match sulcus_runtime::ort::check_device(runtime, device) {
                Ok(()) => (true, "ONNX Runtime".to_owned()),
                Err(error) => (false, with_causes(&error)),
            },
        };
        // The engines report the golden prediction on the CPU.
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
        let (available, note) = match find_device(device) {
            Ok((found, description)) => {
                let precisions: Vec<String> =
                    supported_precisions(&found).iter().map(ToString::to_string).collect();
                (true, format!("{description}; {}{}", precisions.join(", "), partly_verified(device)))
            }
            Err(error) => (false, with_causes(&error)),
        };
        let (used_for, verified) = ("training", !matches!(device, DeviceChoice::Cuda(_)));
        found.push(DeviceReport { name: device.to_string(), used_for, available, verified, golden: None, note });
    }
    found
}

/// The command that installs the library which a device needs.
fn without_runtime(device: Device) -> String {
    let option = match device {
        Device::OpenVino => " --openvino",
        Device::Cuda(_) | Device::TensorRt(_) => " --gpu",
        Device::Auto | Device::Cpu | Device::Vulkan(_) => "",
    };
    format!("needs ONNX Runtime, which was not found; `sulcus runtime install{option}` fetches one that has it")
}

/// What has been checked on such a device. Vulkan kernels were compared with those of the CPU on a software device.
fn partly_verified(device: DeviceChoice) -> &'static str {
    match device {
        DeviceChoice::Vulkan(_) => " (fp32 verified on a software device; fp16 and several devices unverified)",
        DeviceChoice::Auto | DeviceChoice::Cpu | DeviceChoice::Cuda(_) => "",
    }
}
