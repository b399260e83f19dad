use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::comparison::equal_names;
use crate::dataset::Dataset;
use crate::error::DatasetError;

/// The training and validation cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Names of the training cases.
    #[serde(rename = "train")]
    pub training: Vec<String>,
    /// Names of the validation (held-out) cases.
    #[serde(rename = "val")]
    pub validation: Vec<String>,
}

/// How to split the cases.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitChoice {
    /// Hold out one fold. The folds come from `splits` (a list of `{train, val}`, as nnU-Net's `splits_final.json`), else
    /// from the data set's own `splits_final.json`, else five folds are drawn, which keep the cases of a patient together.
    HoldOut {
        /// The file of splits.
        splits: Option<PathBuf>,
        /// The fold, from 0.
        fold: usize,
    },
    /// Train on every case, without validation.
    All,
}

/// All folds of a data set. No case is held out by two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folds {
    /// The folds.
    pub folds: Vec<Split>,
    /// Names of the cases that are in no fold.
    pub in_no_fold: Vec<String>,
    /// Names of the cases that are trained on and never held out, so that they get no score.
    pub never_held_out: Vec<String>,
}

impl Default for SplitChoice {
    fn default() -> Self {
        Self::HoldOut { splits: None, fold: 0 }
    }
}

impl Dataset {
    const FOLDS: usize = 5;
    /// Independent of the seed of a training, so that runs can be compared.
    const FOLD_SEED: u64 = 12345;

    /// Splits the cases.
    ///
    /// # Errors
    /// When two cases have the same name, when the file of splits cannot be used, names an unknown case or has a case in both
    /// parts, or when there is no such fold.
    pub fn split(&self, choice: &SplitChoice) -> Result<Split, DatasetError> {
        let (file, fold) = match choice {
            SplitChoice::All => {
                let training = self.cases().iter().map(|c| c.name.clone()).collect();
                return Ok(Split { training, validation: Vec::new() });
            }
            SplitChoice::HoldOut { splits, fold } => (splits.clone().or_else(|| self.splits_file()), *fold),
        };
        self.check_unique_names()?;
        let (folds, source) = self.read_folds(file.as_deref())?;
        let count = folds.len();
        let split = folds.into_iter().nth(fold).ok_or_else(|| DatasetError::Split {
            what: format!("there is no fold {fold}: {}", existing(count)),
            file: source.clone(),
        })?;
        self.check_fold(fold, &split, &source)?;
        Ok(split)
    }

    /// The names of the cases that a split does not use.
    pub fn left_out_by(&self, split: &Split) -> Vec<String> {
        let used: BTreeSet<&String> = split.training.iter().chain(&split.validation).collect();
        self.cases().iter().map(|case| &case.name).filter(|name| !used.contains(name)).cloned().collect()
    }

    /// All folds, from the same sources as [`SplitChoice::HoldOut`].
    ///
    /// # Errors
    /// As [`Dataset::split`] for any fold, and when two folds hold out the same case, which would be scored twice.
    pub fn folds(&self, splits: Option<&Path>) -> Result<Folds, DatasetError> {
        self.check_unique_names()?;
        let file = splits.map(Path::to_path_buf).or_else(|| self.splits_file());
        let (folds, source) = self.read_folds(file.as_deref())?;
        let unusable = |what: String| DatasetError::Split { what, file: source.clone() };
        if folds.is_empty() {
            return Err(unusable(existing(0)));
        }
        let mut held_out: BTreeMap<&String, usize> = BTreeMap::new();
        for (fold, split) in folds.iter().enumerate() {
            self.check_fold(fold, split, &source)?;
            for name in &split.validation {
                if let Some(other) = held_out.insert(name, fold) {
                    return Err(unusable(format!("folds {other} and {fold} both hold out the case `{name}`")));
                }
            }
        }
        let trained: BTreeSet<&String> = folds.iter().flat_map(|f| &f.training).collect();
        let names = self.cases().iter().map(|c| &c.name).filter(|name| !held_out.contains_key(name));
        let (never_held_out, in_no_fold) = names.cloned().partition(|name| trained.contains(name));
        Ok(Folds { in_no_fold, never_held_out, folds })
    }

    fn read_folds(&self, file: Option<&Path>) -> Result<(Vec<Split>, PathBuf), DatasetError> {
        Ok(match file {
            Some(file) => (read(file)?, file.to_path_buf()),
            None => (self.drawn_folds()?, self.root().to_path_buf()),
        })
    }

    /// Checks that a fold fits the data set.
    fn check_fold(&self, fold: usize, split: &Split, file: &Path) -> Result<(), DatasetError> {
        self.check_fold_names(fold, split)
            .map_err(|what| DatasetError::Split { what, file: file.to_path_buf() })?;
        if split.training.is_empty() || split.validation.is_empty() {
            return Err(DatasetError::EmptyFold { fold, file: file.to_path_buf() });
        }
        Ok(())
    }

    fn check_fold_names(&self, fold: usize, split: &Split) -> Result<(), String> {
        let known: BTreeSet<&String> = self.cases().iter().map(|c| &c.name).collect();
        let missing: Vec<&String> =
            split.training.iter().chain(&split.validation).filter(|n| !known.contains(n)).collect();
        if !missing.is_empty() {
            return Err(format!(
                "fold {fold} names {} case(s) that the data set lacks: {missing:?}",
                missing.len()
            ));
        }
        let training: BTreeSet<&String> = split.training.iter().collect();
        let both: Vec<&String> = split.validation.iter().filter(|n| training.contains(n)).collect();
        if !both.is_empty() {
            return Err(format!("fold {fold} has the same case(s) in `train` and `val`: {both:?}"));
        }
        for (side, names) in [("train", &split.training), ("val", &split.validation)] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
                return Err(format!("fold {fold} names the case `{twice}` twice in `{side}`"));
            }
        }
        Ok(())
    }

    /// Five folds with about the same number of cases each. The cases of a patient stay together.
    fn drawn_folds(&self) -> Result<Vec<Split>, DatasetError> {
        let mut patients = self.cases_by_patient();
        if patients.len() < 2 {
            let root = self.root().to_path_buf();
            return Err(match self.cases().len() {
                0 | 1 => DatasetError::SingleCase { root },
                cases => DatasetError::SinglePatient { cases, root },
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(Self::FOLD_SEED);
        for i in (1..patients.len()).rev() {
            patients.swap(i, rng.random_range(0..=i));
        }
        // Patients with many cases first, so that those with few make the folds even.
        patients.sort_by_key(|cases| Reverse(cases.len()));
        let mut held_out: Vec<Vec<String>> = vec![Vec::new(); Self::FOLDS.min(patients.len())];
        for cases in patients {
            if let Some(smallest) = held_out.iter_mut().min_by_key(|fold| fold.len()) {
                smallest.extend(cases.into_iter().cloned());
            }
        }
        held_out.iter_mut().for_each(|fold| fold.sort());
        let split = |fold: usize| {
            let others = held_out.iter().enumerate().filter(|(other, _)| *other != fold);
            let mut training: Vec<String> = others.flat_map(|(_, names)| names.iter().cloned()).collect();
            training.sort();
            Split { training, validation: held_out.get(fold).cloned().unwrap_or_default() }
        };
        Ok((0..held_out.len()).map(split).collect())
    }

    /// Refuses two cases with the same name, which splits and scores could not tell apart.
    fn check_unique_names(&self) -> Result<(), DatasetError> {
        let problems = equal_names(&self.cases().iter().collect::<Vec<_>>());
        if problems.is_empty() { Ok(()) } else { Err(DatasetError::Problems(problems)) }
    }
}

fn existing(folds: usize) -> String {
    match folds {
        0 => "no fold exists".into(),
        1 => "only fold 0 exists".into(),
        _ => format!("folds 0 to {} exist", folds - 1),
    }
}

fn read(file: &Path) -> Result<Vec<Split>, DatasetError> {
    let unusable = |what: String| DatasetError::Split { what, file: file.to_path_buf() };
    let text = std::fs::read_to_string(file).map_err(|e| unusable(format!("it cannot be read: {e}")))?;
    let folds: Vec<Split> = serde_json::from_str(&text)
        .map_err(|e| unusable(format!("expected a list of {{\"train\": [names], \"val\": [names]}}: {e}")))?;
    Ok(folds)
}
