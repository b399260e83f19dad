//! Names and colours of labels in files of their own: ITK-SNAP's label descriptions, 3D Slicer's colour tables (`.ctbl`
//! and CSV) and NiiVue's label colormaps (JSON). Which it is, the content says.
//!
//! A line for value 0 names the background, which a [`LabelTable`] doesn't list; opacity and visibility aren't kept.

mod itk_snap;
mod niivue;
mod slicer;

use std::path::Path;

use sulcus_volume::{Label, LabelEntry, LabelTable, Rgb};

use crate::atomic::write_atomically;
use crate::error::{IoError, Problem};
use crate::text::excerpt;

/// A kind of file that holds a label table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelTableFormat {
    /// ITK-SNAP's label description file.
    ItkSnap,
    /// 3D Slicer's `.ctbl`.
    SlicerColorTable,
    /// 3D Slicer's CSV, since 5.6.
    SlicerCsv,
    /// NiiVue's label colormap, JSON.
    NiiVue,
}

impl LabelTableFormat {
    /// What a file's content is, if it is one of these.
    pub fn of_content(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('{') {
            return niivue::recognise(text).then_some(Self::NiiVue);
        }
        let first = content_lines(text).next()?.1;
        if slicer::columns(first).is_ok() {
            Some(Self::SlicerCsv)
        } else if itk_snap::entry(first).is_some() {
            Some(Self::ItkSnap)
        } else if slicer::color_table_entry(first).is_some() {
            Some(Self::SlicerColorTable)
        } else {
            None
        }
    }

    /// What a name asks for: `.txt` or `.label`, `.ctbl`, `.csv`, `.json`.
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" | "label" => Some(Self::ItkSnap),
            "ctbl" => Some(Self::SlicerColorTable),
            "csv" => Some(Self::SlicerCsv),
            "json" => Some(Self::NiiVue),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ItkSnap => "ITK-SNAP",
            Self::SlicerColorTable => "3D Slicer (.ctbl)",
            Self::SlicerCsv => "3D Slicer (CSV)",
            Self::NiiVue => "NiiVue",
        }
    }
}

/// Reads a label table from a file's content.
///
/// # Errors
/// When the content is none of the formats, has a line that can't be read, or values or names that occur twice.
pub fn parse_label_table(bytes: &[u8]) -> Result<LabelTable, IoError> {
    let format = LabelTableFormat::of_content(bytes).ok_or(Problem::NoLabelTable)?;
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = match format {
        LabelTableFormat::ItkSnap => lines(text, format, itk_snap::entry)?,
        LabelTableFormat::SlicerColorTable => lines(text, format, slicer::color_table_entry)?,
        LabelTableFormat::SlicerCsv => slicer::csv(text)?,
        LabelTableFormat::NiiVue => niivue::entries(text)?,
    };
    Ok(LabelTable::new(entries.into_iter().filter(|entry| entry.value != 0).collect()).map_err(Problem::from)?)
}

/// The content of a label table's file.
pub fn format_label_table(table: &LabelTable, format: LabelTableFormat) -> String {
    match format {
        LabelTableFormat::ItkSnap => itk_snap::write(table),
        LabelTableFormat::SlicerColorTable => slicer::write_color_table(table),
        LabelTableFormat::SlicerCsv => slicer::write_csv(table),
        LabelTableFormat::NiiVue => niivue::write(table),
    }
}

/// Writes a label table in the format that the name's ending asks for, under a temporary name until it is whole.
///
/// # Errors
/// When the ending is none of a label table's, or the file can't be written.
pub fn write_label_table(path: &Path, table: &LabelTable) -> Result<(), IoError> {
    let format = LabelTableFormat::of_name(path).ok_or_else(|| IoError::in_file(path, Problem::LabelTableName))?;
    write_atomically(path, |file| file.write_all(format_label_table(table, format).as_bytes()))
}

/// Lines that are neither empty nor comments, by number from 1.
fn content_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn lines(
    text: &str,
    format: LabelTableFormat,
    entry: fn(&str) -> Option<LabelEntry>,
) -> Result<Vec<LabelEntry>, Problem> {
    content_lines(text).map(|(number, line)| entry(line).ok_or_else(|| bad_line(format, number, line))).collect()
}

fn bad_line(format: LabelTableFormat, line: usize, found: &str) -> Problem {
    Problem::LabelTableLine { format: format.name(), line, most: Label::MAX, found: excerpt(found) }
}

/// Three numbers from 0 to 255, the next of `words`.
fn color<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Rgb> {
    let mut share = || words.next()?.parse().ok();
    Some(Rgb([share()?, share()?, share()?]))
}
