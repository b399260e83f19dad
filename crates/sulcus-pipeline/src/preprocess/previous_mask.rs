//! The mask of a previous network as input channels of the next one.

use sulcus_model::{MaskUse, ModelSpec};
use sulcus_volume::{Geometry, Label, LabelMap};

use super::GridTransform;
use crate::PipelineError;
use crate::nnunet::{resample_mask, reserved};

/// The mask that a model needs, if it needs one.
///
/// # Errors
/// When the model needs one and there is none, or the other way round, or it has another grid than the scan.
pub(crate) fn needed_mask<'a>(
    spec: &ModelSpec,
    geometry: &Geometry,
    mask: Option<&'a LabelMap>,
) -> Result<Option<&'a LabelMap>, PipelineError> {
    if spec.previous.is_some() != mask.is_some() {
        let needs = spec.previous.as_ref().map(|previous| previous.name.clone());
        return Err(PipelineError::PreviousMask { model: spec.name.clone(), needs });
    }
    mask.map_or(Ok(()), |mask| geometry.check_same_grid(mask.geometry()))?;
    Ok(mask)
}

/// The input channels that a mask becomes, on the network's grid. `inside` marks the voxels of the reoriented scan that are not 0, with
/// holes filled: where the mask is background outside of them, nnU-Net resamples a label of its own.
///
/// # Shapes
/// `[C, z, y, x]`.
pub(crate) fn mask_channels(
    spec: &ModelSpec,
    transform: &GridTransform,
    mask: &LabelMap,
    inside: &[bool],
) -> Result<Vec<f32>, PipelineError> {
    const OUTSIDE: i32 = -1;
    let Some(previous) = &spec.previous else { return Ok(Vec::new()) };
    let MaskUse::InputChannels { labels, resampling } = &previous.mask else { return Ok(Vec::new()) };
    let geometry = mask.geometry();
    let reoriented = transform.reorientation.apply(mask.data(), geometry.shape());
    let value = |(label, inside): (Label, &bool)| if label == 0 && !inside { OUTSIDE } else { i32::from(label) };
    let mut values: Vec<i32> = reoriented.into_iter().zip(inside).map(value).collect();
    let zyx = |[x, y, z]: [usize; 3]| [z, y, x];
    let (from, to) = (zyx(transform.reoriented_shape), zyx(transform.resampled_shape));
    if from != to {
        let from_mm = spec.scan_spacing(geometry).reoriented(transform.reorientation);
        let to_mm = spec.spacing.target_for(from_mm).unwrap_or(from_mm);
        let separate = resampling.separate_axis(from_mm.mm(), to_mm.mm()).map(|axis| 2 - axis);
        values = resample_mask(resampling, &values, from, to, separate)?;
    }
    let mut channels = reserved(values.len().saturating_mul(labels.len()))?;
    for label in labels {
        channels.extend(values.iter().map(|value| if *value == i32::from(*label) { 1.0 } else { 0.0 }));
    }
    Ok(channels)
}

/// Marks the voxels of a mask's labels as inside, as nnU-Net does before it normalises.
///
/// # Shapes
/// `inside` `[z, y, x]` of the reoriented scan.
pub(crate) fn add_labels(transform: &GridTransform, mask: &LabelMap, inside: &mut [bool]) {
    let reoriented = transform.reorientation.apply(mask.data(), mask.geometry().shape());
    inside.iter_mut().zip(reoriented).for_each(|(inside, label)| *inside |= label != 0);
}
