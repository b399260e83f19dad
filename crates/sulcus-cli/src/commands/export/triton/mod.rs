//! A model repository for NVIDIA Triton Inference Server: `DIR/NAME/config.pbtxt`, `labels.txt` and one folder per version of
//! the weights, `1/model.onnx`, `2/model.onnx` and so on, of which Triton serves the newest.

mod config;

use std::fs;
use std::io;
use std::path::Path;

use sulcus_onnx::read_spec;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Segmenter};

use super::new_folder::{rename_to, temporary_folder, write_error};
use crate::args::values::{TritonDevice, triton_folder};
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{Ui, human_bytes};

const CONFIG: &str = "config.pbtxt";

/// A model repository and the settings of the model that is added.
pub(crate) struct Repository<'a> {
    pub(crate) folder: &'a Path,
    /// Name of the model in the repository; by default the name in its specification.
    pub(crate) name: Option<&'a str>,
    pub(crate) device: TritonDevice,
}

/// What the repository contains under the name of the model.
enum Existing {
    Nothing,
    /// Versions of the same model, in ascending order.
    Versions(Vec<u64>),
}

impl Repository<'_> {
    /// Checks the folder before the model is computed.
    ///
    /// # Errors
    /// When the folder cannot be written into, or is the folder of one model instead of the repository.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if self.folder.join(CONFIG).exists() {
            return Err(CliError::usage(format_args!(
                "--triton takes the repository, which has one folder per model, but this is the folder of a model: {}",
                self.folder.display()
            ))
            .hint("give the folder above it"));
        }
        files::ensure_writable(self.folder)
    }

    /// Adds a model file after a replay of its golden case, as a new model or as the next version of a model that prepares
    /// scans in the same way. The folder appears only when it is complete.
    ///
    /// # Errors
    /// When the file is not a model of Sulcus, its golden case gives another mask, or another model has its name.
    pub(crate) fn add(&self, bytes: &[u8], library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
        let spec = read_spec(bytes).context("reading the model")?;
        if let Some(reason) = config::refusal(&spec, self.device) {
            return Err(CliError::usage(reason));
        }
        let name = self.name.map_or_else(|| triton_folder(&spec.name), str::to_owned);
        let config = config::config(&name, &spec, self.device).context("describing the model")?;
        let labels = config::labels(&spec);
        let model = self.folder.join(&name);
        let existing = find_existing(&model, &config, &labels)?;
        let engine = replay(bytes, library)?;

        let version = match &existing {
            Existing::Nothing => 1,
            Existing::Versions(versions) => {
                let newest = versions.last().copied().unwrap_or(0);
                let file = model.join(newest.to_string()).join(config::MODEL);
                if fs::read(&file).is_ok_and(|found| found == bytes) {
                    ui.note(format_args!("the repository has this model already: {}", file.display()));
                    return Ok(());
                }
                newest + 1
            }
        };
        match existing {
            Existing::Nothing => {
                let made = temporary_folder(self.folder)?;
                files::write(&made.path().join(CONFIG), config.as_bytes())?;
                files::write(&made.path().join(config::LABELS), labels.as_bytes())?;
                let folder = made.path().join("1");
                fs::create_dir(&folder).map_err(|error| write_error(&error, &folder))?;
                files::write(&folder.join(config::MODEL), bytes)?;
                rename_to(made, &model)?;
            }
            Existing::Versions(_) => {
                let made = temporary_folder(&model)?;
                files::write(&made.path().join(config::MODEL), bytes)?;
                rename_to(made, &model.join(version.to_string()))?;
            }
        }
        ui.note(format_args!(
            "Triton model: {} version {version} ({}); golden case passed in {engine}",
            model.display(),
            human_bytes(bytes.len() as u64)
        ));
        ui.note(
            "the server returns the logits of tiles: preprocessing, the sliding window and resampling to the scan's grid are \
             up to the client, as the parameter sulcus.spec describes",
        );
        Ok(())
    }
}

/// What the repository contains under a model's name.
///
/// # Errors
/// When it is another model, or its configuration was changed.
fn find_existing(model: &Path, config: &str, labels: &str) -> Result<Existing, CliError> {
    let entries = match fs::read_dir(model) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Existing::Nothing),
        Err(error) => return Err(write_error(&error, model)),
    };
    let names: Vec<String> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(|error| write_error(&error, model))?;
    if names.is_empty() {
        return Ok(Existing::Nothing);
    }
    let same = |file: &str, text: &str| fs::read(model.join(file)).is_ok_and(|found| found == text.as_bytes());
    let mut versions: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).filter(|n| *n > 0).collect();
    versions.sort_unstable();
    if same(CONFIG, config) && same(config::LABELS, labels) {
        return Ok(Existing::Versions(versions));
    }
    let next = model.join((versions.last().copied().unwrap_or(0) + 1).to_string()).join(config::MODEL);
    Err(CliError::failed(format_args!(
        "another model has this name, or the same model with other settings: its {CONFIG} or {} differs from what this model \
         needs, and the versions of a model share both files: {}",
        config::LABELS,
        model.display()
    ))
    .hint(format_args!(
        "choose another name with --triton-name; if only settings such as instance counts were edited, write only the model \
         file, with -o {}",
        next.display()
    )))
}

/// Replays the golden case and returns the engine: ONNX Runtime, which Triton uses too, where it is found.
fn replay(bytes: &[u8], library: &OrtLibrary) -> Result<String, CliError> {
    let segmenter = Segmenter::builder()
        .model_bytes(bytes)
        .device(Device::Cpu)
        .ort_library(library.clone())
        .build()
        .context("loading the model")?;
    segmenter.replay_golden().context("replaying the model's golden case")?;
    Ok(segmenter.engine().to_string())
}

/// Reads an existing model file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).context(format_args!("reading the model {}", path.display()))
}
