use serde::{Deserialize, Serialize};

use crate::{Label, VolumeError};

/// A display colour: red, green and blue, 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rgb(pub [u8; 3]);

/// One structure of a segmentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelEntry {
    /// The value of its voxels in a label map; never 0.
    pub value: Label,
    /// The name of the structure.
    pub name: String,
    /// The colour in figures and viewers.
    pub color: Rgb,
}

/// The structures of a segmentation in ascending order of their value. Values and names are unique; the background,
/// 0, is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<LabelEntry>", into = "Vec<LabelEntry>")]
pub struct LabelTable(Vec<LabelEntry>);

/// A palette that readers with the common kinds of colour blindness can distinguish (Okabe & Ito 2008), without black.
const PALETTE: [[u8; 3]; 7] =
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167], [0, 114, 178]];

impl LabelTable {
    /// A table of these entries, which are sorted by value.
    ///
    /// # Errors
    /// [`VolumeError::Labels`] when a value is 0, or a value or a name occurs twice.
    pub fn new(mut entries: Vec<LabelEntry>) -> Result<Self, VolumeError> {
        entries.sort_by_key(|e| e.value);
        if entries.first().is_some_and(|e| e.value == 0) {
            return Err(VolumeError::Labels("value 0 is the background and cannot have an entry".into()));
        }
        for pair in entries.windows(2) {
            if pair[0].value == pair[1].value {
                return Err(VolumeError::Labels(format!("value {} occurs twice", pair[0].value)));
            }
        }
        let mut names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|p| p[0] == p[1]) {
            return Err(VolumeError::Labels(format!("the name `{}` occurs twice", pair[0])));
        }
        Ok(Self(entries))
    }

    /// A table of these names, with colours from a palette that is safe for colour-blind readers.
    ///
    /// # Errors
    /// As [`LabelTable::new`].
    pub fn from_names(names: impl IntoIterator<Item = (Label, String)>) -> Result<Self, VolumeError> {
        let mut table = Self::new(
            names.into_iter().map(|(value, name)| LabelEntry { value, name, color: Rgb([0; 3]) }).collect(),
        )?;
        for (entry, color) in table.0.iter_mut().zip(PALETTE.iter().cycle()) {
            entry.color = Rgb(*color);
        }
        Ok(table)
    }

    /// The entries in ascending order of their value.
    pub fn entries(&self) -> &[LabelEntry] {
        &self.0
    }

    /// The entry with this value.
    pub fn get(&self, value: Label) -> Option<&LabelEntry> {
        self.0.binary_search_by_key(&value, |e| e.value).ok().and_then(|i| self.0.get(i))
    }
}

impl TryFrom<Vec<LabelEntry>> for LabelTable {
    type Error = VolumeError;
    /// The entries must be in ascending order of their value. The output channels of a network follow the order in the
    /// file, so sorting them here could swap two structures without notice.
    fn try_from(entries: Vec<LabelEntry>) -> Result<Self, Self::Error> {
        if entries.windows(2).any(|pair| pair[0].value >= pair[1].value) {
            return Err(VolumeError::Labels("the values must rise from entry to entry".into()));
        }
        Self::new(entries)
    }
}

impl From<LabelTable> for Vec<LabelEntry> {
    fn from(table: LabelTable) -> Self {
        table.0
    }
}
