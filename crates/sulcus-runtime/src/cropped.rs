//! Models that look at a part of the scan: cut out before anything else, put back last.

use std::ops::ControlFlow;

use sulcus_pipeline::{Crop, ModelSpec, Outputs, Progress};
use sulcus_volume::Label;

use crate::RuntimeError;
use crate::ensemble::{Answer, Road, Scan};

impl Road<'_> {
    /// As [`Road::walk`], on the part of the scan that the models look at.
    pub(crate) fn walk_inside(
        mut self,
        spec: &ModelSpec,
        scan: Scan<'_>,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, RuntimeError> {
        let Some(crop) = Crop::of(spec, scan.image())? else { return self.walk(spec, scan, observer) };
        let part = crop.image(scan.image())?;
        let voxels = crop.full().voxels();
        // What is held beside the part: the whole mask, and the scan where it is not ours to drop.
        let mut beside = size_of::<Label>() * voxels;
        if self.outputs == Outputs::LabelsAndProbabilities {
            beside += size_of::<f32>() * spec.classes() * voxels;
        }
        if let Scan::Borrowed(image) = &scan {
            beside += size_of_val(image.data());
        }
        self.limit = self.limit.map(|limit| limit.saturating_sub(beside as u64));
        drop(scan);
        let answer = self.walk(spec, Scan::Owned(part), observer)?;
        Ok(Answer { restored: crop.restore(spec, answer.restored)?, ..answer })
    }
}
