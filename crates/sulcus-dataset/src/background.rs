//! Backgrounds that are constant but not zero, such as those of scans that were normalised after skull stripping.

use crate::dataset::Dataset;
use crate::facts::CaseFacts;
use crate::finding::Finding;

/// A value that fills less than this fraction of a scan is not taken for its background. Plans crop scans from the same fraction
/// of zeros on.
const MIN_FRACTION: f64 = 0.25;

/// Warns of channels in which most cases have a constant negative background: only margins of zeros are cropped, as in nnU-Net.
/// CT is not reported, because air has a negative value there and is not cropped.
pub(crate) fn constant_backgrounds(dataset: &Dataset, facts: &[CaseFacts]) -> Vec<Finding> {
    let find = |(index, name): (usize, &String)| {
        let background = |case: &CaseFacts| {
            let measures = case.measures.channels.get(index)?;
            (measures.mode < 0.0 && measures.mode_fraction >= MIN_FRACTION).then_some(measures.mode)
        };
        let found: Vec<(&CaseFacts, f32)> =
            facts.iter().filter_map(|case| Some((case, background(case)?))).collect();
        let (case, value) = *found.first().filter(|_| 2 * found.len() > facts.len())?;
        let what = format!(
            "channel `{name}` has the same negative value in at least {:.0} % of the voxels of {} of {} cases ({value} in {}), \
             probably the background; scans are cropped to their non-zero voxels and normalised inside them only if the background \
             is 0, so set these voxels to 0",
            100.0 * MIN_FRACTION,
            found.len(),
            facts.len(),
            case.name
        );
        Some(Finding::of_dataset(&dataset.root, what))
    };
    let channels = dataset.channels().iter().enumerate();
    channels.filter(|(_, name)| !name.eq_ignore_ascii_case("ct")).filter_map(find).collect()
}
