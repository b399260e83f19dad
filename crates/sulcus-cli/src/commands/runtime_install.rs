//! `sulcus runtime install`: ONNX Runtime into the user's data folder.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary};
use sulcus_runtime::{Device, Engine};

use crate::args::InstallArgs;
use crate::environment::Environment;
use crate::error::{CliError, Context};
use crate::ort_package::archive::{Unpacked, unpack};
use crate::ort_package::download::{Client, Protocols};
use crate::ort_package::index::{Wanted, check_version, find};
use crate::ort_package::pinned::{pinned, with_hash};
use crate::ort_package::record::InstallRecord;
use crate::ort_package::{Hash, Hashing, Package, System};
use crate::output::{Ui, human_bytes};
use crate::tiny;
use crate::{files, output};

/// Larger than any wheel with GPU libraries, in bytes.
const MAX_WHEEL_BYTES: u64 = 1 << 30;

/// A wheel whose SHA-256 is the expected one.
struct Checked {
    name: String,
    hash: Hash,
    file: File,
}

pub(crate) fn run(args: &InstallArgs, environment: &Environment, ui: Ui) -> Result<(), CliError> {
    check_usage(args)?;
    let target = environment.runtime_dir().ok_or_else(|| {
        CliError::failed("there is no data folder to install into: neither XDG_DATA_HOME nor HOME is set")
            .hint("set HOME, or unpack the onnxruntime wheel yourself and name the library with --ort-lib")
    })?;
    let parent = files::folder_of(&target);
    files::ensure_writable(&parent)?;
    let wheel = match &args.from {
        Some(path) => local(path, args.sha256.as_ref(), &parent)?,
        None => fetch(args, &parent, ui)?,
    };

    let fresh = tempfile::Builder::new()
        .prefix(".onnxruntime-")
        .tempdir_in(&parent)
        .context(format_args!("making a folder in {}", parent.display()))?;
    let Checked { name, hash, file } = wheel;
    let Unpacked { library, files } = unpack(file, fresh.path())?;
    InstallRecord::new(name, &hash, &files).write(fresh.path())?;
    let runtime = check(&library)?;
    let devices: &[Device] = match args {
        InstallArgs { gpu: true, .. } => &[Device::Cuda(0), Device::TensorRt(0)],
        InstallArgs { openvino: true, .. } => &[Device::OpenVino],
        _ => &[],
    };
    // Renamed only after the check, so that the providers are loaded from the final folder.
    report(&runtime, devices, ui);
    let name = library.file_name().unwrap_or_default().to_owned();
    replace(&target, fresh.path())?;
    let installed = target.join(name);
    ui.note(format_args!("ONNX Runtime {} works and is used from now on", runtime.version()));
    output::line(installed.display())
}

fn check_usage(args: &InstallArgs) -> Result<(), CliError> {
    if let Some(version) = &args.ort_version {
        check_version(version)?;
    }
    if args.sha256.is_some() && args.ort_version.is_none() && args.from.is_none() {
        return Err(CliError::usage("--sha256 belongs to the wheel that --ort-version or --from names"));
    }
    if !args.allow_http && args.from.is_none() && !args.index.starts_with("https://") {
        return Err(CliError::usage(format_args!("--index: expected an https:// address, found {}", args.index))
            .hint("--allow-http permits addresses without encryption; the SHA-256 of the wheel is checked either way"));
    }
    Ok(())
}

/// Fetches the wheel from the index.
fn fetch(args: &InstallArgs, folder: &Path, ui: Ui) -> Result<Checked, CliError> {
    let package = match args {
        InstallArgs { gpu: true, .. } => Package::Gpu,
        InstallArgs { openvino: true, .. } => Package::OpenVino,
        _ => Package::Plain,
    };
    let wanted = match (&args.ort_version, &args.sha256) {
        (Some(version), Some(hash)) => Wanted::Version { package, version, hash },
        _ => Wanted::Pinned(pinned(package, System::THIS).ok_or_else(|| {
            CliError::failed(format_args!(
                "{} has no wheel for {} on {}",
                package.name(),
                System::THIS.os,
                System::THIS.arch
            ))
            .hint("without ONNX Runtime the built-in engines are used; they give the same masks")
        })?),
    };
    let client = Client::new(if args.allow_http { Protocols::HttpsAndHttp } else { Protocols::Https });
    let found = find(&client, &args.index, &wanted)?;
    let size = found.size.map(|bytes| format!(" ({})", human_bytes(bytes))).unwrap_or_default();
    ui.note(format_args!("fetching {}{size}", found.filename));
    if found.yanked {
        ui.warn(format_args!("{} was withdrawn from the index by its publisher", found.filename));
    }
    let bar = ui.bar(found.size.unwrap_or(0));
    let mut file = Hashing::new(room_for_wheel(folder)?);
    let fetched = client.fetch(&found.url, None, MAX_WHEEL_BYTES, &mut file, |done| bar.set_position(done));
    bar.finish_and_clear();
    fetched?;
    let (hash, file) = finish(file)?;
    if hash != wanted.hash() {
        return Err(CliError::failed(format_args!(
            "the downloaded wheel is not the expected one: expected SHA-256 {}, found {hash}: {}",
            wanted.hash(),
            found.url
        ))
        .hint("the file was damaged during the download or was replaced; nothing was installed"));
    }
    Ok(Checked { name: found.filename, hash, file })
}

/// Copies the user's wheel, so that the unpacked file is the checked one.
fn local(path: &Path, expected: Option<&Hash>, folder: &Path) -> Result<Checked, CliError> {
    let reading = || format!("reading the wheel {}", path.display());
    let mut source = File::open(path).context(reading())?;
    let mut file = Hashing::new(room_for_wheel(folder)?);
    std::io::copy(&mut source, &mut file).context(reading())?;
    let (hash, file) = finish(file)?;
    match expected {
        Some(expected) if *expected != hash => {
            return Err(CliError::failed(format_args!(
                "the wheel is not the expected one: expected SHA-256 {expected}, found {hash}: {}",
                path.display()
            )));
        }
        None if with_hash(&hash, System::THIS).is_none() => {
            return Err(CliError::failed(format_args!(
                "this program does not know the wheel: its SHA-256 is {hash}: {}",
                path.display()
            ))
            .hint(
                "compare the SHA-256 with that on the package index, and if they are equal, give it with --sha256",
            ));
        }
        _ => {}
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Checked { name, hash, file })
}

/// A file without a name, which the system deletes when this program ends.
fn room_for_wheel(folder: &Path) -> Result<File, CliError> {
    tempfile::tempfile_in(folder).context(format_args!("making a file in {}", folder.display()))
}

/// The hash of the whole wheel, and the wheel at its start.
fn finish(wheel: Hashing<File>) -> Result<(Hash, File), CliError> {
    let (hash, mut file) = wheel.finish().context("writing the wheel")?;
    file.rewind().context("reading the wheel")?;
    Ok((hash, file))
}

/// Loads the library and computes a golden prediction before it replaces another library.
fn check(library: &Path) -> Result<OnnxRuntime, CliError> {
    let choice = OrtLibrary::Path(library.to_path_buf());
    let (runtime, _) = sulcus_runtime::ort::find_onnx_runtime(&choice).context("checking the library")?;
    let runtime = runtime.ok_or_else(|| CliError::failed("the library in the wheel cannot be loaded"))?;
    tiny::segmenter(Engine::Ort, Device::Cpu, choice)
        .and_then(|segmenter| segmenter.replay_golden())
        .context("checking the library with a golden prediction")?;
    Ok(runtime)
}

/// Replaces a folder by a finished one.
fn replace(target: &Path, fresh: &Path) -> Result<(), CliError> {
    let doing = || format!("moving ONNX Runtime to {}", target.display());
    let retired: PathBuf = target.with_file_name(format!(".onnxruntime-old-{}", std::process::id()));
    if target.exists() {
        std::fs::rename(target, &retired).context(doing())?;
    }
    let moved = std::fs::rename(fresh, target);
    if moved.is_err() && retired.exists() {
        // The previous library still works.
        std::fs::rename(&retired, target).context(doing())?;
    }
    moved.context(doing())?;
    if retired.exists() {
        std::fs::remove_dir_all(&retired).context("removing the previous library")?;
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
