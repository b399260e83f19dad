//! `sulcus info`: describes a file or folder.

mod dataset;
mod dicom_folder;
mod model;
mod pack;
mod run;
mod volume;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use sulcus_train::CrossValidation;

use crate::args::InfoArgs;
use crate::error::CliError;
use crate::output::Ui;

pub(crate) fn run(args: &InfoArgs, ui: Ui) -> Result<(), CliError> {
    let path = args.path.as_path();
    if path.is_dir() {
        return folder(path, args, ui);
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return model::info(path, args.json);
    }
    volume::info(path, args.json)
}

fn folder(path: &Path, args: &InfoArgs, ui: Ui) -> Result<(), CliError> {
    let json = args.json;
    if path.join("run.json").is_file() {
        run::info(path, json)
    } else if CrossValidation::is_in(path) {
        run::cross_validation_info(path, json)
    } else if path.join("dataset.json").is_file() || path.join("images").is_dir() {
        dataset::info(path, json, ui)
    } else if sulcus_dicom::holds_dicom(path) {
        dicom_folder::info(path, args, ui)
    } else {
        Err(CliError::failed(format_args!(
            "this folder is neither a run (run.json) nor a data set (dataset.json, or images/ and labels/), and contains no \
             DICOM: {}",
            path.display()
        )))
    }
}

/// The text of a value in JSON.
fn json_text(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
