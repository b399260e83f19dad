//! Tables of cases and patients.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::DatasetError;
use crate::layout::nifti_stem;

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
    let patient = |(case, patient): (&String, &Value)| {
        let patient = match patient {
            Value::String(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(unusable(format!(
                    "`patients` has no text or number for the case `{case}`: {patient}"
                )));
            }
        };
        Ok((case.clone(), patient))
    };
    cases.iter().map(patient).collect()
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
    let mut of_case: BTreeMap<String, String> = BTreeMap::new();
    for (index, line) in lines {
        let row = fields(line, separator);
        let value = |column: usize| row.get(column).filter(|text| !text.is_empty());
        let (Some(case), Some(patient)) = (value(case), value(patient)) else {
            return Err(format!("line {} has no case or no patient", index + 1));
        };
        let case = nifti_stem(Path::new(case)).unwrap_or_else(|| case.clone());
        if let Some(other) = of_case.insert(case.clone(), patient.clone()).filter(|other| other != patient) {
            return Err(format!("the case `{case}` has two patients, `{other}` and `{patient}`"));
        }
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
