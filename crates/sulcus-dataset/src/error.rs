use std::path::PathBuf;

use crate::finding::Finding;

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The folder has none of the known layouts.
    #[error(
        "this folder is not a data set: expected `dataset.json` (Medical Segmentation Decathlon or nnU-Net) or \
         the folders `images` and `labels`: {root}", root = root.display()
    )]
    NotADataset {
        /// The folder.
        root: PathBuf,
    },
    /// The data set has no cases.
    #[error("this data set has no case with an image and a mask: {root}", root = root.display())]
    Empty {
        /// The folder.
        root: PathBuf,
    },
    /// `dataset.json` cannot be used.
    #[error("this data set's description cannot be used: {what}: {file}", file = file.display())]
    Description {
        /// What is wrong.
        what: String,
        /// The file.
        file: PathBuf,
    },
    /// A table of patients cannot be used.
    #[error("the patients of the cases cannot be used: {what}: {file}", file = file.display())]
    Patients {
        /// What is wrong.
        what: String,
        /// The file.
        file: PathBuf,
    },
    /// A folder cannot be listed.
    #[error("a folder of the data set cannot be listed: {source}: {folder}", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Some cases cannot be used; every finding is listed.
    #[error("the data set has {} problem(s):{}", .0.len(), list(.0))]
    Problems(Vec<Finding>),
    /// The cases cannot be split into training and validation cases.
    #[error("the cases cannot be split: {what}: {file}", file = file.display())]
    Split {
        /// What is wrong.
        what: String,
        /// The file of splits, or the data set's folder.
        file: PathBuf,
    },
    /// One case alone cannot be split into training and validation cases.
    #[error("the cases cannot be split: one case cannot be split into training and validation: {root}", root = root.display())]
    SingleCase {
        /// The data set's folder.
        root: PathBuf,
    },
    /// All cases are of one patient, who cannot be on both sides of a split.
    #[error("the cases cannot be split: all {cases} cases are of one patient: {root}", root = root.display())]
    SinglePatient {
        /// Number of cases.
        cases: usize,
        /// The data set's folder.
        root: PathBuf,
    },
    /// A fold has no training cases or no validation cases.
    #[error("the cases cannot be split: fold {fold} has an empty `train` or `val`: {file}", file = file.display())]
    EmptyFold {
        /// The fold, from 0.
        fold: usize,
        /// The file of splits.
        file: PathBuf,
    },
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}
