use std::fmt;
use std::path::PathBuf;

use super::grouping::PatientSource;
use crate::dataset::Dataset;
use crate::split::{Split, SplitChoice};
use crate::text::count;

/// What a user should know about patients and folds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatientNote {
    /// The folds keep the cases of each patient together, as a file states them.
    Stated {
        /// Number of patients.
        patients: usize,
        /// Number of cases.
        cases: usize,
        /// The file.
        file: PathBuf,
    },
    /// The folds keep cases together whose names suggest one patient.
    Guessed {
        /// Number of patients.
        patients: usize,
        /// Number of cases.
        cases: usize,
        /// A patient with several cases.
        patient: String,
        /// Two of its cases.
        example: [String; 2],
    },
    /// The names may mean that several cases are of one patient, but not clearly; the folds do not keep them together.
    Unclear {
        /// Two cases that may be of one patient.
        example: [String; 2],
    },
    /// A split trains on patients that it also holds out.
    OnBothSides {
        /// The patients, each with a training case and a validation case.
        patients: Vec<(String, [String; 2])>,
        /// How the patients are known.
        source: PatientSource,
    },
}

impl Dataset {
    /// What a user should know about the patients in these splits, which were made by `choice`.
    pub fn patient_notes(&self, choice: &SplitChoice, splits: &[Split]) -> Vec<PatientNote> {
        let SplitChoice::HoldOut { splits: file, .. } = choice else { return Vec::new() };
        if file.is_some() || self.splits_file().is_some() {
            let on_both_sides = |split: &Split| {
                let patients = self.patients_on_both_sides(split);
                let source = self.patients.source.clone();
                (!patients.is_empty()).then_some(PatientNote::OnBothSides { patients, source })
            };
            return splits.iter().filter_map(on_both_sides).collect();
        }
        self.grouping_note().into_iter().collect()
    }

    /// How the folds that are drawn treat patients; `None` if each case is a patient of its own.
    fn grouping_note(&self) -> Option<PatientNote> {
        if let Some(example) = &self.unclear_patients {
            return Some(PatientNote::Unclear { example: example.clone() });
        }
        let (patients, cases) = (self.patients.cases.len(), self.cases.len());
        let several = |(patient, cases): (&String, &Vec<String>)| match cases.as_slice() {
            [first, second, ..] => Some((patient.clone(), [first.clone(), second.clone()])),
            _ => None,
        };
        let (patient, example) = self.patients.cases.iter().find_map(several)?;
        Some(match &self.patients.source {
            PatientSource::File(file) => PatientNote::Stated { patients, cases, file: file.clone() },
            _ => PatientNote::Guessed { patients, cases, patient, example },
        })
    }
}

impl fmt::Display for PatientNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stated { patients, cases, file } => write!(
                f,
                "the folds keep the cases of each patient together: {} of {}, as stated in {}",
                count(*cases, "case"),
                count(*patients, "patient"),
                file.display()
            ),
            Self::Guessed { patients, cases, patient, example: [one, other] } => write!(
                f,
                "the folds keep the cases of each patient together, as guessed from the case names: {} of {}, for example \
                 {one} and {other} of {patient}",
                count(*cases, "case"),
                count(*patients, "patient"),
            ),
            Self::Unclear { example: [one, other] } => write!(
                f,
                "the case names may mean that several cases are of one patient, for example {one} and {other}; the folds do \
                 not keep them together"
            ),
            Self::OnBothSides { patients, source } => {
                let guessed = match source {
                    PatientSource::CaseNames => " (guessed from the case names)",
                    _ => "",
                };
                write!(
                    f,
                    "{} with cases on both sides of the split{guessed}, so that the scores of the held-out cases are too \
                     good",
                    count(patients.len(), "patient")
                )?;
                match patients.first() {
                    Some((patient, [trained, held_out])) => {
                        write!(f, ", for example {patient}: {trained} is trained on, {held_out} is held out")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}
