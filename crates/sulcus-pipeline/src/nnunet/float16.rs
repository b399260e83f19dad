//! Half precision (IEEE 754 binary16), in which nnU-Net keeps logits.

/// A number in half precision, stored as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct F16(u16);

impl F16 {
    /// 0.
    #[cfg(feature = "exact")]
    pub(crate) const ZERO: Self = Self(0);
    const SIGN: u16 = 0x8000;
    const INFINITY: u16 = 0x7c00;
    const NAN: u16 = 0x7e00;

    /// The nearest number in half precision, halves to even.
    pub(crate) fn from_f32(value: f32) -> Self {
        /// 2⁻¹⁴: smaller numbers have a fixed unit of 2⁻²⁴ in half precision.
        const SMALLEST_NORMAL: u32 = 0x3880_0000;
        /// 2¹⁶, which half precision does not have.
        const TOO_LARGE: u32 = 0x4780_0000;
        /// The exponent's bias is 127 there and 15 here.
        const BIAS: u32 = (127 - 15) << 23;
        let bits = value.to_bits();
        let sign = (bits >> 16) as u16 & Self::SIGN;
        let absolute = bits & 0x7fff_ffff;
        let half = if absolute < SMALLEST_NORMAL {
            // The unit in the last place of ½ is 2⁻²⁴: the addition rounds to a multiple of it.
            ((f32::from_bits(absolute) + 0.5).to_bits() - 0.5_f32.to_bits()) as u16
        } else if absolute < TOO_LARGE {
            // Rounds away 13 bits; an overflow of the significand carries into the exponent, up to infinity.
            ((absolute + 0x0fff + ((absolute >> 13) & 1) - BIAS) >> 13) as u16
        } else if value.is_nan() {
            Self::NAN
        } else {
            Self::INFINITY
        };
        Self(sign | half)
    }

    /// The nearest number in half precision, halves to even, rounded once as NumPy does.
    #[cfg(feature = "exact")]
    pub(crate) fn from_f64(value: f64) -> Self {
        const SMALLEST_NORMAL: u64 = (1023 - 14) << 52;
        const TOO_LARGE: u64 = (1023 + 16) << 52;
        const BIAS: u64 = (1023 - 15) << 52;
        /// 2²⁸, whose unit in the last place is 2⁻²⁴.
        const SHIFT: f64 = (1_u64 << 28) as f64;
        let bits = value.to_bits();
        let sign = (bits >> 48) as u16 & Self::SIGN;
        let absolute = bits & (u64::MAX >> 1);
        let half = if absolute < SMALLEST_NORMAL {
            ((f64::from_bits(absolute) + SHIFT).to_bits() - SHIFT.to_bits()) as u16
        } else if absolute < TOO_LARGE {
            ((absolute + ((1 << 41) - 1) + ((absolute >> 42) & 1) - BIAS) >> 42) as u16
        } else if value.is_nan() {
            Self::NAN
        } else {
            Self::INFINITY
        };
        Self(sign | half)
    }

    /// The same number in single precision.
    pub(crate) fn to_f32(self) -> f32 {
        const UNIT: f32 = 1.0 / (1 << 24) as f32;
        let sign = u32::from(self.0 & Self::SIGN) << 16;
        let absolute = u32::from(self.0 & !Self::SIGN);
        let magnitude = if absolute < 0x0400 {
            (absolute as f32 * UNIT).to_bits()
        } else if absolute < u32::from(Self::INFINITY) {
            (absolute << 13) + ((127 - 15) << 23)
        } else {
            f32::INFINITY.to_bits() | (absolute << 13)
        };
        f32::from_bits(sign | magnitude)
    }

    /// The number with these bits.
    #[cfg(test)]
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[cfg(test)]
    pub(crate) fn to_bits(self) -> u16 {
        self.0
    }

    /// Whether it is neither infinite nor NaN.
    #[cfg(feature = "exact")]
    pub(crate) fn is_finite(self) -> bool {
        self.0 & Self::INFINITY != Self::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_both_conversions() {
        for bits in 0..=u16::MAX {
            let half = F16(bits);
            if half.to_f32().is_nan() {
                assert!(F16::from_f32(half.to_f32()).to_f32().is_nan() && !half.is_finite());
                continue;
            }
            assert_eq!(F16::from_f32(half.to_f32()), half);
            assert_eq!(F16::from_f64(f64::from(half.to_f32())), half);
            assert_eq!(half.is_finite(), half.to_f32().is_finite());
        }
    }

    /// Between two neighbours lies one half-way point: it goes to the even one, everything beside it to the nearer one.
    #[test]
    fn halves_are_rounded_to_even() {
        for bits in 0..F16::INFINITY {
            let (low, high) = (f64::from(F16(bits).to_f32()), f64::from(F16(bits + 1).to_f32()));
            let high = if high.is_finite() { high } else { 65536.0 };
            let middle = (low + high) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            let (below, above) = (middle.next_down(), middle.next_up());
            for (value, expected) in [(middle, even), (below, bits), (above, bits + 1)] {
                assert_eq!(F16::from_f64(value), F16(expected), "{value}");
                assert_eq!(F16::from_f64(-value), F16(expected | F16::SIGN), "{value}");
            }
            let middle = middle as f32;
            for (value, expected) in [(middle, even), (middle.next_down(), bits), (middle.next_up(), bits + 1)] {
                assert_eq!(F16::from_f32(value), F16(expected), "{value}");
            }
        }
        assert_eq!(F16::from_f32(f32::MAX), F16(F16::INFINITY));
        assert_eq!(F16::from_f64(f64::NEG_INFINITY), F16(F16::INFINITY | F16::SIGN));
    }
}
