use std::fmt;

use serde::{Serialize, Serializer};

/// A reason to doubt that the model can segment a scan.
///
/// Serialized it is an object with `kind`, the data, and the text for people as `message`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScanWarning {
    /// The file has no orientation: left and right are a guess.
    UnknownOrientation,
    /// A channel has one value in every voxel, or values that normalisation makes equal.
    ConstantChannel {
        /// Name of the channel.
        channel: String,
        /// Minimum.
        min: f32,
        /// Maximum.
        max: f32,
    },
    /// Far more voxels of a channel share one value than in any training scan.
    NearlyConstantChannel {
        /// Name of the channel.
        channel: String,
        /// The fraction of the voxels that share the most frequent value.
        fraction: f64,
        /// The greatest such fraction of a training scan; `None` where the training scans are unknown.
        training_max: Option<f64>,
    },
    /// Two channels are equal in every voxel.
    IdenticalChannels {
        /// Name of the channel.
        channel: String,
        /// Name of the later channel.
        other: String,
    },
    /// The voxel size is outside the range of the training scans.
    VoxelSize {
        /// Along right, anterior, superior, in millimetres.
        found_mm: [f64; 3],
        /// Minimum of the training scans.
        training_min_mm: [f64; 3],
        /// Maximum of the training scans.
        training_max_mm: [f64; 3],
    },
    /// A picture does not state the size of its pixels, and the model works on voxels of a size in millimetres.
    UnknownPixelSize {
        /// The minimum of the training scans along right, anterior, superior, in millimetres; `None` where they are unknown.
        training_min_mm: Option<[f64; 3]>,
    },
    /// A picture has far more or fewer pixels than the training pictures, whose pixels have no physical size.
    PictureSize {
        /// Columns and rows.
        found: [usize; 2],
        /// Minimum of the training pictures.
        training_min: [usize; 2],
        /// Maximum of the training pictures.
        training_max: [usize; 2],
    },
    /// The field of view is outside the range of the training scans.
    FieldOfView {
        /// Along right, anterior, superior, in millimetres.
        found_mm: [f64; 3],
        /// Minimum of the training scans.
        training_min_mm: [f64; 3],
        /// Maximum of the training scans.
        training_max_mm: [f64; 3],
    },
    /// The intensities of a channel with absolute units, such as CT, are outside the range of the training scans.
    Intensities {
        /// Name of the channel.
        channel: String,
        /// 0.5th and 99.5th percentile.
        found: [f64; 2],
        /// Minimum and maximum of the training scans' 0.5th percentiles.
        training_low: [f64; 2],
        /// Minimum and maximum of the training scans' 99.5th percentiles.
        training_high: [f64; 2],
    },
    /// A channel has values below zero, and no training scan had.
    NegativeIntensities {
        /// Name of the channel.
        channel: String,
        /// 0.5th percentile.
        found: f64,
        /// Minimum of the training scans' 0.5th percentiles.
        training_min: f64,
    },
    /// The rough network of a pack found nothing that its recipe looks for.
    NothingLocated {
        /// The network.
        network: String,
        /// Whether the mask is therefore empty; otherwise the other networks saw the whole scan.
        mask_is_empty: bool,
    },
}

impl ScanWarning {
    /// The stable name of the kind, as in the serialized form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownOrientation => "unknown_orientation",
            Self::ConstantChannel { .. } => "constant_channel",
            Self::NearlyConstantChannel { .. } => "nearly_constant_channel",
            Self::IdenticalChannels { .. } => "identical_channels",
            Self::VoxelSize { .. } => "voxel_size",
            Self::UnknownPixelSize { .. } => "unknown_pixel_size",
            Self::PictureSize { .. } => "picture_size",
            Self::FieldOfView { .. } => "field_of_view",
            Self::Intensities { .. } => "intensities",
            Self::NegativeIntensities { .. } => "negative_intensities",
            Self::NothingLocated { .. } => "nothing_located",
        }
    }

    /// The channel that it is about; `None` if it is about the whole scan.
    pub fn channel(&self) -> Option<&str> {
        match self {
            Self::ConstantChannel { channel, .. }
            | Self::NearlyConstantChannel { channel, .. }
            | Self::IdenticalChannels { channel, .. }
            | Self::Intensities { channel, .. }
            | Self::NegativeIntensities { channel, .. } => Some(channel),
            Self::UnknownOrientation
            | Self::VoxelSize { .. }
            | Self::UnknownPixelSize { .. }
            | Self::PictureSize { .. }
            | Self::FieldOfView { .. }
            | Self::NothingLocated { .. } => None,
        }
    }
}

impl Serialize for ScanWarning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct WithMessage<'a> {
            #[serde(flatten, serialize_with = "ScanWarning::serialize")]
            warning: &'a ScanWarning,
            message: String,
        }
        WithMessage { warning: self, message: self.to_string() }.serialize(serializer)
    }
}

impl fmt::Display for ScanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOrientation => f.write_str(
                "the file does not say how the patient lies (neither sform nor qform): left and right are unknown, and the mask may \
                 be wrong",
            ),
            Self::ConstantChannel { channel, min, max } if min == max => {
                write!(f, "channel `{channel}` is {min} in every voxel, so it shows nothing")
            }
            Self::ConstantChannel { channel, min, max } => write!(
                f,
                "channel `{channel}` has values from {min} to {max}, which the model cannot tell apart, so it shows nothing"
            ),
            Self::NearlyConstantChannel { channel, fraction, training_max } => {
                write!(f, "{} of the voxels of channel `{channel}` have the same value", percent(*fraction))?;
                if let Some(max) = training_max {
                    write!(f, ", at most {} in the training scans", percent(*max))?;
                }
                f.write_str(": the scan may be empty or masked")
            }
            Self::IdenticalChannels { channel, other } => write!(
                f,
                "channels `{channel}` and `{other}` are equal in every voxel: the same image may have been given twice"
            ),
            Self::VoxelSize { found_mm, training_min_mm, training_max_mm } => write!(
                f,
                "the voxels measure {} mm along right, anterior, superior, in the training scans {} mm: the voxel size may be \
                 wrong, or the scan is of another kind",
                times(*found_mm, |v| decimals(v, 2)),
                ranges(*training_min_mm, *training_max_mm, |v| decimals(v, 2)),
            ),
            Self::UnknownPixelSize { training_min_mm } => {
                f.write_str("the picture does not state the size of its pixels, which are taken for 1 mm")?;
                if let Some(mm) = training_min_mm {
                    write!(f, "; the model was trained on voxels of {} mm", times(*mm, |v| format!("{v:.2}")))?;
                }
                Ok(())
            }
            Self::PictureSize { found, training_min, training_max } => {
                let [fewest, most] = [training_min, training_max].map(|[x, y]| format!("{x} × {y}"));
                write!(f, "the picture has {} × {} pixels, the training pictures {fewest}", found[0], found[1])?;
                if fewest != most {
                    write!(f, " to {most}")?;
                }
                f.write_str(": what it shows may be larger or smaller than the model expects; scale it to a similar size")
            }
            Self::FieldOfView { found_mm, training_min_mm, training_max_mm } => write!(
                f,
                "the scan covers {} mm along right, anterior, superior, the training scans {} mm: the scan may show another part \
                 of the body, or more of it",
                times(*found_mm, |v| decimals(v, 0)),
                ranges(*training_min_mm, *training_max_mm, |v| decimals(v, 0)),
            ),
            Self::Intensities { channel, found: [low, high], training_low, training_high } => write!(
                f,
                "the intensities of channel `{channel}` are from {} to {} (0.5th and 99.5th percentile), in the \
                 training scans from {} to {}: they may be in other units, or the scan is of another modality",
                decimals(*low, 0),
                decimals(*high, 0),
                range(*training_low),
                range(*training_high),
            ),
            Self::NegativeIntensities { channel, found, training_min } => write!(
                f,
                "channel `{channel}` has values below zero (0.5th percentile {}, in the training scans at least {}): the scan may be of \
                 another modality, such as CT",
                decimals(*found, 0),
                decimals(*training_min, 0),
            ),
            Self::NothingLocated { network, mask_is_empty: true } => {
                write!(f, "the rough network `{network}` found nothing that it looks for, so the mask is empty")
            }
            Self::NothingLocated { network, mask_is_empty: false } => {
                write!(f, "the rough network `{network}` found nothing that it looks for, so the whole scan was segmented")
            }
        }
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

fn times(values: [f64; 3], text: impl Fn(f64) -> String) -> String {
    values.map(text).join(" × ")
}

/// `31–43 × 40–59 × 24–47`; `1.00 × 1.00 × 1.00` where minimum and maximum read the same.
fn ranges(min: [f64; 3], max: [f64; 3], text: impl Fn(f64) -> String) -> String {
    let along = |axis: usize| match (text(min[axis]), text(max[axis])) {
        (min, max) if min == max => min,
        (min, max) => format!("{min}–{max}"),
    };
    [0, 1, 2].map(along).join(" × ")
}

/// `-1000…-900`
fn range([min, max]: [f64; 2]) -> String {
    format!("{}…{}", decimals(min, 0), decimals(max, 0))
}

/// A number with so many decimals, or with two significant digits if it is too small for them: 0.4 is not shown as 0.
fn decimals(value: f64, count: usize) -> String {
    let smallest = 10.0_f64.powi(-(count as i32));
    if value == 0.0 || value.abs() >= smallest {
        return format!("{value:.count$}");
    }
    let shortened: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    format!("{shortened}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_are_not_shown_as_zero() {
        let shown = |value, count| decimals(value, count);
        assert_eq!([shown(1.0, 2), shown(0.006, 2), shown(1e-6, 2)], ["1.00", "0.006", "0.000001"]);
        assert_eq!([shown(-0.437, 0), shown(-12.6, 0), shown(0.0, 0)], ["-0.44", "-13", "0"]);
    }
}
