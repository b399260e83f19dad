//! Layers in bfloat16 and in 8-bit integers.

use super::{Tensor, available, bits, close, noise};
use crate::conv::forward_with;
use crate::inference::packed_conv::PackedConv;
use crate::inference::pointwise::apply_on;
use crate::inference::precision::{MAX_AVX2_WEIGHT, Machine};
use crate::inference::rows::to_bf16;
use crate::inference::{ConvKernel, Int8Weights};
use crate::inference::{
    Emulation, LayerInput, LayerOutput, PackedConvTranspose, Precision, Quantization, Values, ValuesMut,
};
use crate::instruction_set::InstructionSet;
use crate::{ConvTranspose, KernelError};

/// Inputs and outputs, kernel, stride and size.
type Case = ([usize; 2], [usize; 3], [usize; 3], [usize; 3]);

const CASES: [Case; 8] = [
    ([16, 16], [3; 3], [1; 3], [6, 9, 40]),
    ([1, 19], [3; 3], [1; 3], [5, 4, 13]),
    ([5, 32], [3; 3], [2; 3], [6, 7, 21]),
    ([34, 64], [1, 3, 3], [1, 2, 2], [1, 17, 18]),
    ([70, 48], [3; 3], [1; 3], [3, 6, 6]),
    ([9, 3], [1; 3], [1; 3], [3, 11, 17]),
    ([3, 20], [1, 7, 7], [1; 3], [1, 9, 30]),
    ([130, 37], [3; 3], [2, 2, 1], [4, 5, 3]),
];

/// Batch of all cases.
const BATCH: usize = 2;

/// The machines that can compute a precision here, emulation included.
fn machines(precision: Precision, max_weight: u8) -> Vec<Machine> {
    let mut all: Vec<Machine> =
        available().into_iter().filter_map(|with| Machine::new(with, precision, max_weight).ok()).collect();
    all.extend(available().into_iter().map(|with| Machine::emulated(with, precision)));
    all
}

fn tensors(inputs: usize, voxels: usize) -> Vec<Tensor> {
    let cut = inputs.min(1 + inputs / 3);
    let parts = [cut, inputs - cut].into_iter().filter(|&channels| channels > 0);
    parts.zip(1..).map(|(channels, seed)| Tensor::noise([BATCH, channels, voxels], seed)).collect()
}

fn round(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| f32::from_bits(u32::from(to_bf16(*value)) << 16)).collect()
}

/// The transformed values with the rounding of an instruction set: a difference in the last bit would become one in the last
/// bit of a rounded value.
fn transformed_on(with: InstructionSet, x: &Tensor) -> Vec<f32> {
    let channels = x.scale.len() / BATCH;
    let shape = [BATCH, channels, x.values.len() / x.scale.len()];
    let mut y = vec![f32::NAN; x.values.len()];
    apply_on(with, shape, &x.input(), None, 1.0, ValuesMut::F32(&mut y)).unwrap();
    y
}

/// The output, its means and its variances.
fn run(conv: &PackedConv, size: [usize; 3], inputs: &[LayerInput<'_>]) -> [Vec<f32>; 3] {
    let count = BATCH * conv.kernel().outputs;
    let mut y = vec![f32::NAN; count * conv.output_size(size).iter().product::<usize>()];
    let (mut mean, mut variance) = (vec![f32::NAN; count], vec![f32::NAN; count]);
    let output = LayerOutput::raw(&mut y).with_moments(&mut mean, &mut variance);
    conv.forward(BATCH, size, inputs, output).unwrap();
    [y, mean, variance]
}

/// Only inputs and weights are rounded, so the result equals a convolution of rounded values to single precision.
#[test]
fn bfloat16_equals_the_convolution_of_rounded_values() {
    for ([inputs, outputs], kernel, stride, size) in CASES {
        let kernel = ConvKernel { inputs, outputs, kernel, stride };
        let shape = kernel.shape(BATCH, size);
        let x = tensors(inputs, size.iter().product());
        let (weight, bias) = (noise(shape.weight_length(), 4), noise(outputs, 5));
        let layer_inputs: Vec<LayerInput> = x.iter().map(Tensor::input).collect();
        for machine in machines(Precision::Bf16, 0) {
            let with = machine.instruction_set;
            let rounded: Vec<Vec<f32>> = x.iter().map(|x| round(&transformed_on(with, x))).collect();
            let parts: Vec<&[f32]> = rounded.iter().map(Vec::as_slice).collect();
            let mut expected = vec![f32::NAN; shape.output_length()];
            forward_with(with, &shape, &parts, &round(&weight), Some(&bias), &mut expected).unwrap();
            let conv = PackedConv::on(machine, kernel, &weight, Some(&bias)).unwrap();
            let [y, ..] = run(&conv, size, &layer_inputs);
            close("y", &y, &expected, 2e-5).unwrap_or_else(|error| panic!("{kernel:?} on {machine:?}: {error}"));
        }
    }
}

/// Storage in bfloat16 holds the rounded values of the same tensor, and is read like these.
#[test]
fn bfloat16_storage_of_inputs_and_outputs() {
    let size = [4, 9, 23];
    let kernel = ConvKernel { inputs: 5, outputs: 19, kernel: [3; 3], stride: [1; 3] };
    let x = Tensor::noise([BATCH, 5, size.iter().product()], 1);
    let weight = noise(kernel.shape(1, size).weight_length(), 2);
    let halves: Vec<u16> = x.values.iter().map(|value| to_bf16(*value)).collect();
    let rounded =
        Tensor { values: round(&x.values), scale: x.scale.clone(), shift: x.shift.clone(), slope: x.slope };
    for machine in machines(Precision::F32, 0).into_iter().chain(machines(Precision::Bf16, 0)) {
        let conv = PackedConv::on(machine, kernel, &weight, None).unwrap();
        let [expected, ..] = run(&conv, size, &[rounded.input()]);
        let inputs = [x.with(Values::Bf16(&halves))];
        let [found, ..] = run(&conv, size, &inputs);
        assert_eq!(bits(&found), bits(&expected), "{machine:?}");
        let mut stored = vec![0; expected.len()];
        conv.forward(BATCH, size, &inputs, LayerOutput::new(ValuesMut::Bf16(&mut stored))).unwrap();
        assert_eq!(stored, expected.iter().map(|value| to_bf16(*value)).collect::<Vec<u16>>(), "{machine:?}");
    }
}

#[test]
fn transposed_convolution_in_bfloat16() {
    let (size, stride, [inputs, outputs]) = ([3, 5, 20], [2, 2, 2], [37, 20]);
    let x = Tensor::noise([BATCH, inputs, 300], 1);
    let (weight, bias) = (noise(inputs * outputs * 8, 2), noise(outputs, 3));
    let unfused = ConvTranspose::new(BATCH, [inputs, outputs], size, stride).unwrap();
    for machine in machines(Precision::Bf16, 0) {
        let mut expected = vec![f32::NAN; BATCH * outputs * 2400];
        let rounded = round(&transformed_on(machine.instruction_set, &x));
        unfused.forward(&rounded, &round(&weight), &bias, &mut expected).unwrap();
        let layer = PackedConvTranspose::on(machine, [inputs, outputs], stride, &weight, Some(&bias)).unwrap();
        let mut y = vec![f32::NAN; expected.len()];
        layer.forward(BATCH, size, &[x.input()], LayerOutput::raw(&mut y)).unwrap();
        close("y", &y, &expected, 2e-5).unwrap_or_else(|error| panic!("{machine:?}: {error}"));
    }
}

/// The quantized integers of a tensor after its transform, `[N, C, D, H, W]`.
fn quantized(with: InstructionSet, x: &Tensor, quantization: Quantization) -> Vec<u8> {
    let quantize = |value: f32| {
        let zero_point = f32::from(quantization.zero_point);
        ((value / quantization.scale).round_ties_even() + zero_point).clamp(0.0, 255.0) as u8
    };
    transformed_on(with, x).into_iter().map(quantize).collect()
}

/// The integer sums by the definition, with padding of value 0.
fn integer_sums(
    kernel: ConvKernel,
    size: [usize; 3],
    x: &[(Vec<u8>, usize)],
    zero_point: u8,
    weight: &[i8],
    bias: &[i32],
) -> Vec<i32> {
    let ConvKernel { inputs, outputs, kernel: edges, stride } = kernel;
    let out = kernel.shape(1, size).output_size();
    let mut sums = Vec::new();
    let voxels = size.iter().product::<usize>();
    let value = |n: usize, i: usize, at: [usize; 3]| {
        let (first, channels) = &x[0];
        let (values, channels, i) =
            if i < *channels { (first, *channels, i) } else { (&x[1].0, x[1].1, i - channels) };
        i32::from(values[(n * channels + i) * voxels + (at[0] * size[1] + at[1]) * size[2] + at[2]])
            - i32::from(zero_point)
    };
    for (n, o) in (0..BATCH).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
        for position in 0..out.iter().product() {
            let position = [position / (out[1] * out[2]), position / out[2] % out[1], position % out[2]];
            let mut sum = bias[o];
            for tap in 0..edges.iter().product() {
                let tap_at = [tap / (edges[1] * edges[2]), tap / edges[2] % edges[1], tap % edges[2]];
                let at: [Option<usize>; 3] = std::array::from_fn(|axis| {
                    let at = (position[axis] * stride[axis] + tap_at[axis]).checked_sub(edges[axis] / 2);
                    at.filter(|&at| at < size[axis])
                });
                let [Some(d), Some(h), Some(w)] = at else { continue };
                for i in 0..inputs {
                    let taps: usize = edges.iter().product();
                    sum += value(n, i, [d, h, w]) * i32::from(weight[(o * inputs + i) * taps + tap]);
                }
            }
            sums.push(sum);
        }
    }
    sums
}

#[test]
fn integers_equal_the_definition_exactly() {
    for ([inputs, outputs], kernel, stride, size) in CASES {
        let kernel = ConvKernel { inputs, outputs, kernel, stride };
        let shape = kernel.shape(BATCH, size);
        let x = tensors(inputs, size.iter().product());
        for (max_weight, zero_point) in [(MAX_AVX2_WEIGHT, 31), (127, 0)] {
            let weight: Vec<i8> = noise(shape.weight_length(), 4)
                .iter()
                .map(|value| (value * (f32::from(max_weight) + 0.9)) as i8)
                .collect();
            let bias: Vec<i32> = noise(outputs, 5).iter().map(|value| (value * 1000.0) as i32).collect();
            let scale: Vec<f32> = noise(outputs, 6).iter().map(|value| value * 0.01 + 0.02).collect();
            let input = Quantization { scale: 0.017, zero_point };
            let plane = shape.output_plane();
            let factor = |index: usize| input.scale * scale[index / plane % outputs];
            let expected_on = |with: InstructionSet| {
                let values = x.iter().map(|x| (quantized(with, x, input), x.scale.len() / BATCH));
                let values: Vec<(Vec<u8>, usize)> = values.collect();
                let sums = integer_sums(kernel, size, &values, zero_point, &weight, &bias);
                sums.iter().enumerate().map(|(index, sum)| *sum as f32 * factor(index)).collect::<Vec<f32>>()
            };
            let of_sets: Vec<_> = available().into_iter().map(|with| (with, expected_on(with))).collect();
            let layer_inputs: Vec<LayerInput> = x.iter().map(Tensor::input).collect();
            for machine in machines(Precision::Int8, max_weight) {
                let weights = Int8Weights { weight: &weight, scale: &scale, bias: &bias, input };
                let conv = PackedConv::int8_on(machine, kernel, weights).unwrap();
                let [y, ..] = run(&conv, size, &layer_inputs);
                let expected = &of_sets.iter().find(|(with, _)| *with == machine.instruction_set).unwrap().1;
                let first = y.iter().zip(expected).position(|(y, expected)| y != expected);
                assert_eq!(first, None, "{kernel:?} on {machine:?}");

                // The output in integers, which a layer reads back as the values that they stand for.
                let quantization = Quantization { scale: 0.3, zero_point: 100 };
                let mut bytes = vec![0; y.len()];
                let (mut mean, mut variance) = (vec![0.0; BATCH * outputs], vec![0.0; BATCH * outputs]);
                let values = ValuesMut::U8 { values: &mut bytes, quantization };
                let output = LayerOutput { slope: 0.0, ..LayerOutput::new(values) };
                conv.forward(BATCH, size, &layer_inputs, output.with_moments(&mut mean, &mut variance)).unwrap();
                let rectified: Vec<f32> = y.iter().map(|value| value.max(0.0)).collect();
                let byte = |value: &f32| ((value / 0.3).round_ties_even() + 100.0).clamp(0.0, 255.0) as u8;
                assert_eq!(bytes, rectified.iter().map(byte).collect::<Vec<u8>>());
                let stored: Vec<f32> = bytes.iter().map(|byte| (f32::from(*byte) - 100.0) * 0.3).collect();
                let [expected_mean, expected_variance] = super::moments(&stored, plane);
                close("mean", &mean, &expected_mean, 1e-5).unwrap();
                close("variance", &variance, &expected_variance, 1e-5).unwrap();
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let kernel = ConvKernel { inputs: 20, outputs: 35, kernel: [3; 3], stride: [1; 3] };
    let size = [5, 14, 30];
    let x = tensors(20, size.iter().product());
    let inputs: Vec<LayerInput> = x.iter().map(Tensor::input).collect();
    let weight = noise(kernel.shape(1, size).weight_length(), 4);
    let bytes: Vec<i8> = weight.iter().map(|value| (value * 64.0) as i8).collect();
    let (scale, bias) = (vec![0.01; 35], vec![7; 35]);
    let quantization = Quantization { scale: 0.02, zero_point: 9 };
    let int8 = Int8Weights { weight: &bytes, scale: &scale, bias: &bias, input: quantization };
    for conv in [
        PackedConv::bf16(kernel, &weight, None, Emulation::Allowed).unwrap(),
        PackedConv::int8(kernel, int8, Emulation::Allowed).unwrap(),
    ] {
        super::assert_same_on_any_threads(|| run(&conv, size, &inputs).map(|values| bits(&values)));
    }
}

#[test]
fn unsupported_precision_is_refused_unless_emulation_is_allowed() {
    let refused = Machine::with_emulation(InstructionSet::Avx2, Precision::Bf16, 0, Emulation::Refused);
    assert!(matches!(refused, Err(KernelError::Unsupported("bfloat16"))));
    assert!(Machine::with_emulation(InstructionSet::Avx2, Precision::Bf16, 0, Emulation::Allowed).is_ok());
    assert!(Machine::new(InstructionSet::Portable, Precision::Int8, 1).is_err());
    let kernel = ConvKernel { inputs: 1, outputs: 1, kernel: [1; 3], stride: [1; 3] };
    let input = Quantization { scale: 1.0, zero_point: 0 };
    let weights = |scale| Int8Weights { weight: &[1], scale, bias: &[0], input };
    assert!(matches!(PackedConv::int8(kernel, weights(&[0.0]), Emulation::Allowed), Err(KernelError::Shape(_))));
    assert!(PackedConv::int8(kernel, weights(&[]), Emulation::Allowed).is_err());
    assert!(PackedConv::int8(kernel, weights(&[1.0]), Emulation::Allowed).is_ok());
}
