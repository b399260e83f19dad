//! The check of a model file: every available engine computes the logits of the trainer and the mask of the golden case.

use sulcus_model::ModelSpec;
use sulcus_pipeline::{Parity, Predictor, RoundingTolerance, Tensor, compare_predictors};
use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary, OrtPredictor};
use sulcus_runtime::{Device, Engine, ErrorKind, NativePredictor, Segmenter, TractPredictor};

use crate::error::{CliError, Context};

/// The engines of this machine: native and tract, and ONNX Runtime if it is found.
pub(in crate::commands) struct Engines {
    pub(in crate::commands) runtime: Option<OnnxRuntime>,
    pub(in crate::commands) library: OrtLibrary,
}

/// A model file, and the network that it was exported from.
pub(in crate::commands) struct ModelFile<'a> {
    pub(in crate::commands) bytes: &'a [u8],
    pub(in crate::commands) spec: &'a ModelSpec,
    pub(in crate::commands) trainer: &'a dyn Predictor,
    /// Real inputs, which both compute.
    pub(in crate::commands) inputs: &'a [Tensor],
    /// Whether the native engine has all its operators.
    pub(in crate::commands) native: bool,
}

impl Engines {
    /// Looks for ONNX Runtime.
    ///
    /// # Errors
    /// When a named library cannot be used.
    pub(in crate::commands) fn find(library: &OrtLibrary) -> Result<Self, CliError> {
        let (runtime, _) = sulcus_runtime::ort::find_onnx_runtime(library).context("looking for ONNX Runtime")?;
        Ok(Self { runtime, library: library.clone() })
    }

    /// The difference between each engine and the trainer, for people.
    ///
    /// # Errors
    /// When an engine refuses the file, its logits differ by more than rounding explains, or its golden mask differs.
    pub(in crate::commands) fn check(&self, model: &ModelFile<'_>) -> Result<Vec<String>, CliError> {
        let checked = self.compare_all(model).into_iter().collect::<Result<_, _>>()?;
        self.replay_all(model.bytes, model.spec, model.native)?;
        Ok(checked)
    }

    /// The logits of each engine compared with the trainer's.
    pub(super) fn compare_all(&self, model: &ModelFile<'_>) -> Vec<Result<String, CliError>> {
        let mut compared = Vec::new();
        if model.native {
            let native = NativePredictor::new(model.bytes, None);
            let native = native.context("loading the exported file in the native engine");
            compared.push(native.and_then(|engine| model.compare("native", &engine)));
        }
        let tract = TractPredictor::new(model.bytes, &tile_shape(model.spec), None)
            .context("loading the exported file in tract");
        compared.push(tract.and_then(|engine| model.compare("tract", &engine)));
        if let Some(runtime) = &self.runtime {
            let ort = OrtPredictor::new(runtime, model.bytes, Device::Cpu, None);
            let ort = ort.context("loading the exported file in ONNX Runtime");
            compared.push(ort.and_then(|engine| model.compare("ONNX Runtime", &engine)));
        }
        compared
    }

    /// The differences between the engines themselves, for people: the check of a network that no trainer of Sulcus computes. Also whether
    /// the native engine has all its operators.
    ///
    /// # Errors
    /// When an engine refuses the file, or their logits differ by more than rounding explains.
    pub(in crate::commands) fn agree(
        &self,
        bytes: &[u8],
        spec: &ModelSpec,
        inputs: &[Tensor],
    ) -> Result<(Vec<String>, bool), CliError> {
        let tract =
            TractPredictor::new(bytes, &tile_shape(spec), None).context("loading the imported file in tract")?;
        let mut model = ModelFile { bytes, spec, trainer: &tract, inputs, native: true };
        let mut checked = Vec::new();
        match NativePredictor::new(bytes, None) {
            Ok(native) => checked.push(model.compare("native", &native)?),
            // `auto` takes another engine for graphs that it does not know, such as those with strides above 2.
            Err(error) if matches!(error.kind(), ErrorKind::Graph { .. }) => model.native = false,
            Err(error) => return Err(error).context("loading the imported file in the native engine"),
        }
        if let Some(runtime) = &self.runtime {
            let ort = OrtPredictor::new(runtime, bytes, Device::Cpu, None)
                .context("loading the imported file in ONNX Runtime")?;
            checked.push(model.compare("ONNX Runtime", &ort)?);
        }
        Ok((checked, model.native))
    }

    /// Replays the golden case in every engine; in the native one only if it has all operators.
    ///
    /// # Errors
    /// When the mask differs.
    pub(in crate::commands) fn replay_all(
        &self,
        bytes: &[u8],
        spec: &ModelSpec,
        native: bool,
    ) -> Result<(), CliError> {
        let others = [(Engine::Native, native), (Engine::Tract, true), (Engine::Ort, self.runtime.is_some())];
        others.into_iter().filter(|(_, is_there)| *is_there).try_for_each(|(e, _)| self.replay(e, bytes, spec))
    }

    /// An engine of another project, which predicts the golden case of an imported file: ONNX Runtime, or tract without it.
    ///
    /// # Errors
    /// When the engine refuses the file.
    pub(in crate::commands) fn reference(
        &self,
        bytes: &[u8],
        shape: &[usize],
    ) -> Result<Box<dyn Predictor>, CliError> {
        let loading = "loading the imported file";
        if let Ok(native) = NativePredictor::new(bytes, None) {
            return Ok(Box::new(native));
        }
        Ok(match &self.runtime {
            Some(runtime) => Box::new(OrtPredictor::new(runtime, bytes, Device::Cpu, None).context(loading)?),
            None => Box::new(TractPredictor::new(bytes, shape, None).context(loading)?),
        })
    }

    /// The model as `sulcus predict` loads it.
    ///
    /// # Errors
    /// When the engine refuses the file.
    pub(in crate::commands) fn segmenter(&self, engine: Engine, bytes: &[u8]) -> Result<Segmenter, CliError> {
        // It segments the run's own cases, which were checked when the training began.
        let builder =
            Segmenter::builder().model_bytes(bytes).engine(engine).device(Device::Cpu).allow_constant(true);
        builder.ort_library(self.library.clone()).build().context("loading the exported file")
    }

    fn replay(&self, engine: Engine, bytes: &[u8], spec: &ModelSpec) -> Result<(), CliError> {
        if spec.golden_case.is_none() {
            return Ok(());
        }
        let replayed = self.segmenter(engine, bytes)?.replay_golden();
        replayed.context(format_args!("replaying the exported file's golden case in {engine}"))
    }
}

/// The shape of a tile, `[N, C, (D,) H, W]`.
pub(in crate::commands) fn tile_shape(spec: &ModelSpec) -> Vec<usize> {
    [&[1, spec.input_channels()], spec.patch.as_slice()].concat()
}

impl ModelFile<'_> {
    fn compare(&self, engine: &str, exported: &dyn Predictor) -> Result<String, CliError> {
        let parity: Parity = compare_predictors(self.spec, self.trainer, exported, self.inputs)
            .context(format_args!("checking the file in {engine}"))?;
        if parity.values == 0 {
            return Err(CliError::failed(
                "the exported file cannot be checked: the run has no patches to compare",
            ));
        }
        let difference = parity.max_abs_difference;
        let tolerance = RoundingTolerance::of(self.spec);
        if !tolerance.allows(&parity) {
            return Err(CliError::failed(format_args!(
                "the file gives other results in {engine}: logits differ by up to {difference:.1e}, by {:.1e} in the mean square \
                 (rounding explains {:.1e} and {:.1e}), {} of {} voxels get another label",
                parity.rms_difference,
                tolerance.max_difference(&parity),
                tolerance.max_rms_difference(&parity),
                parity.class_disagreements,
                parity.voxels
            )));
        }
        Ok(format!("{engine} within {difference:.1e}"))
    }
}
