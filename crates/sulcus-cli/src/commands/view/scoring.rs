//! Scores the cases of a cohort while the first ones are shown: the mean Dice where there is a truth, else the confidence in the mask where
//! there are probabilities.

use std::path::Path;
use std::time::{Duration, Instant};

use sulcus_io::VolumeMetadata;
use sulcus_metrics::{Counts, count_labels, mean_defined};
use sulcus_volume::{Image, Label, LabelMap};

use super::cohort::{Case, Cohort, Entry, json};
use crate::error::with_causes;
use crate::memory;
use crate::scores::{present_labels, read_mask};

/// The list is written again after this time at the earliest: it can have thousands of cases.
const UPDATE: Duration = Duration::from_millis(500);

/// Scores the cases on a thread of its own, and keeps the list up to date. The thread ends with the program.
pub(super) fn start(Cohort { cases, mut entries, list }: Cohort) {
    let can_be_scored = |case: &Case| case.mask().is_some() && (case.truth().is_some() || case.map().is_some());
    if !cases.iter().any(can_be_scored) {
        return;
    }
    list.set(json(&entries, true));
    std::thread::spawn(move || {
        let mut written = Instant::now();
        for (number, case) in cases.iter().enumerate() {
            if let Some(entry) = entries.get_mut(number) {
                score(case, entry);
            }
            if written.elapsed() > UPDATE {
                list.set(json(&entries, true));
                written = Instant::now();
            }
        }
        list.set(json(&entries, false));
    });
}

fn score(case: &Case, entry: &mut Entry) {
    let Some(mask) = case.mask() else { return };
    let scored = match (case.truth(), case.map()) {
        (Some(truth), _) => mean_dice(mask, truth).map(|dice| entry.dice = dice),
        (None, Some(map)) => mean_confidence(mask, map).map(|confidence| entry.confidence = confidence),
        (None, None) => Ok(()),
    };
    entry.problem = scored.err();
}

/// The mean Dice as `sulcus evaluate` computes it for a case: over the labels that occur in either mask. `None` if both are empty.
fn mean_dice(mask: &Path, truth: &Path) -> Result<Option<f64>, String> {
    let (truth, of_truth) = read_mask(truth)?;
    let (mask, of_mask) = read_mask(mask)?;
    let table = |source: &VolumeMetadata| source.label_table().cloned().unwrap_or_default();
    let names = table(&of_truth).completed_by(&table(&of_mask));
    let renumbered = |labels: LabelMap, source: &VolumeMetadata| {
        labels.renumbered(source.label_table(), &names).map_err(|error| with_causes(&error))
    };
    let (truth, mask) = (renumbered(truth, &of_truth)?, renumbered(mask, &of_mask)?);
    let labels: Vec<Label> = present_labels(&mask, &truth).into_iter().collect();
    let counts = count_labels(&mask, &truth, &labels).map_err(|error| with_causes(&error))?;
    Ok(mean_defined(counts.iter().map(Counts::dice)))
}

/// The mean confidence over the voxels that the mask labels: the largest probability of a voxel, or in a map of one channel the value or, if
/// the name says that it is an uncertainty, one minus the value. `None` if the mask is empty or the values are no probabilities.
fn mean_confidence(mask: &Path, map: &Path) -> Result<Option<f64>, String> {
    memory::check_volume(map, size_of::<f32>()).map_err(|error| error.message().to_owned())?;
    let image = sulcus_io::read_scan(map).map_err(|error| with_causes(&error))?.image;
    let (mask, _) = read_mask(mask)?;
    mask.geometry().check_same_grid(image.geometry()).map_err(|error| with_causes(&error))?;
    let name = map.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    Ok(confidence_of(&image, &mask, ["uncertainty", "entropy"].iter().any(|word| name.contains(word))))
}

fn confidence_of(image: &Image, mask: &LabelMap, is_uncertainty: bool) -> Option<f64> {
    let largest = |voxel: usize| {
        let of_channel = (0..image.channels()).filter_map(|channel| image.channel(channel).get(voxel).copied());
        of_channel.fold(f32::NEG_INFINITY, f32::max)
    };
    let labelled =
        mask.data().iter().enumerate().filter(|(_, label)| **label != 0).map(|(voxel, _)| largest(voxel));
    let values: Vec<f32> = labelled.collect();
    if !values.iter().all(|value| (0.0..=1.0).contains(value)) {
        return None;
    }
    mean_defined(values.into_iter().map(|value| Some(f64::from(if is_uncertainty { 1.0 - value } else { value }))))
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    #[test]
    fn confidence_is_the_mean_over_what_the_mask_labels() {
        let ras = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([4, 1, 1], ras, OrientationSource::Sform).unwrap();
        let mask = LabelMap::new(grid, vec![0, 1, 2, 0]).unwrap();
        let image = |channels, values: &[f32]| Image::new(grid, channels, values.to_vec()).unwrap();
        let classes = image(2, &[0.9, 0.25, 0.5, 1.0, 0.1, 0.75, 0.5, 0.0]);
        assert_eq!(confidence_of(&classes, &mask, false), Some(0.625));
        let one = image(1, &[0.0, 0.25, 0.5, 0.0]);
        assert_eq!(
            (confidence_of(&one, &mask, false), confidence_of(&one, &mask, true)),
            (Some(0.375), Some(0.625))
        );
        assert_eq!(confidence_of(&image(1, &[0.0, 7.0, 0.5, 0.0]), &mask, false), None, "no probabilities");
        let empty = LabelMap::new(grid, vec![0; 4]).unwrap();
        assert_eq!(confidence_of(&one, &empty, false), None);
    }
}
