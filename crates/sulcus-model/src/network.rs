use serde::{Deserialize, Serialize};

/// Over how many spatial axes a network convolves.
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

/// What follows each convolution's sum.
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

/// How a stage halves its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downsampling {
    /// Max-pooling before the stage's convolutions (Ronneberger et al. 2015).
    MaxPool,
    /// A stride in the stage's first convolution (Isensee et al. 2021).
    StridedConvolution,
}

/// What the encoder's stages are made of; the decoder is always of plain convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// Convolution, normalisation, activation, one after the other.
    #[default]
    Plain,
    /// Residual blocks of two convolutions each (He et al. 2016), as in nnU-Net's ResEnc networks (Isensee et al. 2024).
    /// `convolutions` of a stage counts blocks in the encoder, convolutions in the decoder.
    Residual,
}

/// One resolution of the encoder; the decoder mirrors it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Feature maps that its convolutions give.
    pub channels: usize,
    /// Convolutions in it, encoder and decoder alike.
    pub convolutions: usize,
    /// Size of their kernels along (D,) H, W; odd.
    pub kernel: Vec<usize>,
    /// Downsampling before it along (D,) H, W; all 1 in the first stage.
    pub stride: Vec<usize>,
}

/// A U-Net, described as data: any of the presets, and any network that a user writes down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The preset it came from, or the user's own name for it.
    pub name: String,
    /// 2-D or 3-D.
    pub dimensions: Dimensions,
    /// Resolutions, finest first.
    pub stages: Vec<StageConfig>,
    /// After each convolution.
    pub norm: Norm,
    /// After each normalisation.
    pub activation: Activation,
    /// Between resolutions.
    pub downsampling: Downsampling,
    /// What the encoder is made of.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoder: Encoder,
    /// Whether training compares the coarser resolutions of the decoder with the truth as well (all but the lowest).
    /// An exported file has the finest one's output alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deep_supervision: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl NetworkSpec {
    /// The input of a network with more would have to be divisible by more than 4096.
    const MAX_STAGES: usize = 13;
    /// Larger ones have no kernel on the processor.
    const MAX_KERNEL: usize = 7;
    /// Of a stage, of the input and of the output. Eight times as many as the widest networks in use, whose parameters can still be
    /// counted without overflow.
    pub const MAX_CHANNELS: usize = 8192;
    /// Of one stage.
    const MAX_CONVOLUTIONS: usize = 64;

    /// By what each spatial axis of the input must be divisible, (D,) H, W: the product of the strides.
    pub fn padding_multiple(&self) -> Vec<usize> {
        (0..self.dimensions.count())
            .map(|axis| self.stages.iter().filter_map(|s| s.stride.get(axis)).product())
            .collect()
    }

    /// Convolutions of a stage's decoder: as many as the encoder has, one beside a residual encoder.
    pub fn decoder_convolutions(&self, stage: &StageConfig) -> usize {
        match self.encoder {
            Encoder::Plain => stage.convolutions,
            Encoder::Residual => 1,
        }
    }

    /// Resolutions of the decoder that training compares with the truth, the finest included.
    pub fn supervised_stages(&self) -> usize {
        // The coarsest maps are no decoder's, and the decoder's coarsest ones have weight 0.
        if self.deep_supervision { self.stages.len().saturating_sub(2).max(1) } else { 1 }
    }

    /// Checks that the stages make a network.
    ///
    /// # Errors
    /// A sentence that names the first thing that is wrong.
    pub fn check(&self) -> Result<(), String> {
        let axes = self.dimensions.count();
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
            if stage.kernel.iter().any(|k| k % 2 == 0 || *k > Self::MAX_KERNEL) {
                return Err(format!(
                    "stage {i} must have odd kernel sizes up to {}, found {:?}",
                    Self::MAX_KERNEL,
                    stage.kernel
                ));
            }
            if stage.stride.iter().any(|s| !(1..=2).contains(s)) {
                return Err(format!("stage {i} must have strides of 1 or 2, found {:?}", stage.stride));
            }
        }
        Ok(())
    }
}
