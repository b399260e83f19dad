//! `sulcus runtime install`: ONNX Runtime into the user's data folder.

use std::path::{Path, PathBuf};

use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary};
use sulcus_runtime::{Device, Engine};

use crate::args::InstallArgs;
use crate::environment::Environment;
use crate::error::{CliError, Context};
use crate::tiny;
use crate::ui::{Ui, human_bytes};
use crate::{files, output, wheel};

pub(crate) fn run(args: &InstallArgs, environment: &Environment, ui: Ui) -> Result<(), CliError> {
    let target = environment.runtime_dir().ok_or_else(|| {
        CliError::failed("there is no data folder to install into: neither XDG_DATA_HOME nor HOME is set")
            .hint("set HOME, or unpack the onnxruntime wheel yourself and name the library with --ort-lib")
    })?;
    let parent = files::folder_of(&target);
    files::ensure_writable(&parent)?;
    let bytes = match &args.from {
        Some(path) => std::fs::read(path).context(format_args!("reading the wheel {}", path.display()))?,
        None => fetch(args, ui)?,
    };

    let fresh = tempfile::Builder::new()
        .prefix(".onnxruntime-")
        .tempdir_in(&parent)
        .context(format_args!("making a folder in {}", parent.display()))?;
    let library = wheel::unpack(&bytes, fresh.path())?;
    drop(bytes);
    let runtime = check(&library)?;
    let devices: &[Device] = match args {
        InstallArgs { gpu: true, .. } => &[Device::Cuda(0), Device::TensorRt(0)],
        InstallArgs { openvino: true, .. } => &[Device::OpenVino],
        _ => &[],
    };
    // Before the move: the providers are loaded from where the library was.
    report(&runtime, devices, ui);
    let name = library.file_name().unwrap_or_default().to_owned();
    replace(&target, fresh.path())?;
    let installed = target.join(name);
    ui.note(format_args!("ONNX Runtime {} works and is used from now on", runtime.version()));
    output::line(installed.display())
}

fn fetch(args: &InstallArgs, ui: Ui) -> Result<Vec<u8>, CliError> {
    let package = match args {
        InstallArgs { gpu: true, .. } => "onnxruntime-gpu",
        InstallArgs { openvino: true, .. } => "onnxruntime-openvino",
        _ => "onnxruntime",
    };
    let found = wheel::find(&args.index, package)?;
    let size = found.size.map(|bytes| format!(" ({})", human_bytes(bytes))).unwrap_or_default();
    ui.note(format_args!("fetching {}{size}", found.filename));
    let bar = ui.bar(found.size.unwrap_or(0));
    let bytes = wheel::download(&found, &args.index, |done| bar.set_position(done));
    bar.finish_and_clear();
    bytes
}

/// Loads the library and lets it compute something before it takes the place of another one.
fn check(library: &Path) -> Result<OnnxRuntime, CliError> {
    let choice = OrtLibrary::Path(library.to_path_buf());
    let (runtime, _) = sulcus_runtime::ort::find_onnx_runtime(&choice).context("checking the library")?;
    let runtime = runtime.ok_or_else(|| CliError::failed("the library in the wheel cannot be loaded"))?;
    tiny::segmenter(Engine::Ort, Device::Cpu, choice)
        .and_then(|segmenter| segmenter.replay_golden())
        .context("checking the library with a golden prediction")?;
    Ok(runtime)
}

/// Puts a finished folder in the place of another one.
fn replace(target: &Path, fresh: &Path) -> Result<(), CliError> {
    let doing = || format!("moving ONNX Runtime to {}", target.display());
    let retired: PathBuf = target.with_file_name(format!(".onnxruntime-old-{}", std::process::id()));
    if target.exists() {
        std::fs::rename(target, &retired).context(doing())?;
    }
    let moved = std::fs::rename(fresh, target);
    if moved.is_err() && retired.exists() {
        // The library that was there before still works.
        std::fs::rename(&retired, target).context(doing())?;
    }
    moved.context(doing())?;
    if retired.exists() {
        std::fs::remove_dir_all(&retired).context("removing the library that was there before")?;
    }
    Ok(())
}

fn report(runtime: &OnnxRuntime, devices: &[Device], ui: Ui) {
    for device in devices {
        match sulcus_runtime::ort::check_device(runtime, *device) {
            Ok(()) => ui.note(format_args!("{device} can be used")),
            Err(error) => ui.warn(error),
        }
    }
}
