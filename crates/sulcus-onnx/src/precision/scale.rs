//! The arithmetic of 8-bit numbers: real = scale × (stored − zero point).

/// From the least to the greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    low: f32,
    high: f32,
}

impl ValueRange {
    /// A range; nothing when an end is not finite or they are the wrong way round.
    pub fn new(low: f32, high: f32) -> Option<Self> {
        (low.is_finite() && high.is_finite() && low <= high).then_some(Self { low, high })
    }

    /// The least value.
    pub fn low(self) -> f32 {
        self.low
    }

    /// The greatest value.
    pub fn high(self) -> f32 {
        self.high
    }

    /// The range that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// How values between layers become unsigned 8-bit numbers: x ≈ scale × (q − zero point), q in 0..=255. What lies
/// outside of the range saturates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// The distance between neighbours.
    pub scale: f32,
    /// The number that stands for 0, exactly: padding and what ReLU cuts off are without error.
    pub zero_point: u8,
}

impl Affine {
    /// The finest scale that covers a range and 0.
    pub fn covering(range: ValueRange) -> Self {
        // In double precision, as the span of two single precision numbers may be greater than the greatest of them.
        let (low, high) = (f64::from(range.low.min(0.0)), f64::from(range.high.max(0.0)));
        let scale = ((high - low) / 255.0) as f32;
        if !scale.is_normal() {
            return Self { scale: 1.0, zero_point: 0 };
        }
        let zero_point = (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8;
        Self { scale, zero_point }
    }

    /// The number that stands for a value, as ONNX's `QuantizeLinear` rounds: halves to even.
    pub fn quantise(self, value: f32) -> u8 {
        ((value / self.scale).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// The value that a number stands for.
    pub fn value(self, number: u8) -> f32 {
        self.scale * (f32::from(number) - f32::from(self.zero_point))
    }
}

/// Weights in signed 8-bit numbers with a scale for each output channel and no zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct PerChannel {
    /// One an output channel.
    pub scales: Vec<f32>,
    /// In the order of the weights.
    pub weights: Vec<i8>,
    /// The biases in units of (input scale × weight scale), as the sums that they are added to.
    pub biases: Vec<i32>,
}

impl PerChannel {
    /// The greatest number in use. One bit is left unused: processors without VNNI add two products of an unsigned and
    /// a signed byte in 16 bits, and 2 × 255 × 64 is the greatest sum that fits. So every processor computes the
    /// same, and a mask does not depend on the machine.
    pub const GREATEST: i8 = 64;
    /// Biases stay below this, so that a sum of products has room beside them in 32 bits.
    const GREATEST_BIAS: f64 = (1_u32 << 30) as f64;

    /// Quantises the weights of a layer whose input has the scale `input_scale`. Output channels come first in
    /// `weights`; there are as many as `biases`.
    pub fn of(weights: &[f32], biases: &[f32], input_scale: f32) -> Self {
        let per_output = (weights.len() / biases.len().max(1)).max(1);
        let mut found =
            Self { scales: Vec::new(), weights: Vec::with_capacity(weights.len()), biases: Vec::new() };
        for (kernel, bias) in weights.chunks(per_output).zip(biases) {
            let greatest = kernel.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
            // A channel of next to no weights must still be able to hold its bias.
            let of_bias = f64::from(bias.abs()) / (f64::from(input_scale) * Self::GREATEST_BIAS);
            let scale = (f64::from(greatest) / f64::from(Self::GREATEST)).max(of_bias) as f32;
            let scale = if scale.is_normal() { scale } else { 1.0 };
            let number = |w: &f32| {
                let limit = f32::from(Self::GREATEST);
                (w / scale).round_ties_even().clamp(-limit, limit) as i8
            };
            found.weights.extend(kernel.iter().map(number));
            let unit = f64::from(scale) * f64::from(input_scale);
            let bias = (f64::from(*bias) / unit).round_ties_even();
            found.biases.push(bias.clamp(-Self::GREATEST_BIAS, Self::GREATEST_BIAS) as i32);
            found.scales.push(scale);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affine(low: f32, high: f32) -> Affine {
        Affine::covering(ValueRange::new(low, high).unwrap())
    }

    #[test]
    fn ranges_are_finite_and_the_right_way_round() {
        assert!(ValueRange::new(1.0, 0.0).is_none());
        assert!(ValueRange::new(f32::NAN, 0.0).is_none() && ValueRange::new(0.0, f32::INFINITY).is_none());
        let union = ValueRange::new(-1.0, 0.5).unwrap().union(ValueRange::new(0.0, 2.0).unwrap());
        assert_eq!((union.low(), union.high()), (-1.0, 2.0));
    }

    #[test]
    fn every_value_of_the_range_comes_back_within_half_a_step() {
        for (low, high) in
            [(-1.5, 3.0), (0.0, 7.5), (-4.0, 0.0), (2.0, 3.0), (-3.0, -2.0), (-1e-3, 1e4), (0.0, 1e-30)]
        {
            let a = affine(low, high);
            for i in 0..=1000 {
                let value = low + (high - low) * i as f32 / 1000.0;
                let back = a.value(a.quantise(value));
                // Half a step, and as much again at the ends, where the zero point was rounded.
                assert!((back - value).abs() <= a.scale * 1.001, "{value} in {low}..{high} came back as {back}");
            }
        }
    }

    #[test]
    fn zero_is_exact_and_what_is_outside_saturates() {
        let a = affine(-1.0, 3.0);
        assert_eq!(a.value(a.quantise(0.0)), 0.0);
        assert_eq!((a.quantise(-100.0), a.quantise(100.0)), (0, 255));
        // A range without 0 is stretched to it: padding is 0.
        assert_eq!(affine(2.0, 3.0).zero_point, 0);
        assert_eq!(affine(-3.0, -2.0).zero_point, 255);
        // 51/255 exactly: the scale is a fifth.
        assert_eq!(affine(0.0, 51.0), Affine { scale: 0.2, zero_point: 0 });
    }

    #[test]
    fn a_range_without_extent_or_beyond_single_precision_still_gives_a_scale() {
        assert_eq!(affine(0.0, 0.0), Affine { scale: 1.0, zero_point: 0 });
        let widest = affine(-f32::MAX, f32::MAX);
        assert!(widest.scale.is_finite() && widest.zero_point == 128);
    }

    #[test]
    fn each_channel_has_its_own_scale_and_its_greatest_weight_is_exact() {
        // Two output channels of three weights, a thousand times apart.
        let weights = [0.5, -0.25, 0.1, 500.0, 125.0, -400.0];
        let q = PerChannel::of(&weights, &[0.0, 0.0], 1.0);
        assert_eq!(q.scales, [0.5 / 64.0, 500.0 / 64.0]);
        assert_eq!(q.weights, [64, -32, 13, 64, 16, -51]);
        for (i, w) in weights.iter().enumerate() {
            let scale = q.scales[i / 3];
            assert!((f32::from(q.weights[i]) * scale - w).abs() <= scale / 2.0);
        }
    }

    #[test]
    fn biases_count_in_units_of_input_times_weight() {
        let q = PerChannel::of(&[64.0, -64.0], &[3.0, -0.5], 0.25);
        assert_eq!(q.scales, [1.0, 1.0]);
        assert_eq!(q.biases, [12, -2]);
    }

    #[test]
    fn a_channel_without_weights_keeps_its_bias() {
        for weight in [0.0, 1e-30] {
            let q = PerChannel::of(&[weight], &[2.5], 0.01);
            let back = f64::from(q.biases[0]) * f64::from(q.scales[0]) * 0.01;
            assert!((back - 2.5).abs() < 1e-6, "{back}");
        }
    }

    #[test]
    fn two_products_fit_into_16_bits() {
        assert!(2 * 255 * i32::from(PerChannel::GREATEST) <= i32::from(i16::MAX));
    }
}
