//! Quantization to 8-bit integers: real = scale × (quantized − zero point).

/// The range of some values: their minimum and maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    low: f32,
    high: f32,
}

impl ValueRange {
    /// A range; `None` when a bound is not finite or `low > high`.
    pub fn new(low: f32, high: f32) -> Option<Self> {
        (low.is_finite() && high.is_finite() && low <= high).then_some(Self { low, high })
    }

    /// The minimum.
    pub fn low(self) -> f32 {
        self.low
    }

    /// The maximum.
    pub fn high(self) -> f32 {
        self.high
    }

    /// The smallest range that contains both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// The quantization of activations to unsigned 8-bit integers: x ≈ scale × (q − zero point) with q in 0..=255. Values outside
/// the range saturate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantizationParams {
    /// The difference between two neighbouring quantized values.
    pub scale: f32,
    /// The quantized value of 0, which is exact: zero padding and the zeros of ReLU have no error.
    pub zero_point: u8,
}

impl QuantizationParams {
    /// The smallest scale that covers a range and 0.
    pub fn from_range(range: ValueRange) -> Self {
        // The difference of two single-precision numbers may overflow single precision.
        let (low, high) = (f64::from(range.low.min(0.0)), f64::from(range.high.max(0.0)));
        let scale = ((high - low) / 255.0) as f32;
        if !scale.is_normal() {
            return Self { scale: 1.0, zero_point: 0 };
        }
        let zero_point = (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8;
        Self { scale, zero_point }
    }

    /// Quantizes a value like ONNX's `QuantizeLinear`, which rounds half to even.
    pub fn quantize(self, value: f32) -> u8 {
        ((value / self.scale).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// The value of a quantized number.
    pub fn dequantize(self, quantized: u8) -> f32 {
        self.scale * (f32::from(quantized) - f32::from(self.zero_point))
    }
}

/// Weights quantized to signed 8-bit integers, symmetric (zero point 0) with one scale per output channel.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedWeights {
    /// The scale of each output channel.
    pub scales: Vec<f32>,
    /// The quantized weights, in the order of the original ones.
    pub weights: Vec<i8>,
    /// The biases in units of (input scale × weight scale), the unit of the accumulators that they are added to.
    pub biases: Vec<i32>,
}

impl QuantizedWeights {
    /// The largest absolute weight. One bit is unused, because processors without VNNI add two products of an unsigned and a
    /// signed byte in 16 bits without overflow only up to 2 × 255 × 64. With this limit every processor computes the same,
    /// and a segmentation does not depend on the machine.
    pub const MAX_WEIGHT: i8 = 64;
    /// The largest absolute bias. It leaves room for the sum of products in a 32-bit accumulator.
    const MAX_BIAS: f64 = (1_u32 << 30) as f64;

    /// Quantizes the weights and biases of a layer whose input has the scale `input_scale`.
    ///
    /// # Shapes
    /// `weights` is `[outputs, …]`, `biases` `[outputs]`.
    pub fn quantize(weights: &[f32], biases: &[f32], input_scale: f32) -> Self {
        let per_output = (weights.len() / biases.len().max(1)).max(1);
        let mut found =
            Self { scales: Vec::new(), weights: Vec::with_capacity(weights.len()), biases: Vec::new() };
        for (kernel, bias) in weights.chunks(per_output).zip(biases) {
            let max_weight = kernel.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            // A channel with tiny weights still needs a scale with which its bias fits.
            let scale_for_bias = f64::from(bias.abs()) / (f64::from(input_scale) * Self::MAX_BIAS);
            let scale = (f64::from(max_weight) / f64::from(Self::MAX_WEIGHT)).max(scale_for_bias) as f32;
            let scale = if scale.is_normal() { scale } else { 1.0 };
            let quantize = |w: &f32| {
                let limit = f32::from(Self::MAX_WEIGHT);
                (w / scale).round_ties_even().clamp(-limit, limit) as i8
            };
            found.weights.extend(kernel.iter().map(quantize));
            let unit = f64::from(scale) * f64::from(input_scale);
            let bias = (f64::from(*bias) / unit).round_ties_even();
            found.biases.push(bias.clamp(-Self::MAX_BIAS, Self::MAX_BIAS) as i32);
            found.scales.push(scale);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(low: f32, high: f32) -> QuantizationParams {
        QuantizationParams::from_range(ValueRange::new(low, high).unwrap())
    }

    #[test]
    fn range_refuses_nan_infinity_and_swapped_bounds() {
        assert!(ValueRange::new(1.0, 0.0).is_none());
        assert!(ValueRange::new(f32::NAN, 0.0).is_none() && ValueRange::new(0.0, f32::INFINITY).is_none());
        let union = ValueRange::new(-1.0, 0.5).unwrap().union(ValueRange::new(0.0, 2.0).unwrap());
        assert_eq!((union.low(), union.high()), (-1.0, 2.0));
    }

    #[test]
    fn quantization_error_is_at_most_half_a_step() {
        for (low, high) in
            [(-1.5, 3.0), (0.0, 7.5), (-4.0, 0.0), (2.0, 3.0), (-3.0, -2.0), (-1e-3, 1e4), (0.0, 1e-30)]
        {
            let a = params(low, high);
            for i in 0..=1000 {
                let value = low + (high - low) * i as f32 / 1000.0;
                let back = a.dequantize(a.quantize(value));
                // Half a step, plus another half at the bounds, where the zero point was rounded.
                assert!((back - value).abs() <= a.scale * 1.001, "{value} in {low}..{high} came back as {back}");
            }
        }
    }

    #[test]
    fn zero_is_exact_and_values_outside_the_range_saturate() {
        let a = params(-1.0, 3.0);
        assert_eq!(a.dequantize(a.quantize(0.0)), 0.0);
        assert_eq!((a.quantize(-100.0), a.quantize(100.0)), (0, 255));
        // A range without 0 is extended to 0, the value of padding.
        assert_eq!(params(2.0, 3.0).zero_point, 0);
        assert_eq!(params(-3.0, -2.0).zero_point, 255);
        // 51 / 255 is exactly one fifth.
        assert_eq!(params(0.0, 51.0), QuantizationParams { scale: 0.2, zero_point: 0 });
    }

    #[test]
    fn empty_and_overflowing_ranges_give_a_valid_scale() {
        assert_eq!(params(0.0, 0.0), QuantizationParams { scale: 1.0, zero_point: 0 });
        let widest = params(-f32::MAX, f32::MAX);
        assert!(widest.scale.is_finite() && widest.zero_point == 128);
    }

    #[test]
    fn each_channel_has_its_own_scale_and_its_largest_weight_is_exact() {
        // Two output channels of three weights, a thousand times apart.
        let weights = [0.5, -0.25, 0.1, 500.0, 125.0, -400.0];
        let q = QuantizedWeights::quantize(&weights, &[0.0, 0.0], 1.0);
        assert_eq!(q.scales, [0.5 / 64.0, 500.0 / 64.0]);
        assert_eq!(q.weights, [64, -32, 13, 64, 16, -51]);
        for (i, w) in weights.iter().enumerate() {
            let scale = q.scales[i / 3];
            assert!((f32::from(q.weights[i]) * scale - w).abs() <= scale / 2.0);
        }
    }

    #[test]
    fn biases_are_in_units_of_input_scale_times_weight_scale() {
        let q = QuantizedWeights::quantize(&[64.0, -64.0], &[3.0, -0.5], 0.25);
        assert_eq!(q.scales, [1.0, 1.0]);
        assert_eq!(q.biases, [12, -2]);
    }

    #[test]
    fn channel_with_tiny_weights_keeps_its_bias() {
        for weight in [0.0, 1e-30] {
            let q = QuantizedWeights::quantize(&[weight], &[2.5], 0.01);
            let back = f64::from(q.biases[0]) * f64::from(q.scales[0]) * 0.01;
            assert!((back - 2.5).abs() < 1e-6, "{back}");
        }
    }

    #[test]
    fn sum_of_two_products_fits_in_16_bits() {
        assert!(2 * 255 * i32::from(QuantizedWeights::MAX_WEIGHT) <= i32::from(i16::MAX));
    }
}
