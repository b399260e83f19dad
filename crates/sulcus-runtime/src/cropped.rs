//! Models that look at a part of the scan: cut out before anything else, put back last.

use std::ops::ControlFlow;

use sulcus_pipeline::{Crop, CropRule, ModelSpec, Outputs, PipelineError, Progress};
use sulcus_volume::{Geometry, Label};

use crate::RuntimeError;
use crate::ensemble::{Answer, InferenceRun, Scan};

impl InferenceRun<'_> {
    /// As [`InferenceRun::walk`], on the part of the scan that the models look at.
    pub(crate) fn walk_inside(
        mut self,
        spec: &ModelSpec,
        scan: Scan<'_>,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, RuntimeError> {
        let Some(crop) = Crop::of(spec, scan.image())? else { return self.walk(spec, scan, observer) };
        let part = crop.image(scan.image())?;
        // What is held beside the part: the whole mask, and the scan where it is not ours to drop.
        let mut beside = beside(spec, self.outputs, crop.full());
        if let Scan::Borrowed(image) = &scan {
            beside += size_of_val(image.data()) as u64;
        }
        let whole = self.limit;
        self.limit = whole.map(|limit| limit.saturating_sub(beside));
        drop(scan);
        let answer = self.walk(spec, Scan::Owned(part), observer).map_err(|error| match (error, whole) {
            // In the numbers that the caller knows.
            (RuntimeError::Pipeline(PipelineError::MemoryLimit { least, .. }), Some(limit)) => {
                PipelineError::MemoryLimit { limit, least: least.saturating_add(beside) }.into()
            }
            (other, _) => other,
        })?;
        Ok(Answer { prediction: crop.restore(spec, answer.prediction)?, ..answer })
    }
}

/// Bytes that models which look at a part of the scan hold beside it: the whole mask, and the probabilities. 0 for others.
pub(crate) fn beside(spec: &ModelSpec, outputs: Outputs, scan: &Geometry) -> u64 {
    if spec.crop == CropRule::Whole {
        return 0;
    }
    let of_voxel = match outputs {
        Outputs::LabelsAndProbabilities => size_of::<Label>() + size_of::<f32>() * spec.classes(),
        Outputs::Labels => size_of::<Label>(),
    };
    (of_voxel as u64).saturating_mul(scan.voxels() as u64)
}
