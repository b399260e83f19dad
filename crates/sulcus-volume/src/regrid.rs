use crate::resample::{cubic_weights, spline_coefficients};
use crate::{Geometry, Image, Interpolation, Label, LabelMap, Spacing, Volume, VolumeError};

/// Where each voxel of a target grid lies in a source grid. Values are pulled through the patient, so that the two may
/// differ in orientation, spacing, obliqueness and extent.
///
/// A target voxel is inside when its centre lies within the source's outer faces; beyond the outermost voxel centres,
/// which is up to half a voxel, the edge voxel counts on, as in [`resample`](crate::resample). Nothing is smoothed
/// before a coarser grid is sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regrid {
    source: [usize; 3],
    target: Geometry,
    /// Source voxel from target voxel: the first three rows of a 4×4 matrix.
    rows: [[f64; 4]; 3],
}

/// Header fields are single precision: a place this close to a face, in voxels, counts as on it.
const FACE_VOXELS: f64 = 1e-4;
/// What double precision leaves of a place that was reckoned twice.
const ROUNDING_VOXELS: f64 = 1e-9;
/// Target voxels that lie no farther from source voxels than this are those voxels, as in
/// [`Geometry::check_same_grid`].
const WHOLE_VOXELS: f64 = 1e-2;

/// Up to eight source voxels around a place, with their trilinear weights.
type Neighbours = [(usize, f64); 8];

impl Regrid {
    /// From the grid on which values are to the grid on which they are wanted.
    pub fn new(source: &Geometry, target: &Geometry) -> Self {
        let (to_ras, to_source) = (target.ras_from_voxel(), source.ras_from_voxel().inverse());
        let at = |voxel: [f64; 3]| to_source.apply(to_ras.apply(voxel));
        let origin = at([0.0; 3]);
        let [x, y, z] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(at);
        let rows = std::array::from_fn(|r| [x[r] - origin[r], y[r] - origin[r], z[r] - origin[r], origin[r]]);
        Self { source: source.shape(), target: *target, rows }
    }

    /// The grid on which the values will be.
    pub fn target(&self) -> &Geometry {
        &self.target
    }

    /// Whether every target voxel lies on a source voxel, or on what would be one beyond the edge: then
    /// [`nearest`](Self::nearest) changes no value, and there is nothing to interpolate.
    pub fn moves_whole_voxels(&self) -> bool {
        let near = |v: f64, limit: f64| (v - v.round()).abs() <= limit;
        let far = self.target.shape().into_iter().max().unwrap_or(1) as f64;
        self.rows.iter().all(|[x, y, z, origin]| {
            [x, y, z].into_iter().all(|step| near(*step, WHOLE_VOXELS / far / 3.0)) && near(*origin, WHOLE_VOXELS)
        })
    }

    /// The value of the nearest voxel, and `outside` outside. A place halfway between two voxels belongs to the later
    /// one.
    ///
    /// # Errors
    /// When the number of values is not the source's, or the result does not fit in memory.
    pub fn nearest<T: Copy>(&self, values: &[T], outside: T) -> Result<Vec<T>, VolumeError> {
        let [nx, ny, nz] = self.source;
        self.pull(values, outside, |values, at| {
            let whole = |p: f64, n: usize| ((p + 0.5 + FACE_VOXELS).floor().max(0.0) as usize).min(n - 1);
            let [x, y, z] = [whole(at[0], nx), whole(at[1], ny), whole(at[2], nz)];
            values[(z * ny + y) * nx + x]
        })
    }

    /// Trilinear interpolation, and `outside` outside.
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest).
    pub fn linear(&self, values: &[f32], outside: f32) -> Result<Vec<f32>, VolumeError> {
        self.pull(values, outside, |values, at| {
            let sum: f64 = self
                .neighbours(at)
                .into_iter()
                // What weighs nothing must not count even where it is NaN.
                .filter(|(_, weight)| *weight > 0.0)
                .map(|(offset, weight)| weight * f64::from(values[offset]))
                .sum();
            sum as f32
        })
    }

    /// The cubic B-spline through the voxels (order 3, mirrored at the outermost ones; Unser, Aldroubi & Eden 1993),
    /// and `outside` outside. It overshoots beside sharp edges.
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest); also when a value is not finite, as it would spoil its whole row.
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
        self.pull(&coefficients, outside, |coefficients, at| {
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

    /// The label with the greatest trilinear weight, which is what interpolating each label on its own and taking the
    /// greatest gives; the background outside. Of labels that weigh the same the nearest voxel's counts.
    ///
    /// # Errors
    /// As [`nearest`](Self::nearest).
    pub fn vote(&self, labels: &[Label]) -> Result<Vec<Label>, VolumeError> {
        /// Weights are sums of products that are equal but for rounding.
        const EQUAL: f64 = 1e-9;
        self.pull(labels, 0, |labels, at| {
            let neighbours = self.neighbours(at).map(|(offset, weight)| (labels[offset], weight));
            let weight_of = |label: Label| -> f64 {
                neighbours.iter().filter(|(other, _)| *other == label).map(|(_, weight)| weight).sum()
            };
            let heaviest = neighbours.iter().copied().reduce(|a, b| if b.1 > a.1 + EQUAL { b } else { a });
            let Some((mut best, _)) = heaviest else { return 0 };
            let mut weight = weight_of(best);
            for (label, _) in neighbours {
                let other = weight_of(label);
                if other > weight + EQUAL {
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

    /// The place of each target voxel, in source voxels, handed to `inside` where it lies in the source.
    fn pull<T: Copy>(
        &self,
        values: &[T],
        outside: T,
        inside: impl Fn(&[T], [f64; 3]) -> T,
    ) -> Result<Vec<T>, VolumeError> {
        self.check(values.len())?;
        let [tx, ty, tz] = self.target.shape();
        let mut out = reserved(self.target.voxels())?;
        let within = |p: f64, n: usize| p >= -0.5 - FACE_VOXELS && p <= n as f64 - 0.5 + FACE_VOXELS;
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
            let place = at[axis].clamp(0.0, last as f64);
            let low = place.floor() as usize;
            // What is on a voxel but for rounding is on it, so that no neighbour of it counts.
            let share = match place - low as f64 {
                share if share < ROUNDING_VOXELS => 0.0,
                share if share > 1.0 - ROUNDING_VOXELS => 1.0,
                share => share,
            };
            [(low, 1.0 - share), ((low + 1).min(last), share)]
        };
        let [x, y, z] = [axis(0), axis(1), axis(2)];
        std::array::from_fn(|corner| {
            let ((x, wx), (y, wy), (z, wz)) = (x[corner & 1], y[corner >> 1 & 1], z[corner >> 2 & 1]);
            ((z * ny + y) * nx + x, wx * wy * wz)
        })
    }
}

/// The four samples around a place along an axis of `n`, mirrored at its ends, with the spline's weights.
fn taps(place: f64, n: usize) -> [(usize, f64); 4] {
    let last = n as isize - 1;
    let place = place.clamp(0.0, last as f64);
    let base = place.floor();
    let weights = cubic_weights(place - base);
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

fn reserved<T>(values: usize) -> Result<Vec<T>, VolumeError> {
    let mut out = Vec::new();
    out.try_reserve_exact(values)
        .map_err(|_| VolumeError::Memory { bytes: values as u64 * size_of::<T>() as u64 })?;
    Ok(out)
}

impl Geometry {
    /// The grid along the same axes with voxels of exactly this size, first axis first: its middle stays where it is,
    /// and it has as many voxels along each axis as come nearest to the same extent, at least one.
    ///
    /// # Errors
    /// When that are more voxels than can be addressed.
    pub fn respaced(&self, spacing: Spacing) -> Result<Self, VolumeError> {
        let (own, wanted) = (self.spacing().mm(), spacing.mm());
        let shape: [usize; 3] = std::array::from_fn(|axis| {
            // A conversion that is too large saturates, and is refused below.
            ((self.shape()[axis] as f64 * own[axis] / wanted[axis]).round() as usize).max(1)
        });
        let rows = self.ras_from_voxel().rows().map(|row| {
            let mut new = row;
            for axis in 0..3 {
                new[axis] = row[axis] / own[axis] * wanted[axis];
                let middle = |n: usize| n.saturating_sub(1) as f64 / 2.0;
                new[3] += row[axis] * middle(self.shape()[axis]) - new[axis] * middle(shape[axis]);
            }
            new
        });
        Self::new(shape, crate::RasFromVoxel::new(rows)?, self.source())
    }
}

impl<T: Copy> Volume<T> {
    /// The nearest voxels' values on another grid, and `outside` where the volume does not reach.
    ///
    /// # Errors
    /// When the result does not fit in memory.
    pub fn onto(&self, target: &Geometry, outside: T) -> Result<Self, VolumeError> {
        let values = Regrid::new(self.geometry(), target).nearest(self.data(), outside)?;
        Self::new(*target, values)
    }
}

impl LabelMap {
    /// The labels on another grid, each interpolated linearly on its own, the greatest taken; the background outside.
    ///
    /// # Errors
    /// When the result does not fit in memory.
    pub fn onto_smoothly(&self, target: &Geometry) -> Result<Self, VolumeError> {
        Self::new(*target, Regrid::new(self.geometry(), target).vote(self.data())?)
    }
}

impl Image {
    /// The image on another grid, and `outside` where it does not reach.
    ///
    /// # Errors
    /// When the result does not fit in memory; for [`Interpolation::Cubic`] also when a value is not finite.
    pub fn onto(
        &self,
        target: &Geometry,
        interpolation: Interpolation,
        outside: f32,
    ) -> Result<Self, VolumeError> {
        let regrid = Regrid::new(self.geometry(), target);
        let mut data = reserved(target.voxels().saturating_mul(self.channels()))?;
        for channel in 0..self.channels() {
            let values = self.channel(channel);
            data.extend(match interpolation {
                Interpolation::Nearest => regrid.nearest(values, outside)?,
                Interpolation::Linear => regrid.linear(values, outside)?,
                Interpolation::Cubic => regrid.cubic(values, outside)?,
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

    /// A linear field over the patient, which linear and cubic interpolation give back exactly.
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
    fn a_field_over_the_patient_is_the_same_on_an_oblique_grid() {
        let source = oblique([12, 14, 10]);
        // Inside the source: its middle, smaller and turned against it.
        let middle = source.ras_from_voxel().apply([5.5, 6.5, 4.5]).0;
        let rows = [[0.0, 0.0, -0.7, 0.0], [0.6, 0.1, 0.0, 0.0], [0.1, -0.8, 0.0, 0.0]];
        let map = RasFromVoxel::new(rows).unwrap();
        let at = map.apply([1.5, 2.0, 2.5]).0;
        let rows = std::array::from_fn(|r| [rows[r][0], rows[r][1], rows[r][2], middle[r] - at[r]]);
        let target = Geometry::new([4, 5, 6], RasFromVoxel::new(rows).unwrap(), OrientationSource::Qform).unwrap();
        let image = Image::new(source, 1, field(&source)).unwrap();
        let found = image.onto(&target, Interpolation::Linear, -1e6).unwrap();
        let worst = found.data().iter().zip(field(&target)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{worst}");
        assert_eq!(*found.geometry(), target);
        assert!(!Regrid::new(&source, &target).moves_whole_voxels());
    }

    #[test]
    fn a_spline_gives_its_voxels_back_and_is_smooth_between_them() {
        let source = oblique([9, 8, 7]);
        let values: Vec<f32> = (0..source.voxels()).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        let regrid = Regrid::new(&source, &source);
        let back = regrid.cubic(&values, 0.0).unwrap();
        let worst = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < TOLERANCE, "{worst}");
        assert!(regrid.moves_whole_voxels());
        let mut broken = values;
        broken[3] = f32::NAN;
        assert_eq!(regrid.cubic(&broken, 0.0), Err(VolumeError::NotFinite { voxels: 1 }));
        // Linear interpolation keeps a NaN where it is.
        let kept = regrid.linear(&broken, 0.0).unwrap();
        assert_eq!(kept.iter().filter(|v| v.is_nan()).count(), 1);
    }

    #[test]
    fn half_a_voxel_beyond_the_last_centre_is_inside_and_more_is_not() {
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
            assert_eq!(image.onto(&target, interpolation, -1.0).unwrap().data(), expected, "{interpolation:?}");
        }
    }

    #[test]
    fn labels_are_voted_for_and_never_mixed() {
        let source = oblique([8, 8, 8]);
        let labels: Vec<Label> = (0..512).map(|i| if i % 8 < 4 { 3 } else { 200 }).collect();
        let map = LabelMap::new(source, labels).unwrap();
        let fine = source.resized([13, 8, 11]).unwrap();
        let found = map.onto_smoothly(&fine).unwrap();
        assert_eq!(found.counts().keys().copied().collect::<Vec<_>>(), [3, 200]);
        // The border lies in the middle of the seventh voxel: both are as far, and the earlier one was met first.
        let row = &found.data()[..13];
        assert_eq!((row[5], row[7]), (3, 200));
        assert_eq!(map.onto_smoothly(&source).unwrap(), map);
        assert_eq!(map.onto(&source, 0).unwrap(), map);
    }

    #[test]
    fn new_spacings_are_exact_and_the_middle_stays() {
        let grid = oblique([35, 51, 32]);
        let spacing = Spacing::new([0.8, 1.0, 3.1]).unwrap();
        let fine = grid.respaced(spacing).unwrap();
        assert!(fine.spacing().mm().iter().zip(spacing.mm()).all(|(a, b)| (a - b).abs() < 1e-12));
        let middle = |g: &Geometry| g.ras_from_voxel().apply(g.shape().map(|n| (n as f64 - 1.0) / 2.0)).0;
        assert!(middle(&grid).iter().zip(middle(&fine)).all(|(a, b)| (a - b).abs() < 1e-9));
        // No voxel of the new grid has its centre outside the old one.
        let ones = vec![1.0; grid.voxels()];
        assert!(Regrid::new(&grid, &fine).linear(&ones, 0.0).unwrap().iter().all(|v| *v == 1.0));
        assert!(grid.respaced(Spacing::new([1e-9; 3]).unwrap()).is_err());
        assert_eq!(grid.respaced(Spacing::new([1e9; 3]).unwrap()).unwrap().shape(), [1, 1, 1]);
    }

    #[test]
    fn a_length_that_does_not_fit_is_an_error() {
        let grid = oblique([3, 4, 5]);
        assert!(matches!(
            Regrid::new(&grid, &grid).linear(&[0.0; 59], 0.0),
            Err(VolumeError::Length { expected: 60, found: 59, .. })
        ));
    }
}
