use std::collections::BTreeSet;

use sulcus_io::VoxelType;

use crate::background::constant_backgrounds;
use crate::case::Case;
use crate::checks::{self, CaseTraits, Findings};
use crate::comparison::{Checked, compare_cases};
use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::facts::CaseFacts;
use crate::finding::Finding;
use crate::hash::hash_files;
use crate::measures::CaseMeasures;
use crate::parallel::map_parallel;

/// The result of reading every voxel of some cases.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Survey {
    /// Facts of the cases that could be read.
    pub facts: Vec<CaseFacts>,
    /// These must be corrected before training.
    pub problems: Vec<Finding>,
    /// These may be intended, but are worth knowing.
    pub warnings: Vec<Finding>,
}

impl Survey {
    /// The facts, if there are no problems.
    ///
    /// # Errors
    /// [`DatasetError::Problems`] with all problems.
    pub fn into_facts(self) -> Result<Vec<CaseFacts>, DatasetError> {
        if self.problems.is_empty() { Ok(self.facts) } else { Err(DatasetError::Problems(self.problems)) }
    }
}

impl Dataset {
    /// Reads every file of these cases (of all cases if `names` is empty) and checks the assumptions of training. It
    /// reports all findings, not only the first.
    ///
    /// Problems: files that are missing, damaged or truncated; channels, or image and mask, on different grids; a number
    /// of channels that differs from the data set's; voxels that are NaN or infinite; an image with one value in every
    /// voxel; label values that are not integers or not in the label table; a mask whose own label names contradict the
    /// table; two cases with the same name; no foreground in any case.
    ///
    /// Warnings: a mask without foreground; a structure of one voxel; a channel with one value in every voxel; a label
    /// that no mask has; the same image under two names; voxels ten times as large or small as the median; a header
    /// without an orientation; two structures in the opposite direction of the other masks; volumes that belong to no
    /// case; a constant negative background.
    pub fn survey(&self, names: &[String]) -> Survey {
        self.survey_watched(names, &|| {})
    }

    /// As [`Dataset::survey`]. `on_case` is called after each case, on any thread.
    pub fn survey_watched(&self, names: &[String], on_case: &(dyn Fn() + Sync)) -> Survey {
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let cases: Vec<&Case> =
            self.cases().iter().filter(|c| wanted.is_empty() || wanted.contains(c.name.as_str())).collect();
        let (mut facts, mut problems, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let mut checked: Vec<Checked> = Vec::with_capacity(cases.len());
        let examined = map_parallel(&cases, |case| {
            let examined = examine(self, case);
            on_case();
            examined
        });
        for (case, (about, traits, found)) in cases.iter().zip(examined) {
            problems.extend(found.problems.into_iter().map(|found| found.in_case(&case.name)));
            warnings.extend(found.warnings.into_iter().map(|found| found.in_case(&case.name)));
            facts.extend(about);
            checked.push((case, traits));
        }
        compare_cases(self, &checked, &mut problems, &mut warnings);
        warnings.extend(constant_backgrounds(self, &facts));
        Survey { facts, problems, warnings }
    }
}

fn examine(dataset: &Dataset, case: &Case) -> (Option<CaseFacts>, Option<CaseTraits>, Findings) {
    /// Red, green and blue.
    const RGB: usize = 3;
    let mut found = Findings::default();
    let volumes = checks::read(case, &mut found);
    let traits = checks::check_case(dataset, case, &volumes, &mut found);
    let (Some(image), Some(mask)) = (volumes.image, volumes.mask) else { return (None, traits, found) };
    let mut label_voxels = mask.counts();
    label_voxels.retain(|value, _| *value != 0 && Some(*value) != dataset.ignore());
    let sha256 = hash_files(case).map_err(|p| found.problems.push(p)).unwrap_or_default();
    let measures = match image.geometry().check_same_grid(mask.geometry()) {
        Ok(()) => CaseMeasures::of(&image, &mask, dataset.ignore()),
        // The checks have reported this.
        Err(_) => CaseMeasures::default(),
    };
    let finite = || image.data().iter().copied().filter(|v| v.is_finite());
    let facts = CaseFacts {
        name: case.name.clone(),
        shape: image.geometry().shape(),
        spacing: image.geometry().spacing(),
        unit: image.geometry().unit(),
        picture: image.geometry().is_picture(),
        rgb: image.geometry().is_picture()
            && image.channels() == RGB
            && volumes.image_source.is_some_and(|source| source.voxel_type() == VoxelType::Uint8),
        orientation: image.geometry().orientation(),
        acquired: image.geometry().acquired_orientation(),
        obliquity_degrees: image.geometry().obliquity_degrees(),
        channels: image.channels(),
        intensity: [finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max)],
        label_voxels,
        sha256,
        measures,
    };
    (Some(facts), traits, found)
}
