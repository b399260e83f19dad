//! Variations of training patches: how they are configured, drawn and applied, in 2-D and 3-D alike.

mod config;
mod draw;
mod geometry;
mod intensity;

pub use config::{Augmentation, Chance, Flips, MirrorAxes};
pub(crate) use geometry::{Placement, Source};

#[cfg(test)]
mod tests;
