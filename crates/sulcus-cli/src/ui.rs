//! Standard error: everything that people read while a command runs.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::CliError;

/// Talks to the person at the terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    quiet: bool,
    terminal: bool,
    color: bool,
}

impl Ui {
    /// `quiet` leaves out everything but warnings and errors.
    pub(crate) fn new(quiet: bool, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, terminal, color: terminal && !no_color }
    }

    /// A line that can be left out.
    pub(crate) fn note(self, text: impl Display) {
        if !self.quiet {
            put(format_args!("{text}"));
        }
    }

    /// Something that may spoil the result.
    pub(crate) fn warn(self, text: impl Display) {
        put(format_args!("{} {text}", self.paint("warning:", "33")));
    }

    /// Something that did not work.
    pub(crate) fn error(self, text: impl Display) {
        put(format_args!("{} {text}", self.paint("error:", "31")));
    }

    /// What to do next.
    pub(crate) fn hint(self, text: impl Display) {
        put(format_args!("{} {text}", self.paint("hint:", "36")));
    }

    /// The one place that tells why a command failed.
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
                put(format_args!("{message}"));
                self.hint(hint);
            }
            CliError::ClosedPipe => {}
        }
    }

    /// A bar over `length` steps; hidden unless stderr is a terminal. `{msg}` follows the bar.
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

    /// A bar over thousandths of a training, whose message says the rest; hidden unless stderr is a terminal.
    pub(crate) fn training_bar(self) -> ProgressBar {
        let bar = self.bar(1000);
        let template =
            if self.color { "{bar:30.cyan/dim} {percent}%  {msg}" } else { "{bar:30} {percent}%  {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar
    }

    /// Whether a progress bar would be seen.
    pub(crate) fn shows_bars(self) -> bool {
        self.terminal && !self.quiet
    }

    fn paint(self, text: &str, color: &str) -> String {
        if self.color { format!("\x1b[1;{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Where stderr itself is closed there is nobody left to tell.
fn put(text: std::fmt::Arguments<'_>) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// A number of things as people say it.
pub(crate) fn count(number: usize, singular: &str) -> String {
    format!("{number} {singular}{}", if number == 1 { "" } else { "s" })
}

/// A duration as people say it.
pub(crate) fn human_secs(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        if whole < 3600 {
            format!("{} min {:02} s", whole / 60, whole % 60)
        } else {
            format!("{} h {:02} min", whole / 3600, whole / 60 % 60)
        }
    }
}

/// A size as people say it.
pub(crate) fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
