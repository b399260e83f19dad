//! Volumes in patient space.
//!
//! A volume is a block of voxels and a [`Geometry`] that says where each voxel lies in the patient, in
//! millimetres, in RAS+ world coordinates (x to the patient's right, y anterior, z superior), as NIfTI has them.
//! Voxels are stored with the first axis fastest, the order of the NIfTI file; read as a row-major tensor the
//! same bytes are `[z, y, x]`.
//!
//! No I/O, no threads: the crate compiles to WebAssembly.

mod error;
mod geometry;
mod label;
mod orientation;
mod regrid;
mod resample;
mod slice;
mod volume;

pub use error::VolumeError;
pub use geometry::{Geometry, OrientationSource, RasFromVoxel, RasPoint, Spacing, VoxelFromRas, VoxelIndex};
pub use label::{LabelEntry, LabelTable, Rgb};
pub use orientation::{AxisDirection, Orientation, Reorientation};
pub use regrid::Regrid;
pub use resample::{AxisResampling, Interpolation, resample};
pub use slice::{Plane, SliceView, WindowLevel, extract_slice};
pub use volume::{Image, Label, LabelMap, Volume};
