use crate::{Orientation, VolumeError};

/// Voxel size along the x, y and z axis of a grid in millimetres. Each is positive and finite.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "[f64; 3]", into = "[f64; 3]")]
pub struct Spacing(pub(crate) [f64; 3]);

impl Spacing {
    /// Voxel sizes in millimetres, x first.
    ///
    /// # Errors
    /// [`VolumeError::Spacing`] when one of them is not a positive finite number.
    pub fn new(mm: [f64; 3]) -> Result<Self, VolumeError> {
        if mm.iter().all(|v| v.is_finite() && *v > 0.0) { Ok(Self(mm)) } else { Err(VolumeError::Spacing(mm)) }
    }

    /// The three sizes in millimetres, x first.
    pub fn mm(self) -> [f64; 3] {
        self.0
    }
}

impl TryFrom<[f64; 3]> for Spacing {
    type Error = VolumeError;
    fn try_from(mm: [f64; 3]) -> Result<Self, Self::Error> {
        Self::new(mm)
    }
}

impl From<Spacing> for [f64; 3] {
    fn from(spacing: Spacing) -> Self {
        spacing.0
    }
}

/// A point in the patient in RAS+ millimetres: right, anterior and superior are positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RasPoint(pub [f64; 3]);

/// The index of a voxel along x, y and z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoxelIndex(pub [usize; 3]);

/// The affine transform from (fractional) voxel indices to RAS+ millimetres. It is finite and invertible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RasFromVoxel {
    rows: [[f64; 4]; 3],
}

/// The affine transform from RAS+ millimetres to (fractional) voxel indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoxelFromRas {
    rows: [[f64; 4]; 3],
}

fn apply(rows: &[[f64; 4]; 3], p: [f64; 3]) -> [f64; 3] {
    rows.map(|r| r[0] * p[0] + r[1] * p[1] + r[2] * p[2] + r[3])
}

pub(crate) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn norm(v: [f64; 3]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

impl RasFromVoxel {
    /// A transform is refused as singular below this ratio of the determinant to the product of the column lengths.
    const MIN_VOLUME_RATIO: f64 = 1e-6;

    /// The transform with these first three rows of a homogeneous 4×4 matrix.
    ///
    /// # Errors
    /// [`VolumeError::Transform`] when an entry is not finite or the matrix has no inverse.
    pub fn new(rows: [[f64; 4]; 3]) -> Result<Self, VolumeError> {
        let fail = |reason| Err(VolumeError::Transform { reason, rows });
        if rows.iter().flatten().any(|v| !v.is_finite()) {
            return fail("it has an entry that is not a finite number");
        }
        let map = Self { rows };
        let lengths = map.column_lengths_mm();
        if lengths.iter().any(|l| *l <= 0.0 || !l.is_finite()) {
            return fail("one of its columns is zero");
        }
        if (map.determinant() / lengths.iter().product::<f64>()).abs() < Self::MIN_VOLUME_RATIO {
            return fail("its columns lie in a plane, so it has no inverse");
        }
        Ok(map)
    }

    /// The transform of a grid with this spacing whose axes point along `orientation` and whose voxel (0, 0, 0) lies at
    /// the origin.
    pub fn aligned(orientation: Orientation, spacing: Spacing) -> Self {
        let mut rows = [[0.0; 4]; 3];
        for (axis, direction) in orientation.axes().into_iter().enumerate() {
            rows[direction.ras_axis()][axis] = direction.sign() * spacing.mm()[axis];
        }
        Self { rows }
    }

    /// The first three rows of the 4×4 matrix.
    pub fn rows(&self) -> [[f64; 4]; 3] {
        self.rows
    }

    /// The homogeneous 4×4 matrix.
    pub fn matrix(&self) -> [[f64; 4]; 4] {
        let [a, b, c] = self.rows;
        [a, b, c, [0.0, 0.0, 0.0, 1.0]]
    }

    /// The position of a (fractional) voxel index in the patient.
    pub fn apply(&self, voxel: [f64; 3]) -> RasPoint {
        RasPoint(apply(&self.rows, voxel))
    }

    /// The vector in the patient, in millimetres, of one voxel step along axis `axis` (0 is x).
    pub fn column(&self, axis: usize) -> [f64; 3] {
        self.rows.map(|r| r[axis])
    }

    fn column_lengths_mm(&self) -> [f64; 3] {
        [norm(self.column(0)), norm(self.column(1)), norm(self.column(2))]
    }

    /// The voxel size along each axis.
    pub fn spacing(&self) -> Spacing {
        Spacing(self.column_lengths_mm())
    }

    fn determinant(&self) -> f64 {
        let c = cross(self.column(1), self.column(2));
        self.column(0).iter().zip(c).map(|(a, b)| a * b).sum()
    }

    /// The transform from the patient to voxel indices.
    pub fn inverse(&self) -> VoxelFromRas {
        let (c0, c1, c2) = (self.column(0), self.column(1), self.column(2));
        let det = self.determinant();
        let linear = [cross(c1, c2), cross(c2, c0), cross(c0, c1)].map(|r| r.map(|v| v / det));
        let origin = self.rows.map(|r| r[3]);
        let rows = linear.map(|r| {
            let shift = -(r[0] * origin[0] + r[1] * origin[1] + r[2] * origin[2]);
            [r[0], r[1], r[2], shift]
        });
        VoxelFromRas { rows }
    }

    /// The patient directions closest to the voxel axes, as nibabel's `aff2axcodes` determines them.
    pub fn orientation(&self) -> Orientation {
        Orientation::closest_to(self.rows, self.spacing().mm())
    }
}

impl VoxelFromRas {
    /// The (fractional) voxel index of a point in the patient.
    pub fn apply(&self, point: RasPoint) -> [f64; 3] {
        apply(&self.rows, point.0)
    }
}

/// The part of a file that its transform was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OrientationSource {
    /// NIfTI's sform.
    Sform,
    /// NIfTI's qform.
    Qform,
    /// Direction cosines, spacing and origin that the file states, as NRRD, MetaImage and DICOM do.
    Directions,
    /// The file has no orientation. Only the voxel sizes are known; left and right are a guess.
    None,
    /// A picture (PNG, JPEG, TIFF): its columns and rows are no directions of a patient, and none are expected.
    Picture,
}

/// The unit of the distance between neighbouring voxels of a grid. It decides what a number of voxels can be converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GridUnit {
    /// Millimetres along all three axes. Voxels have a volume.
    #[default]
    Millimetre,
    /// Millimetres along x and y of a single picture, which has no depth. Pixels have an area.
    MillimetreInPlane,
    /// Pixels: the grid has no physical size. Each distance is 1.
    Pixel,
}

/// A grid of voxels in the patient: its shape and its transform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    shape: [usize; 3],
    ras_from_voxel: RasFromVoxel,
    source: OrientationSource,
    unit: GridUnit,
}

impl Geometry {
    const MAX_VOXELS: u128 = 1 << 40;
    /// Two grids are the same when the corners of one lie within this distance of the other's, in voxels. Header fields
    /// are single precision, and tools round them.
    const SAME_GRID_TOLERANCE_VOXELS: f64 = 1e-2;

    /// A grid of `shape` voxels, x first.
    ///
    /// # Errors
    /// [`VolumeError::Shape`] when an axis is empty or there are more voxels than can be addressed.
    pub fn new(
        shape: [usize; 3],
        ras_from_voxel: RasFromVoxel,
        source: OrientationSource,
    ) -> Result<Self, VolumeError> {
        let limit = Self::MAX_VOXELS.min(usize::MAX as u128 / 16);
        let voxels = shape.iter().try_fold(1_u128, |product, n| product.checked_mul(*n as u128));
        if !voxels.is_some_and(|v| v > 0 && v <= limit) {
            return Err(VolumeError::Shape(shape));
        }
        Ok(Self { shape, ras_from_voxel, source, unit: GridUnit::Millimetre })
    }

    /// The grid of a picture, or of a stack of pictures along z. Columns run to the left and rows to posterior (orientation
    /// LPS), so that an axial view shows the picture upright. `spacing` is in `unit`; it is ignored for [`GridUnit::Pixel`].
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn of_picture(shape: [usize; 3], spacing: Spacing, unit: GridUnit) -> Result<Self, VolumeError> {
        let spacing = match unit {
            GridUnit::Millimetre | GridUnit::MillimetreInPlane => spacing,
            GridUnit::Pixel => Spacing([1.0; 3]),
        };
        let grid = Self::new(shape, RasFromVoxel::aligned(Orientation::LPS, spacing), OrientationSource::Picture)?;
        Ok(Self { unit, ..grid })
    }

    /// This grid as that of a picture with this unit.
    #[must_use]
    pub fn as_picture(&self, unit: GridUnit) -> Self {
        Self { source: OrientationSource::Picture, unit, ..*self }
    }

    /// Another grid of the same scan: with the source of this one's transform, and its unit.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn with_grid(&self, shape: [usize; 3], ras_from_voxel: RasFromVoxel) -> Result<Self, VolumeError> {
        Ok(Self { unit: self.unit, ..Self::new(shape, ras_from_voxel, self.source)? })
    }

    /// The number of voxels along each axis, x first. [`Xyz`](crate::Xyz) names this order as a type.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The total number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape.iter().product()
    }

    /// The transform from voxel indices to the patient.
    pub fn ras_from_voxel(&self) -> &RasFromVoxel {
        &self.ras_from_voxel
    }

    /// The voxel size along each axis.
    pub fn spacing(&self) -> Spacing {
        self.ras_from_voxel.spacing()
    }

    /// The patient directions closest to the voxel axes.
    pub fn orientation(&self) -> Orientation {
        self.ras_from_voxel.orientation()
    }

    /// The volume of `voxels` voxels in millilitres (1 ml = 1000 mm³). Sheared grids, as a tilted gantry produces, are
    /// taken into account. `None` for a picture, whose pixels have no volume.
    pub fn ml(&self, voxels: usize) -> Option<f64> {
        // The division comes last: 0.001 ml has no exact binary representation, but 1896 / 1000 is rounded once.
        (self.unit == GridUnit::Millimetre)
            .then(|| voxels as f64 * self.ras_from_voxel.determinant().abs() / 1000.0)
    }

    /// The area of `pixels` pixels of a picture in square millimetres; `None` for scans, and for pictures whose pixel size is
    /// unknown.
    pub fn mm2(&self, pixels: usize) -> Option<f64> {
        let [x, y, _] = self.spacing().mm();
        (self.unit == GridUnit::MillimetreInPlane).then_some(pixels as f64 * (x * y))
    }

    /// The unit of the spacing.
    pub fn unit(&self) -> GridUnit {
        self.unit
    }

    /// Whether this is the grid of a picture, which has no position in a patient.
    pub fn is_picture(&self) -> bool {
        self.source == OrientationSource::Picture
    }

    /// The part of the file that the transform was read from.
    pub fn source(&self) -> OrientationSource {
        self.source
    }

    /// The index of a voxel in the data (x fastest), or `None` outside the grid.
    pub fn offset(&self, VoxelIndex([x, y, z]): VoxelIndex) -> Option<usize> {
        let [nx, ny, nz] = self.shape;
        (x < nx && y < ny && z < nz).then(|| (z * ny + y) * nx + x)
    }

    /// Checks that `other` has the same shape and that its voxels lie at the same positions in the patient. Two pictures have no
    /// positions, so only their shapes count: a mask that was painted over a picture rarely states the size of its pixels.
    ///
    /// # Errors
    /// [`VolumeError::GridMismatch`], which says how they differ.
    pub fn check_same_grid(&self, other: &Self) -> Result<(), VolumeError> {
        if self.shape != other.shape {
            return Err(VolumeError::GridMismatch(format!("shapes {:?} and {:?}", self.shape, other.shape)));
        }
        if self.ras_from_voxel == other.ras_from_voxel || (self.is_picture() && other.is_picture()) {
            // Far from the origin the round trip below loses whole voxels to rounding, even between equal transforms.
            return Ok(());
        }
        let to_voxel = self.ras_from_voxel.inverse();
        for corner in 0..8_usize {
            let index: [f64; 3] =
                std::array::from_fn(
                    |axis| if corner >> axis & 1 == 1 { (self.shape[axis] - 1) as f64 } else { 0.0 },
                );
            let found = to_voxel.apply(other.ras_from_voxel.apply(index));
            let distance = index.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if distance > Self::SAME_GRID_TOLERANCE_VOXELS {
                let position = |g: &Self| g.ras_from_voxel.apply(index).0.map(|v| format!("{v:.2}")).join(", ");
                return Err(VolumeError::GridMismatch(format!(
                    "voxel {:?} lies at ({}) mm in the first and at ({}) mm in the second",
                    index.map(|v| v as usize),
                    position(self),
                    position(other)
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oblique() -> RasFromVoxel {
        RasFromVoxel::new([[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]]).unwrap()
    }

    #[test]
    fn inverse_undoes_the_transform() {
        let map = oblique();
        let p = [3.5, -2.0, 17.25];
        let back = map.inverse().apply(map.apply(p));
        assert!(p.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-12), "{back:?}");
    }

    #[test]
    fn grid_far_from_the_origin_equals_itself() {
        let far =
            RasFromVoxel::new([[1.0, 0.0, 0.0, 3.6e16], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).unwrap();
        let grid = Geometry::new([8, 8, 4], far, OrientationSource::Sform).unwrap();
        let index = [7.0, 0.0, 0.0];
        assert_ne!(far.inverse().apply(far.apply(index)), index);
        grid.check_same_grid(&grid).unwrap();
    }

    #[test]
    fn singular_and_nan_transforms_are_refused() {
        assert!(RasFromVoxel::new([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0; 4]]).is_err());
        assert!(
            RasFromVoxel::new([[f64::NAN, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).is_err()
        );
        assert!(RasFromVoxel::new([[0.0; 4], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]).is_err());
    }

    #[test]
    fn check_same_grid_reports_the_difference() {
        let a = Geometry::new([4, 5, 6], oblique(), OrientationSource::Sform).unwrap();
        assert!(a.check_same_grid(&a).is_ok());
        let mut rows = oblique().rows();
        rows[0][0] = -rows[0][0];
        let b = Geometry::new([4, 5, 6], RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap();
        assert!(a.check_same_grid(&b).unwrap_err().to_string().contains("lies at"));
        let c = Geometry::new([4, 5, 7], oblique(), OrientationSource::Sform).unwrap();
        assert!(a.check_same_grid(&c).unwrap_err().to_string().contains("shapes [4, 5, 6] and [4, 5, 7]"));
    }

    #[test]
    fn volume_in_ml_accounts_for_shear() {
        let map = RasFromVoxel::new([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 3.0, 0.0]]).unwrap();
        let grid = Geometry::new([4, 5, 6], map, OrientationSource::Sform).unwrap();
        assert_eq!((grid.ml(500), grid.mm2(500)), (Some(3.0), None));
    }

    #[test]
    fn pictures_measure_what_their_unit_allows() {
        let spacing = Spacing::new([0.5, 0.25, 2.0]).unwrap();
        let picture = |unit| Geometry::of_picture([4, 3, 1], spacing, unit).unwrap();
        let (pixels, area, volume) =
            (picture(GridUnit::Pixel), picture(GridUnit::MillimetreInPlane), picture(GridUnit::Millimetre));
        assert_eq!((pixels.ml(8), pixels.mm2(8), pixels.spacing().mm()), (None, None, [1.0; 3]));
        assert_eq!((area.ml(8), area.mm2(8)), (None, Some(1.0)));
        assert_eq!((volume.ml(8), volume.mm2(8)), (Some(0.002), None));
        assert_eq!(pixels.orientation().to_string(), "LPS");
        // What is made from a grid has its unit.
        let coarse = area.respaced(Spacing::new([1.0, 0.5, 2.0]).unwrap()).unwrap();
        assert_eq!((coarse.unit(), coarse.source()), (GridUnit::MillimetreInPlane, OrientationSource::Picture));
    }

    #[test]
    fn pictures_of_one_shape_share_a_grid_whatever_their_pixel_sizes_are() {
        let fine = Spacing::new([0.5; 3]).unwrap();
        let stated = Geometry::of_picture([4, 3, 1], fine, GridUnit::MillimetreInPlane).unwrap();
        let painted = Geometry::of_picture([4, 3, 1], fine, GridUnit::Pixel).unwrap();
        assert!(stated.check_same_grid(&painted).is_ok());
        let turned = Geometry::of_picture([3, 4, 1], fine, GridUnit::Pixel).unwrap();
        assert!(stated.check_same_grid(&turned).is_err());
        let scan = Geometry::new([4, 3, 1], oblique(), OrientationSource::Sform).unwrap();
        assert!(painted.check_same_grid(&scan).is_err());
    }

    #[test]
    fn empty_and_overflowing_shapes_are_refused() {
        let source = OrientationSource::None;
        assert!(Geometry::new([0, 5, 6], oblique(), source).is_err());
        assert!(Geometry::new([usize::MAX, usize::MAX, 2], oblique(), source).is_err());
    }

    #[test]
    fn aligned_grid_has_its_orientation() {
        for orientation in Orientation::all() {
            let map = RasFromVoxel::aligned(orientation, Spacing::new([1.5, 0.7, 2.5]).unwrap());
            assert_eq!(map.orientation(), orientation);
        }
    }
}
