use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// In which numbers a model's network is written down and computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision, as it was trained.
    #[default]
    Fp32,
    /// Weights stored in half precision, half the file; arithmetic in single precision.
    Fp16,
    /// Convolutions in 8-bit integers, per-channel weights, ranges between the layers from real scans; a quarter of the
    /// file, and on processors faster.
    Int8,
}

/// A precision's name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no precision: expected fp32, fp16 or int8")]
pub struct UnknownPrecision(String);

impl Precision {
    /// Its name, as in specifications and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
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
        let all = [Self::Fp32, Self::Fp16, Self::Int8];
        all.into_iter().find(|p| p.name() == name).ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

/// What fewer bits cost a model, measured when it was exported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationReport {
    /// The numbers that the file holds.
    pub kind: Precision,
    /// Mean foreground Dice of the same weights in single precision over the run's held-out cases.
    pub dice_fp32: f64,
    /// The same of this file.
    pub dice: f64,
    /// How many held-out cases that were.
    pub cases: usize,
    /// Where the ranges between the layers come from; absent where none are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// Real input from which the ranges of the values between layers were taken: the least and the greatest seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Training cases.
    pub cases: usize,
    /// Tiles of them, most with foreground.
    pub tiles: usize,
}

impl QuantizationReport {
    /// A mean Dice that is lower by this or more is not accepted.
    pub const GREATEST_LOSS: f64 = 0.002;

    /// Whether the loss is small enough for the file to be used.
    pub fn is_acceptable(&self) -> bool {
        self.dice_fp32 - self.dice < Self::GREATEST_LOSS
    }

    /// Whether the figures can be what they say.
    pub(crate) fn check(&self) -> Result<(), String> {
        let share = |dice: f64| (0.0..=1.0).contains(&dice);
        if self.kind == Precision::Fp32 || !share(self.dice_fp32) || !share(self.dice) || self.cases == 0 {
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
    fn names_are_read_back() {
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_string(&precision).unwrap(), format!("\"{precision}\""));
        }
        assert!("int4".parse::<Precision>().unwrap_err().to_string().contains("`int4` is no precision"));
    }

    #[test]
    fn a_loss_below_two_thousandths_is_accepted_and_a_gain_too() {
        let lost = |dice| QuantizationReport { kind: Precision::Int8, dice_fp32: 0.9, dice, cases: 1, calibration: None };
        assert!(lost(0.899).is_acceptable() && lost(0.95).is_acceptable());
        assert!(!lost(0.898).is_acceptable() && !lost(0.5).is_acceptable());
        assert!(!lost(f64::NAN).is_acceptable());
    }

    #[test]
    fn impossible_figures_are_refused() {
        let right = QuantizationReport { kind: Precision::Int8, dice_fp32: 0.9, dice: 0.89, cases: 1, calibration: None };
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
