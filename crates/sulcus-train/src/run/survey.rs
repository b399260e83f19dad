//! Checks the data set before a training.

use std::collections::BTreeSet;

use sulcus_dataset::{CaseFacts, Dataset, DatasetError, Finding, Split, SplitChoice};

use super::case_memory::check_headers;
use super::cases::cases;
use super::observer::{Event, TrainObserver};
use crate::error::TrainError;

/// Warns of cases that the split does not use: a file of splits may omit them by mistake.
pub(super) fn warn_of_unused(dataset: &Dataset, split: &Split, observer: &mut dyn TrainObserver) {
    let unused = dataset.left_out_by(split);
    if unused.is_empty() {
        return;
    }
    let cases = if unused.len() == 1 { "1 case".to_owned() } else { format!("{} cases", unused.len()) };
    let what = format!("{cases} on neither side of the split and not used: {}", unused.join(", "));
    observer.event(Event::Warning(&what));
}

/// Reports how a split treats patients with several cases.
pub(super) fn report_patients(
    dataset: &Dataset,
    choice: &SplitChoice,
    split: &Split,
    observer: &mut dyn TrainObserver,
) {
    for note in dataset.patient_notes(choice, std::slice::from_ref(split)) {
        observer.event(Event::Patients(&note));
    }
}

/// Reads and checks cases.
///
/// # Errors
/// With all problems of the cases, or with the first case that needs too much memory.
pub(super) fn survey(
    dataset: &Dataset,
    names: &[String],
    observer: &mut dyn TrainObserver,
) -> Result<Vec<CaseFacts>, TrainError> {
    check_headers(dataset, names, observer.memory_limit())?;
    observer.event(Event::Checking { cases: names.len() });
    let survey = dataset.survey(names);
    for warning in &survey.warnings {
        observer.event(Event::Warning(&warning.to_string()));
    }
    Ok(survey.into_facts()?)
}

/// The facts of the training cases.
///
/// # Errors
/// When no training case has foreground.
pub(super) fn training_facts(
    dataset: &Dataset,
    split: &Split,
    facts: &[CaseFacts],
) -> Result<Vec<CaseFacts>, TrainError> {
    let training: BTreeSet<&String> = split.training.iter().collect();
    let chosen: Vec<CaseFacts> = facts.iter().filter(|f| training.contains(&f.name)).cloned().collect();
    if chosen.iter().all(|f| f.label_voxels.is_empty()) {
        let empty = cases(dataset, &split.training)
            .into_iter()
            .map(|case| Finding::no_foreground(&case.name, &case.label));
        return Err(DatasetError::Problems(empty.collect()).into());
    }
    Ok(chosen)
}
