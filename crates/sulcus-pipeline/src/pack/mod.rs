//! What the recipe of a pack does with scans and masks apart from the networks: the box of what a rough network found, the grid on which
//! the parts see it, the division of a large grid, and one mask of several.

mod grid;
mod thirds;
mod zoom;

use std::ops::Range;

use sulcus_model::{Locate, Part};
use sulcus_volume::{Label, LabelMap};

pub use grid::PackGrid;
pub use thirds::Thirds;

use crate::preprocess::bounding_box;
use crate::{Crop, PipelineError};

/// The box of what a rough network found, enlarged by the margin; `None` if it found nothing. The box may be the whole scan.
///
/// # Errors
/// None for a mask on a grid that was read from a file.
pub fn locate(rule: &Locate, mask: &LabelMap) -> Result<Option<Crop>, PipelineError> {
    let geometry = mask.geometry();
    let (shape, mm) = (geometry.shape(), geometry.spacing().mm());
    let is_sought = |label: &Label| *label != 0 && rule.labels.contains(label);
    let Some(found) = bounding_box(shape, [mask.data()], is_sought) else { return Ok(None) };
    let ranges = std::array::from_fn(|axis| {
        // Headers state voxel sizes in single precision. Margins are rounded down to whole voxels.
        let margin = (rule.margin_mm[axis] / f64::from(mm[axis] as f32)) as usize;
        let Range { start, end } = found[axis];
        start.saturating_sub(margin)..end.saturating_add(margin).min(shape[axis])
    });
    Ok(Some(Crop::to_box(geometry, ranges)?))
}

/// Puts the mask of a part into the result: where it has a label that is taken over, the result gets it.
///
/// # Errors
/// When the masks have different grids.
pub fn merge(part: &Part, mask: &LabelMap, result: LabelMap) -> Result<LabelMap, PipelineError> {
    result.geometry().check_same_grid(mask.geometry())?;
    let (geometry, mut labels) = result.into_parts();
    let greatest = mask.data().iter().copied().max().unwrap_or(0);
    let table: Vec<Label> =
        (0..=greatest).map(|label| if label == 0 { 0 } else { part.label_of(label) }).collect();
    for (to, label) in labels.iter_mut().zip(mask.data()) {
        match table.get(usize::from(*label)) {
            None | Some(0) => {}
            Some(label) => *to = *label,
        }
    }
    Ok(LabelMap::new(geometry, labels)?)
}
