use serde::{Deserialize, Serialize};

/// The number of spatial axes of a network's convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Dimensions {
    /// Slices: `[N, C, H, W]`.
    Two,
    /// Blocks: `[N, C, D, H, W]`.
    Three,
}

impl Dimensions {
    /// 2 or 3.
    pub fn count(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

impl TryFrom<u8> for Dimensions {
    type Error = String;
    fn try_from(count: u8) -> Result<Self, Self::Error> {
        match count {
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            other => Err(format!("a network convolves over 2 or 3 axes, found {other}")),
        }
    }
}

impl From<Dimensions> for u8 {
    fn from(dimensions: Dimensions) -> Self {
        dimensions.count() as u8
    }
}

/// The activation function after each normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x for x > 0, `slope` · x below (Maas et al. 2013).
    LeakyRelu {
        /// Factor for negative values; nnU-Net uses 0.01.
        slope: f32,
    },
}

/// How activations are normalised after a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Over batch and space (Ioffe & Szegedy 2015).
    Batch,
    /// Over space, case by case (Ulyanov et al. 2016).
    Instance,
}

/// How the resolution is halved between stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downsampling {
    /// Max-pooling before the stage's convolutions (Ronneberger et al. 2015).
    MaxPool,
    /// A stride in the stage's first convolution (Isensee et al. 2021).
    StridedConvolution,
}

/// The building blocks of the encoder's stages. The decoder always has plain convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// Sequences of convolution, normalisation and activation.
    #[default]
    Plain,
    /// Residual blocks of two convolutions each (He et al. 2016), as in nnU-Net's ResEnc networks (Isensee et al. 2024).
    /// `convolutions` of a stage is the number of blocks in the encoder.
    Residual,
}

/// One resolution of the encoder; the decoder mirrors it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Number of feature maps of its convolutions.
    pub channels: usize,
    /// Number of convolutions, in the encoder and in the decoder.
    pub convolutions: usize,
    /// Size of the kernels along (D,) H, W; odd.
    pub kernel: Vec<usize>,
    /// Stride of the downsampling before the stage along (D,) H, W; 1 along each axis in the first stage.
    pub stride: Vec<usize>,
}

/// A U-Net as data: one of the presets or a network of the user's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Name of the preset, or the user's name.
    pub name: String,
    /// Number of spatial axes.
    pub dimensions: Dimensions,
    /// The resolutions, finest first.
    pub stages: Vec<StageConfig>,
    /// Normalisation after each convolution.
    pub norm: Norm,
    /// Activation after each normalisation.
    pub activation: Activation,
    /// Downsampling between resolutions.
    pub downsampling: Downsampling,
    /// Building blocks of the encoder.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoder: Encoder,
    /// Whether training also compares the coarser resolutions of the decoder (all but the lowest) with the reference. An
    /// exported file has only the output of the finest resolution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deep_supervision: bool,
    /// Further properties of a network of another program; `None` for networks of Sulcus. Only the graph in the model file
    /// describes an imported network completely, so Sulcus can neither build nor train it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportedNetwork>,
}

/// The properties of an imported network that networks of Sulcus do not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedNetwork {
    /// Class of the network in the program that trained it, such as nnU-Net's `PlainConvUNet`.
    pub class: String,
    /// SHA-256 of the checkpoint of each network in the file.
    pub checkpoints_sha256: Vec<String>,
    /// Number of convolutions in each stage of the decoder, finest first: one stage less than the encoder has.
    pub decoder_convolutions: Vec<usize>,
    /// Number of channels inside the residual blocks of each stage that reduce it (`BottleneckD`), finest first; empty for
    /// other blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bottleneck_channels: Vec<usize>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl NetworkSpec {
    /// With more stages, the input would have to be divisible by more than 4096.
    pub const MAX_STAGES: usize = 13;
    /// The kernels for processors support no larger sizes.
    const MAX_KERNEL: usize = 7;
    /// Maximum number of channels of a stage, of the input and of the output. Eight times the width of the widest networks in
    /// use. Parameters of such networks can be counted without overflow.
    pub const MAX_CHANNELS: usize = 8192;
    /// Maximum number of convolutions in one stage.
    pub const MAX_CONVOLUTIONS: usize = 64;
    /// Maximum kernel and stride of an imported network, which other engines compute.
    const MAX_IMPORTED_KERNEL: usize = 31;
    const MAX_IMPORTED_STRIDE: usize = 16;

    /// The number by which each spatial axis of the input, (D,) H, W, must be divisible: the product of the strides.
    pub fn padding_multiple(&self) -> Vec<usize> {
        (0..self.dimensions.count())
            .map(|axis| self.stages.iter().filter_map(|s| s.stride.get(axis)).product())
            .collect()
    }

    /// Number of convolutions in a decoder's stage: that of the encoder, or one if the encoder is residual.
    pub fn decoder_convolutions(&self, stage: &StageConfig) -> usize {
        match self.encoder {
            Encoder::Plain => stage.convolutions,
            Encoder::Residual => 1,
        }
    }

    /// Number of the decoder's resolutions that training compares with the reference, including the finest.
    pub fn supervised_stages(&self) -> usize {
        // The coarsest resolution has no decoder, and the decoder's coarsest one has weight 0.
        if self.deep_supervision { self.stages.len().saturating_sub(2).max(1) } else { 1 }
    }

    /// Checks that the stages form a network.
    ///
    /// # Errors
    /// A sentence that names the first problem.
    pub fn check(&self) -> Result<(), String> {
        let axes = self.dimensions.count();
        let (max_kernel, max_stride) = match self.imported {
            Some(_) => (Self::MAX_IMPORTED_KERNEL, Self::MAX_IMPORTED_STRIDE),
            None => (Self::MAX_KERNEL, 2),
        };
        let Some(first) = self.stages.first() else {
            return Err("the network has no stage".into());
        };
        if self.stages.len() > Self::MAX_STAGES {
            return Err(format!(
                "the network has {} stages, at most {} make sense",
                self.stages.len(),
                Self::MAX_STAGES
            ));
        }
        if first.stride.iter().any(|s| *s != 1) {
            return Err(format!("the first stage must have stride 1 along each axis, found {:?}", first.stride));
        }
        for (i, stage) in self.stages.iter().enumerate() {
            if stage.kernel.len() != axes || stage.stride.len() != axes {
                return Err(format!(
                    "stage {i} must give a kernel and a stride for each of {axes} axes, found {:?} and {:?}",
                    stage.kernel, stage.stride
                ));
            }
            if stage.channels == 0 || stage.convolutions == 0 {
                return Err(format!("stage {i} must have at least one channel and one convolution"));
            }
            if stage.channels > Self::MAX_CHANNELS || stage.convolutions > Self::MAX_CONVOLUTIONS {
                return Err(format!(
                    "stage {i} may have up to {} channels and {} convolutions, found {} and {}",
                    Self::MAX_CHANNELS,
                    Self::MAX_CONVOLUTIONS,
                    stage.channels,
                    stage.convolutions
                ));
            }
            if stage.kernel.iter().any(|k| k % 2 == 0 || *k > max_kernel) {
                return Err(format!(
                    "stage {i} must have odd kernel sizes up to {max_kernel}, found {:?}",
                    stage.kernel
                ));
            }
            if stage.stride.iter().any(|s| !(1..=max_stride).contains(s)) {
                return Err(format!("stage {i} must have strides of 1 to {max_stride}, found {:?}", stage.stride));
            }
        }
        self.check_imported()
    }
    fn check_imported(&self) -> Result<(), String> {
        let Some(imported) = &self.imported else { return Ok(()) };
        let stages = self.stages.len();
        let decoder = &imported.decoder_convolutions;
        if decoder.len() + 1 != stages || decoder.iter().any(|n| !(1..=Self::MAX_CONVOLUTIONS).contains(n)) {
            return Err(format!(
                "an imported network of {stages} stages has a decoder of {decoder:?} convolutions"
            ));
        }
        let bottlenecks = &imported.bottleneck_channels;
        let is_plain = self.encoder == Encoder::Plain;
        let is_possible = |channels: &usize| (1..=Self::MAX_CHANNELS).contains(channels);
        if !bottlenecks.is_empty()
            && (is_plain || bottlenecks.len() != stages || !bottlenecks.iter().all(is_possible))
        {
            return Err(format!(
                "an imported network of {stages} stages has bottlenecks of {bottlenecks:?} channels"
            ));
        }
        if imported.checkpoints_sha256.is_empty() {
            return Err("an imported network names no checkpoint".into());
        }
        Ok(())
    }
}
