//! Label tables of other programs: ITK-SNAP's label descriptions, 3D Slicer's colour tables (`.ctbl` and CSV) and NiiVue's
//! label colormaps (JSON). The format is detected from the content.
//!
//! Value 0 is the background, which a [`LabelTable`] does not contain. Opacity and visibility are ignored.

mod itk_snap;
mod niivue;
mod slicer;

use std::path::Path;

use sulcus_volume::{Label, LabelEntry, LabelTable, Rgb};

use crate::error::{IoError, IoErrorKind};
use crate::text::excerpt;

/// A file format of label tables.
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
    /// Detects the format from the content of a file.
    pub fn of_content(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('{') {
            return niivue::is_colormap(text).then_some(Self::NiiVue);
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

    /// The format of a file name: `.txt` or `.label`, `.ctbl`, `.csv`, `.json`.
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

/// Parses the content of a label table file.
///
/// # Errors
/// When the format is unknown, a line is invalid, or a value or name occurs twice.
pub fn parse_label_table(bytes: &[u8]) -> Result<LabelTable, IoError> {
    let format = LabelTableFormat::of_content(bytes).ok_or(IoErrorKind::NoLabelTable)?;
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = match format {
        LabelTableFormat::ItkSnap => lines(text, format, itk_snap::entry)?,
        LabelTableFormat::SlicerColorTable => lines(text, format, slicer::color_table_entry)?,
        LabelTableFormat::SlicerCsv => slicer::csv(text)?,
        LabelTableFormat::NiiVue => niivue::entries(text)?,
    };
    Ok(LabelTable::new(entries.into_iter().filter(|entry| entry.value != 0).collect())
        .map_err(IoErrorKind::from)?)
}

/// Formats a label table as the content of a file.
pub fn format_label_table(table: &LabelTable, format: LabelTableFormat) -> String {
    match format {
        LabelTableFormat::ItkSnap => itk_snap::write(table),
        LabelTableFormat::SlicerColorTable => slicer::write_color_table(table),
        LabelTableFormat::SlicerCsv => slicer::write_csv(table),
        LabelTableFormat::NiiVue => niivue::write(table),
    }
}

/// The lines that are neither empty nor comments, with their numbers, from 1.
fn content_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn lines(
    text: &str,
    format: LabelTableFormat,
    entry: fn(&str) -> Option<LabelEntry>,
) -> Result<Vec<LabelEntry>, IoErrorKind> {
    content_lines(text)
        .map(|(number, line)| entry(line).ok_or_else(|| invalid_line(format, number, line)))
        .collect()
}

fn invalid_line(format: LabelTableFormat, line: usize, found: &str) -> IoErrorKind {
    IoErrorKind::LabelTableLine { format: format.name(), line, max: Label::MAX, found: excerpt(found) }
}

/// Parses the next three words as numbers from 0 to 255.
fn color<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Rgb> {
    let mut component = || words.next()?.parse().ok();
    Some(Rgb([component()?, component()?, component()?]))
}
