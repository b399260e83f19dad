//! One prediction: the crop, the plan, its execution on the engine, and the result for the caller.

use sulcus_model::{CropRule, ModelSpec};
use sulcus_pipeline::{
    Crop, InferenceSettings, Outputs, PipelineError, Prediction, ScanInput, ScanWarning, StageSeconds,
};
use sulcus_volume::{Geometry, Image, Label};

use super::Segmenter;
use crate::loaded::Model;
use crate::memory::peak_memory_bytes;
use crate::stages::{Stage, StageResult, TileCounter, add};
use crate::{Error, Seconds, Segmentation};

/// Models that predict a scan together, and how.
pub(super) struct Work<'a> {
    pub(super) models: &'a [&'a Model],
    /// The specification that they share, with the postprocessing that is applied.
    pub(super) spec: &'a ModelSpec,
    pub(super) settings: InferenceSettings,
    /// Whether the caller limits the memory.
    pub(super) is_limited: bool,
}

/// What predictions took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Effort {
    pub(super) seconds: StageSeconds,
    /// The part of the time during which the engine computed.
    pub(super) engine_secs: f64,
    pub(super) tiles: usize,
}

impl Effort {
    pub(super) fn add(&mut self, more: &Self) {
        add(&mut self.seconds, &more.seconds);
        self.engine_secs += more.engine_secs;
        self.tiles += more.tiles;
    }
}

impl Segmenter {
    /// Crops the scan if the models require it, makes a plan, and executes the plan on the engine. `check` sees what the models see.
    pub(super) fn predict(
        &self,
        work: Work<'_>,
        scan: ScanInput<'_>,
        check: &mut dyn FnMut(&Image) -> Result<(), Error>,
        counter: &mut TileCounter<'_>,
    ) -> Result<(Prediction, Effort), Error> {
        let Work { models, spec, mut settings, is_limited } = work;
        let (scan, crop) = cropped(spec, scan, &mut settings)?;
        settings.scan = scan.ownership();
        check(scan.image())?;
        let stage = Stage::plan(models.to_vec(), scan.image().geometry(), &settings)?;
        check_available(stage.peak_bytes().saturating_sub(self.loaded_bytes))?;
        stage.release_sessions(is_limited);
        counter.begin(stage.tiles());
        let StageResult { prediction, seconds, engine_secs } = stage.run(spec, scan, counter)?;
        let prediction = match crop {
            Some(crop) => crop.restore(spec, prediction)?,
            None => prediction,
        };
        Ok((prediction, Effort { seconds, engine_secs, tiles: stage.tiles() }))
    }

    /// The result for the caller. `spec` says which labels there are.
    pub(super) fn segmentation(
        &self,
        spec: &ModelSpec,
        prediction: Prediction,
        effort: &Effort,
        warnings: Vec<ScanWarning>,
    ) -> Segmentation {
        Segmentation {
            labels: prediction.labels,
            probabilities: prediction.probabilities,
            table: spec.labels.clone(),
            structures: spec.structures(),
            warnings,
            steps: Vec::new(),
            tiles: effort.tiles,
            seconds: Seconds::of_stages(effort.seconds, effort.engine_secs),
            peak_memory_bytes: peak_memory_bytes(),
            engine: self.settings.engine,
            device: self.settings.device,
            precision: self.precision.clone(),
            numerics: self.numerics,
        }
    }
}

/// Requests the memory of a prediction from the system and returns it. What the system refuses is an error here, and would
/// end the process later.
fn check_available(bytes: u64) -> Result<(), PipelineError> {
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut memory: Vec<u8> = Vec::new();
    let reserved = memory.try_reserve_exact(length);
    // The compiler may leave out memory that nothing uses.
    std::hint::black_box(&memory);
    reserved.map_err(|_| PipelineError::Memory { values: length / size_of::<f32>() })
}

/// Crops the scan to the box that the models see. Memory is reserved for the mask of the whole scan, and for the scan if
/// the caller keeps it.
fn cropped<'a>(
    spec: &ModelSpec,
    scan: ScanInput<'a>,
    settings: &mut InferenceSettings,
) -> Result<(ScanInput<'a>, Option<Crop>), Error> {
    let Some(crop) = Crop::of(spec, scan.image())? else { return Ok((scan, None)) };
    settings.reserved_bytes =
        settings.reserved_bytes.saturating_add(crop_reserve(spec, settings.outputs, crop.full()));
    settings.cropped_from = Some(crop.full().shape());
    if let ScanInput::Borrowed(image) = &scan {
        settings.reserved_bytes += size_of_val(image.data()) as u64;
    }
    let part = crop.image(scan.image())?;
    Ok((ScanInput::Owned(part), Some(crop)))
}

/// The memory that a model with cropping needs besides the box, in bytes: mask and probabilities of the whole scan. 0 for
/// other models.
pub(super) fn crop_reserve(spec: &ModelSpec, outputs: Outputs, scan: &Geometry) -> u64 {
    if spec.crop == CropRule::Whole {
        return 0;
    }
    let bytes_per_voxel = match outputs {
        Outputs::LabelsAndProbabilities => size_of::<Label>() + size_of::<f32>() * spec.classes(),
        Outputs::Labels => size_of::<Label>(),
    };
    (bytes_per_voxel as u64).saturating_mul(scan.voxels() as u64)
}
