//! Which cases are of one patient: two lesions, both eyes, several visits.
//!
//! If cases of one patient are trained on and held out, the scores of the held-out cases are too good. Neither nnU-Net nor the
//! Decathlon has a field for the patient. It is read from the object `patients` of `dataset.json`, where both ignore further
//! keys, or from `patients.csv` beside it, which also suits a data set without `dataset.json`.

mod grouping;
mod guess;
mod note;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::split::Split;
use crate::text::first_few;

pub use grouping::{PatientChoice, PatientSource, Patients};
use guess::Guess;
pub use note::PatientNote;

impl Dataset {
    /// The file beside `dataset.json`, or in a folder without one, that states the patient of each case.
    const PATIENTS_FILE: &'static str = "patients.csv";
    /// The key of `dataset.json` that does the same.
    const PATIENTS_KEY: &'static str = "patients";

    /// The patients of its cases.
    pub fn patients(&self) -> &Patients {
        &self.patients
    }

    /// The patients to record: none if each case is a patient of its own.
    pub fn grouped_patients(&self) -> Option<Patients> {
        Some(self.patients.clone()).filter(Patients::have_several_cases)
    }

    /// The same data set with the patients that [`Dataset::grouped_patients`] recorded.
    #[must_use]
    pub fn with_recorded_patients(mut self, recorded: Option<Patients>) -> Self {
        self.unclear_patients = None;
        self.patients = recorded.unwrap_or_else(Patients::each_case);
        self
    }

    /// The same data set with other patients.
    ///
    /// # Errors
    /// When the file cannot be used, or lacks a case of the data set.
    pub fn with_patients(mut self, choice: &PatientChoice) -> Result<Self, DatasetError> {
        self.unclear_patients = None;
        self.patients = match choice {
            PatientChoice::EachCase => Patients::each_case(),
            PatientChoice::File(file) => self.stated_patients(&table::read(file)?, file)?,
        };
        Ok(self)
    }

    /// Finds out which patients the cases are of: from the `description` in `dataset.json`, from `patients.csv`, or by the names
    /// of the cases.
    pub(crate) fn find_patients(&mut self, description: Option<&Value>) -> Result<(), DatasetError> {
        let in_json = description.and_then(|json| json.get(Self::PATIENTS_KEY));
        let file = self.root.join(Self::PATIENTS_FILE);
        self.patients = match (in_json, file.is_file()) {
            (Some(_), true) => {
                return Err(DatasetError::Patients {
                    what: format!(
                        "`{}` in dataset.json states the patients too; keep one of the two",
                        Self::PATIENTS_KEY
                    ),
                    file,
                });
            }
            (Some(json), false) => {
                let file = self.root.join("dataset.json");
                self.stated_patients(&table::from_json(json, &file)?, &file)?
            }
            (None, true) => self.stated_patients(&table::read(&file)?, &file)?,
            (None, false) => self.guessed_patients(),
        };
        Ok(())
    }

    fn stated_patients(&self, of_case: &BTreeMap<String, String>, file: &Path) -> Result<Patients, DatasetError> {
        /// How many names the error lists.
        const MAX_NAMED: usize = 5;
        let names: BTreeSet<&String> = self.cases.iter().map(|case| &case.name).collect();
        let missing: Vec<&str> =
            names.iter().filter(|name| !of_case.contains_key(**name)).map(|name| name.as_str()).collect();
        if !missing.is_empty() {
            return Err(DatasetError::Patients {
                what: format!(
                    "it states the patient of some cases, but not of {}",
                    first_few(&missing, MAX_NAMED)
                ),
                file: file.to_path_buf(),
            });
        }
        let of_case = names.into_iter().filter_map(|name| Some((name.clone(), of_case.get(name)?.clone())));
        Ok(Patients::new(PatientSource::File(file.to_path_buf()), of_case))
    }

    fn guessed_patients(&mut self) -> Patients {
        let names: BTreeSet<&str> = self.cases.iter().map(|case| case.name.as_str()).collect();
        match guess::guess(&names) {
            Guess::Clear(of_case) => Patients::new(PatientSource::CaseNames, of_case),
            Guess::Unclear(cases) => {
                self.unclear_patients = Some(cases);
                Patients::each_case()
            }
            Guess::None => Patients::each_case(),
        }
    }

    /// The names of the cases by patient, in the order of each patient's first case.
    pub(crate) fn cases_by_patient(&self) -> Vec<Vec<&String>> {
        let patient_of = self.patients.of_cases();
        let mut groups: Vec<Vec<&String>> = Vec::new();
        let mut index: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.cases.iter().map(|case| &case.name) {
            let group = match patient_of.get(name.as_str()) {
                Some(patient) => *index.entry(patient).or_insert(groups.len()),
                None => groups.len(),
            };
            match groups.get_mut(group) {
                Some(cases) => cases.push(name),
                None => groups.push(vec![name]),
            }
        }
        groups
    }

    /// The patients with cases on both sides of a split, each with a training case and a validation case.
    pub(crate) fn patients_on_both_sides(&self, split: &Split) -> Vec<(String, [String; 2])> {
        let patient_of = self.patients.of_cases();
        let trained: BTreeMap<&str, &String> =
            split.training.iter().filter_map(|name| Some((*patient_of.get(name.as_str())?, name))).collect();
        let mut found: BTreeMap<&str, [String; 2]> = BTreeMap::new();
        for name in &split.validation {
            let Some(patient) = patient_of.get(name.as_str()) else { continue };
            if let Some(other) = trained.get(patient) {
                found.entry(patient).or_insert_with(|| [(*other).clone(), name.clone()]);
            }
        }
        found.into_iter().map(|(patient, cases)| (patient.to_owned(), cases)).collect()
    }
}
