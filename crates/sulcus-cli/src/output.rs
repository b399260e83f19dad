//! Standard output: data for people and programs who asked for it, nothing else.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use crate::error::CliError;

/// One line of text.
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// One line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value)
        .map_err(|error| CliError::failed(format_args!("writing the answer as JSON: {error}")))?;
    line(text)
}

/// A JSON document over several lines, for what is read as a file rather than line by line.
pub(crate) fn pretty_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::failed(format_args!("writing the answer as JSON: {error}")))?;
    line(text)
}

/// Lines with aligned columns: the first to the left, the others to the right.
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

/// Lines of a name and what belongs to it.
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
