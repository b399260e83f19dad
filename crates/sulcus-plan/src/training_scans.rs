use sulcus_dataset::CaseFacts;
use sulcus_model::{AxisRange, ChannelRange, CropRule, TrainingScans};
use sulcus_pipeline::ChannelMeasures;
use sulcus_volume::Orientation;

/// Describes the scans of these cases, as far as this crop rule keeps them, for the checks of scans at prediction. `None`
/// without cases, or where a case was not measured.
pub fn training_scans(facts: &[CaseFacts], crop: CropRule) -> Option<TrainingScans> {
    let channels = facts.first()?.measures.channels_seen(crop).len();
    let seen: Vec<&[ChannelMeasures]> = facts.iter().map(|f| f.measures.channels_seen(crop)).collect();
    if channels == 0 || seen.iter().any(|case| case.len() != channels) {
        return None;
    }
    let (shapes, spacings): (Vec<_>, Vec<_>) =
        facts.iter().map(|f| f.cropped_and_oriented(crop, Orientation::RAS)).unzip();
    let extents = shapes
        .iter()
        .zip(&spacings)
        .map(|(shape, mm): (&[usize; 3], &[f64; 3])| std::array::from_fn(|axis| shape[axis] as f64 * mm[axis]));
    let channel = |index: usize| {
        let cases = || seen.iter().filter_map(|case| case.get(index));
        ChannelRange {
            percentile_00_5: min_and_max(cases().map(|c| c.percentiles[0])),
            percentile_99_5: min_and_max(cases().map(|c| c.percentiles[4])),
            max_mode_fraction: cases().map(|c| c.mode_fraction).fold(0.0, f64::max),
        }
    };
    Some(TrainingScans {
        cases: facts.len(),
        spacing_mm: AxisRange::of(spacings.iter().copied()),
        extent_mm: AxisRange::of(extents),
        channels: (0..channels).map(channel).collect(),
    })
}

fn min_and_max(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[min, max], v| [min.min(v), max.max(v)])
}
