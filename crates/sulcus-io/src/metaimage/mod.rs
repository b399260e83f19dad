//! MetaImage as ITK has it: `.mha`, and `.mhd` with its voxels in a file beside it.
//!
//! A header is lines `Key = value` of which `ElementDataFile` is the last. Its directions and positions are LPS, as all
//! of ITK's, and become RAS+ here; `AnatomicalOrientation` only repeats in letters what `TransformMatrix` says.

mod encode;
mod fields;
mod header;

use crate::error::Problem;

pub(crate) use encode::{encode, header, voxels};
pub(crate) use fields::is_metaimage;
pub(crate) use header::Header;

fn problem(expected: impl Into<String>, found: String, hint: &'static str) -> Problem {
    Problem::TextHeader { format: "MetaImage", expected: expected.into(), found, hint }
}
