//! NRRD as teem, 3D Slicer and ITK have it (<https://teem.sourceforge.net/nrrd/format.html>): `.nrrd`, detached
//! `.nhdr`, and the `.seg.nrrd` of 3D Slicer's segmentations.
//!
//! A header is lines of text; the voxels follow it or are in a file beside it. Directions are in the space that the
//! header names, and become RAS+ here. `old min`/`old max` say what integers stood for before they were quantised;
//! 3D Slicer and ITK don't apply them, nor does this reader.

mod directions;
mod encode;
mod fields;
mod header;
mod segments;

use crate::error::Problem;

pub(crate) use encode::{encode, header, voxels};
pub(crate) use fields::is_nrrd;
pub(crate) use header::Header;

fn problem(expected: impl Into<String>, found: String, hint: &'static str) -> Problem {
    Problem::TextHeader { format: "NRRD", expected: expected.into(), found, hint }
}
