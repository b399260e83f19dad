//! Patient and study identity, which is copied into a segmentation only on request.

use std::fmt;

use super::dataset::Dataset;
use super::tags::{self, Tag};

/// The identifying attributes that a segmentation must contain as well. All are of type 2: present, but possibly empty.
pub(crate) const IDENTIFYING: [Tag; 9] = [
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::REFERRING_PHYSICIAN,
    tags::STUDY_ID,
];

/// The values of [`IDENTIFYING`] as stored. They are never displayed, not even by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Patient {
    values: [Vec<u8>; IDENTIFYING.len()],
    character_set: Option<String>,
}

impl Patient {
    pub(crate) fn read(set: &Dataset<'_>) -> Self {
        let character_set = set.text(tags::CHARACTER_SET);
        Self { values: IDENTIFYING.map(|tag| set.bytes(tag).unwrap_or_default().to_vec()), character_set }
    }

    /// The name and the identifier. They are only compared, never displayed.
    pub(crate) fn name_and_id(&self) -> [String; 2] {
        let [name, id, ..] = self.texts();
        [name, id]
    }

    /// The attributes as text, in the order of [`IDENTIFYING`]. Of text in a character set other than UTF-8 and Latin-1
    /// only the ASCII characters are kept.
    pub(crate) fn texts(&self) -> [String; IDENTIFYING.len()] {
        let latin = self.character_set.as_deref() == Some("ISO_IR 100");
        self.values.each_ref().map(|bytes| {
            let text: String = if latin {
                bytes.iter().map(|b| char::from(*b)).collect()
            } else {
                String::from_utf8_lossy(bytes).into_owned()
            };
            text.trim_matches(|c: char| c == '\0' || c == ' ').to_owned()
        })
    }
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_patient() {
        let patient = Patient { values: std::array::from_fn(|_| b"Doe^Jane ".to_vec()), character_set: None };
        assert!(!format!("{patient:?}").contains("Doe"));
        assert_eq!(patient.texts()[0], "Doe^Jane");
    }
}
