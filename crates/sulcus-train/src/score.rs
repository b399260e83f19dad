use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sulcus_io::{IoError, Source};
use sulcus_pipeline::{
    CaseScores, Counts, DEFAULT_NSD_MM, Logits, ModelSpec, Output, Outputs, PipelineError, PostprocessingChoice,
    Predictor, PreparedLabels, Summary, WindowOptions, choose_postprocessing, leave_out_ignored, postprocess,
    predict_logits, prepare,
};
use sulcus_volume::{Label, LabelMap};

use crate::dataset::FileProblem;
use crate::manifest::write_atomically;
use crate::sampler::TrainingCase;
use crate::{Case, Problem, TrainError};

/// Mean Dice of each structure over cases, whole volumes on the prepared grid: what is cheap enough for every epoch.
/// `go_on` is asked before each case.
pub(crate) fn dice_on_prepared_grid(
    spec: &ModelSpec,
    cases: &[TrainingCase],
    predictor: &dyn Predictor,
    mut go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Option<f64>>, PipelineError> {
    let structures = spec.labels.entries().len();
    let mut dice = vec![(0.0, 0_usize); structures];
    for (index, case) in cases.iter().enumerate() {
        if go_on(index).is_break() {
            return Err(PipelineError::Cancelled);
        }
        let go = &mut |_| ControlFlow::Continue(());
        let logits = predict_logits(spec, case.image(), &[predictor], &WindowOptions::default(), go)?;
        let predicted = classes(&logits, spec.activation);
        let mut counts = vec![Counts::default(); structures + 1];
        for (p, t) in predicted.into_iter().zip(case.labels().classes().iter().copied()) {
            if t == PreparedLabels::IGNORED {
                continue;
            }
            let (p, t) = (usize::from(p).min(structures), usize::from(t).min(structures));
            if p == t {
                counts[p].tp += 1;
            } else {
                counts[p].fp += 1;
                counts[t].fn_ += 1;
            }
        }
        for ((sum, n), value) in dice.iter_mut().zip(counts.iter().skip(1).map(|c| c.dice())) {
            *sum += value.unwrap_or(0.0);
            *n += usize::from(value.is_some());
        }
    }
    Ok(dice.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect())
}

/// The class of each voxel on the prepared grid.
fn classes(logits: &Logits, output: Output) -> Vec<u8> {
    let voxels = (logits.data().len() / logits.classes().max(1)).max(1);
    match output {
        Output::Sigmoid => logits.data().iter().map(|v| u8::from(*v > 0.0)).collect(),
        Output::Softmax => {
            let mut best: Vec<(f32, u8)> = vec![(f32::NEG_INFINITY, 0); voxels];
            for (class, plane) in (0..=u8::MAX).zip(logits.data().chunks_exact(voxels)) {
                best.iter_mut().zip(plane).filter(|(b, v)| **v > b.0).for_each(|(b, v)| *b = (*v, class));
            }
            best.into_iter().map(|(_, class)| class).collect()
        }
    }
}

/// Held-out cases, predicted and scored.
pub(crate) struct Validation {
    pub(crate) summary: Summary,
    /// What raised their scores, and is to be done to every mask.
    pub(crate) postprocessing: PostprocessingChoice,
}

/// Predicts cases as `sulcus predict` does, on their own grids, chooses postprocessing by them, writes the masks and
/// `summary.json` into `folder`. Voxels of the value `ignore` count in no score. `go_on` is asked before each case.
pub(crate) fn predict_and_score(
    spec: &ModelSpec,
    cases: &[&Case],
    ignore: Option<Label>,
    predictor: &dyn Predictor,
    folder: &Path,
    mut go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Validation, TrainError> {
    let bare = ModelSpec { postprocessing: Vec::new(), ..spec.clone() };
    for (index, case) in cases.iter().enumerate() {
        if go_on(index).is_break() {
            return Err(PipelineError::Cancelled.into());
        }
        let scan = case.read().map_err(broken(case))?;
        let (prepared, restore) = prepare(spec, &scan.image)?;
        let go = &mut |_| ControlFlow::Continue(());
        let logits = predict_logits(spec, &prepared, &[predictor], &WindowOptions::default(), go)?;
        let mask = restore.finish(&bare, logits, Outputs::Labels)?.labels;
        write_mask(spec, &mask_file(folder, case), &mask, &scan.source)?;
    }

    let pair = |case: &&Case| -> Result<(LabelMap, LabelMap), TrainError> {
        let (mask, _) = read_mask(&mask_file(folder, case))?;
        let (reference, _) = case.read_labels().map_err(broken(case))?;
        Ok(match ignore {
            Some(ignore) => leave_out_ignored(&mask, &reference, ignore)?,
            None => (mask, reference),
        })
    };
    let postprocessing = match ignore {
        None => choose_postprocessing(&spec.labels, || cases.iter().map(pair))?,
        // What the step does to whole masks can't be told from their labelled parts.
        Some(_) => PostprocessingChoice {
            steps: Vec::new(),
            why: vec!["no postprocessing: its effect is unknown where voxels are not labelled".into()],
        },
    };

    let values: Vec<Label> = spec.labels.entries().iter().map(|e| e.value).collect();
    let mut scores = Vec::with_capacity(cases.len());
    for case in cases {
        let file = mask_file(folder, case);
        if !postprocessing.steps.is_empty() {
            let (mask, source) = read_mask(&file)?;
            write_mask(spec, &file, &postprocess(&postprocessing.steps, mask)?, &source)?;
        }
        let (mask, reference) = pair(case)?;
        let names = [&file, &case.label].map(|path| path.to_string_lossy().into_owned());
        scores.push(CaseScores::measure(names, &mask, &reference, &values, DEFAULT_NSD_MM)?);
    }
    let summary = Summary::new(scores, DEFAULT_NSD_MM);
    let file = folder.join("summary.json");
    let json = serde_json::to_vec_pretty(&summary)
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.clone() })?;
    write_atomically(&file, &json)?;
    Ok(Validation { summary, postprocessing })
}

fn mask_file(folder: &Path, case: &Case) -> PathBuf {
    folder.join(format!("{}.nii.gz", case.name))
}

/// A problem with a file, as one with the case that it is of.
pub(crate) fn broken(case: &Case) -> impl Fn(FileProblem) -> TrainError {
    |p| TrainError::Case(Problem { case: case.name.clone(), what: p.what, file: p.file })
}

fn read_mask(file: &Path) -> Result<(LabelMap, Source), TrainError> {
    sulcus_io::read_labels(file).map_err(|e| unusable(&e, file))
}

fn write_mask(spec: &ModelSpec, file: &Path, mask: &LabelMap, like: &Source) -> Result<(), TrainError> {
    sulcus_io::write_labels(file, mask, like, &spec.labels).map_err(|e| unusable(&e, file))
}

fn unusable(error: &IoError, file: &Path) -> TrainError {
    TrainError::File { what: error.problem().to_string(), file: file.to_path_buf() }
}
