//! nnU-Net's resampling of masks.

use sulcus_model::{NnunetResampling, ResamplingMethod};

use super::spline::{Grid, reserved};
use super::{F16, along_coarse, interpolate, resample_slices, resize, with};
use crate::PipelineError;

/// The value of a voxel of a mask: a label, or -1 outside the part of the scan that is not 0.
type Value = i32;

/// Resamples a mask from shape `from` to shape `to`, both z, y, x, which differ. `separate` is the coarse axis in the same order.
///
/// # Shapes
/// `mask` `[z, y, x]` → `[z, y, x]` of the new shape.
pub(crate) fn resample_mask(
    rule: &NnunetResampling,
    mask: &[Value],
    from: [usize; 3],
    to: [usize; 3],
    separate: Option<usize>,
) -> Result<Vec<Value>, PipelineError> {
    match (rule.method, separate) {
        (ResamplingMethod::Spline { order, .. }, None) => greatest_share(mask, from, to, 3, order),
        (ResamplingMethod::Spline { order, order_z }, Some(axis)) => {
            let between =
                resample_slices(mask, from, to, axis, |from, to, mask| greatest_share(&mask, from, to, 2, order))?;
            labels_along_coarse(&between, with(to, axis, from[axis]), to, order_z)
        }
        (ResamplingMethod::Interpolate, None) => interpolated(mask, from, to),
        (ResamplingMethod::Interpolate, Some(axis)) => {
            let shape = with(to, axis, from[axis]);
            let between = if shape == from { mask.to_vec() } else { interpolated(mask, from, shape)? };
            // The nearest slice of each label's indicator is the nearest slice of the mask.
            let values = between.into_iter().map(|v| v as f32).collect();
            let nearest = interpolate(values, shape, to, Some(axis))?;
            Ok(nearest.into_iter().map(|v| v as Value).collect())
        }
    }
}

/// The values that occur, ascending.
fn values_of(mask: &[Value]) -> Vec<Value> {
    let mut values: Vec<Value> = mask.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

fn indicator(mask: &[Value], value: Value) -> Vec<f64> {
    mask.iter().map(|v| if *v == value { 1.0 } else { 0.0 }).collect()
}

/// `resize_segmentation` of batchgenerators (0.25.5): the value with the greatest share of a voxel. Where several are equal, that of the
/// nearest voxel if it is among them, else the smallest.
fn greatest_share(
    mask: &[Value],
    from: [usize; 3],
    to: [usize; 3],
    rank: usize,
    order: u8,
) -> Result<Vec<Value>, PipelineError> {
    let grid = |values: Vec<f64>| Grid { shape: from, rank, values };
    let voxels: usize = to.iter().product();
    let values = values_of(mask);
    if let [only] = values.as_slice() {
        let mut all = reserved(voxels)?;
        all.resize(voxels, *only);
        return Ok(all);
    }
    let nearest = resize(grid(mask.iter().map(|v| f64::from(*v)).collect()), to, 0)?.values;
    let nearest: Vec<Value> = nearest.into_iter().map(|v| v as Value).collect();
    if order == 0 {
        return Ok(nearest);
    }
    let mut found: Vec<Value> = Vec::new();
    let mut best: Vec<f64> = Vec::new();
    // Whether the nearest voxel's value has the greatest share so far.
    let mut nearest_leads: Vec<bool> = reserved(voxels)?;
    for value in values {
        let shares = resize(grid(indicator(mask, value)), to, order)?.values;
        if best.is_empty() {
            nearest_leads.extend(shares.iter().zip(&nearest).map(|(share, near)| *near == value && *share > 0.0));
            found = vec![value; voxels];
            best = shares;
            continue;
        }
        for (i, share) in shares.into_iter().enumerate() {
            let is_nearest = nearest[i] == value;
            if share > best[i] {
                (best[i], found[i], nearest_leads[i]) = (share, value, is_nearest);
            } else if share == best[i] && share > 0.0 && is_nearest {
                nearest_leads[i] = true;
            }
        }
    }
    for (found, (nearest, leads)) in found.iter_mut().zip(nearest.into_iter().zip(nearest_leads)) {
        if leads {
            *found = nearest;
        }
    }
    Ok(found)
}

/// Resamples along the coarse axis.
fn labels_along_coarse(
    mask: &[Value],
    from: [usize; 3],
    to: [usize; 3],
    order_z: u8,
) -> Result<Vec<Value>, PipelineError> {
    if from == to {
        return Ok(mask.to_vec());
    }
    let resampled = |values| along_coarse(values, from, to, order_z);
    if order_z == 0 {
        let nearest = resampled(mask.iter().map(|v| f64::from(*v)).collect())?;
        return Ok(nearest.into_iter().map(|v| v as Value).collect());
    }
    let mut out = vec![0; to.iter().product()];
    for value in values_of(mask) {
        let shares = resampled(indicator(mask, value))?;
        out.iter_mut().zip(shares).filter(|(_, share)| *share > 0.5).for_each(|(out, _)| *out = value);
    }
    Ok(out)
}

/// `resample_torch_fornnunet`: a value whose share exceeds 0.7, else the greatest share in half precision, the smallest value where several
/// are equal.
fn interpolated(mask: &[Value], from: [usize; 3], to: [usize; 3]) -> Result<Vec<Value>, PipelineError> {
    const SCALE: f32 = 1000.0;
    const CLEAR: f32 = 700.0;
    let voxels: usize = to.iter().product();
    let mut best: Vec<f32> = reserved(voxels)?;
    best.resize(voxels, f32::NEG_INFINITY);
    let mut found: Vec<Value> = vec![0; voxels];
    let mut is_clear = vec![false; voxels];
    for value in values_of(mask) {
        let scaled = mask.iter().map(|v| if *v == value { SCALE } else { 0.0 }).collect();
        for (i, share) in interpolate(scaled, from, to, None)?.into_iter().enumerate() {
            let share = F16::from_f32(share).to_f32();
            if share > CLEAR || (!is_clear[i] && share > best[i]) {
                (best[i], found[i], is_clear[i]) = (share, value, share > CLEAR);
            }
        }
    }
    Ok(found)
}
