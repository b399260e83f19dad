//! Convolutions of a training in bfloat16.

use crate::amx::Amx;
use crate::conv::{ConvShape, check_forward, check_input_gradient, conv_weight_gradient};
use crate::convolution::{conv_forward, conv_input_gradient};
use crate::error::KernelError;
use crate::inference::{ConvKernel, LayerInput, LayerOutput, PackedConv};
use crate::instruction_set::{InstructionSet, instruction_set};

/// Convolutions of a training whose products are in bfloat16, on processors with AMX: a value exists only there.
///
/// All tensors are in single precision, and so are the sums. The factors of the products are rounded to bfloat16, half to even.
/// Convolutions of few channels or positions are computed in single precision, where that is faster, and so is the input gradient of a
/// convolution with a stride. The shape alone decides.
///
/// The results are identical to the bit on any number of threads. They are not those of Burn's or PyTorch's bfloat16, where the tensors
/// between layers are rounded too.
#[derive(Debug, Clone, Copy)]
pub struct Bf16Convolution(Amx);

/// Tiles of fewer channels are nearly empty.
const MIN_CHANNELS: usize = 4;

/// For fewer positions in a batch, packing the weights takes longer than the products.
const MIN_POSITIONS: usize = 1024;

/// Whether tiles are faster than single precision, for the number of channels that is summed over. The shape has been checked.
fn prefers_tiles(shape: &ConvShape, channels: usize) -> bool {
    shape.taps() > 1 && channels >= MIN_CHANNELS && shape.batch * shape.output_plane() >= MIN_POSITIONS
}

impl Bf16Convolution {
    /// `None` where the processor has no AMX or the system does not permit it.
    pub fn detect() -> Option<Self> {
        if instruction_set() >= InstructionSet::Amx { Amx::detect().map(Self) } else { None }
    }

    /// As [`conv_forward`](crate::conv_forward).
    ///
    /// # Errors
    ///
    /// As [`conv_forward`](crate::conv_forward).
    pub fn forward(
        self,
        shape: &ConvShape,
        x: &[&[f32]],
        weight: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        shape.check()?;
        if prefers_tiles(shape, shape.inputs) {
            self.forward_tiles(shape, x, weight, bias, y)
        } else {
            conv_forward(shape, x, weight, bias, y)
        }
    }

    fn forward_tiles(
        self,
        shape: &ConvShape,
        x: &[&[f32]],
        weight: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        check_forward(shape, x, weight, bias, y)?;
        let ConvShape { batch, inputs, outputs, size, kernel, stride } = *shape;
        let taps = shape.taps();
        let conv = PackedConv::bf16_once(
            self.0,
            ConvKernel { inputs, outputs, kernel, stride },
            |output, input, tap| weight[(output * inputs + input) * taps + tap],
            |output| bias.map_or(0.0, |bias| bias[output]),
        );
        let x: Vec<LayerInput<'_>> = x.iter().map(|x| LayerInput::raw(x)).collect();
        conv.forward(batch, size, &x, LayerOutput::raw(y))
    }

    /// As [`conv_input_gradient`].
    ///
    /// # Errors
    ///
    /// As [`conv_input_gradient`].
    pub fn input_gradient(
        self,
        shape: &ConvShape,
        weight: &[f32],
        dy: &[f32],
        dx: &mut [&mut [f32]],
    ) -> Result<(), KernelError> {
        shape.check()?;
        if shape.stride == [1; 3] && prefers_tiles(shape, shape.outputs) {
            self.input_gradient_tiles(shape, weight, dy, dx)
        } else {
            conv_input_gradient(shape, weight, dy, dx)
        }
    }

    /// The stride is 1.
    fn input_gradient_tiles(
        self,
        shape: &ConvShape,
        weight: &[f32],
        dy: &[f32],
        dx: &mut [&mut [f32]],
    ) -> Result<(), KernelError> {
        let ConvShape { batch, inputs, outputs, size, kernel, stride } = *shape;
        let split = check_input_gradient(shape, weight, dy, dx)?;
        let taps = shape.taps();
        let mut first = 0;
        // A convolution of `dy` with the reversed kernel, whose outputs are the inputs.
        for (dx, &channels) in dx.iter_mut().zip(split.channels()).filter(|(_, channels)| **channels > 0) {
            let conv = PackedConv::bf16_once(
                self.0,
                ConvKernel { inputs: outputs, outputs: channels, kernel, stride },
                |input, output, tap| weight[(output * inputs + first + input) * taps + taps - 1 - tap],
                |_| 0.0,
            );
            conv.forward(batch, size, &[LayerInput::raw(dy)], LayerOutput::raw(dx))?;
            first += channels;
        }
        Ok(())
    }

    /// As [`conv_weight_gradient`](crate::conv_weight_gradient). The gradient of the bias is a sum in single precision.
    ///
    /// # Errors
    ///
    /// As [`conv_weight_gradient`](crate::conv_weight_gradient).
    pub fn weight_gradient(
        self,
        shape: &ConvShape,
        x: &[&[f32]],
        dy: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) -> Result<(), KernelError> {
        // Few positions make no difference: no weights are packed.
        if shape.taps() > 1 && shape.inputs >= MIN_CHANNELS {
            self.weight_gradient_tiles(shape, x, dy, dw, db)
        } else {
            conv_weight_gradient(shape, x, dy, dw, db)
        }
    }

    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only x86-64 has AMX"))]
    fn weight_gradient_tiles(
        self,
        shape: &ConvShape,
        x: &[&[f32]],
        dy: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) -> Result<(), KernelError> {
        #[cfg(target_arch = "x86_64")]
        return crate::conv::tile_weight_gradient(self.0, shape, x, dy, dw, db);
        #[cfg(not(target_arch = "x86_64"))]
        match self.0 {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
mod tests {
    use super::*;
    use crate::conv::tests::products;
    use crate::inference::rows::to_bf16;
    use crate::tests::{assert_same_on_any_threads, available, bits, noise};
    use proptest::prelude::*;

    const fn shape(channels: [usize; 2], size: [usize; 3], kernel: [usize; 3], stride: [usize; 3]) -> ConvShape {
        ConvShape { batch: 2, inputs: channels[0], outputs: channels[1], size, kernel, stride }
    }

    /// Shapes with the channels of the first input: few and many channels, planes and volumes, rows of odd length, strides, one to three panels
    /// and more, sums for each task and sums of all positions.
    const SHAPES: [(ConvShape, usize); 11] = [
        (shape([1, 16], [5, 12, 37], [3; 3], [1; 3]), 1),
        (shape([40, 33], [6, 9, 20], [3; 3], [1; 3]), 7),
        (shape([17, 48], [7, 8, 33], [3; 3], [2; 3]), 17),
        (shape([16, 40], [4, 9, 18], [3; 3], [1, 2, 2]), 16),
        (shape([70, 96], [5, 7, 5], [3; 3], [1; 3]), 32),
        (shape([65, 130], [3, 6, 8], [3; 3], [2; 3]), 65),
        (shape([160, 50], [1, 11, 13], [1, 3, 3], [1; 3]), 100),
        (shape([33, 20], [1, 41, 29], [1, 3, 3], [1, 2, 2]), 33),
        (shape([20, 18], [3, 5, 64], [1; 3], [1; 3]), 4),
        (shape([24, 17], [4, 7, 9], [1; 3], [2; 3]), 24),
        (shape([3, 5], [6, 9, 11], [5, 7, 7], [1, 1, 2]), 3),
    ];

    /// Single precision over a few thousand terms of size one: 1e-5 of the largest result.
    fn assert_close(what: &str, shape: &ConvShape, found: &[f32], expected: &[f64]) {
        crate::tests::assert_close(&format!("{what} of {shape:?}"), found, expected, 1e-5);
    }

    fn rounded(values: &[f32]) -> Vec<f64> {
        values.iter().map(|value| f64::from(f32::from_bits(u32::from(to_bf16(*value)) << 16))).collect()
    }

    fn bf16() -> Option<Bf16Convolution> {
        let limit = available().into_iter().max();
        Bf16Convolution::detect().filter(|_| limit == Some(InstructionSet::Amx))
    }

    /// The tensors of a shape: x, the weights, the bias and dy.
    fn tensors(shape: &ConvShape) -> [Vec<f32>; 4] {
        let x = noise(shape.batch * shape.inputs * shape.input_plane(), 1);
        [x, noise(shape.weight_length(), 2), noise(shape.outputs, 3), noise(shape.output_length(), 4)]
    }

    /// Where the channels of the first input end. A batch has the first input of all samples before the second.
    fn split_at(shape: &ConvShape, first: usize) -> usize {
        shape.batch * first * shape.input_plane()
    }

    /// x with all channels of a sample in one piece.
    fn joined(shape: &ConvShape, x: &[f32], first: usize) -> Vec<f32> {
        let (one, two) = x.split_at(split_at(shape, first));
        let plane = shape.input_plane();
        let sample = |tensor: &[f32], channels: usize, sample: usize| {
            tensor[sample * channels * plane..][..channels * plane].to_vec()
        };
        (0..shape.batch)
            .flat_map(|n| [sample(one, first, n), sample(two, shape.inputs - first, n)].concat())
            .collect()
    }

    /// Checks all passes of a shape whose first input has `first` channels.
    fn check(bf16: Bf16Convolution, shape: &ConvShape, first: usize) {
        let [x, weight, bias, dy] = tensors(shape);
        let cut = split_at(shape, first);
        let parts: Vec<&[f32]> = [&x[..cut], &x[cut..]].into_iter().filter(|part| !part.is_empty()).collect();
        let whole = joined(shape, &x, first);
        let (half_x, half_weight, half_dy) = (rounded(&whole), rounded(&weight), rounded(&dy));
        let plane = shape.output_plane();
        let bias_of = |index: usize| f64::from(bias[index / plane % shape.outputs]);

        let mut expected: Vec<f64> = (0..dy.len()).map(bias_of).collect();
        products(shape, |output, input, tap| expected[output] += half_x[input] * half_weight[tap]);
        let mut found = vec![f32::NAN; dy.len()];
        bf16.forward_tiles(shape, &parts, &weight, Some(&bias), &mut found).unwrap();
        assert_close("y", shape, &found, &expected);

        let mut expected = vec![0.0; x.len()];
        if shape.stride == [1; 3] {
            products(shape, |output, input, tap| expected[input] += half_dy[output] * half_weight[tap]);
            let mut found = vec![f32::NAN; x.len()];
            let (one, two) = found.split_at_mut(cut);
            let mut targets: Vec<&mut [f32]> = [one, two].into_iter().filter(|part| !part.is_empty()).collect();
            bf16.input_gradient_tiles(shape, &weight, &dy, &mut targets).unwrap();
            assert_close("dx", shape, &joined(shape, &found, first), &expected);
        }

        let mut expected = vec![0.0; weight.len()];
        products(shape, |output, input, tap| expected[tap] += half_x[input] * half_dy[output]);
        let (mut found, mut of_bias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; bias.len()]);
        bf16.weight_gradient_tiles(shape, &parts, &dy, &mut found, Some(&mut of_bias)).unwrap();
        assert_close("dw", shape, &found, &expected);
        let mut expected = vec![0.0; bias.len()];
        for (index, value) in dy.iter().enumerate() {
            expected[index / plane % shape.outputs] += f64::from(*value);
        }
        assert_close("db", shape, &of_bias, &expected);
    }

    #[test]
    fn all_passes_equal_exact_sums_of_rounded_factors() {
        let Some(bf16) = bf16() else { return };
        for (shape, first) in SHAPES {
            check(bf16, &shape, first);
        }
    }

    #[test]
    fn shapes_for_which_tiles_are_slow_are_computed_in_single_precision() {
        let Some(bf16) = bf16() else { return };
        let few_channels = (shape([3, 16], [5, 12, 37], [3; 3], [1; 3]), [false, true, false]);
        let few_positions = (shape([16, 16], [5, 7, 5], [3; 3], [1; 3]), [false, false, true]);
        let pointwise = (shape([16, 16], [5, 12, 37], [1; 3], [1; 3]), [false; 3]);
        let strided = (shape([16, 16], [18, 18, 18], [3; 3], [2; 3]), [true, false, true]);
        let large = (shape([16, 16], [5, 12, 37], [3; 3], [1; 3]), [true; 3]);
        for (shape, is_tiled) in [few_channels, few_positions, pointwise, strided, large] {
            let [x, weight, bias, dy] = tensors(&shape);
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), weight.clone());
            bf16.forward(&shape, &[&x], &weight, Some(&bias), &mut y).unwrap();
            bf16.input_gradient(&shape, &weight, &dy, &mut [&mut dx]).unwrap();
            bf16.weight_gradient(&shape, &[&x], &dy, &mut dw, None).unwrap();
            let (mut single_y, mut single_dx, mut single_dw) = (dy.clone(), x.clone(), weight.clone());
            conv_forward(&shape, &[&x], &weight, Some(&bias), &mut single_y).unwrap();
            conv_input_gradient(&shape, &weight, &dy, &mut [&mut single_dx]).unwrap();
            conv_weight_gradient(&shape, &[&x], &dy, &mut single_dw, None).unwrap();
            let differs = [y != single_y, dx != single_dx, dw != single_dw];
            assert_eq!(differs, is_tiled, "{shape:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_shape_is_computed(
            channels in (1_usize..40, 1_usize..70),
            size in [1_usize..7, 1_usize..14, 1_usize..40],
            edges in [0_usize..3, 0_usize..3, 0_usize..3],
            stride in [1_usize..3, 1_usize..3, 1_usize..3],
            share in 0_usize..40,
        ) {
            let Some(bf16) = bf16() else { return Ok(()) };
            let (inputs, outputs) = channels;
            let shape = ConvShape { batch: 2, inputs, outputs, size, kernel: edges.map(|edge| 2 * edge + 1), stride };
            check(bf16, &shape, share.min(inputs));
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let Some(bf16) = bf16() else { return };
        for (shape, first) in SHAPES {
            let [x, weight, bias, dy] = tensors(&shape);
            let (one, two) = x.split_at(split_at(&shape, first));
            let parts: Vec<&[f32]> = [one, two].into_iter().filter(|part| !part.is_empty()).collect();
            assert_same_on_any_threads(|| {
                let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), weight.clone());
                bf16.forward_tiles(&shape, &parts, &weight, Some(&bias), &mut y).unwrap();
                bf16.input_gradient(&shape, &weight, &dy, &mut [&mut dx]).unwrap();
                bf16.weight_gradient_tiles(&shape, &parts, &dy, &mut dw, None).unwrap();
                [bits(&y), bits(&dx), bits(&dw)]
            });
        }
    }

    #[test]
    fn padding_does_not_touch_infinite_values_of_other_calls() {
        let Some(bf16) = bf16() else { return };
        let (shape, _) = SHAPES[4];
        let [x, _, _, dy] = tensors(&shape);
        let (mut first, mut second) = (vec![0.0; shape.weight_length()], vec![0.0; shape.weight_length()]);
        bf16.weight_gradient(&shape, &[&x], &dy, &mut first, None).unwrap();
        bf16.weight_gradient(&shape, &[&vec![f32::INFINITY; x.len()]], &dy, &mut second, None).unwrap();
        assert!(second.iter().any(|value| !value.is_finite()));
        bf16.weight_gradient(&shape, &[&x], &dy, &mut second, None).unwrap();
        assert_eq!(bits(&first), bits(&second));
    }

    #[test]
    fn shapes_that_are_not_supported_are_refused() {
        let Some(bf16) = bf16() else { return };
        for shape in [shape([16, 16], [5, 12, 37], [3; 3], [0; 3]), shape([16, 16], [5, 12, 37], [2; 3], [1; 3])] {
            bf16.forward(&shape, &[&[]], &[], None, &mut []).unwrap_err();
            bf16.input_gradient(&shape, &[], &[], &mut [&mut []]).unwrap_err();
            bf16.weight_gradient(&shape, &[&[]], &[], &mut [], None).unwrap_err();
        }
    }

    #[test]
    fn slices_of_other_lengths_are_refused() {
        let Some(bf16) = bf16() else { return };
        let (shape, _) = SHAPES[0];
        let [x, weight, _, mut dy] = tensors(&shape);
        let short = &x[1..];
        bf16.forward(&shape, &[short], &weight, None, &mut dy).unwrap_err();
        bf16.input_gradient(&shape, &weight[1..], &dy, &mut [&mut x.clone()]).unwrap_err();
        bf16.weight_gradient(&shape, &[&x], &dy[1..], &mut weight.clone(), None).unwrap_err();
    }
}
