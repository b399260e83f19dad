//! Where a model is: a folder, or the archive that `nnUNetv2_export_model_to_zip` writes.
//!
//! The layout is `Dataset/Trainer__Plans__Configuration/fold_X/checkpoint_final.pth`, with `plans.json` and `dataset.json` beside
//! the folds. Any of these levels can be given.

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::Source;
use crate::error::ImportError;
use tree::Tree;

/// Plans have less than 1 MB, data sets of thousands of cases a few.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// The text of a JSON file that is not a part of the model.
///
/// # Errors
/// When it cannot be read, is too long or not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_path_buf(), source };
    let bytes = tree::read_at_most(std::fs::File::open(path).map_err(failed)?, MAX_TEXT_BYTES).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed(std::io::Error::other("it is not UTF-8")))
}

/// Which of the checkpoints of a fold is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckpointChoice {
    /// After the last epoch; what nnU-Net predicts with.
    #[default]
    Final,
    /// The epoch with the best validation score.
    Best,
    /// The newest of an unfinished training.
    Latest,
}

impl CheckpointChoice {
    /// `final`, `best` or `latest`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Best => "best",
            Self::Latest => "latest",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Final => "checkpoint_final.pth",
            Self::Best => "checkpoint_best.pth",
            Self::Latest => "checkpoint_latest.pth",
        }
    }
}

/// A fold of the cross-validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fold {
    /// The fold that was held out in training.
    Number(u16),
    /// A training on every case: nnU-Net's `fold_all`.
    All,
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl Fold {
    fn from_folder(name: &str) -> Option<Self> {
        match name.strip_prefix("fold_")? {
            "all" => Some(Self::All),
            number => number.parse().ok().map(Self::Number),
        }
    }
}

/// One model: a plan, a data set's description, and the folds.
pub(crate) struct ModelFolder {
    tree: Tree,
    /// The path of its folder inside the tree; empty, or ends with `/`.
    inside: String,
    /// The names of the checkpoints of each fold.
    folds: BTreeMap<Fold, Vec<String>>,
}

impl ModelFolder {
    /// Finds the model in a folder or archive, by its configuration if there are several.
    ///
    /// # Errors
    /// When there is no model, or several and no choice, or a model of nnU-Net v1.
    pub(crate) fn open(path: &Path, configuration: Option<&str>) -> Result<Self, ImportError> {
        let tree = Tree::open(path)?;
        let mut models = find_models(tree.files());
        let refused = |reason: String| ImportError::Layout { reason, path: path.to_path_buf() };
        if models.is_empty() {
            return Err(refused(describe_missing(tree.files())));
        }
        if let Some(wanted) = configuration.filter(|_| models.len() > 1) {
            models.retain(|inside, _| configuration_of(inside) == Some(wanted));
        }
        let mut found = models.into_iter();
        match (found.next(), found.next()) {
            (Some((inside, folds)), None) => Ok(Self { tree, inside, folds }),
            (None, _) => {
                let known = names(find_models(tree.files()).keys());
                Err(refused(format!(
                    "no model has the configuration `{}`, there are: {known}",
                    configuration.unwrap_or_default()
                )))
            }
            (Some(_), Some(_)) => {
                let known = names(find_models(tree.files()).keys());
                Err(refused(format!(
                    "there are several models ({known}); choose one by its configuration, or give its folder"
                )))
            }
        }
    }

    /// The model of another configuration by the same trainer and plan, which lies beside this one.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn beside(&self, configuration: &str) -> Result<Self, ImportError> {
        let refused = |reason: String| ImportError::Layout { reason, path: self.path() };
        let replaced = |folder: &str| {
            let (start, _) = folder.rsplit_once("__")?;
            Some(format!("{start}__{configuration}"))
        };
        let missing = |place: &str| {
            refused(format!(
                "the network needs the mask of the configuration `{configuration}`, and there is no model of it in `{place}`; put both \
                 beside each other as nnU-Net does, or give an archive or a folder above both"
            ))
        };
        let (tree, inside) = match self.inside.trim_end_matches('/') {
            "" => {
                let own = self.tree.path().canonicalize().unwrap_or_else(|_| self.tree.path().to_path_buf());
                let name = own.file_name().and_then(|name| replaced(name.to_str()?));
                let name = name.ok_or_else(|| missing(configuration))?;
                let path = own.with_file_name(&name);
                if !path.is_dir() {
                    return Err(missing(&name));
                }
                (Tree::open(&path)?, String::new())
            }
            inside => {
                let (above, name) = inside.rsplit_once('/').map_or(("", inside), |(above, name)| (above, name));
                let name = replaced(name).ok_or_else(|| missing(configuration))?;
                let inside = if above.is_empty() { format!("{name}/") } else { format!("{above}/{name}/") };
                (Tree::open(self.tree.path())?, inside)
            }
        };
        let folds = find_models(tree.files()).remove(&inside);
        let folds = folds.ok_or_else(|| missing(if inside.is_empty() { configuration } else { &inside }))?;
        Ok(Self { tree, inside, folds })
    }

    /// The path for messages.
    pub(crate) fn path(&self) -> PathBuf {
        match self.inside.trim_end_matches('/') {
            "" => self.tree.path().to_path_buf(),
            inside => self.tree.path().join(inside),
        }
    }

    /// The text of a JSON file beside the folds.
    ///
    /// # Errors
    /// When it is missing, too long or not UTF-8.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, ImportError> {
        let file = format!("{}{name}", self.inside);
        let bytes = self.tree.read(&file, MAX_TEXT_BYTES)?;
        String::from_utf8(bytes).map_err(|_| ImportError::Layout {
            reason: format!("{name} is not UTF-8"),
            path: self.tree.path().join(file),
        })
    }

    /// The folds to import: those given, else every numbered fold, else the training on all cases, as nnU-Net does.
    ///
    /// # Errors
    /// If there is no such fold, or it lacks the checkpoint.
    pub(crate) fn folds(&self, wanted: &[Fold], checkpoint: CheckpointChoice) -> Result<Vec<Fold>, ImportError> {
        let refused = |reason: String| ImportError::Layout { reason, path: self.path() };
        let known: Vec<String> = self.folds.keys().map(Fold::to_string).collect();
        let folds: Vec<Fold> = if wanted.is_empty() {
            let numbered: Vec<Fold> = self.folds.keys().copied().filter(|fold| *fold != Fold::All).collect();
            if numbered.is_empty() { vec![Fold::All] } else { numbered }
        } else {
            wanted.to_vec()
        };
        for fold in &folds {
            let Some(checkpoints) = self.folds.get(fold) else {
                return Err(refused(format!("there is no fold {fold}, the folds are {}", known.join(", "))));
            };
            if !checkpoints.iter().any(|name| name == checkpoint.file_name()) {
                return Err(refused(format!(
                    "fold {fold} has no {}, but {}",
                    checkpoint.file_name(),
                    checkpoints.join(", ")
                )));
            }
        }
        Ok(folds)
    }

    /// The path of a checkpoint for messages.
    pub(crate) fn checkpoint_path(&self, fold: Fold, checkpoint: CheckpointChoice) -> PathBuf {
        self.tree.path().join(self.checkpoint_file(fold, checkpoint))
    }

    /// Opens a checkpoint. The second value is its SHA-256.
    ///
    /// # Errors
    /// When it cannot be read, or is a compressed entry of an archive that inflates beyond measure.
    pub(crate) fn checkpoint(
        &mut self,
        fold: Fold,
        checkpoint: CheckpointChoice,
    ) -> Result<(Box<dyn Source>, String), ImportError> {
        let file = self.checkpoint_file(fold, checkpoint);
        self.tree.open_file(&file)
    }

    fn checkpoint_file(&self, fold: Fold, checkpoint: CheckpointChoice) -> String {
        format!("{}fold_{fold}/{}", self.inside, checkpoint.file_name())
    }
}

/// The folders that have a plan and folds with checkpoints. (The folders of cross-validation results have a plan, too.)
fn find_models(files: &[String]) -> BTreeMap<String, BTreeMap<Fold, Vec<String>>> {
    let of_plan = |file: &'_ String| file.strip_suffix("plans.json").map(str::to_owned);
    let has_plan = |inside: &String| inside.is_empty() || inside.ends_with('/');
    let plans: BTreeSet<String> = files.iter().filter_map(of_plan).filter(has_plan).collect();
    let mut models: BTreeMap<String, BTreeMap<Fold, Vec<String>>> = BTreeMap::new();
    for file in files {
        let Some((path, name)) = file.rsplit_once('/') else { continue };
        let (inside, folder) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let is_checkpoint = name.starts_with("checkpoint_") && name.ends_with(".pth");
        if let Some(fold) = Fold::from_folder(folder).filter(|_| is_checkpoint && plans.contains(inside)) {
            models.entry(inside.to_owned()).or_default().entry(fold).or_default().push(name.to_owned());
        }
    }
    models
}

/// The configuration in a folder's name. It only selects a folder; the checkpoint says which configuration it has.
fn configuration_of(inside: &str) -> Option<&str> {
    let folder = inside.trim_end_matches('/').rsplit('/').next()?;
    folder.rsplit("__").next()
}

fn names<'a>(models: impl Iterator<Item = &'a String>) -> String {
    const MOST: usize = 10;
    let names: Vec<&str> = models.map(|inside| inside.trim_end_matches('/')).take(MOST).collect();
    names.join(", ")
}

/// What a place without a model has instead.
fn describe_missing(files: &[String]) -> String {
    let has = |test: &dyn Fn(&str) -> bool| files.iter().any(|file| test(file));
    if has(&|file| file.ends_with(".model") || file.ends_with(".model.pkl") || file.ends_with("plans.pkl")) {
        return "it is a model of nnU-Net v1, whose checkpoints hold a Python program; only models of nnU-Net v2 can be \
                imported"
            .to_owned();
    }
    let has_plan = has(&|file| file == "plans.json" || file.ends_with("/plans.json"));
    let has_checkpoint = has(&|file| file.ends_with(".pth"));
    match (has_plan, has_checkpoint) {
        (true, true) => "its checkpoints are not in folders `fold_X` beside plans.json".to_owned(),
        (true, false) => "it has a plans.json, but no checkpoint (fold_X/checkpoint_final.pth)".to_owned(),
        (false, true) => {
            "it has checkpoints, but no plans.json; give the folder that holds plans.json, dataset.json and \
                          fold_X"
                .to_owned()
        }
        (false, false) => "it holds no model of nnU-Net v2: a folder with plans.json, dataset.json and \
                           fold_X/checkpoint_final.pth"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn results_of_a_cross_validation_are_no_model() {
        let all = files(&[
            "D/T__P__2d/plans.json",
            "D/T__P__2d/fold_0/checkpoint_final.pth",
            "D/T__P__2d/fold_0/checkpoint_best.pth",
            "D/T__P__2d/fold_all/checkpoint_final.pth",
            "D/T__P__2d/crossval_results_folds_0_1/plans.json",
            "D/old_plans.json",
        ]);
        let models = find_models(&all);
        assert_eq!(models.keys().collect::<Vec<_>>(), ["D/T__P__2d/"]);
        let folds = &models["D/T__P__2d/"];
        assert_eq!(folds[&Fold::Number(0)], ["checkpoint_final.pth", "checkpoint_best.pth"]);
        assert_eq!(folds.len(), 2);
        assert_eq!(configuration_of("D/T__P__2d/"), Some("2d"));
    }

    #[test]
    fn models_of_version_1_are_named() {
        let found = describe_missing(&files(&["fold_0/model_final_checkpoint.model", "plans.pkl"]));
        assert!(found.contains("nnU-Net v1"), "{found}");
    }
}
