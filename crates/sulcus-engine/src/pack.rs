//! Packs the weights of convolutions in the precision in which they are computed.

use std::collections::HashSet;

use sulcus_kernels::KernelError;
use sulcus_kernels::inference::{
    ConvKernel, Emulation, Int8Weights, PackedConv, PackedConvTranspose, Quantization,
};

use crate::arithmetic::Arithmetic;
use crate::layer::{ConvLayer, ConvTransposeLayer, ConvWeights, Network, Operation, ValueId};

/// A convolution with packed weights, and the quantization to which it rounds its input if it computes in integers. A processor without
/// instructions for integers computes in single precision, with the same values.
pub(crate) fn packed(
    conv: ConvLayer,
    arithmetic: Arithmetic,
) -> Result<(PackedConv, Option<Quantization>), KernelError> {
    let ConvLayer { weights, inputs, outputs, kernel, stride } = conv;
    let kernel = ConvKernel { inputs, outputs, kernel, stride };
    if let ConvWeights::Integers { weight, scale, bias, input } = &weights {
        let integers = Int8Weights { weight, scale, bias, input: *input };
        match PackedConv::int8(kernel, integers, Emulation::Refused) {
            Err(KernelError::Unsupported(_)) => {}
            packed => return Ok((packed?, Some(*input))),
        }
    }
    let in_integers = matches!(weights, ConvWeights::Integers { .. });
    let [weight, bias] = weights.into_floats();
    let packed = match arithmetic {
        Arithmetic::Bfloat16 if !in_integers => PackedConv::bf16(kernel, &weight, Some(&bias), Emulation::Refused),
        _ => PackedConv::new(kernel, &weight, Some(&bias)),
    };
    Ok((packed?, None))
}

/// A transposed convolution with packed weights.
pub(crate) fn packed_transpose(
    conv: &ConvTransposeLayer,
    arithmetic: Arithmetic,
) -> Result<PackedConvTranspose, KernelError> {
    let ConvTransposeLayer { weight, bias, inputs, outputs, stride } = conv;
    let channels = [*inputs, *outputs];
    match arithmetic {
        Arithmetic::Single => PackedConvTranspose::new(channels, *stride, weight, Some(bias)),
        Arithmetic::Bfloat16 => {
            PackedConvTranspose::bf16(channels, *stride, weight, Some(bias), Emulation::Refused)
        }
    }
}

/// The values that become the output without another convolution: they determine the labels, and computing them takes little time.
pub(crate) fn head_values(network: &Network) -> HashSet<ValueId> {
    let mut heads = HashSet::from([network.output]);
    for layer in network.layers.iter().rev().filter(|layer| !is_hidden(&layer.operation)) {
        if heads.contains(&layer.output) {
            heads.extend(&layer.inputs);
        }
    }
    heads
}

/// Whether what a layer reads is not yet part of the output.
fn is_hidden(operation: &Operation) -> bool {
    !matches!(operation, Operation::Concat | Operation::Sigmoid | Operation::Softmax | Operation::Resize { .. })
}
