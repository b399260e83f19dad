//! A network as a list of steps over tensors in memory.
//!
//! A step reads *views*: a stored tensor, and what has to be applied to its values when they are read, a normalisation and the slope of
//! an activation. So normalised, activated and concatenated values need not be stored. Tensors may be stored in fewer bits than their
//! values have.

use sulcus_kernels::inference::{PackedConv, PackedConvTranspose, Quantization};

use crate::layer::{PoolKind, ResizeKind};

/// The index of a stored tensor. Tensor 0 is the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TensorId(pub(crate) usize);

/// The index of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NormId(pub(crate) usize);

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Storage {
    F32,
    Bf16,
    /// Integers; the normalisation of a view turns them into values.
    U8(Quantization),
}

impl Storage {
    /// Bytes per value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::U8(_) => 1,
        }
    }
}

/// A tensor in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredTensor {
    pub(crate) channels: usize,
    pub(crate) storage: Storage,
}

/// A tensor as a step reads it: round(act(norm(x))) with act(u) = u for u > 0, slope · u otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    pub(crate) tensor: TensorId,
    pub(crate) norm: Option<NormId>,
    /// 1 for no activation.
    pub(crate) slope: f32,
    /// The integers to which the value is rounded, if any. Only convolutions in integers read such views: they round what they read.
    pub(crate) round: Option<Quantization>,
}

impl View {
    pub(crate) fn stored(tensor: TensorId) -> Self {
        Self { tensor, norm: None, slope: 1.0, round: None }
    }

    /// The same values, rounded.
    pub(crate) fn rounded(self, quantization: Quantization) -> Self {
        Self { round: Some(quantization), ..self }
    }

    /// Whether the values are those that are stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.norm.is_none() && self.slope == 1.0 && self.round.is_none()
    }
}

/// y = scale · x + shift for each channel, where x is what is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Normalization {
    /// Of (v − mean) / √(variance + ε), with the mean and variance of each channel of the tensor, which the step that computes it
    /// gathers. v is the value that x stands for, according to the quantization.
    Instance {
        tensor: TensorId,
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
        quantization: Option<Quantization>,
    },
    /// Of x.
    Fixed { scale: Vec<f32>, shift: Vec<f32> },
}

/// What a step computes.
#[derive(Debug)]
pub(crate) enum StepKind {
    /// One or two views, whose channels are concatenated.
    Conv(PackedConv),
    /// One or two views, as above.
    ConvTranspose(PackedConvTranspose),
    /// One view.
    Pool {
        kind: PoolKind,
        window: [usize; 3],
    },
    /// The values of one view, stored.
    Store,
    /// The instance normalisation of a stored tensor whose statistics are not known.
    Normalize {
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
    },
    /// The channels of two stored tensors. Each of the following reads one.
    Concat,
    Resize {
        kind: ResizeKind,
        factor: [usize; 3],
    },
    Sigmoid,
    Softmax,
    Quantize(Quantization),
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    /// The name of the node in the graph.
    pub(crate) name: String,
    /// Its operator.
    pub(crate) operator: &'static str,
    pub(crate) kind: StepKind,
    /// One or two views.
    pub(crate) inputs: Vec<View>,
    /// What is added to the result of a convolution or to a view that is stored.
    pub(crate) residual: Option<View>,
    /// The slope of the activation of the result, after the residual; 1 for none. Only for steps that can have a residual.
    pub(crate) slope: f32,
    /// Whether the mean and variance of the channels are gathered. Only for convolutions.
    pub(crate) moments: bool,
    pub(crate) output: TensorId,
}

impl Step {
    /// The views that it reads, the residual last.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &View> {
        self.inputs.iter().chain(&self.residual)
    }

    /// The multiplications for one voxel of the output.
    pub(crate) fn multiply_adds_per_voxel(&self) -> u64 {
        let product = |factors: [usize; 3]| factors.into_iter().map(|factor| factor as u64).product::<u64>();
        match &self.kind {
            StepKind::Conv(conv) => {
                let kernel = conv.kernel();
                product([kernel.inputs, kernel.outputs, 1]) * product(kernel.kernel)
            }
            StepKind::ConvTranspose(conv) => {
                let [inputs, outputs] = conv.channels();
                product([inputs, outputs, 1])
            }
            _ => 0,
        }
    }
}

/// A network that can be run.
#[derive(Debug)]
pub(crate) struct Program {
    /// The names of the input and the output in the graph.
    pub(crate) names: [String; 2],
    /// The number of spatial axes: 2 or 3.
    pub(crate) spatial_axes: usize,
    pub(crate) tensors: Vec<StoredTensor>,
    pub(crate) norms: Vec<Normalization>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: TensorId,
}

impl Program {
    pub(crate) fn channels_of(&self, tensor: TensorId) -> usize {
        self.tensors.get(tensor.0).map(|tensor| tensor.channels).unwrap_or_default()
    }

    pub(crate) fn storage_of(&self, tensor: TensorId) -> Storage {
        self.tensors.get(tensor.0).map_or(Storage::F32, |tensor| tensor.storage)
    }
}
