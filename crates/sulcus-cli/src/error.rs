use std::fmt::Display;
use std::io;

pub(crate) use sulcus_runtime::with_causes;

/// Why a command did not end with exit code 0.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Arguments that parse but cannot be meant together: exit code 2.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// The work failed: exit code 1.
    Failed {
        /// What was being done, and why it did not work.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Some cases failed and each has been named already: exit code 1.
    SomeFailed {
        /// How many.
        failed: usize,
        /// Of how many.
        total: usize,
        /// What they are, in the singular.
        what: &'static str,
    },
    /// The user stopped it; what was done is saved: exit code 1, as not all is done.
    Stopped {
        /// What is saved.
        message: String,
        /// How to go on.
        hint: String,
    },
    /// Whoever read stdout has gone away, as `| head` does: nobody to tell, exit code 0.
    ClosedPipe,
}

impl CliError {
    /// Wrong usage.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage { message: message.to_string(), hint: None }
    }

    /// A failure. Libraries may end their message with a line `hint: …`, which is shown as such.
    pub(crate) fn failed(message: impl Display) -> Self {
        let text = message.to_string();
        match text.split_once("\nhint: ") {
            Some((message, hint)) => Self::Failed { message: message.to_owned(), hint: Some(hint.to_owned()) },
            None => Self::Failed { message: text, hint: None },
        }
    }

    /// The same with a line that says what to do.
    pub(crate) fn hint(mut self, text: impl Display) -> Self {
        if let Self::Usage { hint, .. } | Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.to_string());
        }
        self
    }
}

/// What callers add to a failure.
impl CliError {
    /// What is wrong, without what to do.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Usage { message, .. } | Self::Failed { message, .. } | Self::Stopped { message, .. } => message,
            Self::SomeFailed { what, .. } => what,
            Self::ClosedPipe => "nobody reads the output any more",
        }
    }

    /// The same with something more to say.
    pub(crate) fn and(mut self, more: impl Display) -> Self {
        if let Self::Usage { message, .. } | Self::Failed { message, .. } = &mut self {
            *message = format!("{message}; {more}");
        }
        self
    }

    /// The same with a line that says what to do, where it has none.
    pub(crate) fn or_hint(mut self, text: impl Display) -> Self {
        if let Self::Usage { hint, .. } | Self::Failed { hint, .. } = &mut self
            && hint.is_none()
        {
            *hint = Some(text.to_string());
        }
        self
    }
}

/// Errors of the crates below become failures, told with their causes.
pub(crate) trait Context<T> {
    /// Says what was being done.
    fn context(self, doing: impl Display) -> Result<T, CliError>;
}

impl<T, E: std::error::Error + 'static> Context<T> for Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T, CliError> {
        self.map_err(|error| {
            let failed = CliError::failed(format_args!("{doing}: {}", with_causes(&error)));
            match crate::hints::hint(&error) {
                Some(hint) => failed.hint(hint),
                None => failed,
            }
        })
    }
}

/// For writes to stdout.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::failed(format_args!("writing to standard output: {error}"))
        }
    }
}
