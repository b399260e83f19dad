//! A network as a list of typed layers: what a graph says, with everything checked that does not depend on the size of the input.

use sulcus_kernels::inference::Quantization;

/// The index of a value: the network's input, or the output of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValueId(pub(crate) usize);

/// A network. Value 0 is its input; layers are in the order of their evaluation.
#[derive(Debug)]
pub(crate) struct Network {
    /// The names of the input and the output in the graph.
    pub(crate) names: [String; 2],
    /// The number of spatial axes: 2 or 3.
    pub(crate) spatial_axes: usize,
    /// The number of channels of each value.
    pub(crate) channels: Vec<usize>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output: ValueId,
}

/// One layer, which computes one value.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The name of its node.
    pub(crate) name: String,
    pub(crate) operation: Operation,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) output: ValueId,
}

/// What a layer computes. Kernels, strides and windows are along D, H and W; a 2-D network has 1 along D.
#[derive(Debug)]
pub(crate) enum Operation {
    Conv(ConvLayer),
    ConvTranspose(ConvTransposeLayer),
    /// y = scale · (x − mean) / √(variance + ε) + shift with the mean and variance of a channel.
    InstanceNorm {
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
    },
    /// y = scale · x + shift for each channel.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// y = x for x > 0, slope · x otherwise.
    Activation {
        slope: f32,
    },
    Pool {
        kind: PoolKind,
        window: [usize; 3],
    },
    /// Channels of several values, one after the other.
    Concat,
    Add,
    Resize {
        kind: ResizeKind,
        factor: [usize; 3],
    },
    Sigmoid,
    /// Over the channels.
    Softmax,
    /// Rounds to the values that 8 bits can have.
    Quantize(Quantization),
}

impl Operation {
    /// The name of the operator, as in ONNX.
    pub(crate) fn operator(&self) -> &'static str {
        match self {
            Self::Conv(_) => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::InstanceNorm { .. } => "InstanceNormalization",
            Self::Affine { .. } => "BatchNormalization",
            Self::Activation { .. } => "LeakyRelu",
            Self::Pool { kind: PoolKind::Max, .. } => "MaxPool",
            Self::Pool { kind: PoolKind::Average, .. } => "AveragePool",
            Self::Concat => "Concat",
            Self::Add => "Add",
            Self::Resize { .. } => "Resize",
            Self::Sigmoid => "Sigmoid",
            Self::Softmax => "Softmax",
            Self::Quantize(_) => "QuantizeLinear",
        }
    }
}

/// A convolution with the padding `kernel / 2` on both sides.
#[derive(Debug)]
pub(crate) struct ConvLayer {
    pub(crate) weights: ConvWeights,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
}

/// The weights `[outputs, inputs, kd, kh, kw]` and biases `[outputs]` of a convolution.
#[derive(Debug)]
pub(crate) enum ConvWeights {
    Floats {
        weight: Vec<f32>,
        bias: Vec<f32>,
    },
    /// Integers whose unit is `scale`, `[outputs]`, for an input in 8 bits. The unit of the biases is that of the input times `scale`.
    Integers {
        weight: Vec<i8>,
        scale: Vec<f32>,
        bias: Vec<i32>,
        input: Quantization,
    },
}

impl ConvWeights {
    /// Weights and biases in single precision.
    pub(crate) fn into_floats(self) -> [Vec<f32>; 2] {
        match self {
            Self::Floats { weight, bias } => [weight, bias],
            Self::Integers { weight, scale, bias, input } => {
                let bias =
                    bias.iter().zip(&scale).map(|(bias, scale)| scaled(*bias, scale * input.scale)).collect();
                [scaled_values(&weight, &scale), bias]
            }
        }
    }
}

/// Integers times the scale of their output channel, `[outputs, …]`.
pub(crate) fn scaled_values<T: Copy + Into<i32>>(integers: &[T], scales: &[f32]) -> Vec<f32> {
    let per_output = (integers.len() / scales.len().max(1)).max(1);
    let outputs = integers.chunks(per_output).zip(scales);
    outputs.flat_map(|(values, scale)| values.iter().map(|value| scaled((*value).into(), *scale))).collect()
}

fn scaled(integer: i32, scale: f32) -> f32 {
    (f64::from(integer) * f64::from(scale)) as f32
}

/// A transposed convolution whose kernel is its stride.
#[derive(Debug)]
pub(crate) struct ConvTransposeLayer {
    /// `[inputs, outputs, sd, sh, sw]`
    pub(crate) weight: Vec<f32>,
    /// `[outputs]`
    pub(crate) bias: Vec<f32>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) stride: [usize; 3],
}

/// The kinds of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    Average,
}

/// The kinds of resizing by whole factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResizeKind {
    /// Each voxel becomes a block.
    Nearest,
    /// Linear interpolation between the centres of voxels; the outermost voxels are extended.
    Linear,
}
