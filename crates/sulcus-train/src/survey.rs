use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sulcus_model::CropRule;
use sulcus_volume::{Label, Orientation, Reorientation, Spacing};

use crate::checks::{self, Findings, Marks};
use crate::compare::{self, Seen};
use crate::dataset::FileProblem;
use crate::{Case, CaseMeasures, Dataset, DatasetError, parallel};

/// What reading every voxel of some cases found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Facts of the cases that could be read.
    pub facts: Vec<CaseFacts>,
    /// What must be put right before training.
    pub problems: Vec<Problem>,
    /// What may be meant so, but is worth knowing.
    pub warnings: Vec<Problem>,
}

/// Something about one case, or about the data set as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which case; empty where it is about the data set as a whole.
    pub case: String,
    /// What was expected and what was found.
    pub what: String,
    /// Which file or folder.
    pub file: PathBuf,
}

impl Problem {
    pub(crate) fn of_set(file: &Path, what: String) -> Self {
        Self { case: String::new(), what, file: file.to_path_buf() }
    }

    pub(crate) fn no_foreground(case: &Case) -> Self {
        let what = "the mask has no foreground; draw the structures, if the scan shows them".into();
        Self { case: case.name.clone(), what, file: case.label.clone() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.case.is_empty() {
            write!(f, "{}: ", self.case)?;
        }
        write!(f, "{}: {}", self.what, self.file.display())
    }
}

/// Facts of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFacts {
    /// Its name.
    pub name: String,
    /// Voxels along the axes of the file.
    pub shape: [usize; 3],
    /// Voxel size along the axes of the file.
    pub spacing: Spacing,
    /// How the axes of the file lie in the patient.
    pub orientation: Orientation,
    /// Channels of the image.
    pub channels: usize,
    /// Least and greatest intensity over all channels.
    pub intensity: [f32; 2],
    /// Voxels a label, without the background.
    pub label_voxels: BTreeMap<Label, usize>,
    /// SHA-256 over image and mask files, hexadecimal.
    pub sha256: String,
    /// What a plan needs to know besides.
    pub measures: CaseMeasures,
}

impl CaseFacts {
    /// Shape and spacing with the axes turned to run as `orientation` says.
    pub fn along(&self, orientation: Orientation) -> ([usize; 3], [f64; 3]) {
        let turn = Reorientation::between(self.orientation, orientation);
        (turn.shape(self.shape), turn.triple(self.spacing.mm()))
    }

    /// As [`CaseFacts::along`], of what a model with this rule looks at.
    pub fn seen_along(&self, crop: CropRule, orientation: Orientation) -> ([usize; 3], [f64; 3]) {
        let (shape, spacing) = self.along(orientation);
        match crop {
            CropRule::Whole => (shape, spacing),
            CropRule::Nonzero => {
                (Reorientation::between(self.orientation, orientation).shape(self.measures.crop_shape), spacing)
            }
        }
    }

    /// Volume of a structure in millilitres; nothing where the case does not have it.
    pub fn ml(&self, value: Label) -> Option<f64> {
        let voxels = *self.label_voxels.get(&value)? as f64;
        Some(voxels * self.spacing.mm().iter().product::<f64>() / 1000.0)
    }
}

impl Survey {
    /// The facts, when nothing is wrong.
    ///
    /// # Errors
    /// [`DatasetError::Problems`] with every problem.
    pub fn into_facts(self) -> Result<Vec<CaseFacts>, DatasetError> {
        if self.problems.is_empty() { Ok(self.facts) } else { Err(DatasetError::Problems(self.problems)) }
    }
}

impl Dataset {
    /// Reads every file of these cases (all of them, when `names` is empty) and checks what training relies on.
    ///
    /// Problems: files that are missing, damaged or cut short; channels, or image and mask, on different grids; other
    /// channels than the data set's; voxels that are NaN or infinite; an image of one value; label values that are
    /// no whole numbers or not in the table; label names that a mask itself gives to other values; two cases of one
    /// name; no foreground in any case.
    ///
    /// Warnings: a mask without foreground; a structure of one voxel; a channel of one value; a label that no mask has;
    /// the same image under two names; voxels ten times as large or small as the median; an orientation that no header
    /// says; two structures that lie the other way round than in the other masks; volumes that belong to no case.
    ///
    /// Nothing is left out in silence, and nothing stops at the first finding.
    pub fn survey(&self, names: &[String]) -> Survey {
        self.survey_watched(names, &|| {})
    }

    /// The same; `on_case` is called, on any thread, whenever a case has been read.
    pub fn survey_watched(&self, names: &[String], on_case: &(dyn Fn() + Sync)) -> Survey {
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let cases: Vec<&Case> =
            self.cases().iter().filter(|c| wanted.is_empty() || wanted.contains(c.name.as_str())).collect();
        let (mut facts, mut problems, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen: Vec<Seen> = Vec::with_capacity(cases.len());
        let examined = parallel::map(&cases, |case| {
            let examined = examine(self, case);
            on_case();
            examined
        });
        for (case, (about, marks, found)) in cases.iter().zip(examined) {
            let named = |p: FileProblem| Problem { case: case.name.clone(), what: p.what, file: p.file };
            problems.extend(found.problems.into_iter().map(named));
            warnings.extend(found.warnings.into_iter().map(named));
            facts.extend(about);
            seen.push((case, marks));
        }
        compare::set(self, &seen, &mut problems, &mut warnings);
        Survey { facts, problems, warnings }
    }
}

fn examine(dataset: &Dataset, case: &Case) -> (Option<CaseFacts>, Option<Marks>, Findings) {
    let mut found = Findings::default();
    let volumes = checks::read(case, &mut found);
    let marks = checks::case(dataset, case, &volumes, &mut found);
    let (Some(image), Some(mask)) = (volumes.image, volumes.mask) else { return (None, marks, found) };
    let mut label_voxels = mask.counts();
    label_voxels.retain(|value, _| *value != 0 && Some(*value) != dataset.ignore());
    let sha256 = hash(case).map_err(|p| found.problems.push(p)).unwrap_or_default();
    let measures = match image.geometry().check_same_grid(mask.geometry()) {
        Ok(()) => CaseMeasures::of(&image, &mask, dataset.ignore()),
        // Named by the checks.
        Err(_) => CaseMeasures::default(),
    };
    let finite = || image.data().iter().copied().filter(|v| v.is_finite());
    let facts = CaseFacts {
        name: case.name.clone(),
        shape: image.geometry().shape(),
        spacing: image.geometry().spacing(),
        orientation: image.geometry().orientation(),
        channels: image.channels(),
        intensity: [finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max)],
        label_voxels,
        sha256,
        measures,
    };
    (Some(facts), marks, found)
}

fn hash(case: &Case) -> Result<String, FileProblem> {
    let mut sha = Sha256::new();
    // Header and voxels may lie in two files.
    for file in case.images.iter().chain([&case.label]).flat_map(|path| sulcus_io::read_files(path)) {
        let bytes = std::fs::read(&file).map_err(|e| FileProblem { file: file.clone(), what: e.to_string() })?;
        sha.update((bytes.len() as u64).to_le_bytes());
        sha.update(bytes);
    }
    Ok(hex(&sha.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Least, median and greatest of a triple over cases, axis by axis.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Range {
    /// Least.
    pub min: [f64; 3],
    /// Median.
    pub median: [f64; 3],
    /// Greatest.
    pub max: [f64; 3],
}

impl Range {
    /// Over all triples; zeros when there is none.
    pub(crate) fn of(triples: impl Iterator<Item = [f64; 3]>) -> Self {
        let triples: Vec<[f64; 3]> = triples.collect();
        let pick = |share: f64| {
            std::array::from_fn(|axis| {
                let mut values: Vec<f64> = triples.iter().map(|t| t[axis]).collect();
                values.sort_by(f64::total_cmp);
                // Between two values where there are as many above as below, as NumPy's median.
                let at = values.len().saturating_sub(1) as f64 * share;
                let value = |index: f64| values.get(index as usize).copied().unwrap_or_default();
                (value(at.floor()) + value(at.ceil())) / 2.0
            })
        };
        Self { min: pick(0.0), median: pick(0.5), max: pick(1.0) }
    }
}
