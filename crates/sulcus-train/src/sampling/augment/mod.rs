//! Random transforms of training patches, in 2-D and 3-D: drawing them, and applying them.

mod draw;
mod geometry;
mod intensity;

pub(crate) use draw::PatchTransform;
pub(crate) use geometry::{PatchLocation, SourceCase};

#[cfg(test)]
mod tests;
