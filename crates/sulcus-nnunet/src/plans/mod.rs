//! `plans.json` and `dataset.json`: what nnU-Net decided about preprocessing and network.

mod architecture;
mod configuration;
mod dataset;
mod json;
mod postprocessing;

pub(crate) use architecture::{Architecture, Block, Stage};
pub(crate) use configuration::{Configuration, Plans, Previous, Resampling, ResamplingKind, Scheme};
pub(crate) use dataset::Dataset;
pub(crate) use postprocessing::postprocessing;

/// Why a plan or the description of a data set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlansError {
    /// It is not JSON.
    #[error("it is not JSON: {reason}")]
    Json {
        /// Where and how reading failed.
        reason: String,
    },
    /// An entry is missing or has another kind.
    #[error("its entry `{entry}` must be {expected}, found {found}")]
    Entry {
        /// Path of the entry.
        entry: String,
        /// What nnU-Net writes.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// Entries contradict each other.
    #[error("{reason}")]
    Contradiction {
        /// How.
        reason: String,
    },
    /// The plan has no such configuration.
    #[error("it has no configuration `{name}`, but {known}")]
    UnknownConfiguration {
        /// The name.
        name: String,
        /// The configurations of the plan.
        known: String,
    },
    /// It asks for something that is not supported.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// Its name in nnU-Net.
        what: String,
        /// The reason.
        reason: String,
    },
}

impl PlansError {
    pub(crate) fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), reason: reason.into() }
    }
}
