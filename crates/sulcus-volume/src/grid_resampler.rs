use crate::resample::{cubic_weights, reserved, spline_coefficients};
use crate::{Geometry, Image, Interpolation, Label, LabelMap, Spacing, Volume, VolumeError};

/// Resamples values from a source grid to a target grid. The position of each target voxel is mapped through the patient
/// into the source, so the two grids may differ in orientation, spacing, obliqueness and extent.
///
/// A target voxel is inside when its centre lies within the outer faces of the source. Between the outermost voxel
/// centres and the outer faces (half a voxel) the values of the edge voxels are repeated, as in
/// [`resample`](crate::resample()). No anti-aliasing filter is applied when the target grid is coarser.
///
/// # Shapes
/// Values of the source and of the target are `[z, y, x]`, row-major.
///
/// ```
/// use sulcus_volume::{Geometry, GridResampler, Orientation, OrientationSource, RasFromVoxel, Spacing};
///
/// # fn main() -> Result<(), sulcus_volume::VolumeError> {
/// let grid = |shape, mm| {
///     let ras_from_voxel = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([mm, 1.0, 1.0])?);
///     Geometry::new(shape, ras_from_voxel, OrientationSource::Sform)
/// };
/// let resampler = GridResampler::new(&grid([3, 1, 1], 1.0)?, &grid([6, 1, 1], 0.5)?);
/// assert_eq!(resampler.linear(&[10.0, 20.0, 40.0], 0.0)?, [10.0, 15.0, 20.0, 30.0, 40.0, 40.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridResampler {
    source: [usize; 3],
    target: Geometry,
    /// Source voxel from target voxel: the first three rows of a 4×4 matrix.
    rows: [[f64; 4]; 3],
}

/// A position this close to an outer face, in voxels, lies on it: header fields are single precision.
const FACE_TOLERANCE_VOXELS: f64 = 1e-4;
/// The rounding error of a position in double precision, in voxels.
const ROUNDING_VOXELS: f64 = 1e-9;
/// A target voxel coincides with a source voxel within this distance, in voxels, as in [`Geometry::check_same_grid`].
const ALIGNMENT_TOLERANCE_VOXELS: f64 = 1e-2;

/// The eight source voxels around a position, as offsets, with their trilinear weights.
type Neighbours = [(usize, f64); 8];

impl GridResampler {
    /// A resampler from the grid `source` to the grid `target`.
    pub fn new(source: &Geometry, target: &Geometry) -> Self {
        let (to_ras, to_source) = (target.ras_from_voxel(), source.ras_from_voxel().inverse());
        let at = |voxel: [f64; 3]| to_source.apply(to_ras.apply(voxel));
        let origin = at([0.0; 3]);
        let [x, y, z] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(at);
        let rows = std::array::from_fn(|r| [x[r] - origin[r], y[r] - origin[r], z[r] - origin[r], origin[r]]);
        Self { source: source.shape(), target: *target, rows }
    }

    /// The target grid.
    pub fn target(&self) -> &Geometry {
        &self.target
    }

    /// Whether every target voxel coincides with a source voxel, or would if the source grid were continued beyond its
    /// edges. [`nearest`](Self::nearest) is then exact, because nothing has to be interpolated.
    pub fn is_voxel_aligned(&self) -> bool {
        let near = |v: f64, limit: f64| (v - v.round()).abs() <= limit;
        // The error of a step accumulates along the longest axis, and three axes add up.
        let longest = self.target.shape().into_iter().max().unwrap_or(1) as f64;
        self.rows.iter().all(|[x, y, z, origin]| {
            [x, y, z].into_iter().all(|step| near(*step, ALIGNMENT_TOLERANCE_VOXELS / longest / 3.0))
                && near(*origin, ALIGNMENT_TOLERANCE_VOXELS)
        })
    }

    /// Nearest-neighbour interpolation; `outside` is the value of voxels outside the source. A position halfway between
    /// two voxels takes the value of the one with the larger index.
    ///
    /// # Errors
    /// [`VolumeError::Length`] when the number of values is not that of the source, [`VolumeError::Memory`] when the
    /// result does not fit in memory.
    pub fn nearest<T: Copy>(&self, values: &[T], outside: T) -> Result<Vec<T>, VolumeError> {
        let [nx, ny, nz] = self.source;
        self.sample(values, outside, |values, at| {
            let round =
                |p: f64, n: usize| ((p + 0.5 + FACE_TOLERANCE_VOXELS).floor().max(0.0) as usize).min(n - 1);
            let [x, y, z] = [round(at[0], nx), round(at[1], ny), round(at[2], nz)];
            values[(z * ny + y) * nx + x]
        })
    }

    /// Trilinear interpolation; `outside` is the value of voxels outside the source.
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest).
    pub fn linear(&self, values: &[f32], outside: f32) -> Result<Vec<f32>, VolumeError> {
        self.sample(values, outside, |values, at| {
            let sum: f64 = self
                .neighbours(at)
                .into_iter()
                // A NaN with weight 0 must not contribute: 0 · NaN is NaN.
                .filter(|(_, weight)| *weight > 0.0)
                .map(|(offset, weight)| weight * f64::from(values[offset]))
                .sum();
            sum as f32
        })
    }

    /// Interpolation by the cubic B-spline through the voxels (order 3, mirrored at the outermost voxels; Unser, Aldroubi &
    /// Eden 1993); `outside` is the value of voxels outside the source. The spline overshoots beside sharp edges.
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest), and [`VolumeError::NotFinite`] when a value is NaN or infinite: the spline's filter
    /// would spread it along its whole row.
    pub fn cubic(&self, values: &[f32], outside: f32) -> Result<Vec<f32>, VolumeError> {
        let not_finite = values.iter().filter(|v| !v.is_finite()).count();
        if not_finite > 0 {
            return Err(VolumeError::NotFinite { voxels: not_finite });
        }
        self.check(values.len())?;
        let mut coefficients = reserved(values.len())?;
        coefficients.extend_from_slice(values);
        (0..3).for_each(|axis| spline_along(&mut coefficients, self.source, axis));
        let [nx, ny, nz] = self.source;
        self.sample(&coefficients, outside, |coefficients, at| {
            let [x, y, z] = [taps(at[0], nx), taps(at[1], ny), taps(at[2], nz)];
            let mut sum = 0.0;
            for (z, wz) in z {
                for (y, wy) in y {
                    let row = (z * ny + y) * nx;
                    let along: f64 = x.iter().map(|(x, wx)| wx * f64::from(coefficients[row + x])).sum();
                    sum += wz * wy * along;
                }
            }
            sum as f32
        })
    }

    /// Label interpolation: the label with the largest trilinear weight, which equals interpolating the mask of each label
    /// linearly and taking the largest. Among labels of equal weight the one of the nearest voxel is chosen. Voxels outside
    /// the source are background.
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest).
    pub fn linear_labels(&self, labels: &[Label]) -> Result<Vec<Label>, VolumeError> {
        /// Weights that differ by less are equal: they are sums of rounded products.
        const WEIGHT_TOLERANCE: f64 = 1e-9;
        self.sample(labels, 0, |labels, at| {
            let neighbours = self.neighbours(at).map(|(offset, weight)| (labels[offset], weight));
            let weight_of = |label: Label| -> f64 {
                neighbours.iter().filter(|(other, _)| *other == label).map(|(_, weight)| weight).sum()
            };
            let heaviest =
                neighbours.iter().copied().reduce(|a, b| if b.1 > a.1 + WEIGHT_TOLERANCE { b } else { a });
            let Some((mut best, _)) = heaviest else { return 0 };
            let mut weight = weight_of(best);
            for (label, _) in neighbours {
                let other = weight_of(label);
                if other > weight + WEIGHT_TOLERANCE {
                    (best, weight) = (label, other);
                }
            }
            best
        })
    }

    fn check(&self, found: usize) -> Result<(), VolumeError> {
        let expected = self.source.iter().product();
        if found == expected {
            return Ok(());
        }
        Err(VolumeError::Length { shape: self.source, channels: 1, expected, found })
    }

    /// Calls `inside` with the position of each target voxel in source voxels, where it lies inside the source.
    fn sample<T: Copy>(
        &self,
        values: &[T],
        outside: T,
        inside: impl Fn(&[T], [f64; 3]) -> T,
    ) -> Result<Vec<T>, VolumeError> {
        self.check(values.len())?;
        let [tx, ty, tz] = self.target.shape();
        let mut out = reserved(self.target.voxels())?;
        let within =
            |p: f64, n: usize| p >= -0.5 - FACE_TOLERANCE_VOXELS && p <= n as f64 - 0.5 + FACE_TOLERANCE_VOXELS;
        for z in 0..tz {
            for y in 0..ty {
                let start = self.rows.map(|row| row[1] * y as f64 + row[2] * z as f64 + row[3]);
                out.extend((0..tx).map(|x| {
                    let at: [f64; 3] = std::array::from_fn(|r| start[r] + self.rows[r][0] * x as f64);
                    if (0..3).all(|axis| within(at[axis], self.source[axis])) {
                        inside(values, at)
                    } else {
                        outside
                    }
                }));
            }
        }
        Ok(out)
    }

    fn neighbours(&self, at: [f64; 3]) -> Neighbours {
        let [nx, ny, _] = self.source;
        let axis = |axis: usize| {
            let last = self.source[axis] - 1;
            let position = at[axis].clamp(0.0, last as f64);
            let low = position.floor() as usize;
            // A position on a voxel up to rounding must give that voxel's value alone.
            let fraction = match position - low as f64 {
                fraction if fraction < ROUNDING_VOXELS => 0.0,
                fraction if fraction > 1.0 - ROUNDING_VOXELS => 1.0,
                fraction => fraction,
            };
            [(low, 1.0 - fraction), ((low + 1).min(last), fraction)]
        };
        let [x, y, z] = [axis(0), axis(1), axis(2)];
        std::array::from_fn(|corner| {
            let ((x, wx), (y, wy), (z, wz)) = (x[corner & 1], y[corner >> 1 & 1], z[corner >> 2 & 1]);
            ((z * ny + y) * nx + x, wx * wy * wz)
        })
    }
}

/// The four samples around a position along an axis of `n` samples, mirrored at its ends, with the spline's weights.
fn taps(position: f64, n: usize) -> [(usize, f64); 4] {
    let last = n as isize - 1;
    let position = position.clamp(0.0, last as f64);
    let base = position.floor();
    let weights = cubic_weights(position - base);
    std::array::from_fn(|k| {
        let at = base as isize - 1 + k as isize;
        let mirrored = if at < 0 {
            -at
        } else if at > last {
            2 * last - at
        } else {
            at
        };
        (mirrored.clamp(0, last) as usize, weights[k])
    })
}

/// Replaces the values along one axis by B-spline coefficients.
fn spline_along(data: &mut [f32], shape: [usize; 3], axis: usize) {
    let inner: usize = shape[..axis].iter().product();
    let n = shape[axis];
    let mut line = vec![0.0_f32; n];
    for block in data.chunks_exact_mut(inner * n) {
        for i in 0..inner {
            line.iter_mut().zip(block.iter().skip(i).step_by(inner)).for_each(|(to, from)| *to = *from);
            spline_coefficients(&mut line);
            block.iter_mut().skip(i).step_by(inner).zip(&line).for_each(|(to, from)| *to = *from);
        }
    }
}

impl Geometry {
    /// The grid with the same axes, the same centre and voxels of exactly this size. The number of voxels along each axis is
    /// the one whose extent is closest to the original, at least one.
    ///
    /// # Errors
    /// [`VolumeError::Shape`] when there are more voxels than can be addressed.
    pub fn respaced(&self, spacing: Spacing) -> Result<Self, VolumeError> {
        let (own, wanted) = (self.spacing().mm(), spacing.mm());
        let shape: [usize; 3] = std::array::from_fn(|axis| {
            // The conversion saturates, and `Self::new` refuses a shape that large.
            ((self.shape()[axis] as f64 * own[axis] / wanted[axis]).round() as usize).max(1)
        });
        let rows = self.ras_from_voxel().rows().map(|row| {
            let mut new = row;
            for axis in 0..3 {
                new[axis] = row[axis] / own[axis] * wanted[axis];
                let centre = |n: usize| n.saturating_sub(1) as f64 / 2.0;
                new[3] += row[axis] * centre(self.shape()[axis]) - new[axis] * centre(shape[axis]);
            }
            new
        });
        self.with_grid(shape, crate::RasFromVoxel::new(rows)?)
    }
}

impl<T: Copy> Volume<T> {
    /// The volume on another grid by nearest-neighbour interpolation; `outside` is the value of voxels that the volume does
    /// not cover.
    ///
    /// # Errors
    /// [`VolumeError::Memory`] when the result does not fit in memory.
    pub fn resample_to(&self, target: &Geometry, outside: T) -> Result<Self, VolumeError> {
        let values = GridResampler::new(self.geometry(), target).nearest(self.data(), outside)?;
        Self::new(*target, values)
    }
}

impl LabelMap {
    /// The label map on another grid by label interpolation ([`GridResampler::linear_labels`]). Voxels that the label map
    /// does not cover are background.
    ///
    /// # Errors
    /// [`VolumeError::Memory`] when the result does not fit in memory.
    pub fn resample_linear_to(&self, target: &Geometry) -> Result<Self, VolumeError> {
        Self::new(*target, GridResampler::new(self.geometry(), target).linear_labels(self.data())?)
    }
}

impl Image {
    /// The image on another grid; `outside` is the value of voxels that the image does not cover.
    ///
    /// # Errors
    /// [`VolumeError::Memory`] when the result does not fit in memory; for [`Interpolation::Cubic`] also
    /// [`VolumeError::NotFinite`] when a value is NaN or infinite.
    pub fn resample_to(
        &self,
        target: &Geometry,
        interpolation: Interpolation,
        outside: f32,
    ) -> Result<Self, VolumeError> {
        let resampler = GridResampler::new(self.geometry(), target);
        let mut data = reserved(target.voxels().saturating_mul(self.channels()))?;
        for channel in 0..self.channels() {
            let values = self.channel(channel);
            data.extend(match interpolation {
                Interpolation::Nearest => resampler.nearest(values, outside)?,
                Interpolation::Linear => resampler.linear(values, outside)?,
                Interpolation::Cubic => resampler.cubic(values, outside)?,
            });
        }
        Self::new(*target, self.channels(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrientationSource, RasFromVoxel};

    /// Single precision, over values up to about 200.
    const TOLERANCE: f32 = 1e-4;

    fn oblique(shape: [usize; 3]) -> Geometry {
        let map =
            RasFromVoxel::new([[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]]).unwrap();
        Geometry::new(shape, map, OrientationSource::Sform).unwrap()
    }

    /// A linear function of the position in the patient, which linear and cubic interpolation reproduce exactly.
    fn field(grid: &Geometry) -> Vec<f32> {
        let [nx, ny, nz] = grid.shape();
        let mut out = Vec::new();
        for (z, y, x) in (0..nz).flat_map(|z| (0..ny).flat_map(move |y| (0..nx).map(move |x| (z, y, x)))) {
            let [r, a, s] = grid.ras_from_voxel().apply([x as f64, y as f64, z as f64]).0;
            out.push((0.5 * r - 1.25 * a + 2.0 * s + 3.0) as f32);
        }
        out
    }

    #[test]
    fn linear_field_is_reproduced_on_an_oblique_grid() {
        let source = oblique([12, 14, 10]);
        // A smaller grid inside the source, with the same centre but rotated.
        let middle = source.ras_from_voxel().apply([5.5, 6.5, 4.5]).0;
        let rows = [[0.0, 0.0, -0.7, 0.0], [0.6, 0.1, 0.0, 0.0], [0.1, -0.8, 0.0, 0.0]];
        let map = RasFromVoxel::new(rows).unwrap();
        let at = map.apply([1.5, 2.0, 2.5]).0;
        let rows = std::array::from_fn(|r| [rows[r][0], rows[r][1], rows[r][2], middle[r] - at[r]]);
        let target = Geometry::new([4, 5, 6], RasFromVoxel::new(rows).unwrap(), OrientationSource::Qform).unwrap();
        let image = Image::new(source, 1, field(&source)).unwrap();
        let found = image.resample_to(&target, Interpolation::Linear, -1e6).unwrap();
        let worst = found.data().iter().zip(field(&target)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{worst}");
        assert_eq!(*found.geometry(), target);
        assert!(!GridResampler::new(&source, &target).is_voxel_aligned());
    }

    #[test]
    fn cubic_reproduces_voxel_values_and_refuses_nan() {
        let source = oblique([9, 8, 7]);
        let values: Vec<f32> = (0..source.voxels()).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        let resampler = GridResampler::new(&source, &source);
        let back = resampler.cubic(&values, 0.0).unwrap();
        let worst = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{worst}");
        assert!(resampler.is_voxel_aligned());
        let mut broken = values;
        broken[3] = f32::NAN;
        assert_eq!(resampler.cubic(&broken, 0.0), Err(VolumeError::NotFinite { voxels: 1 }));
        // Linear interpolation keeps a NaN where it is.
        let kept = resampler.linear(&broken, 0.0).unwrap();
        assert_eq!(kept.iter().filter(|v| v.is_nan()).count(), 1);
    }

    #[test]
    fn grid_ends_half_a_voxel_beyond_the_last_centre() {
        let line = |shape, step: f64, origin: f64| {
            let rows = [[step, 0.0, 0.0, origin], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
            Geometry::new([shape, 1, 1], RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap()
        };
        let source = line(3, 1.0, 0.0);
        let target = line(9, 0.5, -1.0);
        for (interpolation, expected) in [
            (Interpolation::Nearest, [-1.0, 10.0, 10.0, 20.0, 20.0, 40.0, 40.0, 40.0, -1.0]),
            (Interpolation::Linear, [-1.0, 10.0, 10.0, 15.0, 20.0, 30.0, 40.0, 40.0, -1.0]),
        ] {
            let image = Image::new(source, 1, vec![10.0, 20.0, 40.0]).unwrap();
            assert_eq!(
                image.resample_to(&target, interpolation, -1.0).unwrap().data(),
                expected,
                "{interpolation:?}"
            );
        }
    }

    #[test]
    fn linear_labels_gives_only_existing_labels() {
        let source = oblique([8, 8, 8]);
        let labels: Vec<Label> = (0..512).map(|i| if i % 8 < 4 { 3 } else { 200 }).collect();
        let map = LabelMap::new(source, labels).unwrap();
        let fine = source.resized([13, 8, 11]).unwrap();
        let found = map.resample_linear_to(&fine).unwrap();
        assert_eq!(found.counts().keys().copied().collect::<Vec<_>>(), [3, 200]);
        // The boundary lies in the middle of the seventh voxel, where both labels have equal weight.
        let row = &found.data()[..13];
        assert_eq!((row[5], row[7]), (3, 200));
        assert_eq!(map.resample_linear_to(&source).unwrap(), map);
        assert_eq!(map.resample_to(&source, 0).unwrap(), map);
    }

    #[test]
    fn respaced_has_the_exact_spacing_and_the_same_centre() {
        let grid = oblique([35, 51, 32]);
        let spacing = Spacing::new([0.8, 1.0, 3.1]).unwrap();
        let fine = grid.respaced(spacing).unwrap();
        assert!(fine.spacing().mm().iter().zip(spacing.mm()).all(|(a, b)| (a - b).abs() < 1e-12));
        let middle = |g: &Geometry| g.ras_from_voxel().apply(g.shape().map(|n| (n as f64 - 1.0) / 2.0)).0;
        assert!(middle(&grid).iter().zip(middle(&fine)).all(|(a, b)| (a - b).abs() < 1e-9));
        // Every voxel centre of the new grid lies inside the old one.
        let ones = vec![1.0; grid.voxels()];
        assert!(GridResampler::new(&grid, &fine).linear(&ones, 0.0).unwrap().iter().all(|v| *v == 1.0));
        assert!(grid.respaced(Spacing::new([1e-9; 3]).unwrap()).is_err());
        assert_eq!(grid.respaced(Spacing::new([1e9; 3]).unwrap()).unwrap().shape(), [1, 1, 1]);
    }

    #[test]
    fn wrong_number_of_values_is_an_error() {
        let grid = oblique([3, 4, 5]);
        assert!(matches!(
            GridResampler::new(&grid, &grid).linear(&[0.0; 59], 0.0),
            Err(VolumeError::Length { expected: 60, found: 59, .. })
        ));
    }
}
