use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};
use sulcus_pipeline::{Dimensions, Downsampling, NetworkSpec, Norm, StageConfig};

use super::NetworkError;
use super::block::{ConvBlock, ConvShape, NormLayer};
use super::initialise::{Initialise, zero_bias};

/// A 2-D U-Net (Ronneberger, Fischer & Brox 2015), built from a [`NetworkSpec`].
///
/// Each encoder stage halves its input (first stage excepted) and convolves it; each decoder stage brings the coarser
/// maps up by a transposed convolution, puts them behind the encoder's maps of the same size and convolves both; a
/// 1×1 convolution gives the logits.
#[derive(Module, Debug)]
pub struct UNet {
    /// Finest first.
    pub(crate) encoder: Vec<EncoderStage>,
    /// Coarsest first.
    pub(crate) decoder: Vec<DecoderStage>,
    pub(crate) head: Conv2d,
}

/// One resolution on the way down.
#[derive(Module, Debug)]
pub(crate) struct EncoderStage {
    /// Window and step of the max-pooling before the convolutions, if any.
    #[module(skip)]
    pub(crate) pool: Option<[usize; 2]>,
    pub(crate) blocks: Vec<ConvBlock>,
}

/// One resolution on the way up.
#[derive(Module, Debug)]
pub(crate) struct DecoderStage {
    pub(crate) up: ConvTranspose2d,
    pub(crate) blocks: Vec<ConvBlock>,
}

impl UNet {
    /// Builds the network with fresh weights; the same `seed` gives the same weights on every device.
    ///
    /// # Errors
    /// When the specification is not that of a 2-D network, or there is no input or output channel.
    pub fn new(
        spec: &NetworkSpec,
        input_channels: usize,
        output_channels: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        let name = || spec.name.clone();
        spec.check().map_err(|reason| NetworkError::Spec { name: name(), reason })?;
        if spec.dimensions != Dimensions::Two {
            return Err(NetworkError::Dimensions { name: name(), expected: 2, found: spec.dimensions.count() });
        }
        if input_channels == 0 || output_channels == 0 {
            return Err(NetworkError::Channels { name: name(), input: input_channels, output: output_channels });
        }
        let mut initialise = Initialise::new(seed);

        let mut encoder = Vec::with_capacity(spec.stages.len());
        let mut channels = input_channels;
        for stage in &spec.stages {
            let stride = pair(&stage.stride);
            let (pool, conv_stride) = match spec.downsampling {
                Downsampling::MaxPool if stride != [1, 1] => (Some(stride), [1, 1]),
                Downsampling::MaxPool => (None, [1, 1]),
                Downsampling::StridedConvolution => (None, stride),
            };
            let blocks = blocks(spec, stage, channels, conv_stride, &mut initialise, device);
            encoder.push(EncoderStage { pool, blocks });
            channels = stage.channels;
        }

        let mut decoder = Vec::with_capacity(spec.stages.len().saturating_sub(1));
        for (finer, coarser) in spec.stages.iter().zip(spec.stages.iter().skip(1)).rev() {
            let up = up_convolution(coarser, finer, &mut initialise, device);
            let blocks = blocks(spec, finer, 2 * finer.channels, [1, 1], &mut initialise, device);
            decoder.push(DecoderStage { up, blocks });
            channels = finer.channels;
        }

        let mut head = Conv2dConfig::new([channels, output_channels], [1, 1]).init(device);
        head.weight = initialise.linear([output_channels, channels, 1, 1], channels, device);
        head.bias = Some(zero_bias(output_channels, device));
        Ok(Self { encoder, decoder, head })
    }

    /// Logits for a batch of slices.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N, K, H, W]`; H and W divisible by the specification's padding multiple.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut maps = input;
        let mut skips = Vec::with_capacity(self.encoder.len());
        for stage in &self.encoder {
            if let Some(window) = stage.pool {
                maps = max_pool2d(maps, MaxPoolOptions::new(window));
            }
            for block in &stage.blocks {
                maps = block.forward(maps);
            }
            skips.push(maps.clone());
        }
        // The coarsest maps go up themselves; they are nobody's skip.
        skips.pop();
        for stage in &self.decoder {
            let up = stage.up.forward(maps);
            maps = match skips.pop() {
                Some(skip) => Tensor::cat(vec![skip, up], 1),
                None => up,
            };
            for block in &stage.blocks {
                maps = block.forward(maps);
            }
        }
        self.head.forward(maps)
    }

    /// Input channels.
    pub fn input_channels(&self) -> usize {
        let first = self.encoder.first().and_then(|stage| stage.blocks.first());
        first.map_or(0, |block| block.conv.weight.dims()[1])
    }

    /// Channels of the logits.
    pub fn output_channels(&self) -> usize {
        self.head.weight.dims()[0]
    }

    /// By what H and W of the input must be divisible.
    pub fn multiple(&self) -> [usize; 2] {
        self.decoder.iter().fold([1, 1], |[h, w], stage| [h * stage.up.stride[0], w * stage.up.stride[1]])
    }

    /// How many numbers training moves. Running statistics of batch normalisation are not among them.
    pub fn parameters(&self) -> usize {
        let running: usize = self.convolution_blocks().map(ConvBlock::running_values).sum();
        self.num_params() - running
    }

    /// The specification that this network would be built from, under `like`'s name; what a network without any
    /// downsampling doesn't tell is taken from there too.
    pub(crate) fn describe(&self, like: &NetworkSpec) -> NetworkSpec {
        let stage = |stage: &EncoderStage| {
            let first = stage.blocks.first();
            StageConfig {
                channels: first.map_or(0, |block| block.conv.weight.dims()[0]),
                convolutions: stage.blocks.len(),
                kernel: first.map_or(vec![], |block| block.conv.kernel_size.to_vec()),
                stride: stage.pool.or(first.map(|block| block.conv.stride)).map_or(vec![], Vec::from),
            }
        };
        let strided =
            self.encoder.iter().filter_map(|stage| stage.blocks.first()).any(|b| b.conv.stride != [1, 1]);
        let pooled = self.encoder.iter().any(|stage| stage.pool.is_some());
        let first = self.convolution_blocks().next();
        NetworkSpec {
            name: like.name.clone(),
            dimensions: Dimensions::Two,
            stages: self.encoder.iter().map(stage).collect(),
            norm: first.map_or(like.norm, |block| match block.norm {
                NormLayer::Batch(_) => Norm::Batch,
                NormLayer::Instance(_) => Norm::Instance,
            }),
            activation: first.map_or(like.activation, |block| block.activation),
            downsampling: match (pooled, strided) {
                (true, _) => Downsampling::MaxPool,
                (false, true) => Downsampling::StridedConvolution,
                (false, false) => like.downsampling,
            },
            encoder: like.encoder,
            deep_supervision: like.deep_supervision,
        }
    }

    fn convolution_blocks(&self) -> impl Iterator<Item = &ConvBlock> {
        let down = self.encoder.iter().flat_map(|stage| &stage.blocks);
        down.chain(self.decoder.iter().flat_map(|stage| &stage.blocks))
    }
}

/// The convolutions of a stage; the first takes the stage's input and stride.
fn blocks(
    spec: &NetworkSpec,
    stage: &StageConfig,
    input: usize,
    stride: [usize; 2],
    initialise: &mut Initialise,
    device: &Device,
) -> Vec<ConvBlock> {
    let kernel = pair(&stage.kernel);
    let output = stage.channels;
    (0..stage.convolutions)
        .map(|i| {
            let shape = match i {
                0 => ConvShape { input, output, kernel, stride },
                _ => ConvShape { input: output, output, kernel, stride: [1, 1] },
            };
            ConvBlock::new(shape, spec.norm, spec.activation, initialise, device)
        })
        .collect()
}

/// Undoes the coarser stage's downsampling; kernel and stride are equal, so each output sees one input position.
fn up_convolution(
    coarser: &StageConfig,
    finer: &StageConfig,
    initialise: &mut Initialise,
    device: &Device,
) -> ConvTranspose2d {
    let stride = pair(&coarser.stride);
    let channels = [coarser.channels, finer.channels];
    let mut up = ConvTranspose2dConfig::new(channels, stride).with_stride(stride).init(device);
    let shape = [coarser.channels, finer.channels, stride[0], stride[1]];
    up.weight = initialise.linear(shape, coarser.channels, device);
    up.bias = Some(zero_bias(finer.channels, device));
    up
}

/// Height and width of a checked specification's entry.
fn pair(axes: &[usize]) -> [usize; 2] {
    match axes {
        [height, width] => [*height, *width],
        _ => [1, 1],
    }
}
