use sulcus_model::{Activation, Dimensions, NetworkSpec};

use super::PlansError;
use super::json::Json;

/// The residual blocks of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// Sequences of convolution, normalisation and activation: `PlainConvUNet`.
    Plain,
    /// Two convolutions and a shortcut: `BasicBlockD` of `ResidualEncoderUNet`.
    Basic,
    /// A 1×1 convolution to fewer channels, a convolution, a 1×1 convolution, and a shortcut: `BottleneckD`.
    Bottleneck,
}

/// One resolution of the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) features: usize,
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    /// Number of convolutions, or of residual blocks.
    pub(crate) blocks: usize,
    /// Number of channels inside a [`Block::Bottleneck`].
    pub(crate) bottleneck: Option<usize>,
}

/// A network of `dynamic-network-architectures` as the plan describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Architecture {
    /// Name of its class without the module.
    pub(crate) class: String,
    pub(crate) dimensions: Dimensions,
    /// Finest first.
    pub(crate) stages: Vec<Stage>,
    /// Number of convolutions in the stages of the decoder, in the order of evaluation: coarsest first.
    pub(crate) decoder: Vec<usize>,
    pub(crate) block: Block,
    /// Number of channels of the convolution before the first stage, which residual encoders have.
    pub(crate) stem: Option<usize>,
    pub(crate) conv_bias: bool,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    /// Whether the activation comes before the normalisation.
    pub(crate) activation_first: bool,
}

/// Arguments of a network that do not change its predictions.
const WITHOUT_EFFECT: [&str; 3] = ["dropout_op", "dropout_op_kwargs", "deep_supervision"];

impl Architecture {
    /// The network of a configuration in the current form: `architecture` with a class and its arguments.
    ///
    /// # Errors
    /// For classes, layers and arguments that are not supported, by their name.
    pub(super) fn current(json: &Json<'_>, dimensions: Dimensions) -> Result<Self, PlansError> {
        let arguments = json.get("arch_kwargs")?;
        Self::new(json.get("network_class_name")?.text()?, &arguments, dimensions)
    }

    /// The network of a plan of nnU-Net v2 before 2.4, which lists the numbers in the configuration itself.
    ///
    /// # Errors
    /// For classes that are not supported, by their name.
    pub(super) fn old(json: &Json<'_>, dimensions: Dimensions) -> Result<Self, PlansError> {
        let convolutions = json.get("n_conv_per_stage_encoder")?;
        let count = convolutions.list()?.len();
        let base = json.get("UNet_base_num_features")?.whole()?;
        let most = json.get("unet_max_num_features")?.whole()?;
        let features: Vec<usize> = (0..count)
            .map(|i| base.saturating_mul(1_usize.checked_shl(i as u32).unwrap_or(usize::MAX)).min(most))
            .collect();
        let class = json.get("UNet_class_name")?.text()?;
        let blocks = if class_name(class) == "PlainConvUNet" { "n_conv_per_stage" } else { "n_blocks_per_stage" };
        let value = |key: &str| json.get(key).map(|found| found.value.clone());
        let arguments = serde_json::json!({
            "n_stages": count,
            "features_per_stage": features,
            "kernel_sizes": value("conv_kernel_sizes")?,
            "strides": value("pool_op_kernel_sizes")?,
            blocks: convolutions.value,
            "n_conv_per_stage_decoder": value("n_conv_per_stage_decoder")?,
            "conv_bias": true,
            "norm_op": format!("torch.nn.modules.instancenorm.InstanceNorm{}d", dimensions.count()),
            "norm_op_kwargs": {"eps": 1e-5, "affine": true},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": true},
        });
        Self::new(class, &Json::new(&arguments, json.path.clone()), dimensions)
    }

    fn new(class: &str, arguments: &Json<'_>, dimensions: Dimensions) -> Result<Self, PlansError> {
        let class = class_name(class);
        let is_plain = match class {
            "PlainConvUNet" => true,
            "ResidualEncoderUNet" => false,
            other => {
                return Err(PlansError::unsupported(
                    format!("the network `{other}`"),
                    "only PlainConvUNet and ResidualEncoderUNet can be imported",
                ));
            }
        };
        refuse_unknown(arguments, is_plain)?;
        check_layers(arguments, dimensions)?;
        let blocks_key = if is_plain { "n_conv_per_stage" } else { "n_blocks_per_stage" };
        let block = match arguments.optional("block")? {
            None if is_plain => Block::Plain,
            None => Block::Basic,
            Some(block) => match class_name(block.text()?) {
                "BasicBlockD" => Block::Basic,
                "BottleneckD" => Block::Bottleneck,
                other => {
                    return Err(PlansError::unsupported(
                        format!("the block `{other}`"),
                        "residual encoders have BasicBlockD or BottleneckD",
                    ));
                }
            },
        };
        let count = arguments.get("n_stages")?.whole()?;
        if !(2..=NetworkSpec::MAX_STAGES).contains(&count) {
            return Err(arguments.get("n_stages")?.wrong("a number of stages from 2 to 13"));
        }
        let axes = dimensions.count();
        let features = arguments.get("features_per_stage")?.for_each(count)?;
        let kernels = arguments.get("kernel_sizes")?.for_each_axis(count, axes)?;
        let strides = arguments.get("strides")?.for_each_axis(count, axes)?;
        let blocks = arguments.get(blocks_key)?.for_each(count)?;
        let decoder = arguments.get("n_conv_per_stage_decoder")?.for_each(count - 1)?;
        let bottlenecks: Vec<Option<usize>> = match (block, arguments.optional("bottleneck_channels")?) {
            (Block::Bottleneck, Some(channels)) => channels.for_each(count)?.into_iter().map(Some).collect(),
            (Block::Bottleneck, None) => {
                return Err(arguments.get("bottleneck_channels")?.wrong("a number of channels for BottleneckD"));
            }
            _ => vec![None; count],
        };
        let stages = features.into_iter().zip(kernels).zip(strides).zip(blocks).zip(bottlenecks);
        let stages: Vec<Stage> = stages
            .map(|((((features, kernel), stride), blocks), bottleneck)| Stage {
                features,
                kernel,
                stride,
                blocks,
                bottleneck,
            })
            .collect();
        let stem = match (is_plain, arguments.optional("stem_channels")?) {
            (true, _) => None,
            (false, Some(channels)) => Some(channels.whole()?),
            (false, None) => stages.first().map(|stage| stage.features),
        };
        let architecture = Self {
            class: class.to_owned(),
            dimensions,
            stages,
            decoder,
            block,
            stem,
            conv_bias: arguments.optional("conv_bias")?.map_or(Ok(false), |flag| flag.flag())?,
            epsilon: epsilon(arguments)?,
            activation: activation(arguments)?,
            activation_first: arguments.optional("nonlin_first")?.map_or(Ok(false), |flag| flag.flag())?,
        };
        architecture.check(arguments)?;
        Ok(architecture)
    }

    /// The number by which each axis of the input must be divisible.
    pub(crate) fn padding_multiple(&self) -> Vec<usize> {
        let axes = 0..self.dimensions.count();
        axes.map(|axis| self.stages.iter().filter_map(|stage| stage.stride.get(axis)).product()).collect()
    }

    fn check(&self, arguments: &Json<'_>) -> Result<(), PlansError> {
        let channels = 1..=NetworkSpec::MAX_CHANNELS;
        let blocks = 1..=NetworkSpec::MAX_CONVOLUTIONS;
        let features = self.stages.iter().map(|stage| stage.features);
        let inner = self.stages.iter().filter_map(|stage| stage.bottleneck);
        if !features.chain(inner).chain(self.stem).all(|n| channels.contains(&n)) {
            return Err(arguments.get("features_per_stage")?.wrong("from 1 to 8192 channels in each stage"));
        }
        if !self
            .stages
            .iter()
            .map(|stage| stage.blocks)
            .chain(self.decoder.iter().copied())
            .all(|n| blocks.contains(&n))
        {
            return Err(arguments
                .get("n_conv_per_stage_decoder")?
                .wrong("from 1 to 64 convolutions in each stage"));
        }
        if self.stages.iter().flat_map(|stage| &stage.kernel).any(|edge| edge % 2 == 0 || *edge > 31) {
            return Err(arguments.get("kernel_sizes")?.wrong("odd sizes up to 31"));
        }
        if self.stages.iter().flat_map(|stage| &stage.stride).any(|stride| !(1..=16).contains(stride)) {
            return Err(arguments.get("strides")?.wrong("from 1 to 16"));
        }
        if self.stages.first().is_some_and(|stage| stage.stride.iter().any(|stride| *stride != 1)) {
            return Err(PlansError::unsupported(
                "a stride in the first stage",
                "the logits would be coarser than the image",
            ));
        }
        Ok(())
    }
}

/// The name of a class without its module, which changed between versions.
fn class_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn refuse_unknown(arguments: &Json<'_>, is_plain: bool) -> Result<(), PlansError> {
    const COMMON: [&str; 11] = [
        "n_stages",
        "features_per_stage",
        "conv_op",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage_decoder",
        "conv_bias",
        "norm_op",
        "norm_op_kwargs",
        "nonlin",
        "nonlin_kwargs",
    ];
    const PLAIN: [&str; 2] = ["n_conv_per_stage", "nonlin_first"];
    const RESIDUAL: [&str; 4] = ["n_blocks_per_stage", "block", "bottleneck_channels", "stem_channels"];
    let own: &[&str] = if is_plain { &PLAIN } else { &RESIDUAL };
    let is_known = |key: &str| COMMON.contains(&key) || own.contains(&key) || WITHOUT_EFFECT.contains(&key);
    match arguments.object()?.keys().find(|key| !is_known(key)) {
        Some(key) => Err(PlansError::unsupported(
            format!("the argument `{key}` of the network"),
            "it is not one of nnU-Net's own networks",
        )),
        None => Ok(()),
    }
}

fn check_layers(arguments: &Json<'_>, dimensions: Dimensions) -> Result<(), PlansError> {
    let axes = dimensions.count();
    if let Some(convolution) = arguments.optional("conv_op")? {
        let name = class_name(convolution.text()?);
        if name != format!("Conv{axes}d") {
            return Err(PlansError::Contradiction {
                reason: format!("its patch has {axes} axes, but its convolutions are `{name}`"),
            });
        }
    }
    let norm = arguments.get("norm_op")?;
    let name = norm.value.as_str().map_or("none", class_name);
    // Which of the two it is, is decided from the weights: the trainer with batch normalisation leaves the plan as it is.
    if ![format!("InstanceNorm{axes}d"), format!("BatchNorm{axes}d")].iter().any(|known| known == name) {
        return Err(PlansError::unsupported(
            format!("the normalisation `{name}`"),
            "networks have instance or batch normalisation",
        ));
    }
    Ok(())
}

fn epsilon(arguments: &Json<'_>) -> Result<f64, PlansError> {
    /// PyTorch's default.
    const DEFAULT: f64 = 1e-5;
    let Some(options) = arguments.optional("norm_op_kwargs")? else { return Ok(DEFAULT) };
    let epsilon = options.optional("eps")?.map_or(Ok(DEFAULT), |value| value.number())?;
    if !(epsilon > 0.0 && epsilon <= 1.0) {
        return Err(options.get("eps")?.wrong("a number above 0 and up to 1"));
    }
    Ok(epsilon)
}

fn activation(arguments: &Json<'_>) -> Result<Activation, PlansError> {
    /// PyTorch's default for `LeakyReLU`.
    const SLOPE: f64 = 0.01;
    let name = arguments.get("nonlin")?.value.as_str().map_or("none", class_name);
    match name {
        "ReLU" => Ok(Activation::Relu),
        "LeakyReLU" => {
            let options = arguments.optional("nonlin_kwargs")?;
            let slope = options.map_or(Ok(None), |options| options.optional("negative_slope"))?;
            let slope = slope.map_or(Ok(SLOPE), |slope| slope.number())?;
            Ok(Activation::LeakyRelu { slope: slope as f32 })
        }
        other => {
            Err(PlansError::unsupported(format!("the activation `{other}`"), "networks have LeakyReLU or ReLU"))
        }
    }
}
