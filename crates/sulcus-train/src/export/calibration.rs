//! The data set of a finished run, for reducing the precision of its model: network inputs for calibration, and the scores
//! of the reduced model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use sulcus_dataset::{Case, Dataset};
use sulcus_metrics::{CaseScores, DEFAULT_NSD_MM, mask_ignored_voxels};
use sulcus_model::{Calibration, ModelSpec};
use sulcus_pipeline::{
    Predictor, PredictorError, Preprocessed, PreprocessedLabels, Tensor, WindowOptions, predict_logits,
    preprocess, preprocess_labels,
};
use sulcus_volume::{Image, LabelMap};

use crate::error::TrainError;
use crate::run::run_folder::Run;
use crate::run::{evenly_spaced, read_case};

/// Maximum number of training cases for calibration.
const MAX_CASES: usize = 32;
/// Tiles per case with and without foreground.
const TILES_WITH_FOREGROUND: usize = 3;
const TILES_WITHOUT: usize = 1;

/// A run with its data set.
#[derive(Debug)]
pub struct RunData<'a> {
    run: &'a Run,
    dataset: Dataset,
}

/// A validation case.
#[derive(Debug)]
pub struct HeldOutScan<'a> {
    case: &'a Case,
    /// The scan, on its own grid.
    pub image: Image,
    /// The reference mask.
    pub reference: LabelMap,
}

impl Run {
    /// Opens the data set of the run, in `folder` or in its recorded folder.
    ///
    /// # Errors
    /// When the data set cannot be opened.
    pub fn data(&self, folder: Option<&Path>) -> Result<RunData<'_>, TrainError> {
        let recorded = &self.manifest().dataset.folder;
        match folder {
            Some(folder) => Ok(RunData { run: self, dataset: Dataset::open(folder)? }),
            None if !recorded.is_dir() => Err(TrainError::RunData {
                what: "it is not where it was when the run was trained".into(),
                folder: recorded.clone(),
            }),
            None => Ok(RunData { run: self, dataset: Dataset::open(recorded)? }),
        }
    }
}

impl RunData<'_> {
    /// Network inputs from training cases, exactly as prediction makes them: a few tiles per case, most of them with
    /// foreground.
    ///
    /// # Errors
    /// When a case cannot be read, or changed since the training.
    pub fn calibration(&self, spec: &ModelSpec) -> Result<(Vec<Tensor>, Calibration), TrainError> {
        let names = evenly_spaced(&self.run.manifest().split.training, MAX_CASES);
        let cases = self.unchanged(&names)?;
        let mut tiles = Vec::new();
        for case in &cases {
            let scan = read_case(case)?;
            let labels = preprocess_labels(spec, &scan.image, &scan.labels, self.dataset.ignore())?;
            let (image, _) = preprocess(spec, &scan.image)?;
            let wanted = pick(&with_foreground(spec, &labels, image.channels())?);
            tiles.extend(inputs(spec, &image, |index| wanted.contains(&index))?);
        }
        let calibration = Calibration { cases: cases.len(), tiles: tiles.len() };
        Ok((tiles, calibration))
    }

    /// The validation cases.
    ///
    /// # Errors
    /// When a case is missing, or changed since the training.
    pub fn held_out(&self) -> Result<Vec<&Case>, TrainError> {
        self.unchanged(&self.run.manifest().split.validation)
    }

    /// Reads a validation case.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read<'a>(&self, case: &'a Case) -> Result<HeldOutScan<'a>, TrainError> {
        let scan = read_case(case)?;
        Ok(HeldOutScan { case, image: scan.image, reference: scan.labels })
    }

    /// Scores a mask of a validation case. Voxels without an annotation are not scored.
    ///
    /// # Errors
    /// When the grids of mask and scan differ.
    pub fn score(
        &self,
        spec: &ModelSpec,
        scan: &HeldOutScan<'_>,
        mask: &LabelMap,
    ) -> Result<CaseScores, TrainError> {
        let structures = spec.structures();
        let names = [scan.case.name.clone(), scan.case.label.to_string_lossy().into_owned()];
        Ok(match self.dataset.ignore() {
            None => CaseScores::measure(names, mask, &scan.reference, &structures, DEFAULT_NSD_MM)?,
            Some(ignore) => {
                let (mask, reference) = mask_ignored_voxels(mask, &scan.reference, ignore)?;
                CaseScores::measure(names, &mask, &reference, &structures, DEFAULT_NSD_MM)?
            }
        })
    }

    fn unusable(&self, what: String) -> TrainError {
        TrainError::RunData { what, folder: self.dataset.root().to_path_buf() }
    }

    /// The cases with these names, after checking that their files are unchanged.
    fn unchanged(&self, names: &[String]) -> Result<Vec<&Case>, TrainError> {
        let missing: Vec<&String> = names.iter().filter(|name| self.dataset.case(name).is_none()).collect();
        if let Some(first) = missing.first() {
            return Err(
                self.unusable(format!("{} case(s) of the run are missing, such as {first}", missing.len()))
            );
        }
        let facts = self.dataset.survey(names).into_facts()?;
        let now: BTreeMap<&str, &str> = facts.iter().map(|f| (f.name.as_str(), f.sha256.as_str())).collect();
        let then = &self.run.manifest().data_sha256;
        let differs = |name: &&String| now.get(name.as_str()).copied() != then.get(*name).map(String::as_str);
        let changed: Vec<String> = names.iter().filter(differs).cloned().collect();
        if !changed.is_empty() {
            let changed = changed.join(", ");
            return Err(self.unusable(format!("these cases are not those that the run saw: {changed}")));
        }
        Ok(names.iter().filter_map(|name| self.dataset.case(name)).collect())
    }
}

/// Whether each tile of a case contains foreground, in the order of the sliding window.
fn with_foreground(
    spec: &ModelSpec,
    labels: &PreprocessedLabels,
    channels: usize,
) -> Result<Vec<bool>, TrainError> {
    let known = |class: &u8| *class != 0 && *class != PreprocessedLabels::IGNORED;
    let marks: Vec<f32> = labels.classes().iter().map(|class| f32::from(u8::from(known(class)))).collect();
    let marks = Preprocessed::from_parts(labels.shape(), channels, marks.repeat(channels))?;
    let tiles = inputs(spec, &marks, |_| true)?;
    Ok(tiles.iter().map(|tile| tile.data().iter().any(|v| *v > 0.5)).collect())
}

/// Picks tiles that are evenly spaced among those with foreground, and among the others.
fn pick(with_foreground: &[bool]) -> Vec<usize> {
    let of = |kind: bool, count: usize| {
        let all: Vec<usize> =
            with_foreground.iter().enumerate().filter(|(_, f)| **f == kind).map(|(i, _)| i).collect();
        let count = count.min(all.len());
        (0..count).filter_map(|i| all.get((2 * i + 1) * all.len() / (2 * count)).copied()).collect::<Vec<_>>()
    };
    [of(true, TILES_WITH_FOREGROUND), of(false, TILES_WITHOUT)].concat()
}

/// The network inputs of a prediction, filtered by their index.
fn inputs(
    spec: &ModelSpec,
    image: &Preprocessed,
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Tensor>, TrainError> {
    let recorder = Recorder { classes: spec.classes(), wanted, seen: RefCell::new((0, Vec::new())) };
    let go = &mut |_| ControlFlow::Continue(());
    predict_logits(spec, image, &[&recorder], &WindowOptions::default(), go)?;
    Ok(recorder.seen.into_inner().1)
}

/// A predictor that records its inputs and returns zeros.
struct Recorder<F> {
    classes: usize,
    wanted: F,
    /// Number of tiles so far, and the recorded tiles.
    seen: RefCell<(usize, Vec<Tensor>)>,
}

impl<F: Fn(usize) -> bool> Predictor for Recorder<F> {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let mut shape = input.shape().to_vec();
        if let Some(channels) = shape.get_mut(1) {
            *channels = self.classes;
        }
        let zeros = vec![0.0; shape.iter().product()];
        let mut seen = self.seen.borrow_mut();
        if (self.wanted)(seen.0) {
            seen.1.push(input);
        }
        seen.0 += 1;
        Tensor::new(shape, zeros).map_err(|e| PredictorError { engine: "recorder", message: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn tiles_are_evenly_spaced_with_one_without_foreground() {
        let tiles: Vec<bool> = (0..20).map(|i| (8..17).contains(&i)).collect();
        assert_eq!(pick(&tiles), [9, 12, 15, 5]);
        assert_eq!(pick(&[true]), [0]);
        assert_eq!(pick(&[false, false]), [1]);
        assert_eq!(pick(&[]), [] as [usize; 0]);
    }
}
