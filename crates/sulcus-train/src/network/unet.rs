use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};

use super::NetworkError;
use super::block::{Block, BlockShape, ConvBlock};
use super::initialise::Initialise;
use super::layers::{Conv, NormLayer, Up, max_pool};

/// A U-Net (Ronneberger, Fischer & Brox 2015) over slices or blocks, built from a [`NetworkSpec`].
///
/// Each encoder stage halves its input (first stage excepted) and convolves it; each decoder stage brings the coarser
/// maps up by a transposed convolution, puts them behind the encoder's maps of the same size and convolves both; a
/// 1×1 convolution gives the logits. With deep supervision (Isensee et al. 2021) coarser decoder stages have such a
/// convolution too, for training alone.
#[derive(Module, Debug)]
pub struct UNet {
    /// Before the first stage of a residual encoder.
    pub(crate) stem: Option<ConvBlock>,
    /// Finest first.
    pub(crate) encoder: Vec<EncoderStage>,
    /// Coarsest first.
    pub(crate) decoder: Vec<DecoderStage>,
    pub(crate) head: Conv,
    /// Of the decoder stages before the finest, finer first; the coarsest has none.
    pub(crate) side_heads: Vec<Conv>,
    #[module(skip)]
    pub(crate) dimensions: Dimensions,
}

/// One resolution on the way down.
#[derive(Module, Debug)]
pub(crate) struct EncoderStage {
    /// Window and step of the max-pooling before the convolutions, if any.
    #[module(skip)]
    pub(crate) pool: Option<[usize; 3]>,
    pub(crate) blocks: Vec<Block>,
}

/// One resolution on the way up.
#[derive(Module, Debug)]
pub(crate) struct DecoderStage {
    pub(crate) up: Up,
    pub(crate) blocks: Vec<ConvBlock>,
}

impl UNet {
    /// Builds the network with fresh weights; the same `seed` gives the same weights on every device.
    ///
    /// # Errors
    /// When the specification makes no network, or there is no input or output channel.
    pub fn new(
        spec: &NetworkSpec,
        input_channels: usize,
        output_channels: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        let name = || spec.name.clone();
        spec.check().map_err(|reason| NetworkError::Spec { name: name(), reason })?;
        if input_channels == 0 || output_channels == 0 {
            return Err(NetworkError::Channels { name: name(), input: input_channels, output: output_channels });
        }
        let mut initialise = Initialise::new(seed);
        let shape = |stage: &StageConfig, input, stride| BlockShape {
            input,
            output: stage.channels,
            kernel: triple(&stage.kernel),
            stride,
            norm: spec.norm,
            activation: spec.activation,
        };

        let mut channels = input_channels;
        let stem = match (spec.encoder, spec.stages.first()) {
            (Encoder::Residual, Some(first)) => {
                let stem = ConvBlock::new(shape(first, channels, [1; 3]), &mut initialise, device);
                channels = first.channels;
                Some(stem)
            }
            _ => None,
        };
        let mut encoder = Vec::with_capacity(spec.stages.len());
        for stage in &spec.stages {
            let stride = triple(&stage.stride);
            let (pool, mut stride) = match spec.downsampling {
                Downsampling::MaxPool if stride != [1; 3] => (Some(stride), [1; 3]),
                Downsampling::MaxPool => (None, [1; 3]),
                Downsampling::StridedConvolution => (None, stride),
            };
            let mut blocks = Vec::with_capacity(stage.convolutions);
            for _ in 0..stage.convolutions {
                let shape = shape(stage, channels, stride);
                blocks.push(match spec.encoder {
                    Encoder::Plain => Block::plain(shape, &mut initialise, device),
                    Encoder::Residual => Block::residual(shape, &mut initialise, device),
                });
                (channels, stride) = (stage.channels, [1; 3]);
            }
            encoder.push(EncoderStage { pool, blocks });
        }

        let mut decoder = Vec::with_capacity(spec.stages.len().saturating_sub(1));
        for (finer, coarser) in spec.stages.iter().zip(spec.stages.iter().skip(1)).rev() {
            let up = [coarser.channels, finer.channels];
            let up = Up::new(up, triple(&coarser.stride), &mut initialise, device);
            let blocks = (0..spec.decoder_convolutions(finer)).map(|i| {
                let input = if i == 0 { 2 * finer.channels } else { finer.channels };
                ConvBlock::new(shape(finer, input, [1; 3]), &mut initialise, device)
            });
            decoder.push(DecoderStage { up, blocks: blocks.collect() });
        }

        let mut head = |stage: &StageConfig| {
            let weight = [output_channels, stage.channels, 1, 1, 1];
            Conv::new(initialise.linear(weight, stage.channels, device), [1; 3], device)
        };
        let coarse = spec.supervised_stages();
        Ok(Self {
            head: spec
                .stages
                .first()
                .map(&mut head)
                .ok_or_else(|| NetworkError::Spec { name: name(), reason: "the network has no stage".into() })?,
            side_heads: spec.stages.iter().take(coarse).skip(1).map(head).collect(),
            stem,
            encoder,
            decoder,
            dimensions: spec.dimensions,
        })
    }

    /// Logits for a batch. Convolutions compute in the type of the input, everything else in single precision, as the
    /// logits are.
    ///
    /// # Shapes
    /// `[N, C, D, H, W]` → `[N, K, D, H, W]`; each axis divisible by [`Self::multiple`]. Slices have D = 1.
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        logits(&self.head, self.decode(input, |_| {}))
    }

    /// Logits of all resolutions that training compares with the truth, finest first; one without deep supervision.
    ///
    /// # Shapes
    /// `[N, C, D, H, W]` → the first `[N, K, D, H, W]`, each next one smaller by the strides of its stage.
    pub fn forward_all(&self, input: Tensor<5>) -> Vec<Tensor<5>> {
        let mut coarser = Vec::with_capacity(self.decoder.len());
        let maps = self.decode(input, |maps| coarser.push(maps.clone()));
        // The last one kept is the finest itself.
        coarser.pop();
        let sides = self.side_heads.iter().zip(coarser.into_iter().rev());
        let mut all = vec![logits(&self.head, maps)];
        all.extend(sides.map(|(head, maps)| logits(head, maps)));
        all
    }

    /// By what factors the grids of [`Self::forward_all`] are coarser than the input, along D, H, W.
    pub fn supervised_strides(&self) -> Vec<[usize; 3]> {
        let mut factor = [1; 3];
        let ups = self.decoder.iter().rev().map(|stage| stage.up.stride());
        let coarser = ups.take(self.side_heads.len()).map(|stride| {
            factor = std::array::from_fn(|a| factor[a] * stride[a]);
            factor
        });
        std::iter::once([1; 3]).chain(coarser).collect()
    }

    /// The finest maps; `seen` is shown those of each decoder stage, coarsest first.
    fn decode(&self, input: Tensor<5>, mut seen: impl FnMut(&Tensor<5>)) -> Tensor<5> {
        let mut maps = match &self.stem {
            Some(stem) => stem.forward(input, None),
            None => input,
        };
        let mut skips = Vec::with_capacity(self.encoder.len());
        for stage in &self.encoder {
            if let Some(window) = stage.pool {
                maps = max_pool(maps, window);
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
            // The encoder's maps first, then those from below.
            let (first, mut behind) = match skips.pop() {
                Some(skip) => (skip, Some(up)),
                None => (up, None),
            };
            maps = first;
            for block in &stage.blocks {
                maps = block.forward(maps, behind.take());
            }
            seen(&maps);
        }
        maps
    }

    /// Slices or blocks.
    pub fn dimensions(&self) -> Dimensions {
        self.dimensions
    }

    /// Input channels.
    pub fn input_channels(&self) -> usize {
        let first = self.convolution_blocks().into_iter().next();
        first.map_or(0, |block| block.conv.weight.dims()[1])
    }

    /// Channels of the logits.
    pub fn output_channels(&self) -> usize {
        self.head.weight.dims()[0]
    }

    /// By what D, H and W of the input must be divisible.
    pub fn multiple(&self) -> [usize; 3] {
        self.decoder.iter().fold([1; 3], |product, stage| {
            let stride = stage.up.stride();
            std::array::from_fn(|a| product[a] * stride[a])
        })
    }

    /// How many numbers training moves. Running statistics of batch normalisation are not among them.
    pub fn parameters(&self) -> usize {
        let running: usize = self.convolution_blocks().iter().map(|block| block.norm.running_values()).sum();
        self.num_params() - running
    }

    /// The specification that this network would be built from, under `like`'s name; what a network without any
    /// downsampling doesn't tell is taken from there too.
    pub(crate) fn describe(&self, like: &NetworkSpec) -> NetworkSpec {
        let axes = |triple: [usize; 3]| match self.dimensions {
            Dimensions::Two => triple[1..].to_vec(),
            Dimensions::Three => triple.to_vec(),
        };
        let stage = |stage: &EncoderStage| {
            let first = stage.blocks.first().map(Block::first);
            StageConfig {
                channels: first.map_or(0, ConvBlock::outputs),
                convolutions: stage.blocks.len(),
                kernel: first.map_or(vec![], |block| axes(block.conv.kernel())),
                stride: stage.pool.or(first.map(|block| block.conv.stride)).map_or(vec![], axes),
            }
        };
        let firsts = || self.encoder.iter().filter_map(|stage| stage.blocks.first()).map(Block::first);
        let strided = firsts().any(|block| block.conv.stride != [1; 3]);
        let pooled = self.encoder.iter().any(|stage| stage.pool.is_some());
        NetworkSpec {
            name: like.name.clone(),
            dimensions: self.dimensions,
            stages: self.encoder.iter().map(stage).collect(),
            norm: firsts().next().map_or(like.norm, |block| match block.norm {
                NormLayer::Batch(_) => Norm::Batch,
                NormLayer::Instance(_) => Norm::Instance,
            }),
            activation: firsts().find_map(|block| block.activation).unwrap_or(Activation::Relu),
            downsampling: match (pooled, strided) {
                (true, _) => Downsampling::MaxPool,
                (false, true) => Downsampling::StridedConvolution,
                (false, false) => like.downsampling,
            },
            encoder: if self.stem.is_some() { Encoder::Residual } else { Encoder::Plain },
            deep_supervision: like.deep_supervision,
        }
    }

    fn convolution_blocks(&self) -> Vec<&ConvBlock> {
        let down = self.encoder.iter().flat_map(|stage| &stage.blocks).flat_map(Block::convolutions);
        let up = self.decoder.iter().flat_map(|stage| &stage.blocks);
        self.stem.iter().chain(down).chain(up).collect()
    }
}

/// Whatever a head computes in, a loss takes single precision.
fn logits(head: &Conv, maps: Tensor<5>) -> Tensor<5> {
    head.forward(maps, None).cast(FloatDType::F32)
}

/// D, H and W of a checked specification's entry; slices have depth 1.
fn triple(axes: &[usize]) -> [usize; 3] {
    match axes {
        [depth, height, width] => [*depth, *height, *width],
        [height, width] => [1, *height, *width],
        _ => [1; 3],
    }
}
