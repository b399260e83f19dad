//! What the fuzz targets do with bytes. The tests of the workspace include [`targets`] and [`seeds`] as they are, so
//! that what fuzzing found stays tested without it.

pub mod seeds;
pub mod targets;
