//! The data set behind a finished run, for what is decided after training: how values between layers spread, and what
//! writing the network in fewer bits costs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use sulcus_metrics::{CaseScores, DEFAULT_NSD_MM, mask_ignored_voxels};
use sulcus_model::{Calibration, ModelSpec};
use sulcus_pipeline::{
    Predictor, PredictorError, Preprocessed, PreprocessedLabels, Tensor, WindowOptions, predict_logits,
    preprocess, preprocess_labels,
};
use sulcus_volume::{Image, LabelMap};

use crate::score::broken;
use crate::setup::evenly;
use crate::{Case, Dataset, Run, TrainError};

/// Training cases that are looked at for ranges.
const CASES: usize = 32;
/// Tiles of each with foreground, and without.
const WITH_FOREGROUND: usize = 3;
const WITHOUT: usize = 1;

/// A run and its data set.
#[derive(Debug)]
pub struct RunData<'a> {
    run: &'a Run,
    dataset: Dataset,
}

/// A held-out case.
#[derive(Debug)]
pub struct HeldOutScan<'a> {
    case: &'a Case,
    /// The scan, on its own grid.
    pub image: Image,
    /// What a mask of it is compared with.
    pub reference: LabelMap,
}

impl Run {
    /// Opens the data set that the run was trained on: in `folder`, or where it lay then.
    ///
    /// # Errors
    /// When there is no data set.
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
    /// Network inputs of training cases, exactly as prediction makes them: few of each case, most of them with
    /// foreground.
    ///
    /// # Errors
    /// When a case cannot be read, or is not the one that was trained on.
    pub fn calibration(&self, spec: &ModelSpec) -> Result<(Vec<Tensor>, Calibration), TrainError> {
        let names = evenly(&self.run.manifest().split.training, CASES);
        let cases = self.unchanged(&names)?;
        let mut tiles = Vec::new();
        for case in &cases {
            let scan = case.read().map_err(broken(case))?;
            let labels = preprocess_labels(spec, &scan.image, &scan.labels, self.dataset.ignore())?;
            let (image, _) = preprocess(spec, &scan.image)?;
            let wanted = pick(&with_foreground(spec, &labels, image.channels())?);
            tiles.extend(inputs(spec, &image, |index| wanted.contains(&index))?);
        }
        let calibration = Calibration { cases: cases.len(), tiles: tiles.len() };
        Ok((tiles, calibration))
    }

    /// The held-out cases by name.
    ///
    /// # Errors
    /// When one is missing, or is not the one that the run was scored on.
    pub fn held_out(&self) -> Result<Vec<&Case>, TrainError> {
        self.unchanged(&self.run.manifest().split.validation)
    }

    /// Reads a held-out case.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read<'a>(&self, case: &'a Case) -> Result<HeldOutScan<'a>, TrainError> {
        let scan = case.read().map_err(broken(case))?;
        Ok(HeldOutScan { case, image: scan.image, reference: scan.labels })
    }

    /// Scores a mask of a held-out case; voxels that nobody has labelled count in no score.
    ///
    /// # Errors
    /// When the mask lies on another grid than the scan.
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

    /// Cases whose files are those that the run saw.
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

/// Which of a case's tiles hold a structure, in the order of the walk.
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

/// Evenly spaced among those with foreground, and among the others.
fn pick(with_foreground: &[bool]) -> Vec<usize> {
    let of = |kind: bool, count: usize| {
        let all: Vec<usize> =
            with_foreground.iter().enumerate().filter(|(_, f)| **f == kind).map(|(i, _)| i).collect();
        let count = count.min(all.len());
        (0..count).filter_map(|i| all.get((2 * i + 1) * all.len() / (2 * count)).copied()).collect::<Vec<_>>()
    };
    [of(true, WITH_FOREGROUND), of(false, WITHOUT)].concat()
}

/// The tiles that prediction would ask a network about, by their number in the walk.
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

/// Keeps what it is asked about and answers nothing.
struct Recorder<F> {
    classes: usize,
    wanted: F,
    /// Tiles so far, and those that were kept.
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
    fn tiles_are_spread_over_those_with_foreground_and_one_is_without() {
        let tiles: Vec<bool> = (0..20).map(|i| (8..17).contains(&i)).collect();
        assert_eq!(pick(&tiles), [9, 12, 15, 5]);
        assert_eq!(pick(&[true]), [0]);
        assert_eq!(pick(&[false, false]), [1]);
        assert_eq!(pick(&[]), [] as [usize; 0]);
    }
}
