use std::path::PathBuf;

/// Why a task of TotalSegmentator cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// There is no such task.
    #[error("TotalSegmentator has no task `{task}`; there are {}", known.join(", "))]
    Unknown {
        /// Its name.
        task: String,
        /// The tasks that can be imported.
        known: Vec<String>,
    },
    /// Its weights need a licence number.
    #[error(
        "TotalSegmentator gives the weights of the task `{task}` only to those who have a licence number, so Sulcus does not import it"
    )]
    Licensed {
        /// Its name.
        task: String,
    },
    /// A recipe cannot express it.
    #[error("the task `{task}` cannot be imported: {reason}")]
    Unsupported {
        /// Its name.
        task: String,
        /// What it does.
        reason: String,
    },
    /// Weights that it needs are not in the folder.
    #[error(
        "the task `{task}` needs weights that are not there: {}; TotalSegmentator fetches them when it first runs the task: {}",
        missing.join(", "), path.display()
    )]
    MissingWeights {
        /// Its name.
        task: String,
        /// The folders that are missing.
        missing: Vec<String>,
        /// Where they were looked for.
        path: PathBuf,
    },
    /// Weights of another task.
    #[error("the weights are not those of the task `{task}`: {reason}: {}", path.display())]
    OtherWeights {
        /// Its name.
        task: String,
        /// What differs.
        reason: String,
        /// The folder.
        path: PathBuf,
    },
    /// The tables of this build are damaged.
    #[error("the tables of TotalSegmentator's tasks in this program are damaged: {reason}")]
    Tables {
        /// What is wrong.
        reason: String,
    },
}
