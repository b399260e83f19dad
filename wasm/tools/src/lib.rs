//! The parts of the browser viewer that are loaded on demand: correcting masks and saving them, surface scores, label files,
//! measurements, and gzip data that the browser cannot inflate.
//!
//! This is a WebAssembly module of its own, with its own memory. It does not know the scene of `sulcus-viewer`: the page passes
//! grids and voxels in and changes out.

mod bindings;
mod editor;
mod measure;
mod region;

pub use bindings::{
    EditorHandle, angle_degrees, distance_mm, inflate, label_entries, region_offsets, region_statistics,
    resampled, surface_scores,
};
pub use editor::{Brush, Change, Editor};
