//! A MONAI bundle: `configs/metadata.json`, `configs/inference.json`, `models/model.onnx` and `docs/README.md`.
//!
//! `python -m monai.bundle run --config_file configs/inference.json` predicts with it. MONAI's own transforms prepare the scans, which is
//! close to what Sulcus does, but not equal to the bit.

mod inference;
mod metadata;

use std::fs;
use std::path::Path;

use serde_json::Value;
use sulcus_onnx::read_spec;

use super::new_folder::{check_empty, rename_to, temporary_folder, write_error};
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{Ui, human_bytes};

/// The network in the bundle.
const MODEL: &str = "models/model.onnx";

/// Checks the target before the model is computed.
///
/// # Errors
/// When the folder has content or cannot be written.
pub(super) fn check(target: &Path) -> Result<(), CliError> {
    check_empty(target, "--bundle")
}

/// Writes the bundle of a model file.
///
/// # Errors
/// When the file is no model of Sulcus, or does something that MONAI's transforms cannot do.
pub(super) fn write(bytes: &[u8], target: &Path, ui: Ui) -> Result<(), CliError> {
    let spec = read_spec(bytes).context("reading the model")?;
    let inference = inference::config(&spec)
        .map_err(|what| CliError::failed(format_args!("cannot write the model as a MONAI bundle: {what}")))?;
    let made = temporary_folder(&files::folder_of(target))?;
    for folder in ["configs", "models", "docs"] {
        let path = made.path().join(folder);
        fs::create_dir(&path).map_err(|error| write_error(&error, &path))?;
    }
    let json = |name: &str, value: &Value| {
        files::write(&made.path().join("configs").join(name), format!("{value:#}\n").as_bytes())
    };
    json("metadata.json", &metadata::metadata(&spec))?;
    json("inference.json", &inference)?;
    files::write(&made.path().join(MODEL), bytes)?;
    files::write(&made.path().join("docs/README.md"), metadata::readme(&spec).as_bytes())?;
    rename_to(made, target)?;
    ui.note(format_args!("MONAI bundle: {} ({})", target.display(), human_bytes(bytes.len() as u64)));
    ui.note(format_args!(
        "to predict with MONAI: cd {} && python -m monai.bundle run --config_file configs/inference.json --dataset_dir INPUT \
         --output_dir OUTPUT",
        target.display()
    ));
    Ok(())
}
