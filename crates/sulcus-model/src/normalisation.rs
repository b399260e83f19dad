use serde::{Deserialize, Serialize};

use crate::SpecError;

/// How the intensities of a channel are scaled. Intensities of different scanners can differ by factors of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalisation {
    /// Leaves the intensities as they are (nnU-Net's `NoNormalization`).
    None,
    /// Divides by 255, for the channels of colour images, whose values lie in 0 to 255 (nnU-Net's `RGBTo01Normalization`).
    RgbTo01,
    /// Maps the minimum to 0 and the maximum to 1 (nnU-Net's `RescaleTo01Normalization`).
    MinMax,
    /// Maps the mean to 0 and the standard deviation to 1, separately for each case.
    ZScore,
    /// The same as z-score, but computed only from the voxels inside the filled union of the voxels that are not 0 in
    /// some channel; voxels outside stay 0 (nnU-Net, for data with wide margins of zeros).
    ZScoreNonzero,
    /// Maps these percentiles to 0 and 1, and clips values beyond them.
    Percentile {
        /// Lower percentile, 0 to 100.
        low: f64,
        /// Upper percentile, 0 to 100.
        high: f64,
    },
    /// nnU-Net's normalisation for CT, whose intensities are comparable between scanners: clips, then uses the mean and
    /// standard deviation of the data set.
    Ct {
        /// Clipping range in Hounsfield units.
        clip: [f32; 2],
        /// Mean of the data set's foreground.
        mean: f32,
        /// Its standard deviation.
        sd: f32,
    },
}

impl Normalisation {
    /// Whether only nnU-Net models have this scheme; it exists since format version 6.
    pub(crate) fn is_of_nnunet(&self) -> bool {
        matches!(self, Self::None | Self::RgbTo01)
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// If they are invalid.
    pub fn check(&self) -> Result<(), SpecError> {
        let is_valid = match *self {
            Self::None | Self::RgbTo01 | Self::MinMax | Self::ZScore | Self::ZScoreNonzero => true,
            Self::Percentile { low, high } => (0.0..=100.0).contains(&low) && low < high && high <= 100.0,
            Self::Ct { clip, mean, sd } => {
                clip.iter().chain([&mean]).all(|v| v.is_finite())
                    && clip[0] < clip[1]
                    && sd > 0.0
                    && sd.is_finite()
            }
        };
        if is_valid {
            Ok(())
        } else {
            Err(SpecError::Invalid(format!("its normalisation {self:?} has invalid parameters")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_parameters_are_refused() {
        assert!(Normalisation::Percentile { low: 99.0, high: 1.0 }.check().is_err());
        assert!(Normalisation::Ct { clip: [0.0, 1.0], mean: 0.0, sd: 0.0 }.check().is_err());
        let valid = [
            Normalisation::None,
            Normalisation::RgbTo01,
            Normalisation::MinMax,
            Normalisation::ZScore,
            Normalisation::ZScoreNonzero,
            Normalisation::Percentile { low: 0.5, high: 99.5 },
            Normalisation::Ct { clip: [-100.0, 300.0], mean: 50.0, sd: 75.0 },
        ];
        assert!(valid.iter().all(|scheme| scheme.check().is_ok()));
    }
}
