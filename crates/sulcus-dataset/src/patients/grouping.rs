use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The patients of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Patients {
    /// How they are known.
    pub source: PatientSource,
    /// The names of each patient's cases. Empty if each case is a patient of its own.
    pub cases: BTreeMap<String, Vec<String>>,
}

/// How the patients of a data set are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PatientSource {
    /// They are not: each case counts as a patient of its own.
    EachCase,
    /// They were guessed from the names of the cases.
    CaseNames,
    /// A file states them: `dataset.json`, `patients.csv` or another table.
    File(PathBuf),
}

/// Which patients the folds keep together, instead of those that the data set states or suggests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatientChoice {
    /// Each case is a patient of its own.
    EachCase,
    /// Those of a CSV file with the columns `case` and `patient`.
    File(PathBuf),
}

impl Patients {
    /// Whether some patient has several cases.
    pub fn have_several_cases(&self) -> bool {
        self.cases.values().any(|cases| cases.len() > 1)
    }

    pub(crate) fn each_case() -> Self {
        Self { source: PatientSource::EachCase, cases: BTreeMap::new() }
    }

    pub(super) fn new(source: PatientSource, of_case: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut cases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (case, patient) in of_case {
            cases.entry(patient).or_default().push(case);
        }
        Self { source, cases }
    }

    /// The patient of each case, as far as it is known.
    pub(super) fn of_cases(&self) -> BTreeMap<&str, &str> {
        self.cases
            .iter()
            .flat_map(|(patient, cases)| cases.iter().map(move |c| (c.as_str(), patient.as_str())))
            .collect()
    }
}
