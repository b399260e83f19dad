//! Compares a scan with what its models can segment, before it is predicted.

mod channels;
mod warning;

use sulcus_model::{AxisRange, ChannelRange, ModelSpec, Normalisation, SpacingRule, TrainingScans};
use sulcus_volume::{Geometry, GridUnit, Image, Orientation, OrientationSource, Reorientation};

use crate::PipelineError;
use crate::preprocess::{check_channels, check_finite};

pub use channels::{ChannelMeasures, measure_channels};
pub use warning::ScanWarning;

/// What happens to a scan that is not plausible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ScanChecks {
    /// Whether every warning is an error.
    pub strict: bool,
    /// Whether a constant channel is a warning; by default it is an error.
    pub allow_constant: bool,
}

/// Voxels may be longer or shorter than those of the training scans by this factor if the model does not resample: where it
/// is larger among the training scans, a plan resamples.
const NATIVE_SPACING_FACTOR: f64 = 1.2;
/// The same for a model that resamples: only sharpness differs.
const RESAMPLED_SPACING_FACTOR: f64 = 2.0;
/// The field of view may be larger or smaller than that of the training scans by this factor.
const EXTENT_FACTOR: f64 = 1.5;
/// A picture may have more or fewer pixels along an edge than the training pictures by this factor.
const PICTURE_FACTOR: f64 = 2.0;
/// Percentiles of absolute intensities may lie outside those of the training scans by this fraction of the training scans'
/// whole range.
const INTENSITY_TOLERANCE: f64 = 0.25;
/// Values count as negative if they reach below zero by more than this fraction of the scan's range: interpolation alone makes
/// small negative values.
const NEGATIVE_FRACTION: f64 = 0.1;
/// Least fraction of voxels that differ from the most frequent value, relative to the training scan with the fewest.
const MIN_VARIED: f64 = 0.25;
/// That fraction where the training scans are unknown. Scans with most voxels masked have more.
const MIN_VARIED_UNKNOWN: f64 = 0.005;

/// Checks that a scan has the models' channels and finite voxels, and looks for reasons to doubt that they can segment it. `image` is
/// what the models see: where they crop scans, the cropped one. A reason that several models of an ensemble have is given once.
///
/// # Errors
/// When the channels are not the models', a voxel is not finite, a channel is constant (unless it is allowed), or there is any warning
/// and `checks` is strict.
pub fn check_scan(
    models: &[&ModelSpec],
    image: &Image,
    checks: ScanChecks,
) -> Result<Vec<ScanWarning>, PipelineError> {
    models.iter().try_for_each(|spec| check_channels(spec, image))?;
    check_finite(image.data())?;
    let unknown = image.geometry().source() == OrientationSource::None;
    let mut warnings: Vec<ScanWarning> = unknown.then_some(ScanWarning::UnknownOrientation).into_iter().collect();
    let measures = measure_channels(image);
    for spec in models {
        for found in warnings_of(spec, image, &measures) {
            let is_same = |known: &ScanWarning| known.kind() == found.kind() && known.channel() == found.channel();
            if !warnings.iter().any(is_same) {
                warnings.push(found);
            }
        }
    }
    let is_error = |warning: &ScanWarning| {
        checks.strict || (matches!(warning, ScanWarning::ConstantChannel { .. }) && !checks.allow_constant)
    };
    if warnings.iter().any(is_error) {
        warnings.retain(is_error);
        return Err(PipelineError::Implausible { reasons: warnings });
    }
    Ok(warnings)
}

/// Adds warnings of a later step, each kind once for a channel.
///
/// # Errors
/// When there is any and `checks` is strict.
pub fn add_warnings(
    known: &mut Vec<ScanWarning>,
    found: impl IntoIterator<Item = ScanWarning>,
    checks: ScanChecks,
) -> Result<(), PipelineError> {
    for warning in found {
        let is_same = |known: &ScanWarning| known.kind() == warning.kind() && known.channel() == warning.channel();
        if !known.iter().any(is_same) {
            known.push(warning);
        }
    }
    if checks.strict && !known.is_empty() {
        return Err(PipelineError::Implausible { reasons: known.clone() });
    }
    Ok(())
}

fn warnings_of(spec: &ModelSpec, image: &Image, measures: &[ChannelMeasures]) -> Vec<ScanWarning> {
    let training = spec.training_scans.as_ref();
    let mut found = Vec::new();
    let mut varied = Vec::new();
    for (index, (channel, measures)) in spec.channels.iter().zip(measures).enumerate() {
        let name = &channel.name;
        if let Some(warning) = constant_channel(name, channel.normalisation, measures) {
            found.push(warning);
            continue;
        }
        varied.push(index);
        let training = training.and_then(|training| training.channels.get(index));
        found.extend(nearly_constant_channel(name, measures, training));
        found.extend(training.and_then(|training| intensities(name, channel.normalisation, measures, training)));
    }
    for (at, first) in varied.iter().enumerate() {
        let same = |other: &&usize| image.channel(*first) == image.channel(**other);
        if let Some(other) = varied.get(at + 1..).unwrap_or_default().iter().find(same) {
            let name = |index: usize| spec.channels.get(index).map(|c| c.name.clone()).unwrap_or_default();
            found.push(ScanWarning::IdenticalChannels { channel: name(*first), other: name(*other) });
        }
    }
    found.extend(training.into_iter().flat_map(|training| geometry(spec, image.geometry(), training)));
    found
}

/// A spread below the resolution of single precision is noise: normalisation makes such a channel 0.
fn constant_channel(name: &str, normalisation: Normalisation, measures: &ChannelMeasures) -> Option<ScanWarning> {
    let [min, max] = measures.range?;
    let [low, high] = [min, max].map(|v| visible(normalisation, f64::from(v)));
    let is_constant = high - low <= f64::from(f32::EPSILON) * low.abs().max(high.abs());
    is_constant.then(|| ScanWarning::ConstantChannel { channel: name.to_owned(), min, max })
}

/// The value as the model sees it apart from shift and scale.
fn visible(normalisation: Normalisation, value: f64) -> f64 {
    match normalisation {
        Normalisation::Ct { clip: [low, high], .. } => value.clamp(f64::from(low), f64::from(high)),
        _ => value,
    }
}

fn nearly_constant_channel(
    name: &str,
    measures: &ChannelMeasures,
    training: Option<&ChannelRange>,
) -> Option<ScanWarning> {
    let training_max = training.map(|training| training.max_mode_fraction);
    let least_varied = training_max.map_or(MIN_VARIED_UNKNOWN, |max| MIN_VARIED * (1.0 - max));
    (1.0 - measures.mode_fraction < least_varied).then(|| ScanWarning::NearlyConstantChannel {
        channel: name.to_owned(),
        fraction: measures.mode_fraction,
        training_max,
    })
}

/// Absolute intensities are compared as far as the model sees them. Others, such as those of MR, depend on the scanner: of these
/// only the sign is known.
fn intensities(
    name: &str,
    normalisation: Normalisation,
    measures: &ChannelMeasures,
    training: &ChannelRange,
) -> Option<ScanWarning> {
    let [low, .., high] = measures.percentiles;
    let [training_low, training_high] = [training.percentile_00_5, training.percentile_99_5];
    if !matches!(normalisation, Normalisation::Ct { .. }) {
        let is_negative = training_low[0] >= 0.0 && low < -NEGATIVE_FRACTION * (high - low);
        return is_negative.then(|| ScanWarning::NegativeIntensities {
            channel: name.to_owned(),
            found: low,
            training_min: training_low[0],
        });
    }
    let seen = |value: f64| visible(normalisation, value);
    let tolerance = INTENSITY_TOLERANCE * (seen(training_high[1]) - seen(training_low[0]));
    let is_outside = |value: f64, [min, max]: [f64; 2]| {
        seen(value) < seen(min) - tolerance || seen(value) > seen(max) + tolerance
    };
    (is_outside(low, training_low) || is_outside(high, training_high)).then(|| ScanWarning::Intensities {
        channel: name.to_owned(),
        found: [low, high],
        training_low,
        training_high,
    })
}

fn geometry(spec: &ModelSpec, scan: &Geometry, training: &TrainingScans) -> Vec<ScanWarning> {
    let turn = Reorientation::between(scan.orientation(), Orientation::RAS);
    let (shape, spacing_mm) = (turn.shape(scan.shape()), turn.permute(scan.spacing().mm()));
    let extent_mm: [f64; 3] = std::array::from_fn(|axis| shape[axis] as f64 * spacing_mm[axis]);
    let spacing_factor = match spec.spacing {
        SpacingRule::Native => NATIVE_SPACING_FACTOR,
        SpacingRule::Resample { .. } | SpacingRule::Nnunet(_) => RESAMPLED_SPACING_FACTOR,
    };
    let TrainingScans { spacing_mm: spacing, extent_mm: extent, .. } = training;
    if scan.is_picture() && spec.spacing == SpacingRule::Native {
        // Pixels of any size are one step of the network's grid.
        return picture_size(scan, training).into_iter().collect();
    }
    if scan.unit() == GridUnit::Pixel {
        return vec![ScanWarning::UnknownPixelSize { training_min_mm: Some(spacing.min) }];
    }
    let voxel_size = is_outside(spacing_mm, spacing, spacing_factor).then_some(ScanWarning::VoxelSize {
        found_mm: spacing_mm,
        training_min_mm: spacing.min,
        training_max_mm: spacing.max,
    });
    let field_of_view = is_outside(extent_mm, extent, EXTENT_FACTOR).then_some(ScanWarning::FieldOfView {
        found_mm: extent_mm,
        training_min_mm: extent.min,
        training_max_mm: extent.max,
    });
    voxel_size.into_iter().chain(field_of_view).collect()
}

/// Compares the numbers of pixels.
fn picture_size(scan: &Geometry, training: &TrainingScans) -> Option<ScanWarning> {
    let TrainingScans { spacing_mm: spacing, extent_mm: extent, .. } = training;
    let pixels = |extent: [f64; 3], mm: [f64; 3]| [0, 1].map(|axis| (extent[axis] / mm[axis]).round() as usize);
    let (least, most) = (pixels(extent.min, spacing.max), pixels(extent.max, spacing.min));
    let [width, height, _] = scan.shape();
    let found = [width, height];
    let is_outside = (0..2).any(|axis| {
        let (n, factor) = (found[axis] as f64, PICTURE_FACTOR);
        n * factor < least[axis] as f64 || n > most[axis] as f64 * factor
    });
    is_outside.then_some(ScanWarning::PictureSize { found, training_min: least, training_max: most })
}

fn is_outside(found: [f64; 3], range: &AxisRange, factor: f64) -> bool {
    (0..3).any(|axis| found[axis] * factor < range.min[axis] || found[axis] > range.max[axis] * factor)
}
