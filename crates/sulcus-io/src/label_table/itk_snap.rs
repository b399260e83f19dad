//! ITK-SNAP's label descriptions: lines `IDX R G B A VIS MSH "LABEL"`.

use sulcus_volume::{LabelEntry, LabelTable};

use super::color;

pub(super) fn entry(line: &str) -> Option<LabelEntry> {
    let (numbers, name) = line.split_once('"')?;
    let (name, rest) = name.rsplit_once('"')?;
    let mut words = numbers.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let color = color(&mut words)?;
    // Opacity, and the visibility of the label and of its mesh.
    let is_complete = rest.trim().is_empty() && words.clone().count() == 3;
    let numeric = words.all(|word| word.parse::<f64>().is_ok());
    (is_complete && numeric).then(|| LabelEntry { value, name: name.to_owned(), color })
}

pub(super) fn write(table: &LabelTable) -> String {
    let rule = "################################################\n";
    let mut out = format!(
        "{rule}# ITK-SnAP Label Description File\n# File format:\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n{rule}"
    );
    out += "    0     0    0    0        0  0  0    \"Clear Label\"\n";
    for entry in table.entries() {
        let [r, g, b] = entry.color.0;
        let name = entry.name.replace(['\n', '\r'], " ").replace('"', "'");
        out += &format!("{:>5} {r:>5} {g:>4} {b:>4}        1  1  1    \"{name}\"\n", entry.value);
    }
    out
}
