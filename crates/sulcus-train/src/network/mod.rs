//! The networks: U-Nets built from a [`NetworkSpec`](sulcus_model::NetworkSpec).

mod block;
pub(crate) mod cpu;
mod error;
mod initialise;
mod layers;
mod predictor;
mod preset;
mod unet;

pub use error::NetworkError;
pub use predictor::NetworkPredictor;
pub use preset::{NetworkChoice, NetworkRule, preset, preset_names};
pub use unet::UNet;

pub(crate) use block::{Block, ConvBlock, ResidualBlock};
pub(crate) use layers::{Conv, NormLayer, Up};
