//! A model repository for NVIDIA Triton Inference Server: `DIR/NAME/config.pbtxt`, `labels.txt` and a folder for each
//! version of the weights, `1/model.onnx`, `2/model.onnx` and so on, of which Triton serves the newest.

mod config;

use std::fs;
use std::io;
use std::path::Path;

use sulcus_onnx::read_spec;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Segmenter};
use tempfile::TempDir;

use crate::error::{CliError, Context};
use crate::files;
use crate::ui::{Ui, human_bytes};
use crate::values::TritonDevice;

const CONFIG: &str = "config.pbtxt";

/// Where models are served from, and how.
pub(crate) struct Repository<'a> {
    pub(crate) folder: &'a Path,
    /// What the model is called there; otherwise as it calls itself.
    pub(crate) name: Option<&'a str>,
    pub(crate) device: TritonDevice,
}

/// What there is of a model.
enum There {
    Nothing,
    /// Its versions, rising.
    Versions(Vec<u64>),
}

impl Repository<'_> {
    /// Makes sure of the folder before work goes into the model.
    ///
    /// # Errors
    /// When it can't be written into, or is the folder of one model rather than of all.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if self.folder.join(CONFIG).exists() {
            return Err(CliError::usage(format_args!(
                "--triton takes the folder that holds a folder for each model, and this one is a model's own: {}",
                self.folder.display()
            ))
            .hint("give the folder above it"));
        }
        files::ensure_writable(self.folder)
    }

    /// Adds a model file, after its golden case came out right, as a new model or as the next version of one that treats
    /// scans in the same way. The folder appears when it is whole.
    ///
    /// # Errors
    /// When the file is no model of sulcus or answers its golden case wrongly, or another model has its name.
    pub(crate) fn add(&self, bytes: &[u8], library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
        let spec = read_spec(bytes).context("reading the model")?;
        if let Some(reason) = config::refusal(&spec, self.device) {
            return Err(CliError::usage(reason));
        }
        let name = self.name.map_or_else(|| folder_name(&spec.name), str::to_owned);
        let config = config::config(&name, &spec, self.device).context("describing the model")?;
        let labels = config::labels(&spec);
        let model = self.folder.join(&name);
        let there = look(&model, &config, &labels)?;
        let engine = replay(bytes, library)?;

        let version = match &there {
            There::Nothing => 1,
            There::Versions(versions) => {
                let newest = versions.last().copied().unwrap_or(0);
                let file = model.join(newest.to_string()).join(config::MODEL);
                if fs::read(&file).is_ok_and(|found| found == bytes) {
                    ui.note(format_args!("this model is there already: {}", file.display()));
                    return Ok(());
                }
                newest + 1
            }
        };
        match there {
            There::Nothing => {
                let made = beside(self.folder)?;
                files::write(&made.path().join(CONFIG), config.as_bytes())?;
                files::write(&made.path().join(config::LABELS), labels.as_bytes())?;
                let folder = made.path().join("1");
                fs::create_dir(&folder).map_err(|error| refused(&error, &folder))?;
                files::write(&folder.join(config::MODEL), bytes)?;
                appear(made, &model)?;
            }
            There::Versions(_) => {
                let made = beside(&model)?;
                files::write(&made.path().join(config::MODEL), bytes)?;
                appear(made, &model.join(version.to_string()))?;
            }
        }
        ui.note(format_args!(
            "Triton model: {} version {version} ({}); its golden case is right in {engine}",
            model.display(),
            human_bytes(bytes.len() as u64)
        ));
        ui.note(
            "the server answers with the logits of tiles: preparing, the window and the way back to the scan are the \
             client's, and the parameter sulcus.spec says how",
        );
        Ok(())
    }
}

/// What there is under a model's name.
///
/// # Errors
/// When it is another model, or one whose configuration was changed.
fn look(model: &Path, config: &str, labels: &str) -> Result<There, CliError> {
    let entries = match fs::read_dir(model) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(error) => return Err(refused(&error, model)),
    };
    let names: Vec<String> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(|error| refused(&error, model))?;
    if names.is_empty() {
        return Ok(There::Nothing);
    }
    let same = |file: &str, text: &str| fs::read(model.join(file)).is_ok_and(|found| found == text.as_bytes());
    let mut versions: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).filter(|n| *n > 0).collect();
    versions.sort_unstable();
    if same(CONFIG, config) && same(config::LABELS, labels) {
        return Ok(There::Versions(versions));
    }
    let next = model.join((versions.last().copied().unwrap_or(0) + 1).to_string()).join(config::MODEL);
    Err(CliError::failed(format_args!(
        "another model has this name, or the same with other settings: its {CONFIG} or {} is not what this one needs, and \
         the versions of a model share both: {}",
        config::LABELS,
        model.display()
    ))
    .hint(format_args!(
        "give this one another name with --triton-name; if only settings such as instance counts were changed by hand, \
         write the file alone, as {}",
        next.display()
    )))
}

/// A folder of a passing name, for what is not whole yet. Triton may run as another user, so anyone may read it who may
/// read new files.
fn beside(folder: &Path) -> Result<TempDir, CliError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sulcus-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(folder).map_err(|error| refused(&error, folder))
}

/// Gives a whole folder its name. One that is there already and holds something stays, and this fails.
fn appear(made: TempDir, name: &Path) -> Result<(), CliError> {
    // Windows renames onto no folder, not even an empty one; where it is not empty this does nothing.
    let _ = fs::remove_dir(name);
    fs::rename(made.path(), name).map_err(|error| refused(&error, name))?;
    // Nothing is left to be removed under its old name.
    let _ = made.keep();
    Ok(())
}

fn refused(error: &io::Error, path: &Path) -> CliError {
    CliError::failed(format_args!("writing the model repository: {error}: {}", path.display()))
}

/// The engine in which the golden case came out right; Triton's own where it is found.
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

/// A name that is a folder, part of an address and a label of Triton's metrics at once.
fn folder_name(name: &str) -> String {
    let fitting =
        |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.trim().chars().map(fitting).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "model".into(),
        name => name.into(),
    }
}

/// `--triton-name`.
pub(crate) fn model_name(text: &str) -> Result<String, String> {
    if !text.is_empty() && folder_name(text) == text.to_ascii_lowercase() {
        Ok(text.into())
    } else {
        Err("expected letters, digits, `_`, `-` and `.`, the first one a letter, a digit or `_`".into())
    }
}

/// The model file that is to be served, and not made first.
///
/// # Errors
/// When it can't be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).context(format_args!("reading the model {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folders_and_parts_of_addresses() {
        for (name, folder) in [
            ("Hippocampus", "hippocampus"),
            ("../T1 brain", "_t1_brain"),
            ("..", "model"),
            (" Gehirn ä", "gehirn__"),
        ] {
            assert_eq!(folder_name(name), folder, "{name}");
        }
        assert_eq!(model_name("Brain_3.1-a").as_deref(), Ok("Brain_3.1-a"));
        for name in ["", ".", "a/b", "-x", "a b", "é"] {
            assert!(model_name(name).is_err(), "{name}");
        }
    }
}
