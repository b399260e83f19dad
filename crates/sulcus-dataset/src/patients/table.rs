//! Tables of cases and patients.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use serde_json::Value;

use crate::error::DatasetError;
use crate::layout::volume_stem;

/// Reads a CSV file with the columns `case` and `patient`, separated by commas, semicolons or tabs.
pub(super) fn read(file: &Path) -> Result<BTreeMap<String, String>, DatasetError> {
    let unusable = |what: String| DatasetError::Patients { what, file: file.to_path_buf() };
    let text = std::fs::read_to_string(file).map_err(|e| unusable(format!("it cannot be read: {e}")))?;
    from_csv(&text).map_err(unusable)
}

/// The object `patients` of a `dataset.json`, such as `{"case_01": "patient 7"}`.
pub(super) fn from_json(json: &Value, file: &Path) -> Result<BTreeMap<String, String>, DatasetError> {
    let unusable = |what: String| DatasetError::Patients { what, file: file.to_path_buf() };
    let cases = json.as_object().ok_or_else(|| unusable("`patients` is not an object of cases".into()))?;
    let mut of_case = BTreeMap::new();
    for (case, patient) in cases {
        let patient = match patient {
            Value::String(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(unusable(format!(
                    "`patients` has no text or number for the case `{case}`: {patient}"
                )));
            }
        };
        add(&mut of_case, case.trim(), patient).map_err(unusable)?;
    }
    Ok(of_case)
}

/// Adds the patient of a case, which may be named by its file.
fn add(of_case: &mut BTreeMap<String, String>, case: &str, patient: String) -> Result<(), String> {
    let case = volume_stem(Path::new(case)).unwrap_or_else(|| case.to_owned());
    match of_case.entry(case) {
        Entry::Occupied(known) if *known.get() != patient => {
            Err(format!("the case `{}` has two patients, `{}` and `{patient}`", known.key(), known.get()))
        }
        Entry::Occupied(_) => Ok(()),
        Entry::Vacant(free) => {
            free.insert(patient);
            Ok(())
        }
    }
}

fn from_csv(text: &str) -> Result<BTreeMap<String, String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines.next().ok_or("it is empty")?;
    let separator = [',', ';', '\t'].into_iter().find(|c| header.contains(*c)).unwrap_or(',');
    let columns = fields(header, separator);
    let column = |name: &str| {
        columns.iter().position(|c| c.eq_ignore_ascii_case(name)).ok_or_else(|| {
            format!("expected the columns `case` and `patient` in the first line, found {}", columns.join(", "))
        })
    };
    let (case, patient) = (column("case")?, column("patient")?);
    let mut of_case = BTreeMap::new();
    for (index, line) in lines {
        let row = fields(line, separator);
        let value = |column: usize| row.get(column).filter(|text| !text.is_empty());
        let (Some(case), Some(patient)) = (value(case), value(patient)) else {
            return Err(format!("line {} has no case or no patient", index + 1));
        };
        add(&mut of_case, case, patient.clone())?;
    }
    Ok(of_case)
}

/// The fields of a line; one in quotation marks may contain the separator.
fn fields(line: &str, separator: char) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if letter == separator && !quoted => fields.push(String::new()),
            _ => {
                if let Some(field) = fields.last_mut() {
                    field.push(letter);
                }
            }
        }
    }
    fields.into_iter().map(|field| field.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        Ok(from_csv(text)?.into_iter().collect())
    }

    #[test]
    fn columns_may_have_any_order_and_separator() {
        let expected = Ok(vec![("a".into(), "P, 1".into()), ("b".into(), "2".into())]);
        assert_eq!(read("case,patient\na,\"P, 1\"\nb,2\n"), expected);
        assert_eq!(read("\u{feff}age;Patient;CASE\r\n7;P, 1;a.nii.gz\r\n\r\n8;2;b\r\n"), expected);
    }

    #[test]
    fn cases_of_a_dataset_json_are_named_like_those_of_a_table() {
        let read = |text: &str| from_json(&serde_json::from_str(text).unwrap(), Path::new("dataset.json"));
        let expected: BTreeMap<String, String> =
            [("a".into(), "P 1".into()), ("b".into(), "2".into()), ("c.d".into(), "2".into())].into();
        let found = read(r#"{" a.nii.gz ": " P 1", "a": "P 1", "b.nii": 2, "c.d": "2"}"#).unwrap();
        assert_eq!(found, expected);
        let two = read(r#"{"a": "1", "a.nii.gz": "2"}"#).unwrap_err().to_string();
        assert!(two.contains("the case `a` has two patients, `1` and `2`"), "{two}");
        let none = read(r#"{"a": " "}"#).unwrap_err().to_string();
        assert!(none.contains("no text or number for the case `a`"), "{none}");
    }

    #[test]
    fn unusable_tables_are_refused() {
        assert_eq!(read("").unwrap_err(), "it is empty");
        assert_eq!(
            read("name,patient\n").unwrap_err(),
            "expected the columns `case` and `patient` in the first line, found name, patient"
        );
        assert_eq!(read("case,patient\na,1\nb,\n").unwrap_err(), "line 3 has no case or no patient");
        assert_eq!(read("case,patient\na,1\na,2\n").unwrap_err(), "the case `a` has two patients, `1` and `2`");
    }
}
