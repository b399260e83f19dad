//! The numbers that a training computes with.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::network::cpu;

/// What convolutions compute in. Weights, their gradients and the optimiser's moments, normalisations and the loss are
/// single precision always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// Brain floats: the range of single precision, 8 bits of mantissa.
    Bf16,
    /// Half precision: 11 bits of mantissa, nothing above 65504 or below 6e-8. The loss is scaled so that gradients
    /// neither vanish nor overflow ([`LossScaler`]).
    Fp16,
}

/// Why a precision can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrecisionError {
    /// A name that means no precision.
    #[error("there is no precision `{0}`: expected fp32, bf16 or fp16")]
    Unknown(String),
    /// Slower than single precision there.
    #[error(
        "cannot train in {precision} on the {device}: mixed precision needs a GPU, and a processor would only be slower \
         and less exact by it; leave --precision out, or train with --device cuda"
    )]
    NoGain {
        /// The precision asked for.
        precision: Precision,
        /// The device, in words.
        device: String,
    },
    /// The device's kernels lack the type.
    #[error("cannot train in {precision} on the {device}: it does not compute in this type; it does in {}", .known.join(", "))]
    Lacking {
        /// The precision asked for.
        precision: Precision,
        /// The device, in words.
        device: String,
        /// The precisions it has.
        known: Vec<String>,
    },
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        })
    }
}

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| PrecisionError::Unknown(text.to_owned()))
    }
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Bf16, Self::Fp16];

    /// Whether it is what is meant when nobody says.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Those that a device trains in. The processor is given single precision alone: it has no faster kernels for the
    /// others.
    pub fn of(device: &Device) -> Vec<Self> {
        let has = |precision: &Self| match precision {
            Self::Fp32 => true,
            other => !cpu::is_processor(device) && device.supports_dtype(other.float()),
        };
        Self::ALL.into_iter().filter(has).collect()
    }

    /// Checks that a device trains in it; `name` describes the device for people.
    ///
    /// # Errors
    /// When the device is the processor, or its kernels lack the type.
    pub fn check(self, device: &Device, name: &str) -> Result<(), PrecisionError> {
        let known = Self::of(device);
        if known.contains(&self) {
            return Ok(());
        }
        let device_name = name.to_owned();
        Err(if cpu::is_processor(device) {
            PrecisionError::NoGain { precision: self, device: device_name }
        } else {
            let known = known.iter().map(ToString::to_string).collect();
            PrecisionError::Lacking { precision: self, device: device_name, known }
        })
    }

    fn float(self) -> FloatDType {
        match self {
            Self::Fp32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::Fp16 => FloatDType::F16,
        }
    }

    /// An input that makes a network compute in this precision.
    pub(crate) fn round(self, image: Tensor<5>) -> Tensor<5> {
        image.cast(self.float())
    }
}

/// Scales the loss so that half-precision gradients neither vanish nor overflow (Micikevicius et al. 2018): the scale
/// halves when a gradient has overflowed, and doubles after [`Self::PATIENCE`] steps in which none has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaler {
    /// The scale is 2 to this power: scaling by it rounds nothing.
    exponent: u32,
    /// Steps since the scale last changed.
    good_steps: u32,
    /// Steps that overflowed and moved no weight.
    skipped: u64,
}

impl Default for LossScaler {
    fn default() -> Self {
        Self { exponent: 16, good_steps: 0, skipped: 0 }
    }
}

impl LossScaler {
    /// Steps without an overflow after which the scale doubles.
    pub const PATIENCE: u32 = 2000;
    /// A greater scale would leave the range that single precision adds the squares of gradients in.
    const GREATEST_EXPONENT: u32 = 24;

    /// What the loss is multiplied by.
    pub fn scale(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// Steps that overflowed and moved no weight.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// No gradient has overflowed.
    pub(crate) fn fitted(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= Self::PATIENCE {
            self.good_steps = 0;
            self.exponent = (self.exponent + 1).min(Self::GREATEST_EXPONENT);
        }
    }

    /// A gradient has overflowed; false when the scale cannot be lowered any more.
    #[must_use]
    pub(crate) fn overflowed(&mut self) -> bool {
        self.good_steps = 0;
        self.skipped += 1;
        match self.exponent.checked_sub(1) {
            Some(exponent) => {
                self.exponent = exponent;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_precisions_and_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_string(&precision).unwrap(), format!("\"{precision}\""));
        }
        insta::assert_snapshot!("int8".parse::<Precision>().unwrap_err(), @"there is no precision `int8`: expected fp32, bf16 or fp16");
    }

    #[test]
    fn the_processor_trains_in_single_precision_alone() {
        let device = Device::flex();
        assert_eq!(Precision::of(&device), [Precision::Fp32]);
        assert_eq!(Precision::of(&device.clone().autodiff()), [Precision::Fp32]);
        Precision::Fp32.check(&device, "processor").unwrap();
        insta::assert_snapshot!(Precision::Bf16.check(&device, "processor (2 threads)").unwrap_err(), @"cannot train in bf16 on the processor (2 threads): mixed precision needs a GPU, and a processor would only be slower and less exact by it; leave --precision out, or train with --device cuda");
    }

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_its_patience() {
        let mut scaler = LossScaler::default();
        assert_eq!(scaler.scale(), 65536.0);
        assert!(scaler.overflowed());
        assert_eq!((scaler.scale(), scaler.skipped()), (32768.0, 1));
        let fitted = |scaler: &mut LossScaler, steps| (0..steps).for_each(|_| scaler.fitted());
        fitted(&mut scaler, LossScaler::PATIENCE - 1);
        assert_eq!(scaler.scale(), 32768.0);
        fitted(&mut scaler, 1);
        assert_eq!(scaler.scale(), 65536.0);
        // An overflow starts the count anew.
        fitted(&mut scaler, LossScaler::PATIENCE - 1);
        assert!(scaler.overflowed());
        fitted(&mut scaler, LossScaler::PATIENCE - 1);
        assert_eq!(scaler.scale(), 32768.0);
        fitted(&mut scaler, 50 * LossScaler::PATIENCE);
        assert_eq!(scaler.scale(), 16_777_216.0);
    }

    #[test]
    fn a_scale_of_one_is_not_lowered() {
        let mut scaler = LossScaler::default();
        assert!((0..16).all(|_| scaler.overflowed()));
        assert_eq!(scaler.scale(), 1.0);
        assert!(!scaler.overflowed());
        assert_eq!((scaler.scale(), scaler.skipped()), (1.0, 17));
    }
}
