//! `IDX R G B A VIS MSH "LABEL"`, as ITK-SNAP writes.

use sulcus_volume::{LabelEntry, LabelTable};

use super::color;

pub(super) fn entry(line: &str) -> Option<LabelEntry> {
    let (numbers, name) = line.split_once('"')?;
    let (name, rest) = name.rsplit_once('"')?;
    let mut words = numbers.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let color = color(&mut words)?;
    // Opacity, then whether the label and its mesh are shown.
    let rest_is_sound = rest.trim().is_empty() && words.clone().count() == 3;
    let numeric = words.all(|word| word.parse::<f64>().is_ok());
    (rest_is_sound && numeric).then(|| LabelEntry { value, name: name.to_owned(), color })
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
