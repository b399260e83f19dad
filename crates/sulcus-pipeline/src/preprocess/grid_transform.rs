use sulcus_model::{CoarseAxis, ModelSpec, NnunetResampling, Normalisation, ResamplingMethod, SpacingRule};
use sulcus_volume::{Geometry, Interpolation, Reorientation};

use super::Resampling;
use crate::PipelineError;
use crate::nnunet::resampling_bytes;

const BYTES_PER_VALUE: u64 = size_of::<f32>() as u64;

/// The geometric part of preprocessing: reorientation, then resampling. All shapes are x, y, z.
pub(crate) struct GridTransform {
    pub(crate) reorientation: Reorientation,
    /// The scan's shape after reorientation, with its own voxel size.
    pub(crate) reoriented_shape: [usize; 3],
    /// The shape after resampling, which is that of the array for the network.
    pub(crate) resampled_shape: [usize; 3],
    /// How images are resampled to the network's grid; masks use the same coarse axis.
    forward: Interpolations,
    /// How logits are resampled back.
    back: Interpolations,
}

/// The interpolation along the axes of a grid.
#[derive(Debug, Clone, Copy)]
struct Interpolations {
    in_plane: Interpolation,
    /// The reoriented axis that has another interpolation than the others.
    coarse_axis: Option<(usize, Interpolation)>,
}

impl Interpolations {
    const LINEAR: Self = Self { in_plane: Interpolation::Linear, coarse_axis: None };

    /// The same function of nnU-Net in single precision, one axis after the other.
    fn of_nnunet(rule: &NnunetResampling, from_mm: [f64; 3], to_mm: [f64; 3]) -> Self {
        let of_order = |order| match order {
            0 => Interpolation::Nearest,
            1 => Interpolation::Linear,
            _ => Interpolation::Cubic,
        };
        let [in_plane, along_coarse] = match rule.method {
            ResamplingMethod::Spline { order, order_z } => [order, order_z].map(of_order),
            ResamplingMethod::Interpolate => [Interpolation::Linear, Interpolation::Nearest],
        };
        let coarse_axis = rule.separate_axis(from_mm, to_mm).map(|axis| (axis, along_coarse));
        Self { in_plane, coarse_axis }
    }

    /// The same for logits, which are resampled plane by plane: splines of higher orders need the whole volume and become linear.
    fn of_planes(self) -> Self {
        let linear = |interpolation| match interpolation {
            Interpolation::Cubic => Interpolation::Linear,
            other => other,
        };
        let coarse_axis = self.coarse_axis.map(|(axis, interpolation)| (axis, linear(interpolation)));
        Self { in_plane: linear(self.in_plane), coarse_axis }
    }

    fn per_axis(&self, in_plane: Interpolation) -> [Interpolation; 3] {
        std::array::from_fn(|axis| match self.coarse_axis {
            Some((coarse, interpolation)) if coarse == axis => interpolation,
            _ => in_plane,
        })
    }
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
        let from_mm = spec.scan_spacing(geometry).reoriented(reorientation);
        let mut transform = Self {
            reorientation,
            reoriented_shape,
            resampled_shape: reoriented_shape,
            forward: Interpolations::LINEAR,
            back: Interpolations::LINEAR,
        };
        let (from, to) = (from_mm.mm(), spec.spacing.target_for(from_mm).unwrap_or(from_mm).mm());
        match &spec.spacing {
            SpacingRule::Native => {}
            SpacingRule::Resample { interpolation, coarse_axis, .. } => {
                transform.forward.in_plane = *interpolation;
                if to != from {
                    let voxels = |a: usize| reoriented_shape[a] as f64 * from[a] / to[a];
                    transform.resampled_shape = std::array::from_fn(|a| whole_voxels(voxels(a)));
                }
                if *coarse_axis == CoarseAxis::Nearest {
                    let nearest = |axis| (axis, Interpolation::Nearest);
                    transform.forward.coarse_axis = coarse_axis_of(from, to).map(nearest);
                    transform.back.coarse_axis = coarse_axis_of(to, from).map(nearest);
                }
            }
            SpacingRule::Nnunet(rule) => {
                // In nnU-Net's order: the product of the other two first rounds differently where a half is met.
                let voxels = |a: usize| from[a] / to[a] * reoriented_shape[a] as f64;
                transform.resampled_shape = std::array::from_fn(|a| whole_voxels(voxels(a)));
                transform.forward = Interpolations::of_nnunet(&rule.image, from, to);
                transform.back = Interpolations::of_nnunet(&rule.logits, to, from).of_planes();
            }
        }
        transform
    }

    /// As [`GridTransform::new`], but refuses a resampled grid that is larger than any that can be processed, before
    /// memory is allocated. A header with a wrong voxel size leads to such a grid.
    pub(crate) fn checked(spec: &ModelSpec, geometry: &Geometry) -> Result<Self, PipelineError> {
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
        let from_mm = spec.scan_spacing(geometry).reoriented(self.reorientation);
        let to_mm = spec.spacing.target_for(from_mm)?;
        let (from_shape, to_shape) = (self.reoriented_shape, self.resampled_shape);
        (from_shape != to_shape).then_some(Resampling { from_mm, to_mm, from_shape, to_shape })
    }

    /// The memory in bytes that a scan needs besides its own to be preprocessed in its own: that of one channel where axes change
    /// their places. `None` if it is resampled.
    pub(crate) fn in_place_bytes(&self) -> Option<u64> {
        let channel =
            self.reoriented_shape.iter().fold(size_of::<f32>() as u64, |n, edge| n.saturating_mul(*edge as u64));
        let needed = if self.reorientation.is_mirroring() { 0 } else { channel };
        (self.resampled_shape == self.reoriented_shape).then_some(needed)
    }

    /// The temporary memory of preprocessing in bytes, besides the scan and its preprocessed form.
    pub(crate) fn intermediate_bytes(&self, spec: &ModelSpec) -> u64 {
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
        let nonzero = spec.previous.is_some()
            || spec.channels.iter().any(|c| c.normalisation == Normalisation::ZScoreNonzero);
        // The values that are counted, and two flags per voxel.
        let counted = if sorts_values || nonzero { reoriented } else { 0 };
        let flags = if nonzero { 2 * reoriented } else { 0 };
        let single = resampling.saturating_add(counted).saturating_mul(BYTES_PER_VALUE).saturating_add(flags);
        single.saturating_add(self.double_bytes(spec)).saturating_add(self.mask_bytes(spec))
    }

    /// The temporary memory of splines in double precision, in bytes.
    fn double_bytes(&self, spec: &ModelSpec) -> u64 {
        match in_double_precision(spec) {
            Some(_) => resampling_bytes(self.reoriented_shape, self.resampled_shape),
            None => 0,
        }
    }

    /// The temporary memory in which the mask of a previous network becomes input channels, in bytes.
    pub(crate) fn mask_bytes(&self, spec: &ModelSpec) -> u64 {
        let Some(previous) = &spec.previous else { return 0 };
        let voxels = |shape: [usize; 3]| shape.iter().fold(1, |product: u64, n| product.saturating_mul(*n as u64));
        let (from, to) = (voxels(self.reoriented_shape), voxels(self.resampled_shape));
        // The mask, its copy with the voxels outside, and the sorted copy; the decision with its shares; the channels before they are joined.
        let decision = resampling_bytes(self.reoriented_shape, self.resampled_shape).saturating_add(17 * to);
        let channels = to.saturating_mul(BYTES_PER_VALUE).saturating_mul(previous.mask.input_channels() as u64);
        (11 * from).saturating_add(decision).saturating_add(channels)
    }

    /// The axis (0 is x) along which images are resampled separately from the others.
    pub(crate) fn separate_axis_forward(&self) -> Option<usize> {
        self.forward.coarse_axis.map(|(axis, _)| axis)
    }

    /// The same for logits.
    #[cfg(feature = "exact")]
    pub(crate) fn separate_axis_back(&self) -> Option<usize> {
        self.back.coarse_axis.map(|(axis, _)| axis)
    }

    /// Interpolation of images along x, y, z to the network's grid.
    pub(crate) fn forward(&self) -> [Interpolation; 3] {
        self.forward.per_axis(self.forward.in_plane)
    }

    /// Interpolation of masks along x, y, z to the network's grid.
    pub(crate) fn forward_labels(&self) -> [Interpolation; 3] {
        self.forward.per_axis(Interpolation::Linear)
    }

    /// Interpolation along x, y, z of logits to the scan's voxel size.
    pub(crate) fn back(&self) -> [Interpolation; 3] {
        self.back.per_axis(self.back.in_plane)
    }
}

/// Long enough for every scan. The planning of a prediction takes time and memory in proportion to the edges.
pub(crate) const MAX_EDGE: usize = 1 << 18;

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

/// The rule of nnU-Net for images with splines that exist only in double precision: those of order 2, 4 and 5.
pub(super) fn in_double_precision(spec: &ModelSpec) -> Option<NnunetResampling> {
    let SpacingRule::Nnunet(rule) = spec.spacing else { return None };
    match rule.image.method {
        ResamplingMethod::Spline { order, order_z } if [order, order_z].iter().any(|o| ![0, 1, 3].contains(o)) => {
            Some(rule.image)
        }
        _ => None,
    }
}

/// Rounds halves to even, as nnU-Net does, so that its networks get the same grid.
fn whole_voxels(voxels: f64) -> usize {
    (voxels.round_ties_even() as usize).max(1)
}

impl Resampling {
    /// The resampling of a scan with this geometry, of these models that with the largest result; `None` if no model makes more
    /// voxels of the scan than it has.
    pub fn enlarging<'a>(specs: impl IntoIterator<Item = &'a ModelSpec>, geometry: &Geometry) -> Option<Self> {
        let voxels =
            |shape: [usize; 3]| shape.iter().fold(1_u128, |product, n| product.saturating_mul(*n as u128));
        specs
            .into_iter()
            .filter_map(|spec| GridTransform::new(spec, geometry).resampling(spec, geometry))
            .filter(|resampling| voxels(resampling.to_shape) > voxels(resampling.from_shape))
            .max_by_key(|resampling| voxels(resampling.to_shape))
    }
}
