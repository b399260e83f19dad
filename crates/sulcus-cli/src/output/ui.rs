//! Standard error: everything that people read while a command runs.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::text::{count, printable};
use crate::error::CliError;

/// Prints messages and progress for the person at the terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    quiet: bool,
    terminal: bool,
    color: bool,
}

impl Ui {
    /// `quiet` leaves out everything but warnings, errors and their hints.
    pub(crate) fn new(quiet: bool, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, terminal, color: terminal && !no_color }
    }

    /// Information that `--quiet` leaves out.
    pub(crate) fn note(self, text: impl Display) {
        if !self.quiet {
            print(&text.to_string());
        }
    }

    /// Something that may make the result wrong.
    pub(crate) fn warn(self, text: impl Display) {
        self.print_tagged("warning:", "33", &text);
    }

    /// A failure.
    pub(crate) fn error(self, text: impl Display) {
        self.print_tagged("error:", "31", &text);
    }

    /// What to do about the warning or error above.
    pub(crate) fn hint(self, text: impl Display) {
        self.print_tagged("hint:", "36", &text);
    }

    /// What would improve the result of a command that succeeds; `--quiet` leaves it out.
    pub(crate) fn advice(self, text: impl Display) {
        if !self.quiet {
            self.hint(text);
        }
    }

    /// Reports why the command failed.
    pub(crate) fn failure(self, error: &CliError) {
        match error {
            CliError::Usage { message, hint } | CliError::Failed { message, hint } => {
                self.error(message);
                if let Some(hint) = hint {
                    self.hint(hint);
                }
            }
            CliError::SomeFailed { failed, total, what } => {
                self.error(format_args!("{failed} of {} failed; each is named above", count(*total, what)));
            }
            CliError::Stopped { message, hint } => {
                print(message);
                self.hint(hint);
            }
        }
    }

    /// A progress bar of `length` steps; hidden unless standard error is a terminal. `{msg}` follows the bar.
    pub(crate) fn bar(self, length: u64) -> ProgressBar {
        if self.quiet || !self.terminal {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length);
        let template = if self.color {
            "{bar:30.cyan/dim} {pos}/{len} {elapsed} elapsed, {eta} left  {msg}"
        } else {
            "{bar:30} {pos}/{len} {elapsed} elapsed, {eta} left  {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A progress bar over the thousandths of a training; hidden unless standard error is a terminal.
    pub(crate) fn training_bar(self) -> ProgressBar {
        let bar = self.bar(1000);
        let template =
            if self.color { "{bar:30.cyan/dim} {percent}%  {msg}" } else { "{bar:30} {percent}%  {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar
    }

    /// Whether progress bars are visible.
    pub(crate) fn shows_bars(self) -> bool {
        self.terminal && !self.quiet
    }

    fn print_tagged(self, tag: &str, color: &str, text: &impl Display) {
        let text = text.to_string();
        if self.color {
            print_raw(&format!("\x1b[1;{color}m{tag}\x1b[0m {}", printable(&text)));
        } else {
            print_raw(&format!("{tag} {}", printable(&text)));
        }
    }
}

/// Names of labels, models and files come from outside: no control character of theirs reaches the terminal.
fn print(text: &str) {
    print_raw(&printable(text));
}

/// Failures to write are ignored: there is no other place to report them.
fn print_raw(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{text}");
}
