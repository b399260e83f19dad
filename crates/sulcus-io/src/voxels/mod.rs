//! Voxel values: their types in files, and their conversion between bytes and numbers.

mod blocks;
mod encoder;
mod labels;
mod small_integers;
mod statistics;
mod voxel_type;

pub(crate) use blocks::{BLOCK, Scale, each_block, reserve, reverse_bytes};
pub(crate) use encoder::VoxelEncoder;
pub(crate) use labels::LabelReader;
#[cfg(feature = "unscaled")]
pub(crate) use labels::fit_into_bytes;
pub(crate) use small_integers::small_integers_to_f32;
pub(crate) use statistics::Statistics;
pub use voxel_type::VoxelType;
