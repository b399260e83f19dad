use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number formats that a network is stored, trained or computed in. One name everywhere: in training, export and prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// bfloat16: the range of single precision with 8 bits of mantissa. Only for computing; no model file is stored in it.
    Bf16,
    /// IEEE half precision: 11 bits of mantissa, magnitudes from 6e-8 to 65504. A training scales the loss so that gradients
    /// neither vanish nor overflow. A model file stores its weights in it, in half the size; engines may compute in single
    /// precision.
    Fp16,
    /// Convolutions in 8-bit integers with per-channel weights and activation ranges from real scans. Only for model files: the
    /// file has a quarter of the size, and processors compute it faster.
    Int8,
}

/// An unknown name of a precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a precision: expected fp32, bf16, fp16 or int8")]
pub struct UnknownPrecision(String);

impl Precision {
    /// All precisions.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Bf16, Self::Fp16, Self::Int8];

    /// The name in specifications and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

/// The accuracy of a model file in reduced precision, measured when it was exported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationReport {
    /// The precision of the file: fp16 or int8.
    pub kind: Precision,
    /// Mean foreground Dice of the same weights in single precision over the run's held-out cases.
    pub dice_fp32: f64,
    /// The same for this file.
    pub dice: f64,
    /// The number of held-out cases.
    pub cases: usize,
    /// The data that activation ranges were taken from; absent for fp16, which needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// The input from which the activation ranges (minimum and maximum between layers) were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Training cases.
    pub cases: usize,
    /// Tiles cut from them, most of them with foreground.
    pub tiles: usize,
}

impl QuantizationReport {
    /// A loss of mean Dice of this much or more is not accepted.
    pub const MAX_DICE_LOSS: f64 = 0.002;

    /// Whether the loss is small enough for the file to be used.
    pub fn is_acceptable(&self) -> bool {
        self.dice_fp32 - self.dice < Self::MAX_DICE_LOSS
    }

    /// Checks the plausibility of the figures.
    pub(crate) fn check(&self) -> Result<(), String> {
        let share = |dice: f64| (0.0..=1.0).contains(&dice);
        if !matches!(self.kind, Precision::Fp16 | Precision::Int8)
            || !share(self.dice_fp32)
            || !share(self.dice)
            || self.cases == 0
        {
            return Err(format!(
                "its precision must be fp16 or int8 with two Dice in [0, 1] over at least one case, found {}, {} and \
                 {} over {}",
                self.kind, self.dice_fp32, self.dice, self.cases
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_string(&precision).unwrap(), format!("\"{precision}\""));
        }
        assert!("int4".parse::<Precision>().unwrap_err().to_string().contains("`int4` is not a precision"));
    }

    #[test]
    fn a_loss_below_two_thousandths_is_accepted_and_a_gain_too() {
        let lost =
            |dice| QuantizationReport { kind: Precision::Int8, dice_fp32: 0.9, dice, cases: 1, calibration: None };
        assert!(lost(0.899).is_acceptable() && lost(0.95).is_acceptable());
        assert!(!lost(0.898).is_acceptable() && !lost(0.5).is_acceptable());
        assert!(!lost(f64::NAN).is_acceptable());
    }

    #[test]
    fn impossible_figures_are_refused() {
        let right =
            QuantizationReport { kind: Precision::Int8, dice_fp32: 0.9, dice: 0.89, cases: 1, calibration: None };
        assert!(right.check().is_ok());
        for wrong in [
            QuantizationReport { kind: Precision::Fp32, ..right },
            QuantizationReport { dice: 1.5, ..right },
            QuantizationReport { dice_fp32: -0.1, ..right },
            QuantizationReport { cases: 0, ..right },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
