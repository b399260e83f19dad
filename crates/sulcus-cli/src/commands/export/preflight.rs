//! The part of a training's pre-flight check that needs engines.

use std::time::Instant;

use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Engine, SegmentOptions};
use sulcus_train::{Preflight, PreflightError};

use super::engines::{Engines, ModelFile};
use crate::error::{CliError, Context};
use crate::output::human_secs;

/// Checks the model that a training would write: parity and golden case in every available engine, and the prediction of
/// one real case. Returns a description of the results for people.
///
/// # Errors
/// A description of what would fail after the training.
pub(crate) fn check(model: &Preflight<'_>, library: &OrtLibrary) -> Result<String, PreflightError> {
    let start = Instant::now();
    let mut seen = in_engines(model, library).map_err(|error| error.message().to_owned())?;
    seen.push(format!("the case {} predicted", model.case()));
    Ok(format!("{} ({})", seen.join(", "), human_secs(start.elapsed().as_secs_f64())))
}

fn in_engines(model: &Preflight<'_>, library: &OrtLibrary) -> Result<Vec<String>, CliError> {
    let engines = Engines::find(library)?;
    let (bytes, spec) = (model.file(), model.spec());
    let (trainer, inputs) = (model.trainer(), model.inputs());
    let seen = engines.check(&ModelFile { bytes, spec, trainer, inputs, native: true })?;
    let doing = || format!("predicting the case {}", model.case());
    let scan = model.scan().context(doing())?;
    let found = engines.segmenter(Engine::Auto, bytes)?.segment(&scan, SegmentOptions::default());
    let mask = found.context(doing())?.labels;
    mask.geometry().check_same_grid(scan.geometry()).context(doing())?;
    Ok(seen)
}
