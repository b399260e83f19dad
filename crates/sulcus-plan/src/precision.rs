use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number format in which convolutions compute during training. Weights, gradients of weights, moments of the
/// optimizer, normalisations and the loss always use single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// Brain floats: the range of single precision with 8 bits of mantissa.
    Bf16,
    /// Half precision: 11 bits of mantissa, magnitudes from 6e-8 to 65504. The loss is scaled so that gradients neither
    /// vanish nor overflow.
    Fp16,
}

/// A name that is no [`Precision`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no precision `{0}`: expected fp32, bf16 or fp16")]
pub struct UnknownPrecision(pub String);

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
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| UnknownPrecision(text.to_owned()))
    }
}

impl Precision {
    /// All precisions.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Bf16, Self::Fp16];

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
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
        insta::assert_snapshot!("int8".parse::<Precision>().unwrap_err(), @"there is no precision `int8`: expected fp32, bf16 or fp16");
    }
}
