//! Resamples logits plane by plane from the network's grid to the scan's voxel size.

use std::ops::Range;

use sulcus_volume::AxisResampling;

use crate::PipelineError;
use crate::preprocess::GridTransform;

/// Some rows and columns of one plane of the reoriented scan, with the scan's voxel size.
pub(super) struct ReorientedPlane {
    pub(super) z: usize,
    pub(super) y: Range<usize>,
    pub(super) x: Range<usize>,
    /// `[K, y, x]` logits.
    pub(super) values: Vec<f32>,
}

/// The resampling along x, y and z.
pub(super) fn resamplings(transform: &GridTransform) -> [AxisResampling; 3] {
    let interpolation = transform.back();
    std::array::from_fn(|axis| {
        AxisResampling::new(transform.resampled_shape[axis], transform.reoriented_shape[axis], interpolation[axis])
    })
}

/// The region of the network's grid that a region of the reoriented scan is computed from; both x, y, z.
pub(super) fn source_region(along: &[AxisResampling; 3], target: &[Range<usize>; 3]) -> [Range<usize>; 3] {
    std::array::from_fn(|axis| along[axis].source_range(target[axis].clone()))
}

/// Resamples a region of the reoriented scan. `next` gives the planes of its [`source_region`] one after the other; each plane of
/// the result goes to `sink` as soon as the planes on both sides of it have arrived.
pub(super) fn resample_region(
    transform: &GridTransform,
    classes: usize,
    target: &[Range<usize>; 3],
    next: &mut dyn FnMut() -> Result<Vec<f32>, PipelineError>,
    sink: &mut dyn FnMut(ReorientedPlane),
) -> Result<(), PipelineError> {
    let [along_x, along_y, along_z] = resamplings(transform);
    let [x, y, z] = target.clone();
    let (from_x, from_y) = (along_x.source_range(x.clone()), along_y.source_range(y.clone()));
    let mut next_plane = || -> Result<Vec<f32>, PipelineError> {
        let mut values = next()?;
        if !along_x.is_identity() {
            values = along_x.apply(&values, 1, from_x.clone(), x.clone())?;
        }
        if !along_y.is_identity() {
            values = along_y.apply(&values, x.len(), from_y.clone(), y.clone())?;
        }
        Ok(values)
    };
    let mut held: Vec<(usize, Vec<f32>)> = Vec::new();
    let mut arriving = along_z.source_range(z.clone());
    for z in z {
        let Some([(first, first_weight), (second, second_weight)]) = along_z.weights(z) else { continue };
        held.retain(|(at, _)| *at >= first);
        while held.last().is_none_or(|(at, _)| *at < second)
            && let Some(at) = arriving.next()
        {
            let values = next_plane()?;
            if at >= first {
                held.push((at, values));
            }
        }
        let find = |wanted: usize| held.iter().position(|(at, _)| *at == wanted);
        let (Some(a), Some(b)) = (find(first), find(second)) else { continue };
        let values = if along_z.is_identity() {
            held.swap_remove(a).1
        } else if second_weight == 0.0 {
            held[a].1.iter().map(|v| v * first_weight).collect()
        } else {
            held[a].1.iter().zip(&held[b].1).map(|(a, b)| a * first_weight + b * second_weight).collect()
        };
        if values.len() != classes * y.len() * x.len() {
            let expected = vec![classes, y.len(), x.len()];
            return Err(PipelineError::TensorLength { shape: expected, found: values.len() });
        }
        sink(ReorientedPlane { z, y: y.clone(), x: x.clone(), values });
    }
    Ok(())
}
