//! The output of the program: data on standard output through the functions of this module, messages for people on
//! standard error through [`Ui`].
//!
//! A reader of standard output may close it early, as `| head -1` does. Nothing is written after that, and the command
//! finishes its work.

pub(crate) mod rules;
mod text;
mod ui;

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::CliError;
pub(crate) use text::{count, human_bytes, human_secs, join, printable, rounded, significant};
pub(crate) use ui::Ui;

/// Set when the reader of standard output has closed it.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints one line of text.
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    if CLOSED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let text = text.to_string();
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", printable(&text)).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            CLOSED.store(true, Ordering::Relaxed);
            Ok(())
        }
        written => Ok(written?),
    }
}

/// Prints one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    line(serde_json::to_string(value).map_err(not_json)?)
}

/// Prints a JSON document over several lines, for output that is read as a file rather than line by line.
pub(crate) fn pretty_json(value: &impl Serialize) -> Result<(), CliError> {
    line(serde_json::to_string_pretty(value).map_err(not_json)?)
}

fn not_json(error: serde_json::Error) -> CliError {
    CliError::failed(format_args!("writing the result as JSON: {error}"))
}

/// Prints rows with aligned columns: the first one to the left, the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> Result<(), CliError> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut text = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let width = *width;
            if index == 0 {
                text.push_str(&format!("{cell:<width$}"));
            } else {
                text.push_str(&format!("  {cell:>width$}"));
            }
        }
        line(text.trim_end())?;
    }
    Ok(())
}

/// Prints names, each with its value beside it; further lines of a value are indented.
pub(crate) fn fields(rows: &[(&str, String)]) -> Result<(), CliError> {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let mut parts = value.lines();
        line(format_args!("{name:<width$}  {}", parts.next().unwrap_or_default()))?;
        for part in parts {
            line(format_args!("{:<width$}  {part}", ""))?;
        }
    }
    Ok(())
}
