//! 3D Slicer's colour tables: lines `value name R G B A`, in which names contain `_` instead of spaces, or CSV.

use sulcus_volume::{LabelEntry, LabelTable, Rgb};

use super::{LabelTableFormat, color, content_lines, invalid_line};
use crate::error::IoErrorKind;

pub(super) fn color_table_entry(line: &str) -> Option<LabelEntry> {
    let mut words = line.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let name = words.next()?.replace('_', " ");
    let color = color(&mut words)?;
    let opacity = words.next().is_none_or(|word| word.parse::<f64>().is_ok());
    (opacity && words.next().is_none()).then_some(LabelEntry { value, name, color })
}

pub(super) fn write_color_table(table: &LabelTable) -> String {
    let mut out = format!("# Color table file\n# {} values\n0 Background 0 0 0 0\n", table.entries().len() + 1);
    for entry in table.entries() {
        let [r, g, b] = entry.color.0;
        let name: String = entry.name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
        out += &format!("{} {name} {r} {g} {b} 255\n", entry.value);
    }
    out
}

/// The columns of a CSV file that a label needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    value: usize,
    name: usize,
    color: Option<[usize; 3]>,
}

/// Finds the columns in the title line; the error names a missing column.
pub(super) fn columns(line: &str) -> Result<Columns, &'static str> {
    let titles = cells(line).ok_or("closed quotes")?;
    let find = |names: &[&str]| {
        let is = |title: &String| names.iter().any(|name| title.trim().eq_ignore_ascii_case(name));
        titles.iter().position(is)
    };
    let value = find(&["LabelValue", "Label", "Value", "Index", "ID"]).ok_or("a column LabelValue")?;
    let name = find(&["Name", "LabelName", "Text"]).ok_or("a column Name")?;
    let channel = |letter: &str, word: &str| find(&[&format!("Color_{letter}"), letter, word]);
    let color = channel("R", "Red").zip(channel("G", "Green")).zip(channel("B", "Blue"));
    Ok(Columns { value, name, color: color.map(|((r, g), b)| [r, g, b]) })
}

pub(super) fn csv(text: &str) -> Result<Vec<LabelEntry>, IoErrorKind> {
    let mut lines = content_lines(text);
    let (number, first) = lines.next().unwrap_or((1, ""));
    let columns = columns(first).map_err(|_| invalid_line(LabelTableFormat::SlicerCsv, number, first))?;
    let palette = palette();
    lines
        .enumerate()
        .map(|(i, (number, line))| {
            let default = palette.get(i % palette.len().max(1)).copied().unwrap_or(Rgb([128; 3]));
            entry(line, columns, default).ok_or_else(|| invalid_line(LabelTableFormat::SlicerCsv, number, line))
        })
        .collect()
}

/// Colours for a file without them.
fn palette() -> Vec<Rgb> {
    const COLORS: u16 = 7;
    let table = LabelTable::from_names((1..=COLORS).map(|v| (v, v.to_string()))).unwrap_or_default();
    table.entries().iter().map(|entry| entry.color).collect()
}

fn entry(line: &str, columns: Columns, default: Rgb) -> Option<LabelEntry> {
    let cells = cells(line)?;
    let cell = |i: usize| cells.get(i).map(|cell| cell.trim());
    let color = match columns.color {
        None => default,
        Some(color) => super::color(&mut color.into_iter().map(|i| cell(i).unwrap_or_default()))?,
    };
    Some(LabelEntry { value: cell(columns.value)?.parse().ok()?, name: cell(columns.name)?.to_owned(), color })
}

/// Splits a line into cells (RFC 4180, without line breaks inside quotes); `None` if a quote is not closed.
fn cells(line: &str) -> Option<Vec<String>> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                out.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            _ => out.last_mut()?.push(letter),
        }
    }
    (!quoted).then_some(out)
}

pub(super) fn write_csv(table: &LabelTable) -> String {
    let mut out = "LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n".to_owned();
    for entry in table.entries() {
        let [r, g, b] = entry.color.0;
        let name = entry.name.replace(['\n', '\r'], " ");
        let name =
            if name.contains([',', '"', '#']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name };
        out += &format!("{},{name},{r},{g},{b},255\n", entry.value);
    }
    out
}
