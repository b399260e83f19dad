//! The check of a model file: every engine at hand computes what the trainer computes, and gives the golden mask.

use sulcus_pipeline::{ModelSpec, Parity, Predictor, Tensor, compare_predictors};
use sulcus_runtime::{Device, Engine, OnnxRuntime, OrtLibrary, OrtPredictor, Segmenter, TractPredictor};

use crate::error::{CliError, Context};

/// Logits of the trainer and of the file may differ by this much: engines sum in other orders, and what is left of
/// that in single precision is a hundred times smaller.
pub(super) const TOLERANCE: f32 = 1e-4;
/// The same before training. Random weights amplify what is left more than trained ones, and a graph that is wrong is off
/// by far more.
pub(super) const UNTRAINED_TOLERANCE: f32 = 1e-3;

/// The engines of this machine: tract always, ONNX Runtime where it is found.
pub(super) struct Engines {
    pub(super) runtime: Option<OnnxRuntime>,
    pub(super) library: OrtLibrary,
}

/// A model file, and the network that it was made of.
pub(super) struct Exchange<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) spec: &'a ModelSpec,
    pub(super) trainer: &'a dyn Predictor,
    /// Real inputs that both are given.
    pub(super) inputs: &'a [Tensor],
    /// By how much a logit may differ.
    pub(super) tolerance: f32,
}

impl Engines {
    /// Looks for ONNX Runtime.
    ///
    /// # Errors
    /// When a library that was named cannot be used.
    pub(super) fn find(library: &OrtLibrary) -> Result<Self, CliError> {
        let (runtime, _) = sulcus_runtime::find_onnx_runtime(library).context("looking for ONNX Runtime")?;
        Ok(Self { runtime, library: library.clone() })
    }

    /// How near each engine comes to the trainer, for people.
    ///
    /// # Errors
    /// When an engine refuses the file, its logits are off by more than the tolerance, or it gives another golden mask.
    pub(super) fn check(&self, model: &Exchange<'_>) -> Result<Vec<String>, CliError> {
        let mut checked = Vec::new();
        let shape = [&[1, model.spec.channels.len()], model.spec.patch.as_slice()].concat();
        let tract =
            TractPredictor::new(model.bytes, &shape, None).context("loading the exported file in tract")?;
        checked.push(model.compare("tract", &tract)?);
        drop(tract);
        self.replay(Engine::Tract, model)?;
        if let Some(runtime) = &self.runtime {
            let ort = OrtPredictor::new(runtime, model.bytes, Device::Cpu, None)
                .context("loading the exported file in ONNX Runtime")?;
            checked.push(model.compare("ONNX Runtime", &ort)?);
            drop(ort);
            self.replay(Engine::Ort, model)?;
        }
        Ok(checked)
    }

    /// The model as `sulcus predict` loads it.
    ///
    /// # Errors
    /// When the engine refuses the file.
    pub(super) fn segmenter(&self, engine: Engine, bytes: &[u8]) -> Result<Segmenter, CliError> {
        let builder = Segmenter::builder().model_bytes(bytes).engine(engine).device(Device::Cpu);
        builder.ort_library(self.library.clone()).build().context("loading the exported file")
    }

    fn replay(&self, engine: Engine, model: &Exchange<'_>) -> Result<(), CliError> {
        if model.spec.golden_case.is_none() {
            return Ok(());
        }
        let replayed = self.segmenter(engine, model.bytes)?.replay_golden();
        replayed.context(format_args!("replaying the exported file's golden case in {engine}"))
    }
}

impl Exchange<'_> {
    fn compare(&self, engine: &str, exported: &dyn Predictor) -> Result<String, CliError> {
        let parity: Parity = compare_predictors(self.spec, self.trainer, exported, self.inputs)
            .context(format_args!("checking the exported file in {engine}"))?;
        if parity.values == 0 {
            return Err(CliError::failed(
                "the exported file cannot be checked: the run has no patches to compare with",
            ));
        }
        let (difference, tolerance) = (parity.max_abs_difference, self.tolerance);
        if difference > tolerance {
            return Err(CliError::failed(format_args!(
                "the exported file computes something else in {engine}: logits differ by up to {difference:e} \
                 (expected at most {tolerance:e}), {} of {} voxels get another label",
                parity.class_disagreements, parity.voxels
            )));
        }
        Ok(format!("{engine} within {difference:.1e}"))
    }
}
