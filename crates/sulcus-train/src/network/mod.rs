//! The networks: U-Nets built from a [`NetworkSpec`](sulcus_pipeline::NetworkSpec).

mod block;
mod error;
mod initialise;
mod predictor;
mod preset;
mod unet;

pub use error::NetworkError;
pub use predictor::NetworkPredictor;
pub use preset::{NetworkChoice, NetworkRule, preset, preset_names};
pub use unet::UNet;

pub(crate) use block::{ConvBlock, NormLayer};
