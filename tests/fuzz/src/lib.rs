//! The fuzz targets. The tests of the workspace include [`targets`] and [`seeds`] unchanged, so that findings of the
//! fuzzer are tested without it.

pub mod seeds;
pub mod targets;
