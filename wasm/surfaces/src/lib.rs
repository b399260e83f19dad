//! The surfaces of the browser viewer. They are made from the voxels of a label layer, drawn by WebGL in the page or by this module
//! where there is none, and saved as the files that `sulcus mesh` writes.
//!
//! This is a WebAssembly module of its own, which runs in a worker. The page passes grids and voxels in.

mod bindings;
mod camera;
mod raster;
mod shape;

pub use bindings::Surfaces;
pub use camera::Camera;
pub use raster::Picture;
pub use shape::Shape;
