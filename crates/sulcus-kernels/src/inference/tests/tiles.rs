//! Layers in bfloat16 and in 8-bit integers on every instruction set against plain Rust, over many shapes and storages. They are computed
//! with AMX where the processor has it.

use proptest::prelude::*;

use super::{Case, Tensor, assert_same_on_any_threads, available, bits, noise};
use crate::inference::packed_conv::PackedConv;
use crate::inference::precision::Machine;
use crate::inference::rows::to_bf16;
use crate::inference::{
    ConvKernel, InputTransform, Int8Weights, LayerInput, LayerOutput, PackedConvTranspose, Precision,
    Quantization, Values, ValuesMut,
};

/// Single-precision sums of squares about the first value of a segment of at most 300 columns, which may be several standard deviations from
/// the mean: 300 · 2⁻²⁴ · 10.
const MOMENTS_TOLERANCE: f32 = 2e-4;

prop_compose! {
    /// Few and many channels, odd sizes, strides, and rows that are cut into runs.
    fn any_case()(
        batch in 1usize..=2,
        inputs in prop_oneof![1usize..=9, Just(16), Just(20), Just(34), Just(64), Just(67), Just(130)],
        outputs in prop_oneof![1usize..=5, Just(16), Just(19), Just(32), Just(37), Just(48), Just(65)],
        size in (1usize..=4, 1usize..=9, prop_oneof![1usize..=20, 30usize..=70, 250usize..=300]),
        kernel in [0usize..=1, 0usize..=2, 0usize..=3],
        stride in [1usize..=2, 1usize..=2, 1usize..=2],
        cut in 1usize..=40,
    ) -> Case {
        let kernel = ConvKernel { inputs, outputs, kernel: kernel.map(|half| 2 * half + 1), stride };
        // Slices of large images, and small volumes.
        let depth = if size.2 > 70 { 1 } else { size.0 };
        Case { batch, kernel, size: [depth, size.1, size.2], cut: cut.min(inputs) }
    }
}

/// A layer of integers, and its inputs in integers with transforms.
struct Integers {
    weight: Vec<i8>,
    scale: Vec<f32>,
    bias: Vec<i32>,
    input: Quantization,
    x: Vec<(Vec<u8>, Tensor)>,
}

impl Integers {
    fn new(case: &Case, seed: u64) -> Self {
        let byte = |value: &f32| (value * 127.9 + 127.9) as u8;
        let weights = case.kernel.inputs * case.kernel.outputs * case.kernel.taps();
        let x = case.parts().zip(seed..).map(|(channels, seed)| {
            let bytes: Vec<u8> = noise(case.batch * channels * case.voxels(), seed).iter().map(byte).collect();
            let mut tensor = Tensor::noise([case.batch, channels, 1], seed);
            tensor.scale.iter_mut().for_each(|scale| *scale *= 0.01);
            (bytes, tensor)
        });
        Self {
            weight: noise(weights, seed + 4).iter().map(|value| (value * 127.9) as i8).collect(),
            scale: noise(case.kernel.outputs, seed + 5).iter().map(|value| value * 0.001 + 0.002).collect(),
            bias: noise(case.kernel.outputs, seed + 6).iter().map(|value| (value * 9000.0) as i32).collect(),
            input: Quantization {
                scale: 0.017,
                zero_point: if seed.is_multiple_of(3) { 0 } else { (seed % 256) as u8 },
            },
            x: x.collect(),
        }
    }

    fn pack(&self, machine: Machine, kernel: ConvKernel) -> PackedConv {
        let weights =
            Int8Weights { weight: &self.weight, scale: &self.scale, bias: &self.bias, input: self.input };
        PackedConv::int8_on(machine, kernel, weights).unwrap()
    }

    fn inputs(&self) -> Vec<LayerInput<'_>> {
        self.x.iter().map(|(bytes, tensor)| tensor.with(Values::U8(bytes))).collect()
    }
}

/// The outputs of a layer in single precision and in integers, and the means and variances of each.
fn run(
    conv: &PackedConv,
    case: &Case,
    inputs: &[LayerInput<'_>],
    residual: Option<&Tensor>,
) -> (Vec<f32>, Vec<u8>, [Vec<f32>; 4]) {
    let [channels, plane] = case.outputs();
    let (mut y, mut bytes) = (vec![f32::NAN; channels * plane], vec![0; channels * plane]);
    let [mut mean, mut variance, mut byte_mean, mut byte_variance] = [0; 4].map(|_| vec![f32::NAN; channels]);
    let finished = |output: LayerOutput<'_>| match residual {
        Some(residual) => {
            let output = LayerOutput { residual: Some(residual.input()), slope: 0.1, ..output };
            conv.forward(case.batch, case.size, inputs, output).unwrap();
        }
        None => conv.forward(case.batch, case.size, inputs, output).unwrap(),
    };
    finished(LayerOutput::raw(&mut y).with_moments(&mut mean, &mut variance));
    let values = ValuesMut::U8 { values: &mut bytes, quantization: Quantization { scale: 0.02, zero_point: 100 } };
    finished(LayerOutput::new(values).with_moments(&mut byte_mean, &mut byte_variance));
    (y, bytes, [mean, variance, byte_mean, byte_variance])
}

/// Sums of integers are exact, so that every instruction set gives the same bits. Statistics are sums in single precision.
fn check_integers(case: &Case, seed: u64) -> Result<(), TestCaseError> {
    let layer = Integers::new(case, seed);
    let [channels, plane] = case.outputs();
    let shape = [case.batch, channels / case.batch, plane];
    let residual = seed.is_multiple_of(2).then(|| Tensor::noise(shape, seed + 9));
    // Transforms are computed with fused multiply-adds on these sets alone.
    let sets = available().into_iter().filter(|set| *set >= crate::InstructionSet::Avx2);
    let machines: Vec<Machine> = sets.filter_map(|with| Machine::new(with, Precision::Int8, 127).ok()).collect();
    let results: Vec<_> = machines
        .iter()
        .map(|machine| run(&layer.pack(*machine, case.kernel), case, &layer.inputs(), residual.as_ref()))
        .collect();
    let (expected, expected_bytes, _) = &results[0];
    let stored: Vec<f32> = expected_bytes.iter().map(|byte| (f32::from(*byte) - 100.0) * 0.02).collect();
    let [of_values, of_bytes] = [expected, &stored].map(|values| super::moments(values, plane));
    let expected_moments = of_values.iter().chain(&of_bytes);
    for (machine, (y, bytes, moments)) in machines.iter().zip(&results) {
        let apart = y.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
        prop_assert_eq!(apart, None, "{:?}", machine);
        prop_assert!(bytes == expected_bytes, "{:?}: other integers", machine);
        for (found, expected) in moments.iter().zip(expected_moments.clone()) {
            super::close("moments", found, expected, MOMENTS_TOLERANCE)?;
        }
    }
    Ok(())
}

/// Adding n products in another order changes a sum by at most 2 · n · 2⁻²⁴ times the sum of their absolute values; the bias is one more.
fn check_bf16(case: &Case, seed: u64) -> Result<(), TestCaseError> {
    let ConvKernel { inputs, outputs, .. } = case.kernel;
    let [_, plane] = case.outputs();
    let products = inputs * case.kernel.taps();
    let weight = noise(outputs * products, seed + 4);
    let bias = noise(outputs, seed + 5);
    let x: Vec<Vec<u16>> = case
        .parts()
        .zip(seed..)
        .map(|(channels, seed)| {
            noise(case.batch * channels * case.voxels(), seed).iter().map(|x| to_bf16(*x)).collect()
        })
        .collect();
    let compute = |machine, weight: &[f32], bias: &[f32], x: &[Vec<u16>]| {
        let conv = PackedConv::on(machine, case.kernel, weight, Some(bias)).unwrap();
        let mut y = vec![f32::NAN; case.batch * outputs * plane];
        let inputs: Vec<LayerInput> =
            x.iter().map(|x| LayerInput { values: Values::Bf16(x), transform: None }).collect();
        conv.forward(case.batch, case.size, &inputs, LayerOutput::raw(&mut y)).unwrap();
        y
    };
    let absolute = |values: &[f32]| values.iter().map(|value| value.abs()).collect::<Vec<f32>>();
    let positive: Vec<Vec<u16>> = x.iter().map(|x| x.iter().map(|bits| bits & 0x7fff).collect()).collect();
    let plain = Machine::emulated(crate::InstructionSet::Portable, Precision::Bf16);
    let expected = compute(plain, &weight, &bias, &x);
    let sizes = compute(plain, &absolute(&weight), &absolute(&bias), &positive);
    let unit = 2.0 * (products + 1) as f32 * 2.0_f32.powi(-24);
    for machine in available().into_iter().filter_map(|with| Machine::new(with, Precision::Bf16, 0).ok()) {
        let found = compute(machine, &weight, &bias, &x);
        for (index, ((found, expected), size)) in found.iter().zip(&expected).zip(&sizes).enumerate() {
            let bound = unit * size;
            prop_assert!(
                (found - expected).abs() <= bound,
                "{machine:?} [{index}]: {found}, not {expected} ± {bound}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn integers_are_the_same_on_every_instruction_set(case in any_case(), seed in 0u64..1000) {
        check_integers(&case, seed)?;
    }

    #[test]
    fn bfloat16_is_within_the_rounding_of_its_sums(case in any_case(), seed in 0u64..1000) {
        check_bf16(&case, seed)?;
    }
}

/// Shapes that are packed once for all blocks, and rows of columns that are cut into blocks.
fn large_cases() -> Vec<Case> {
    let case = |[batch, inputs, outputs, cut]: [usize; 4], size, kernel, stride| Case {
        batch,
        kernel: ConvKernel { inputs, outputs, kernel, stride },
        size,
        cut,
    };
    vec![
        case([1, 16, 16, 16], [12, 26, 40], [3; 3], [1; 3]),
        case([2, 34, 16, 20], [3, 28, 48], [3; 3], [1; 3]),
        case([1, 32, 40, 32], [9, 15, 70], [3; 3], [2; 3]),
        case([2, 256, 80, 128], [3, 7, 6], [3; 3], [1; 3]),
        case([1, 320, 320, 320], [3, 3, 3], [3; 3], [1; 3]),
        case([1, 64, 32, 1], [9, 25, 43], [1; 3], [1; 3]),
        case([1, 3, 19, 3], [1, 20, 700], [1, 3, 3], [1, 2, 2]),
        case([2, 4, 32, 4], [1, 24, 333], [1, 7, 7], [1; 3]),
        case([1, 5, 20, 5], [1, 14, 129], [1, 5, 5], [1, 1, 2]),
    ]
}

#[test]
fn large_shapes_are_the_same_on_every_instruction_set() {
    for (case, seed) in large_cases().into_iter().zip(3..) {
        check_integers(&case, seed).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        check_bf16(&case, seed).unwrap_or_else(|error| panic!("{case:?}: {error}"));
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads_or_the_batch() {
    for with in available() {
        let Ok(machine) = Machine::new(with, Precision::Int8, 127) else { continue };
        for case in large_cases() {
            let layer = Integers::new(&case, 8);
            let conv = layer.pack(machine, case.kernel);
            let all = |case: &Case, inputs: &[LayerInput<'_>]| {
                let (y, bytes, moments) = run(&conv, case, inputs, None);
                (bits(&y), bytes, moments.map(|values| bits(&values)))
            };
            assert_same_on_any_threads(|| all(&case, &layer.inputs()));
            // The first sample alone.
            let one = Case { batch: 1, ..case.clone() };
            let first: Vec<LayerInput> = layer
                .x
                .iter()
                .map(|(bytes, tensor)| {
                    let channels = tensor.scale.len() / case.batch;
                    let transform = InputTransform {
                        scale: &tensor.scale[..channels],
                        shift: &tensor.shift[..channels],
                        slope: tensor.slope,
                    };
                    let values = Values::U8(&bytes[..channels * case.voxels()]);
                    LayerInput { values, transform: Some(transform) }
                })
                .collect();
            let (alone, batch) = (all(&one, &first), all(&case, &layer.inputs()));
            assert_eq!(alone.0, batch.0[..alone.0.len()], "{case:?}");
            for (alone, batch) in alone.2.iter().zip(&batch.2) {
                assert_eq!(alone[..], batch[..alone.len()], "{case:?}");
            }
        }
    }
}

/// Storage in bfloat16 is read in pairs of channels and columns, with and without a stride.
#[test]
fn transforms_of_bfloat16_storage_equal_those_of_single_precision() {
    for case in large_cases() {
        let x: Vec<Tensor> = case
            .parts()
            .zip(1..)
            .map(|(channels, seed)| Tensor::noise([case.batch, channels, case.voxels()], seed))
            .collect();
        let halves: Vec<Vec<u16>> =
            x.iter().map(|x| x.values.iter().map(|value| to_bf16(*value)).collect()).collect();
        let rounded: Vec<Tensor> = x
            .iter()
            .zip(&halves)
            .map(|(x, halves)| Tensor {
                values: halves.iter().map(|bits| f32::from_bits(u32::from(*bits) << 16)).collect(),
                scale: x.scale.clone(),
                shift: x.shift.clone(),
                slope: x.slope,
            })
            .collect();
        let weight = noise(case.kernel.inputs * case.kernel.outputs * case.kernel.taps(), 9);
        for machine in available().into_iter().filter_map(|with| Machine::new(with, Precision::Bf16, 0).ok()) {
            let conv = PackedConv::on(machine, case.kernel, &weight, None).unwrap();
            let stored: Vec<LayerInput> =
                x.iter().zip(&halves).map(|(x, halves)| x.with(Values::Bf16(halves))).collect();
            let single: Vec<LayerInput> = rounded.iter().map(Tensor::input).collect();
            let [stored, single] = [stored, single].map(|inputs| bits(&run(&conv, &case, &inputs, None).0));
            assert!(stored == single, "{case:?} on {machine:?}");
        }
    }
}

/// Every combination of strides, with rows that are cut into runs.
#[test]
fn transposed_convolutions_with_every_stride() {
    for stride in [[1, 1, 1], [1, 1, 2], [2, 1, 1], [1, 2, 2], [2, 2, 2]] {
        for (channels, size) in [([37, 20], [2, 3, 300]), ([64, 33], [3, 4, 21]), ([5, 16], [1, 2, 7])] {
            let [inputs, outputs] = channels;
            let x = noise(inputs * size.iter().product::<usize>(), 1);
            let halves: Vec<u16> = x.iter().map(|value| to_bf16(*value)).collect();
            let block: usize = stride.iter().product();
            let (weight, bias) = (noise(inputs * outputs * block, 2), noise(outputs, 3));
            let compute = |machine| {
                let layer = PackedConvTranspose::on(machine, channels, stride, &weight, Some(&bias)).unwrap();
                let mut y = vec![f32::NAN; outputs * size.iter().product::<usize>() * block];
                let input = LayerInput { values: Values::Bf16(&halves), transform: None };
                layer.forward(1, size, &[input], LayerOutput::raw(&mut y)).unwrap();
                y
            };
            let plain = compute(Machine::emulated(crate::InstructionSet::Portable, Precision::Bf16));
            for machine in available().into_iter().filter_map(|with| Machine::new(with, Precision::Bf16, 0).ok()) {
                // Products of at most one, and as above.
                let bound = 2.0 * ((inputs + 1) * (inputs + 1)) as f32 * 2.0_f32.powi(-24);
                let apart = compute(machine).iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= bound, "{channels:?} {size:?} {stride:?} on {machine:?}: {apart} > {bound}");
            }
        }
    }
}
