use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use sulcus_kernels::Bf16Convolution;
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};

use super::block::{Block, BlockShape, ConvBlock};
use super::layers::{Conv, NormLayer, Up, max_pool};
use super::weight_init::WeightInit;
use super::{GpuForms, NetworkError};

/// A 2-D or 3-D U-Net (Ronneberger, Fischer & Brox 2015), built from a [`NetworkSpec`].
///
/// Each encoder stage except the first downsamples its input, then convolves it. Each decoder stage upsamples the coarser maps
/// by a transposed convolution, concatenates them with the encoder's maps of the same size and convolves the result. A 1×1
/// convolution computes the logits. With deep supervision (Isensee et al. 2021) coarser decoder stages also have such a
/// convolution, which only training uses.
#[derive(Module, Debug)]
pub struct UNet {
    /// Before the first stage of a residual encoder.
    pub(crate) stem: Option<ConvBlock>,
    /// Finest first.
    pub(crate) encoder: Vec<EncoderStage>,
    /// Coarsest first.
    pub(crate) decoder: Vec<DecoderStage>,
    pub(crate) head: Conv,
    /// Heads of deep supervision, finest first; the coarsest stage has none.
    pub(crate) side_heads: Vec<Conv>,
    #[module(skip)]
    pub(crate) dimensions: Dimensions,
}

/// One stage of the encoder.
#[derive(Module, Debug)]
pub(crate) struct EncoderStage {
    /// Window and step of the max-pooling before the convolutions, if any.
    #[module(skip)]
    pub(crate) pool: Option<[usize; 3]>,
    pub(crate) blocks: Vec<Block>,
}

/// One stage of the decoder.
#[derive(Module, Debug)]
pub(crate) struct DecoderStage {
    pub(crate) up: Up,
    pub(crate) blocks: Vec<ConvBlock>,
}

impl UNet {
    /// Builds the network with random weights. The same `seed` gives the same weights on every device.
    ///
    /// # Errors
    /// When the specification is invalid, or there is no input or output channel.
    pub fn new(
        spec: &NetworkSpec,
        input_channels: usize,
        output_channels: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        Self::check(spec, input_channels, output_channels)?;
        let name = || spec.name.clone();
        let mut init = WeightInit::new(seed);
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
                let stem = ConvBlock::new(shape(first, channels, [1; 3]), &mut init, device);
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
                    Encoder::Plain => Block::plain(shape, &mut init, device),
                    Encoder::Residual => Block::residual(shape, &mut init, device),
                });
                (channels, stride) = (stage.channels, [1; 3]);
            }
            encoder.push(EncoderStage { pool, blocks });
        }

        let mut decoder = Vec::with_capacity(spec.stages.len().saturating_sub(1));
        for (finer, coarser) in spec.stages.iter().zip(spec.stages.iter().skip(1)).rev() {
            let up = [coarser.channels, finer.channels];
            let up = Up::new(up, triple(&coarser.stride), &mut init, device);
            let blocks = (0..spec.decoder_convolutions(finer)).map(|i| {
                let input = if i == 0 { 2 * finer.channels } else { finer.channels };
                ConvBlock::new(shape(finer, input, [1; 3]), &mut init, device)
            });
            decoder.push(DecoderStage { up, blocks: blocks.collect() });
        }

        let mut head = |stage: &StageConfig| {
            let weight = [output_channels, stage.channels, 1, 1, 1];
            Conv::new(init.linear(weight, stage.channels, device), [1; 3], device)
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

    /// Checks that a network can be built, before memory is allocated for it.
    pub(crate) fn check(
        spec: &NetworkSpec,
        input_channels: usize,
        output_channels: usize,
    ) -> Result<(), NetworkError> {
        let name = || spec.name.clone();
        spec.check().map_err(|reason| NetworkError::Spec { name: name(), reason })?;
        if spec.imported.is_some() {
            let reason = "it was imported from another program, and such networks can only be run".to_owned();
            return Err(NetworkError::Spec { name: name(), reason });
        }
        let possible = 1..=NetworkSpec::MAX_CHANNELS;
        if !possible.contains(&input_channels) || !possible.contains(&output_channels) {
            return Err(NetworkError::Channels { name: name(), input: input_channels, output: output_channels });
        }
        Ok(())
    }

    /// The same network whose layers are computed in these forms on a GPU. On the processor they change nothing.
    #[must_use]
    pub fn with_forms(mut self, forms: GpuForms) -> Self {
        self.convolutions_mut().for_each(|conv| conv.forms = forms);
        for stage in &mut self.decoder {
            stage.up.form = forms.transposed;
        }
        self
    }

    /// The same network whose convolutions, except the transposed ones, have products in bfloat16 on the processor. On a GPU this changes
    /// nothing.
    #[must_use]
    pub fn with_bf16(mut self, bf16: Option<Bf16Convolution>) -> Self {
        self.convolutions_mut().for_each(|conv| conv.bf16 = bf16);
        self
    }

    /// All convolutions except the transposed ones.
    fn convolutions_mut(&mut self) -> impl Iterator<Item = &mut Conv> {
        let encoder =
            self.encoder.iter_mut().flat_map(|stage| &mut stage.blocks).flat_map(Block::convolutions_mut);
        let decoder = self.decoder.iter_mut().flat_map(|stage| &mut stage.blocks);
        let blocks = self.stem.iter_mut().chain(encoder).chain(decoder).map(|block| &mut block.conv);
        blocks.chain(std::iter::once(&mut self.head)).chain(&mut self.side_heads)
    }

    /// The logits of a batch. Convolutions compute in the type of the input, everything else in single precision.
    ///
    /// # Shapes
    /// `[N, C, D, H, W]` → `[N, K, D, H, W]`; each axis divisible by [`Self::multiple`]. Slices have D = 1.
    pub fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        logits(&self.head, self.decode(input, |_| {}))
    }

    /// The logits of all resolutions that the loss uses, finest first; only one without deep supervision.
    ///
    /// # Shapes
    /// `[N, C, D, H, W]` → the first `[N, K, D, H, W]`, each next one smaller by the strides of its stage.
    pub fn forward_all(&self, input: Tensor<5>) -> Vec<Tensor<5>> {
        let mut coarser = Vec::with_capacity(self.decoder.len());
        let maps = self.decode(input, |maps| coarser.push(maps.clone()));
        // The last kept maps are the finest.
        coarser.pop();
        let sides = self.side_heads.iter().zip(coarser.into_iter().rev());
        let mut all = vec![logits(&self.head, maps)];
        all.extend(sides.map(|(head, maps)| logits(head, maps)));
        all
    }

    /// The factors by which the grids of [`Self::forward_all`] are coarser than the input, along D, H, W.
    pub fn supervised_strides(&self) -> Vec<[usize; 3]> {
        let mut factor = [1; 3];
        let ups = self.decoder.iter().rev().map(|stage| stage.up.stride());
        let coarser = ups.take(self.side_heads.len()).map(|stride| {
            factor = std::array::from_fn(|a| factor[a] * stride[a]);
            factor
        });
        std::iter::once([1; 3]).chain(coarser).collect()
    }

    /// The finest maps. `seen` is called with the maps of each decoder stage, coarsest first.
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
        // The coarsest maps are upsampled; they are no skip connection.
        skips.pop();
        for stage in &self.decoder {
            let up = stage.up.forward(maps);
            // The encoder's maps first, then the upsampled maps.
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

    /// 2-D or 3-D.
    pub fn dimensions(&self) -> Dimensions {
        self.dimensions
    }

    /// Number of input channels.
    pub fn input_channels(&self) -> usize {
        let first = self.convolution_blocks().into_iter().next();
        first.map_or(0, |block| block.conv.weight.dims()[1])
    }

    /// Number of output channels.
    pub fn output_channels(&self) -> usize {
        self.head.weight.dims()[0]
    }

    /// D, H and W of the input must be multiples of these numbers.
    pub fn multiple(&self) -> [usize; 3] {
        self.decoder.iter().fold([1; 3], |product, stage| {
            let stride = stage.up.stride();
            std::array::from_fn(|a| product[a] * stride[a])
        })
    }

    /// The number of trainable parameters, without running statistics.
    pub fn parameters(&self) -> usize {
        let running: usize = self.convolution_blocks().iter().map(|block| block.norm.running_values()).sum();
        self.num_params() - running
    }

    /// The specification of this network. The name comes from `like`, as does what a network without downsampling does not
    /// show.
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
            imported: None,
        }
    }

    fn convolution_blocks(&self) -> Vec<&ConvBlock> {
        let down = self.encoder.iter().flat_map(|stage| &stage.blocks).flat_map(Block::convolutions);
        let up = self.decoder.iter().flat_map(|stage| &stage.blocks);
        self.stem.iter().chain(down).chain(up).collect()
    }
}

/// Converts logits to single precision, which the loss needs.
fn logits(head: &Conv, maps: Tensor<5>) -> Tensor<5> {
    head.forward(maps, None).cast(FloatDType::F32)
}

/// D, H and W of an entry of a checked specification; slices have depth 1.
fn triple(axes: &[usize]) -> [usize; 3] {
    match axes {
        [depth, height, width] => [*depth, *height, *width],
        [height, width] => [1, *height, *width],
        _ => [1; 3],
    }
}
