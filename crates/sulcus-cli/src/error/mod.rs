//! Why a command fails, and what the user can do about it.
//!
//! Library errors carry data and name no command or option; [`hints`] adds what to do on this command line.

mod hints;

use std::error::Error;
use std::fmt::Display;
use std::io;

use sulcus_pipeline::{PipelineError, ScanWarning};
use sulcus_runtime::Error as RuntimeError;

pub(crate) use sulcus_runtime::with_causes;

/// Why a command did not end with exit code 0.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Arguments that parse but contradict each other: exit code 2.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// The work failed: exit code 1.
    Failed {
        /// What was being done, and why it failed.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Some cases failed, each of which has been reported already: exit code 1.
    SomeFailed {
        /// Number of failed cases.
        failed: usize,
        /// Number of all cases.
        total: usize,
        /// The kind of item, in the singular.
        what: &'static str,
    },
    /// The user stopped the command and the state is saved: exit code 1, as the work is incomplete.
    Stopped {
        /// What is saved.
        message: String,
        /// How to continue.
        hint: String,
    },
}

impl CliError {
    /// Wrong usage.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage { message: message.to_string(), hint: None }
    }

    /// A failure.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::Failed { message: message.to_string(), hint: None }
    }

    /// A failure with the message, the causes and the hint of a library's error.
    pub(crate) fn caused_by(error: &(dyn Error + 'static)) -> Self {
        Self::Failed { message: with_causes(error), hint: hints::hint_for(error) }
    }

    /// What is wrong, without the hint.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Usage { message, .. } | Self::Failed { message, .. } | Self::Stopped { message, .. } => message,
            Self::SomeFailed { what, .. } => what,
        }
    }

    /// Appends to the message.
    pub(crate) fn and(mut self, more: impl Display) -> Self {
        if let Self::Usage { message, .. } | Self::Failed { message, .. } = &mut self {
            *message = format!("{message}; {more}");
        }
        self
    }

    /// Adds a hint if there is none.
    pub(crate) fn or_hint(mut self, text: impl Display) -> Self {
        if let Self::Usage { hint, .. } | Self::Failed { hint, .. } = &mut self
            && hint.is_none()
        {
            *hint = Some(text.to_string());
        }
        self
    }

    /// Replaces the hint.
    pub(crate) fn hint(mut self, text: impl Display) -> Self {
        if let Self::Usage { hint, .. } | Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.to_string());
        }
        self
    }
}

/// Turns errors of the library crates into failures, with their causes and a hint.
pub(crate) trait Context<T> {
    /// Adds what was being done.
    fn context(self, doing: impl Display) -> Result<T, CliError>;
}

impl<T, E: Error + 'static> Context<T> for Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T, CliError> {
        self.map_err(|error| CliError::Failed {
            message: format!("{doing}: {}", with_causes(&error)),
            hint: hints::hint_for(&error),
        })
    }
}

/// For writes to standard output.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::failed(format_args!("writing to standard output: {error}"))
    }
}

/// Why one case of several failed. The other cases are processed nevertheless, unless [`CaseError::is_disk_full`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CaseError {
    /// What failed and why, with the path.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Why the scan was refused as implausible; empty for other failures.
    pub(crate) warnings: Vec<ScanWarning>,
    disk_full: bool,
}

impl CaseError {
    /// A failure without a hint.
    pub(crate) fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, warnings: Vec::new(), disk_full: false }
    }

    /// The message, the causes and the hint of a library's error.
    pub(crate) fn caused_by(error: &(dyn Error + 'static)) -> Self {
        Self {
            message: with_causes(error),
            hint: hints::hint_for(error),
            warnings: scan_warnings(error),
            disk_full: is_disk_full(error),
        }
    }

    /// Appends the path of the file to the message.
    pub(crate) fn at(mut self, path: &std::path::Path) -> Self {
        self.message = format!("{}: {}", self.message, path.display());
        self
    }

    /// Whether every case that follows would fail in the same way.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full
    }
}

impl From<CaseError> for CliError {
    fn from(CaseError { message, hint, .. }: CaseError) -> Self {
        Self::Failed { message, hint }
    }
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn scan_warnings(error: &(dyn Error + 'static)) -> Vec<ScanWarning> {
    let of_one = |error: &(dyn Error + 'static)| {
        let of_runtime = error.downcast_ref::<RuntimeError>().map(RuntimeError::scan_warnings);
        let warnings = of_runtime.or_else(|| Some(error.downcast_ref::<PipelineError>()?.scan_warnings()))?;
        (!warnings.is_empty()).then(|| warnings.to_vec())
    };
    chain(error).find_map(of_one).unwrap_or_default()
}

fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write the mask")]
    struct Outer(#[source] io::Error);

    #[test]
    fn full_disk_is_found_among_the_causes() {
        let case = |kind: io::ErrorKind| CaseError::caused_by(&Outer(kind.into()));
        assert!(case(io::ErrorKind::StorageFull).is_disk_full());
        assert!(case(io::ErrorKind::QuotaExceeded).is_disk_full());
        assert!(!case(io::ErrorKind::PermissionDenied).is_disk_full());
    }

    #[test]
    fn context_keeps_the_causes() {
        let result: Result<(), Outer> = Err(Outer(io::ErrorKind::StorageFull.into()));
        let CliError::Failed { message, hint } = result.context("predicting").unwrap_err() else {
            panic!("expected a failure");
        };
        assert!(message.starts_with("predicting: cannot write the mask: "), "{message}");
        assert_eq!(hint, None);
    }
}
