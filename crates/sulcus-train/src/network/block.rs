use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sulcus_model::{Activation, Norm};

use super::initialise::Initialise;
use super::layers::{Conv, NormLayer, mean_pool};

/// Convolution, normalisation, activation.
#[derive(Module, Debug)]
pub(crate) struct ConvBlock {
    pub(crate) conv: Conv,
    pub(crate) norm: NormLayer,
    /// Absent where a sum comes first.
    #[module(skip)]
    pub(crate) activation: Option<Activation>,
}

/// Two convolutions beside a shortcut (He et al. 2016), in the form of nnU-Net's residual encoders: where the
/// resolution falls the shortcut takes the mean of each window, where the channels change it convolves 1 × 1.
#[derive(Module, Debug)]
pub(crate) struct ResidualBlock {
    pub(crate) first: ConvBlock,
    /// Its activation follows the sum with the shortcut.
    pub(crate) second: ConvBlock,
    pub(crate) project: Option<ConvBlock>,
    #[module(skip)]
    pub(crate) activation: Activation,
}

/// What stages are made of.
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
    /// Odd: half of it pads each side, so a stride of 1 keeps the size.
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) norm: Norm,
    pub(crate) activation: Activation,
}

impl ConvBlock {
    pub(crate) fn new(shape: BlockShape, initialise: &mut Initialise, device: &Device) -> Self {
        let BlockShape { input, output, kernel: [d, h, w], stride, norm, activation } = shape;
        let weight = initialise.rectified([output, input, d, h, w], input * d * h * w, activation, device);
        Self {
            conv: Conv::new(weight, stride, device),
            norm: NormLayer::new(norm, output, device),
            activation: Some(activation),
        }
    }

    /// The same without its activation.
    fn linear(shape: BlockShape, initialise: &mut Initialise, device: &Device) -> Self {
        Self { activation: None, ..Self::new(shape, initialise, device) }
    }

    /// `behind`: maps whose channels follow those of `input`.
    ///
    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D / stride, H / stride, W / stride]`.
    pub(crate) fn forward(&self, input: Tensor<5>, behind: Option<Tensor<5>>) -> Tensor<5> {
        self.norm.forward(self.conv.forward(input, behind), None, self.activation)
    }

    /// Kernel and stride say which axes exist only together with the network's dimensions; channels don't.
    pub(crate) fn outputs(&self) -> usize {
        self.conv.weight.dims()[0]
    }
}

impl ResidualBlock {
    fn new(shape: BlockShape, initialise: &mut Initialise, device: &Device) -> Self {
        let BlockShape { input, output, activation, .. } = shape;
        let inner = BlockShape { input: output, stride: [1; 3], ..shape };
        let project = BlockShape { kernel: [1; 3], stride: [1; 3], ..shape };
        Self {
            first: ConvBlock::new(shape, initialise, device),
            second: ConvBlock::linear(inner, initialise, device),
            project: (input != output).then(|| ConvBlock::linear(project, initialise, device)),
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
    pub(crate) fn plain(shape: BlockShape, initialise: &mut Initialise, device: &Device) -> Self {
        Self::Plain(ConvBlock::new(shape, initialise, device))
    }

    pub(crate) fn residual(shape: BlockShape, initialise: &mut Initialise, device: &Device) -> Self {
        Self::Residual(ResidualBlock::new(shape, initialise, device))
    }

    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D / stride, H / stride, W / stride]`.
    pub(crate) fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        match self {
            Self::Plain(block) => block.forward(input, None),
            Self::Residual(block) => block.forward(input),
        }
    }

    /// Its convolutions with their normalisations.
    pub(crate) fn convolutions(&self) -> Vec<&ConvBlock> {
        match self {
            Self::Plain(block) => vec![block],
            Self::Residual(block) => [&block.first, &block.second].into_iter().chain(&block.project).collect(),
        }
    }

    /// The one that takes the block's input.
    pub(crate) fn first(&self) -> &ConvBlock {
        match self {
            Self::Plain(block) => block,
            Self::Residual(block) => &block.first,
        }
    }
}
