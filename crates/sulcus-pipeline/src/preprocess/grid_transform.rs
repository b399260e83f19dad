use sulcus_model::{CoarseAxis, ModelSpec, Normalisation, SpacingRule};
use sulcus_volume::{Geometry, Interpolation, Reorientation, Spacing};

use super::Resampling;
use crate::PipelineError;

/// The geometric part of preprocessing: reorientation, then resampling. All shapes are x, y, z.
pub(crate) struct GridTransform {
    pub(crate) reorientation: Reorientation,
    /// The scan's shape after reorientation, with its own voxel size.
    pub(crate) reoriented_shape: [usize; 3],
    /// The shape after resampling, which is that of the array for the network.
    pub(crate) resampled_shape: [usize; 3],
    /// The reoriented axis along which the nearest slice is used when resampling to the network's grid.
    coarse_axis_forward: Option<usize>,
    /// The same when resampling back.
    coarse_axis_back: Option<usize>,
}

impl std::fmt::Debug for GridTransform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {:?} to {:?}", self.reorientation, self.reoriented_shape, self.resampled_shape)
    }
}

impl GridTransform {
    pub(crate) fn new(spec: &ModelSpec, geometry: &Geometry) -> Self {
        let reorientation =
            Reorientation::between(geometry.orientation(), spec.orientation.orientation_for(geometry));
        let reoriented_shape = reorientation.shape(geometry.shape());
        let from_mm = geometry.spacing().reoriented(reorientation);
        let mut transform = Self {
            reorientation,
            reoriented_shape,
            resampled_shape: reoriented_shape,
            coarse_axis_forward: None,
            coarse_axis_back: None,
        };
        if let SpacingRule::Resample { coarse_axis, .. } = spec.spacing
            && let Some(mm) = spec.spacing.target_for(from_mm)
        {
            let from_mm = from_mm.mm();
            transform.resampled_shape = resampled_shape(reoriented_shape, from_mm, mm);
            if coarse_axis == CoarseAxis::Nearest {
                transform.coarse_axis_forward = coarse_axis_of(from_mm, mm.mm());
                transform.coarse_axis_back = coarse_axis_of(mm.mm(), from_mm);
            }
        }
        transform
    }

    /// As [`GridTransform::new`], but refuses a resampled grid that is larger than any that can be processed, before
    /// memory is allocated. A header with a wrong voxel size leads to such a grid.
    pub(crate) fn checked(spec: &ModelSpec, geometry: &Geometry) -> Result<Self, PipelineError> {
        /// Long enough for every scan. The planning of a prediction takes time and memory in proportion to the edges.
        const MAX_EDGE: usize = 1 << 18;
        let transform = Self::new(spec, geometry);
        let is_too_long = |shape: [usize; 3]| shape.iter().any(|edge| *edge > MAX_EDGE);
        let shape = transform.reoriented_shape;
        if is_too_long(shape) {
            return Err(PipelineError::GridTooLarge { shape, resampling: None, max_edge: MAX_EDGE });
        }
        let Some(resampling) = transform.resampling(spec, geometry) else { return Ok(transform) };
        let shape = transform.resampled_shape;
        if is_too_long(shape) || geometry.resized(transform.reorientation.inverse().shape(shape)).is_err() {
            let resampling = Some(Box::new(resampling));
            return Err(PipelineError::GridTooLarge { shape, resampling, max_edge: MAX_EDGE });
        }
        Ok(transform)
    }

    /// The resampling of this scan; `None` if it keeps its shape.
    pub(crate) fn resampling(&self, spec: &ModelSpec, geometry: &Geometry) -> Option<Resampling> {
        let from_mm = geometry.spacing().reoriented(self.reorientation);
        let to_mm = spec.spacing.target_for(from_mm)?;
        let (from_shape, to_shape) = (self.reoriented_shape, self.resampled_shape);
        (from_shape != to_shape).then_some(Resampling { from_mm, to_mm, from_shape, to_shape })
    }

    /// The temporary memory of preprocessing in bytes, besides the scan and its preprocessed form.
    pub(crate) fn intermediate_bytes(&self, spec: &ModelSpec) -> u64 {
        const BYTES_PER_VALUE: u64 = size_of::<f32>() as u64;
        let reoriented = self.reoriented_shape.iter().product::<usize>() as u64;
        let sorts_values =
            spec.channels.iter().any(|c| matches!(c.normalisation, Normalisation::Percentile { .. }));
        let resampling = if self.resampled_shape == self.reoriented_shape {
            0
        } else {
            // Axis by axis: source and result of the largest step.
            let step = |axes: usize| -> u64 {
                let edge = |axis: usize| {
                    if axis <= axes { self.resampled_shape[axis] } else { self.reoriented_shape[axis] }
                };
                (0..3).fold(1, |product, axis| product.saturating_mul(edge(axis) as u64))
            };
            (0..3).map(step).max().unwrap_or(reoriented).max(reoriented).saturating_mul(2)
        };
        let nonzero = spec.channels.iter().any(|c| c.normalisation == Normalisation::ZScoreNonzero);
        // The values that are counted, and two flags per voxel.
        let counted = if sorts_values || nonzero { reoriented } else { 0 };
        let flags = if nonzero { 2 * reoriented } else { 0 };
        resampling.saturating_add(counted).saturating_mul(BYTES_PER_VALUE).saturating_add(flags)
    }

    /// Interpolation along x, y, z to the network's grid.
    pub(crate) fn forward(&self, interpolation: Interpolation) -> [Interpolation; 3] {
        per_axis(interpolation, self.coarse_axis_forward)
    }

    /// Interpolation along x, y, z of logits to the scan's voxel size.
    pub(crate) fn back(&self) -> [Interpolation; 3] {
        per_axis(Interpolation::Linear, self.coarse_axis_back)
    }
}

fn per_axis(interpolation: Interpolation, coarse_axis: Option<usize>) -> [Interpolation; 3] {
    std::array::from_fn(|axis| if coarse_axis == Some(axis) { Interpolation::Nearest } else { interpolation })
}

/// The axis with the longest voxel edge of an anisotropic grid: of the source grid, or else of the target grid. `None` if
/// two axes are equally long (nnU-Net's `determine_do_sep_z_and_axis`).
fn coarse_axis_of(from_mm: [f64; 3], to_mm: [f64; 3]) -> Option<usize> {
    /// A grid is anisotropic if the longest voxel edge exceeds the shortest by this factor.
    const ANISOTROPY_THRESHOLD: f64 = 3.0;
    let longest = |mm: [f64; 3]| mm.into_iter().fold(0.0, f64::max);
    let shortest = |mm: [f64; 3]| mm.into_iter().fold(f64::INFINITY, f64::min);
    let mm = [from_mm, to_mm].into_iter().find(|mm| longest(*mm) / shortest(*mm) > ANISOTROPY_THRESHOLD)?;
    let mut axes = (0..3).filter(|axis| mm[*axis] == longest(mm));
    let axis = axes.next()?;
    axes.next().is_none().then_some(axis)
}

/// Rounds halves to even, as nnU-Net does, so that its networks get the same grid.
fn resampled_shape(shape: [usize; 3], from_mm: [f64; 3], to: Spacing) -> [usize; 3] {
    std::array::from_fn(|a| ((shape[a] as f64 * from_mm[a] / to.mm()[a]).round_ties_even() as usize).max(1))
}
