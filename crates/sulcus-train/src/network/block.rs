use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig, PaddingConfig2d};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::{Device, Tensor};
use sulcus_pipeline::{Activation, Norm};

use super::initialise::{Initialise, zero_bias};

/// Convolution, normalisation, activation.
#[derive(Module, Debug)]
pub(crate) struct ConvBlock {
    pub(crate) conv: Conv2d,
    pub(crate) norm: NormLayer,
    #[module(skip)]
    pub(crate) activation: Activation,
}

/// The normalisation of a [`ConvBlock`].
#[derive(Module, Debug)]
pub(crate) enum NormLayer {
    /// Over batch and space. Burn keeps the biased variance of the batches as running variance, PyTorch the unbiased
    /// one: with n values a channel they differ by the factor n / (n − 1).
    Batch(BatchNorm),
    /// Over space, case by case.
    Instance(InstanceNorm),
}

/// The geometry of one [`ConvBlock`].
pub(crate) struct ConvShape {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
}

impl ConvBlock {
    /// The kernel must be odd: half of it pads each side, so a stride of 1 keeps the size.
    pub(crate) fn new(
        shape: ConvShape,
        norm: Norm,
        activation: Activation,
        initialise: &mut Initialise,
        device: &Device,
    ) -> Self {
        let ConvShape { input, output, kernel: [height, width], stride } = shape;
        let mut conv = Conv2dConfig::new([input, output], [height, width])
            .with_stride(stride)
            .with_padding(PaddingConfig2d::Explicit(height / 2, width / 2, height / 2, width / 2))
            .init(device);
        let fan_in = input * height * width;
        conv.weight = initialise.rectified([output, input, height, width], fan_in, activation, device);
        conv.bias = Some(zero_bias(output, device));
        let norm = match norm {
            Norm::Batch => NormLayer::Batch(BatchNormConfig::new(output).init(device)),
            Norm::Instance => NormLayer::Instance(InstanceNormConfig::new(output).init(device)),
        };
        Self { conv, norm, activation }
    }

    /// # Shapes
    /// `[N, in, H, W]` → `[N, out, H / stride, W / stride]`.
    pub(crate) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let sums = self.conv.forward(input);
        let normalised = match &self.norm {
            NormLayer::Batch(norm) => norm.forward(sums),
            NormLayer::Instance(norm) => norm.forward(sums),
        };
        match self.activation {
            Activation::Relu => relu(normalised),
            Activation::LeakyRelu { slope } => leaky_relu(normalised, f64::from(slope)),
        }
    }
}

impl ConvBlock {
    /// Numbers that are carried along without being trained.
    pub(crate) fn running_values(&self) -> usize {
        match &self.norm {
            NormLayer::Batch(norm) => norm.running_mean.value().dims()[0] + norm.running_var.value().dims()[0],
            NormLayer::Instance(_) => 0,
        }
    }
}
