/// Why a volume, a geometry or a label table is invalid, or why an operation on one failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// A voxel size is zero, negative, infinite or NaN. Holds the three sizes in millimetres, x first.
    #[error("a voxel size must be a positive number of millimetres, found {0:?}")]
    Spacing([f64; 3]),
    /// An axis has no voxels, or the volume has more voxels than this machine can address. Holds the shape, x first.
    #[error("a volume needs at least one voxel along each axis and fewer than 2^40 in all, found shape {0:?}")]
    Shape([usize; 3]),
    /// A transform has an entry that is NaN or infinite, or it has no inverse.
    #[error("the transform from voxels to the patient cannot be used: {reason}; rows {rows:?}")]
    Transform {
        /// Why it was refused.
        reason: &'static str,
        /// The first three rows of the 4×4 matrix.
        rows: [[f64; 4]; 3],
    },
    /// The number of values does not match the shape.
    #[error("shape {shape:?} with {channels} channel(s) needs {expected} values, found {found}")]
    Length {
        /// Voxels along x, y and z.
        shape: [usize; 3],
        /// Values per voxel.
        channels: usize,
        /// `x · y · z · channels`.
        expected: usize,
        /// The number of values that were given.
        found: usize,
    },
    /// Not an orientation code. Holds at most its first 16 characters.
    #[error(
        "`{0}` is not an orientation: expected three letters, one of R/L, one of A/P, one of S/I, such as RAS"
    )]
    Orientation(String),
    /// Two volumes that must share a grid do not. Holds the difference in words.
    #[error("the two volumes lie on different grids: {0}")]
    GridMismatch(String),
    /// Cubic interpolation of values that are NaN or infinite.
    #[error(
        "cubic interpolation needs finite values, found {voxels} voxel(s) that are NaN or infinite; replace them, or \
         interpolate linearly"
    )]
    NotFinite {
        /// The number of such voxels.
        voxels: usize,
    },
    /// The result does not fit in memory.
    #[error("the grid needs {bytes} bytes, which do not fit in memory; choose a coarser or smaller one")]
    Memory {
        /// Bytes that were requested.
        bytes: u64,
    },
    /// A label table has a duplicate value or name, or lists the value 0, which is the background.
    #[error("label table: {0}")]
    Labels(String),
    /// A mask and the table that it is compared with name a label differently.
    #[error(
        "label {value} is named `{name}`, but `{expected}` is expected for this number, and `{name}` is not an expected name"
    )]
    LabelName {
        /// The number of the label.
        value: u16,
        /// The name that the mask gives it.
        name: String,
        /// The name in the table.
        expected: String,
    },
    /// Two labels of a mask have names that stand for the same label of the table that it is compared with.
    #[error("the names of the labels {} and {} both stand for label {number}", .values[0], .values[1])]
    LabelNumber {
        /// The numbers of the labels in the mask.
        values: [u16; 2],
        /// The number in the table.
        number: u16,
    },
}
