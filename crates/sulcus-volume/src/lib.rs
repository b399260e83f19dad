//! Medical volumes in patient space: geometry, orientation, resampling, labels and slices.
//!
//! A [`Volume`] is an array of voxels plus a [`Geometry`]: the number of voxels along each axis and the affine
//! transform from voxel indices to the patient. World coordinates are RAS+ millimetres, as in NIfTI: x grows to the
//! patient's right, y to anterior, z to superior. An [`Image`] has one or more `f32` channels, a [`LabelMap`] one
//! label per voxel.
//!
//! Voxels are stored with x fastest, the order of a NIfTI file. The same memory read as a row-major tensor is
//! `[z, y, x]`, so no copy is needed between the two. [`Xyz`] and [`Zyx`] mark which of the two orders three numbers
//! are in.
//!
//! ```
//! use sulcus_volume::{
//!     Geometry, Image, Interpolation, Orientation, OrientationSource, RasFromVoxel, Spacing, VoxelIndex,
//! };
//!
//! # fn main() -> Result<(), sulcus_volume::VolumeError> {
//! // A scan whose axes run to the patient's left, posterior and superior, with voxels of 1 × 1 × 3 mm.
//! let ras_from_voxel = RasFromVoxel::aligned("LPS".parse()?, Spacing::new([1.0, 1.0, 3.0])?);
//! let geometry = Geometry::new([64, 48, 20], ras_from_voxel, OrientationSource::Sform)?;
//! let image = Image::new(geometry, 1, vec![0.0; geometry.voxels()])?;
//!
//! // Permute and flip the axes to RAS. No voxel moves in the patient and no value changes.
//! let ras = image.reoriented(Orientation::RAS);
//! assert_eq!(ras.geometry().orientation(), Orientation::RAS);
//! assert_eq!(ras.geometry().offset(VoxelIndex([63, 47, 0])), Some(64 * 48 - 1));
//!
//! // Resample to isotropic voxels.
//! let isotropic = ras.geometry().respaced(Spacing::new([1.0; 3])?)?;
//! let resampled = ras.resample_to(&isotropic, Interpolation::Linear, 0.0)?;
//! assert_eq!(resampled.geometry().shape(), [64, 48, 60]);
//! # Ok(())
//! # }
//! ```
//!
//! The crate does no I/O, starts no threads and compiles to WebAssembly. Reading and writing files is the task of
//! `sulcus-io`.

mod acquired;
mod axes;
mod error;
mod geometry;
mod grid_resampler;
mod label;
mod label_names;
mod orientation;
mod reorientation;
mod resample;
mod slice;
mod volume;

pub use axes::{GridAxis, Xyz, Zyx};
pub use error::VolumeError;
pub use geometry::{
    Geometry, GridUnit, OrientationSource, RasFromVoxel, RasPoint, Spacing, VoxelFromRas, VoxelIndex,
};
pub use grid_resampler::GridResampler;
pub use label::{LabelEntry, LabelTable, Rgb};
pub use orientation::{AxisDirection, Orientation};
pub use reorientation::Reorientation;
pub use resample::{AxisResampling, Interpolation, resample, resample_beyond_edges};
pub use slice::{Plane, SliceView, WindowLevel, extract_slice};
pub use volume::{Image, Label, LabelMap, Volume};
