use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sulcus_dataset::Case;
use sulcus_io::{IoError, VolumeMetadata};
use sulcus_metrics::{CaseScores, Counts, DEFAULT_NSD_MM, Summary, mask_ignored_voxels};
use sulcus_model::ModelSpec;
use sulcus_pipeline::{
    Outputs, PipelineError, PostprocessingChoice, Predictor, PreprocessedLabels, WindowOptions,
    choose_postprocessing, decide, postprocess, predict_logits, preprocess,
};
use sulcus_volume::{Label, LabelMap};

use super::cases::{read_case, read_reference};
use super::files::write_json;
use crate::error::TrainError;
use crate::sampling::regions::classes_of_structures;
use crate::sampling::training_case::TrainingCase;

/// Mean Dice of each structure over cases, for whole volumes on the prepared grid, which is fast enough for every epoch.
/// `go_on` is called before each case.
pub(crate) fn dice_on_prepared_grid(
    spec: &ModelSpec,
    cases: &[TrainingCase],
    predictor: &dyn Predictor,
    mut go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Option<f64>>, PipelineError> {
    let structures = classes_of_structures(spec);
    let classes = spec.labels.entries().len() + 1;
    let mut class_of = vec![0; usize::from(Label::MAX) + 1];
    for (class, entry) in (1..).zip(spec.labels.entries()) {
        class_of[usize::from(entry.value)] = class;
    }
    let mut dice = vec![(0.0, 0_usize); structures.len()];
    for (index, case) in cases.iter().enumerate() {
        if go_on(index).is_break() {
            return Err(PipelineError::Cancelled);
        }
        let go = &mut |_| ControlFlow::Continue(());
        let logits = predict_logits(spec, case.image(), &[predictor], &WindowOptions::default(), go)?;
        // The confusion matrix: [predicted, true].
        let mut confusion = vec![0_u64; classes * classes];
        for (predicted, truth) in decide(spec, &logits).into_iter().zip(case.labels().classes()) {
            if *truth != PreprocessedLabels::IGNORED {
                let at = class_of[usize::from(predicted)] * classes + usize::from(*truth).min(classes - 1);
                confusion[at] += 1;
            }
        }
        for ((sum, n), members) in dice.iter_mut().zip(&structures) {
            let value = counts(&confusion, classes, members).dice();
            *sum += value.unwrap_or(0.0);
            *n += usize::from(value.is_some());
        }
    }
    Ok(dice.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect())
}

/// The counts of the structure with these classes.
fn counts(confusion: &[u64], classes: usize, members: &[u8]) -> Counts {
    let mut counts = Counts::default();
    let is_member: Vec<bool> =
        (0..classes).map(|class| members.iter().any(|member| usize::from(*member) == class)).collect();
    for (row, predicted) in confusion.chunks_exact(classes).zip(&is_member) {
        for (voxels, truth) in row.iter().zip(&is_member) {
            match (predicted, truth) {
                (true, true) => counts.tp += voxels,
                (true, false) => counts.fp += voxels,
                (false, true) => counts.fn_ += voxels,
                (false, false) => counts.tn += voxels,
            }
        }
    }
    counts
}

/// The scores of the validation cases.
pub(crate) struct Validation {
    pub(crate) summary: Summary,
    /// The postprocessing that improved the scores.
    pub(crate) postprocessing: PostprocessingChoice,
}

/// Predicts cases on their own grids as inference does, chooses the postprocessing by them, and writes the masks and
/// `summary.json` into `folder`. Voxels with the label `ignore` are not scored. `go_on` is called before each case.
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
        let scan = read_case(case)?;
        let (prepared, restore) = preprocess(spec, &scan.image)?;
        let go = &mut |_| ControlFlow::Continue(());
        let logits = predict_logits(spec, &prepared, &[predictor], &WindowOptions::default(), go)?;
        let mask = restore.finish(&bare, logits, Outputs::Labels)?.labels;
        write_mask(spec, &mask_file(folder, case), &mask, &scan.source)?;
    }

    let pair = |case: &&Case| -> Result<(LabelMap, LabelMap), TrainError> {
        let (mask, _) = read_mask(&mask_file(folder, case))?;
        let reference = read_reference(case)?;
        Ok(match ignore {
            Some(ignore) => mask_ignored_voxels(&mask, &reference, ignore)?,
            None => (mask, reference),
        })
    };
    let structures = spec.structures();
    let postprocessing = match ignore {
        None => choose_postprocessing(&structures, || cases.iter().map(pair))?,
        // The effect on whole masks cannot be measured on their labelled parts.
        Some(_) => PostprocessingChoice {
            steps: Vec::new(),
            why: vec!["no postprocessing: its effect is unknown where voxels are not labelled".into()],
        },
    };

    let mut scores = Vec::with_capacity(cases.len());
    for case in cases {
        let file = mask_file(folder, case);
        if !postprocessing.steps.is_empty() {
            let (mask, source) = read_mask(&file)?;
            write_mask(spec, &file, &postprocess(&postprocessing.steps, mask)?, &source)?;
        }
        let (mask, reference) = pair(case)?;
        let names = [&file, &case.label].map(|path| path.to_string_lossy().into_owned());
        scores.push(CaseScores::measure(names, &mask, &reference, &structures, DEFAULT_NSD_MM)?);
    }
    let summary = Summary::new(scores, DEFAULT_NSD_MM);
    let file = folder.join("summary.json");
    write_json(&file, &summary)?;
    Ok(Validation { summary, postprocessing })
}

fn mask_file(folder: &Path, case: &Case) -> PathBuf {
    let ending = case.images.first().map_or(".nii.gz", |image| sulcus_io::mask_ending(image));
    folder.join(format!("{}{ending}", case.name))
}

fn read_mask(file: &Path) -> Result<(LabelMap, VolumeMetadata), TrainError> {
    sulcus_io::read_labels(file).map_err(|e| unusable(&e, file))
}

fn write_mask(spec: &ModelSpec, file: &Path, mask: &LabelMap, like: &VolumeMetadata) -> Result<(), TrainError> {
    sulcus_io::write_labels(file, mask, like, &spec.labels).map_err(|e| unusable(&e, file))
}

fn unusable(error: &IoError, file: &Path) -> TrainError {
    TrainError::File { what: error.kind().to_string(), file: file.to_path_buf() }
}
