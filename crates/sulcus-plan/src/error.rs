use std::path::PathBuf;

use sulcus_pipeline::PipelineError;

/// Why no plan can be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A setting of the configuration is invalid, or contradicts the data.
    #[error("cannot train with this configuration: {0}")]
    Config(String),
    /// The network does not fit the memory.
    #[error("cannot train with this configuration: {0}")]
    Memory(String),
    /// A 3-D network for scans of one slice.
    #[error("cannot train with this configuration: the network is 3-D, but every scan is a single slice")]
    FlatScans,
    /// The parts of a plan do not fit each other or the data.
    #[error("the plan cannot be used: {0}")]
    Plan(String),
    /// A setting that training and prediction share is invalid.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A plan file cannot be read or written.
    #[error("{what}: {file}", file = file.display())]
    File {
        /// What was attempted, and why it failed.
        what: String,
        /// The file.
        file: PathBuf,
    },
}

impl From<sulcus_model::SpecError> for PlanError {
    fn from(error: sulcus_model::SpecError) -> Self {
        Self::Pipeline(error.into())
    }
}
