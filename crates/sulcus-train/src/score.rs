use std::ops::ControlFlow;
use std::path::Path;

use sulcus_pipeline::{
    CaseScores, Counts, DEFAULT_NSD_MM, Logits, ModelSpec, Output, Outputs, PipelineError, Predictor, Summary,
    WindowOptions, predict_logits, prepare,
};
use sulcus_volume::Label;

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

/// Predicts cases as `sulcus predict` does, on their own grids, writes the masks and `summary.json` into `folder`.
/// `go_on` is asked before each case.
pub(crate) fn predict_and_score(
    spec: &ModelSpec,
    cases: &[&Case],
    predictor: &dyn Predictor,
    folder: &Path,
    mut go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Summary, TrainError> {
    let values: Vec<Label> = spec.labels.entries().iter().map(|e| e.value).collect();
    let mut scores = Vec::with_capacity(cases.len());
    for (index, case) in cases.iter().enumerate() {
        if go_on(index).is_break() {
            return Err(PipelineError::Cancelled.into());
        }
        let broken = |p: crate::dataset::FileProblem| {
            TrainError::Case(Problem { case: case.name.clone(), what: p.what, file: p.file })
        };
        let scan = case.read().map_err(broken)?;
        let (prepared, restore) = prepare(spec, &scan.image)?;
        let go = &mut |_| ControlFlow::Continue(());
        let logits = predict_logits(spec, &prepared, &[predictor], &WindowOptions::default(), go)?;
        let mask = restore.finish(spec, logits, Outputs::Labels)?.labels;
        let file = folder.join(format!("{}.nii.gz", case.name));
        sulcus_io::write_labels(&file, &mask, &scan.header, &spec.labels)
            .map_err(|e| TrainError::File { what: e.problem().to_string(), file: file.clone() })?;
        let names = [&file, &case.label].map(|path| path.to_string_lossy().into_owned());
        scores.push(CaseScores::measure(names, &mask, &scan.labels, &values, DEFAULT_NSD_MM)?);
    }
    let summary = Summary::new(scores, DEFAULT_NSD_MM);
    let file = folder.join("summary.json");
    let json = serde_json::to_vec_pretty(&summary)
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.clone() })?;
    write_atomically(&file, &json)?;
    Ok(summary)
}
