//! Surfaces of the labels of a segmentation: closed triangle meshes in the patient, their area and volume, and files of them.
//!
//! A surface is made by surface nets (S. Gibson, "Constrained elastic surface nets", MICCAI 1998). It begins as the faces between
//! voxels inside and outside the label. Then its vertices move to the middle of the faces around them and are smoothed by G.
//! Taubin's λ|μ filter ("A signal processing approach to fair surface design", SIGGRAPH 1995), which does not shrink large
//! structures, and the filter moves no vertex out of the cube between the eight voxel centres around it. A structure of a few voxels
//! would shrink all the same. Therefore each part is moved along its normals at the end, until it encloses the volume of its voxels.
//!
//! Each connected part is a closed, oriented 2-manifold: every edge belongs to exactly two triangles, whose normals point out of the
//! label. Where voxels touch only at an edge or a corner, the vertices there exist once for each part, as in manifold dual
//! contouring (S. Schaefer, T. Ju and J. Warren, 2007), so that voxels that are connected through faces form one part. Outside the
//! grid is background, so that labels at its border are closed too.
//!
//! Positions are RAS+ millimetres: x grows to the patient's right, y to anterior, z to superior. Files are written in RAS or LPS
//! ([`Space`]) and say which. Surfaces of two labels that touch are made independently of each other: after smoothing they may
//! overlap or leave a gap of less than a voxel.
//!
//! ```
//! use sulcus_mesh::{MemoryLimit, Smoothing, surface, survey};
//! use sulcus_volume::{Geometry, LabelMap, OrientationSource, RasFromVoxel, Spacing};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ras_from_voxel = RasFromVoxel::aligned("RAS".parse()?, Spacing::new([10.0; 3])?);
//! let grid = Geometry::new([2, 2, 1], ras_from_voxel, OrientationSource::Sform)?;
//! let mask = LabelMap::new(grid, vec![7, 0, 0, 0])?;
//! let extents = survey(&mask);
//! let voxel = surface(&mask, &extents[&7], Smoothing::NONE, MemoryLimit::NONE)?;
//! assert_eq!((voxel.vertices().len(), voxel.triangles().len()), (8, 12));
//! let measured = voxel.measure();
//! assert_eq!(measured.area_mm2, 600.0);
//! assert!((measured.volume_ml - 1.0).abs() < 1e-9);
//! # Ok(())
//! # }
//! ```
//!
//! The crate reads and names no files, starts no threads and compiles to WebAssembly. Its results have the same bits everywhere.

mod error;
mod extent;
mod file;
mod net;
mod parts;
mod smoothing;
mod surface;
mod volume;

pub use error::MeshError;
pub use extent::{Extent, survey};
pub use file::{NamedSurface, Space, write_ply, write_stl};
pub use smoothing::Smoothing;
pub use surface::{Measures, MemoryLimit, Surface, surface};
