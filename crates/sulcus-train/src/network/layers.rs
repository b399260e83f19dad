//! The layers that networks are made of, for slices and blocks alike.
//!
//! All maps are `[N, C, D, H, W]`; a 2-D network has D = 1 and kernels of depth 1. On the processor each layer is one
//! operation of [`super::cpu`]; on a GPU the same layer is made of Burn's own operations.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::module::{avg_pool2d, conv_transpose2d, conv_transpose3d, conv2d, conv3d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use sulcus_pipeline::{Activation, Norm};

use super::cpu;
use super::initialise::{Initialise, zero_bias};

/// A convolution with odd kernels, padded by half of them.
#[derive(Module, Debug)]
pub(crate) struct Conv {
    /// `[out, in, D, H, W]`
    pub(crate) weight: Param<Tensor<5>>,
    /// `[out]`
    pub(crate) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) stride: [usize; 3],
}

impl Conv {
    pub(crate) fn new(weight: Param<Tensor<5>>, stride: [usize; 3], device: &Device) -> Self {
        let [outputs, ..] = weight.dims();
        Self { weight, bias: zero_bias(outputs, device), stride }
    }

    /// Kernel along D, H, W.
    pub(crate) fn kernel(&self) -> [usize; 3] {
        let [_, _, d, h, w] = self.weight.dims();
        [d, h, w]
    }

    /// `behind`: maps whose channels follow those of `input`, as if both had been concatenated.
    ///
    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D / stride, H / stride, W / stride]`, rounded up.
    pub(crate) fn forward(&self, input: Tensor<5>, behind: Option<Tensor<5>>) -> Tensor<5> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if cpu::is_on(&input) {
            return cpu::convolve(input, behind, weight, bias, self.stride);
        }
        let input = match behind {
            Some(behind) => Tensor::cat(vec![input, behind], 1),
            None => input,
        };
        let [kd, kh, kw] = self.kernel();
        let [sd, sh, sw] = self.stride;
        let [n, c, d, h, w] = input.dims();
        if d == 1 && kd == 1 {
            let [outputs, inputs, ..] = weight.dims();
            let options = ConvOptions::new([sh, sw], [kh / 2, kw / 2], [1, 1], 1);
            let weight = weight.reshape([outputs, inputs, kh, kw]);
            let output = conv2d(input.reshape([n, c, h, w]), weight, Some(bias), options);
            let [n, c, h, w] = output.dims();
            return output.reshape([n, c, 1, h, w]);
        }
        let options = ConvOptions::new([sd, sh, sw], [kd / 2, kh / 2, kw / 2], [1, 1, 1], 1);
        conv3d(input, weight, Some(bias), options)
    }
}

/// A transposed convolution whose kernel is its stride: each output sees one input position.
#[derive(Module, Debug)]
pub(crate) struct Up {
    /// `[in, out, D, H, W]`
    pub(crate) weight: Param<Tensor<5>>,
    /// `[out]`
    pub(crate) bias: Param<Tensor<1>>,
}

impl Up {
    pub(crate) fn new(
        channels: [usize; 2],
        stride: [usize; 3],
        initialise: &mut Initialise,
        device: &Device,
    ) -> Self {
        let [inputs, outputs] = channels;
        let [d, h, w] = stride;
        let weight = initialise.linear([inputs, outputs, d, h, w], inputs, device);
        Self { weight, bias: zero_bias(outputs, device) }
    }

    /// Along D, H, W.
    pub(crate) fn stride(&self) -> [usize; 3] {
        let [_, _, d, h, w] = self.weight.dims();
        [d, h, w]
    }

    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D · stride, H · stride, W · stride]`.
    pub(crate) fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if cpu::is_on(&input) {
            return cpu::up(input, weight, bias);
        }
        let [sd, sh, sw] = self.stride();
        let [n, c, d, h, w] = input.dims();
        if d == 1 && sd == 1 {
            let [inputs, outputs, ..] = weight.dims();
            let options = ConvTransposeOptions::new([sh, sw], [0, 0], [0, 0], [1, 1], 1);
            let weight = weight.reshape([inputs, outputs, sh, sw]);
            let output = conv_transpose2d(input.reshape([n, c, h, w]), weight, Some(bias), options);
            let [n, c, h, w] = output.dims();
            return output.reshape([n, c, 1, h, w]);
        }
        let options = ConvTransposeOptions::new([sd, sh, sw], [0; 3], [0; 3], [1; 3], 1);
        conv_transpose3d(input, weight, Some(bias), options)
    }
}

/// A normalisation. The activation that follows belongs to [`Self::forward`], so that both are one pass.
#[derive(Module, Debug)]
pub(crate) enum NormLayer {
    /// Over batch and space. Burn keeps the biased variance of the batches as running variance, PyTorch the unbiased
    /// one: with n values a channel they differ by the factor n / (n − 1).
    Batch(BatchNorm),
    /// Over space, case by case.
    Instance(InstanceNorm),
}

impl NormLayer {
    pub(crate) fn new(norm: Norm, channels: usize, device: &Device) -> Self {
        match norm {
            Norm::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
            Norm::Instance => Self::Instance(InstanceNormConfig::new(channels).init(device)),
        }
    }

    /// Normalises, adds `beside` if there is one, and applies the activation if there is one.
    ///
    /// # Shapes
    /// All `[N, C, D, H, W]`.
    pub(crate) fn forward(
        &self,
        input: Tensor<5>,
        beside: Option<Tensor<5>>,
        activation: Option<Activation>,
    ) -> Tensor<5> {
        if cpu::is_on(&input) {
            return cpu::normalise(self, input, beside, activation);
        }
        let normalised = match self {
            Self::Batch(norm) => norm.forward(input),
            Self::Instance(norm) => norm.forward(input),
        };
        let sum = match beside {
            Some(beside) => normalised + beside,
            None => normalised,
        };
        match activation {
            None => sum,
            Some(Activation::Relu) => relu(sum),
            Some(Activation::LeakyRelu { slope }) => leaky_relu(sum, f64::from(slope)),
        }
    }

    /// Numbers that are carried along without being trained.
    pub(crate) fn running_values(&self) -> usize {
        match self {
            Self::Batch(norm) => norm.running_mean.value().dims()[0] + norm.running_var.value().dims()[0],
            Self::Instance(_) => 0,
        }
    }
}

/// The greatest value of each window; windows lie side by side.
///
/// # Shapes
/// `[N, C, D, H, W]` → `[N, C, D / window, H / window, W / window]`.
pub(crate) fn max_pool(maps: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    if cpu::is_on(&maps) {
        return cpu::max_pool(maps, window);
    }
    in_two_passes(maps, window, |maps, window| max_pool2d(maps, MaxPoolOptions::new(window)))
}

/// The mean of each window; windows lie side by side.
///
/// # Shapes
/// As [`max_pool`].
pub(crate) fn mean_pool(maps: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    in_two_passes(maps, window, |maps, window| avg_pool2d(maps, AvgPoolOptions::new(window)))
}

/// Burn pools over two axes: H and W first, then D.
fn in_two_passes(
    maps: Tensor<5>,
    [by_d, by_h, by_w]: [usize; 3],
    pool: impl Fn(Tensor<4>, [usize; 2]) -> Tensor<4>,
) -> Tensor<5> {
    let [n, c, d, h, w] = maps.dims();
    let flat = pool(maps.reshape([n, c * d, h, w]), [by_h, by_w]);
    let [_, _, h, w] = flat.dims();
    if by_d == 1 {
        return flat.reshape([n, c, d, h, w]);
    }
    pool(flat.reshape([n, c, d, h * w]), [by_d, 1]).reshape([n, c, d / by_d, h, w])
}
