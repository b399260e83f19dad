use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Dataset, DatasetError};

/// Which cases are trained on and which are held out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Names of the cases that weights are fitted to.
    #[serde(rename = "train")]
    pub training: Vec<String>,
    /// Names of the cases that scores are taken on.
    #[serde(rename = "val")]
    pub validation: Vec<String>,
}

/// How the cases are to be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitChoice {
    /// Hold out fold `fold` of this file (a list of `{train, val}`, nnU-Net's `splits_final.json`), or of the data
    /// set's own `splits_final.json`, or, where there is neither, of five folds drawn here.
    HoldOut {
        /// A file of splits.
        splits: Option<PathBuf>,
        /// Which of them, from 0.
        fold: usize,
    },
    /// Train on every case; nothing is scored.
    All,
}

impl Default for SplitChoice {
    fn default() -> Self {
        Self::HoldOut { splits: None, fold: 0 }
    }
}

impl Dataset {
    const FOLDS: usize = 5;
    /// Folds must not move with the seed of a training run, or runs could not be compared.
    const FOLD_SEED: u64 = 12345;

    /// Splits the cases.
    ///
    /// # Errors
    /// When a file of splits cannot be used, names a case that the data set lacks or holds the same case on both
    /// sides, or when there is no such fold.
    pub fn split(&self, choice: &SplitChoice) -> Result<Split, DatasetError> {
        let (file, fold) = match choice {
            SplitChoice::All => {
                let training = self.cases().iter().map(|c| c.name.clone()).collect();
                return Ok(Split { training, validation: Vec::new() });
            }
            SplitChoice::HoldOut { splits, fold } => (splits.clone().or_else(|| self.splits_file()), *fold),
        };
        let (folds, source) = match &file {
            Some(file) => (read(file)?, file.clone()),
            None => (self.drawn_folds()?, self.root().to_path_buf()),
        };
        let count = folds.len();
        let unusable = |what: String| DatasetError::Split { what, file: source.clone() };
        let split = folds
            .into_iter()
            .nth(fold)
            .ok_or_else(|| unusable(format!("there is no fold {fold}: {}", existing(count))))?;
        let known: BTreeSet<&String> = self.cases().iter().map(|c| &c.name).collect();
        let missing: Vec<&String> =
            split.training.iter().chain(&split.validation).filter(|n| !known.contains(n)).collect();
        if !missing.is_empty() {
            return Err(unusable(format!(
                "fold {fold} names {} case(s) that the data set lacks: {missing:?}",
                missing.len()
            )));
        }
        let training: BTreeSet<&String> = split.training.iter().collect();
        let both: Vec<&String> = split.validation.iter().filter(|n| training.contains(n)).collect();
        if !both.is_empty() {
            return Err(unusable(format!("fold {fold} has the same case(s) in `train` and `val`: {both:?}")));
        }
        if split.training.is_empty() || split.validation.is_empty() {
            return Err(unusable(format!(
                "fold {fold} has an empty `train` or `val`; `--all` trains without holding out"
            )));
        }
        Ok(split)
    }

    fn drawn_folds(&self) -> Result<Vec<Split>, DatasetError> {
        let mut names: Vec<&String> = self.cases().iter().map(|c| &c.name).collect();
        if names.len() < 2 {
            let what = "one case cannot be split into training and validation; `--all` trains on it".into();
            return Err(DatasetError::Split { what, file: self.root().to_path_buf() });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(Self::FOLD_SEED);
        for i in (1..names.len()).rev() {
            names.swap(i, rng.random_range(0..=i));
        }
        let folds = Self::FOLDS.min(names.len());
        let side = |fold: usize, held_out: bool| {
            let mut side: Vec<String> = names
                .iter()
                .enumerate()
                .filter(|(i, _)| (i % folds == fold) == held_out)
                .map(|(_, name)| (*name).clone())
                .collect();
            side.sort();
            side
        };
        Ok((0..folds).map(|fold| Split { training: side(fold, false), validation: side(fold, true) }).collect())
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
