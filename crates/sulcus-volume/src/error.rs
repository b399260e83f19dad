/// What can be wrong with a volume or its geometry.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// A voxel size that is zero, negative, infinite or not a number.
    #[error("a voxel size must be a positive number of millimetres, found {0:?}")]
    Spacing([f64; 3]),
    /// An axis without voxels, or more voxels than this machine can address.
    #[error("a volume needs at least one voxel along each axis and fewer than 2^40 in all, found shape {0:?}")]
    Shape([usize; 3]),
    /// A transform with a NaN or an infinity, or one that maps the volume to a plane.
    #[error("the transform from voxels to the patient cannot be used: {reason}; rows {rows:?}")]
    Transform {
        /// What is wrong with it.
        reason: &'static str,
        /// Its first three rows.
        rows: [[f64; 4]; 3],
    },
    /// The number of values does not match the shape.
    #[error("shape {shape:?} with {channels} channel(s) needs {expected} values, found {found}")]
    Length {
        /// Voxels along x, y, z.
        shape: [usize; 3],
        /// Values a voxel.
        channels: usize,
        /// `x · y · z · channels`.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An orientation code that is none.
    #[error(
        "`{0}` is not an orientation: expected three letters, one of R/L, one of A/P, one of S/I, such as RAS"
    )]
    Orientation(String),
    /// Two volumes that should share a grid do not.
    #[error("the two volumes lie on different grids: {0}")]
    GridMismatch(String),
    /// Voxels that no spline goes through.
    #[error(
        "cubic interpolation needs finite values, found {voxels} voxel(s) that are NaN or infinite; replace them, or \
         interpolate linearly"
    )]
    NotFinite {
        /// How many.
        voxels: usize,
    },
    /// More voxels than there is memory for.
    #[error("the new grid needs {bytes} bytes, which do not fit in memory; choose a coarser or smaller one")]
    Memory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// A label value or name used twice, or a value of 0, which is the background.
    #[error("label table: {0}")]
    Labels(String),
}
