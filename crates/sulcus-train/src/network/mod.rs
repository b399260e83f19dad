//! The networks: U-Nets built from a [`NetworkSpec`](sulcus_model::NetworkSpec).

mod block;
pub(crate) mod cpu;
mod error;
mod gpu;
mod layers;
mod predictor;
pub(crate) mod tensors;
mod unet;
mod weight_init;

pub use error::NetworkError;
pub use gpu::{GpuForms, InputGradientForm, LayerForm};
pub use layers::{gpu_convolution, gpu_transposed_convolution};
pub use predictor::NetworkPredictor;
pub use unet::UNet;

pub(crate) use block::{Block, ConvBlock, ResidualBlock};
pub(crate) use layers::{Conv, NormLayer, Up};
