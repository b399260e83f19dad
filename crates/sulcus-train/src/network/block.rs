use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sulcus_model::{Activation, Norm};

use super::layers::{Conv, NormLayer, mean_pool};
use super::weight_init::WeightInit;

/// Convolution, normalisation, activation.
#[derive(Module, Debug)]
pub(crate) struct ConvBlock {
    pub(crate) conv: Conv,
    pub(crate) norm: NormLayer,
    /// `None` if a sum follows first.
    #[module(skip)]
    pub(crate) activation: Option<Activation>,
}

/// Two convolutions with a shortcut (He et al. 2016), as in nnU-Net's residual encoders: if the resolution changes, the
/// shortcut pools with the mean; if the number of channels changes, it has a 1 × 1 convolution.
#[derive(Module, Debug)]
pub(crate) struct ResidualBlock {
    pub(crate) first: ConvBlock,
    /// Its activation follows the sum with the shortcut.
    pub(crate) second: ConvBlock,
    pub(crate) project: Option<ConvBlock>,
    #[module(skip)]
    pub(crate) activation: Activation,
}

/// A block of a stage.
#[expect(clippy::large_enum_variant, reason = "a network has a few dozen of them, and Burn's modules take no box")]
#[derive(Module, Debug)]
pub(crate) enum Block {
    Plain(ConvBlock),
    Residual(ResidualBlock),
}

/// The geometry of one [`Block`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockShape {
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Odd: half of it pads each side, so that a stride of 1 keeps the size.
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) norm: Norm,
    pub(crate) activation: Activation,
}

impl ConvBlock {
    pub(crate) fn new(shape: BlockShape, init: &mut WeightInit, device: &Device) -> Self {
        let BlockShape { input, output, kernel: [d, h, w], stride, norm, activation } = shape;
        let weight = init.rectified([output, input, d, h, w], input * d * h * w, activation, device);
        Self {
            conv: Conv::new(weight, stride, device),
            norm: NormLayer::new(norm, output, device),
            activation: Some(activation),
        }
    }

    /// A block without an activation.
    fn linear(shape: BlockShape, init: &mut WeightInit, device: &Device) -> Self {
        Self { activation: None, ..Self::new(shape, init, device) }
    }

    /// `behind` holds maps whose channels follow those of `input`.
    ///
    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D / stride, H / stride, W / stride]`.
    pub(crate) fn forward(&self, input: Tensor<5>, behind: Option<Tensor<5>>) -> Tensor<5> {
        self.norm.forward(self.conv.forward(input, behind), None, self.activation)
    }

    /// The number of output channels.
    pub(crate) fn outputs(&self) -> usize {
        self.conv.weight.dims()[0]
    }
}

impl ResidualBlock {
    fn new(shape: BlockShape, init: &mut WeightInit, device: &Device) -> Self {
        let BlockShape { input, output, activation, .. } = shape;
        let inner = BlockShape { input: output, stride: [1; 3], ..shape };
        let project = BlockShape { kernel: [1; 3], stride: [1; 3], ..shape };
        Self {
            first: ConvBlock::new(shape, init, device),
            second: ConvBlock::linear(inner, init, device),
            project: (input != output).then(|| ConvBlock::linear(project, init, device)),
            activation,
        }
    }

    fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        let shortcut = match self.first.conv.stride {
            [1, 1, 1] => input.clone(),
            window => mean_pool(input.clone(), window),
        };
        let shortcut = match &self.project {
            Some(project) => project.forward(shortcut, None),
            None => shortcut,
        };
        let sums = self.second.conv.forward(self.first.forward(input, None), None);
        self.second.norm.forward(sums, Some(shortcut), Some(self.activation))
    }
}

impl Block {
    pub(crate) fn plain(shape: BlockShape, init: &mut WeightInit, device: &Device) -> Self {
        Self::Plain(ConvBlock::new(shape, init, device))
    }

    pub(crate) fn residual(shape: BlockShape, init: &mut WeightInit, device: &Device) -> Self {
        Self::Residual(ResidualBlock::new(shape, init, device))
    }

    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D / stride, H / stride, W / stride]`.
    pub(crate) fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Plain(block) => block.forward(input, None),
            Self::Residual(block) => block.forward(input),
        }
    }

    /// The convolutions with their normalisations.
    pub(crate) fn convolutions(&self) -> Vec<&ConvBlock> {
        match self {
            Self::Plain(block) => vec![block],
            Self::Residual(block) => [&block.first, &block.second].into_iter().chain(&block.project).collect(),
        }
    }

    /// See [`Self::convolutions`].
    pub(crate) fn convolutions_mut(&mut self) -> Vec<&mut ConvBlock> {
        match self {
            Self::Plain(block) => vec![block],
            Self::Residual(block) => {
                [&mut block.first, &mut block.second].into_iter().chain(&mut block.project).collect()
            }
        }
    }

    /// The convolution that reads the block's input.
    pub(crate) fn first(&self) -> &ConvBlock {
        match self {
            Self::Plain(block) => block,
            Self::Residual(block) => &block.first,
        }
    }
}
