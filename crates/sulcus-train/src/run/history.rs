use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::write_atomically;
use crate::error::TrainError;

/// The file's name in a run's folder.
pub(crate) const FILE: &str = "history.jsonl";

/// One epoch: a line of `history.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EpochRecord {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps since the start of the training.
    pub steps: usize,
    /// Mean training loss over the epoch.
    pub loss: f64,
    /// Mean Dice of each structure over the validation cases that are scored each epoch, on the prepared grid; `None` for a
    /// structure that occurs in none of them.
    pub dice: BTreeMap<String, Option<f64>>,
    /// Mean over the structures; `None` without validation cases.
    pub mean_dice: Option<f64>,
    /// Whether these weights are the best so far.
    pub best: bool,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Time of this epoch in seconds, including scoring.
    pub seconds: f64,
    /// Time in seconds for which the training waited for patches.
    #[serde(default)]
    pub waited_seconds: f64,
    /// Training time in seconds so far, without interruptions.
    pub elapsed_seconds: f64,
}

/// Reads `history.jsonl`. A truncated last line, which a crash may leave, is ignored.
///
/// # Errors
/// When the file cannot be read, or a line before the last is invalid.
pub fn read_history(file: &Path) -> Result<Vec<EpochRecord>, TrainError> {
    let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(format!("the history cannot be read: {e}"))),
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut records = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if index + 1 == lines.len() && !text.ends_with('\n') => {}
            Err(e) => return Err(failed(format!("line {} of the history is broken: {e}", index + 1))),
        }
    }
    Ok(records)
}

/// Appends a line by rewriting the file, so that readers always see complete lines. A truncated last line is removed.
pub(crate) fn append(file: &Path, record: &EpochRecord) -> Result<(), TrainError> {
    let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
    let line = serde_json::to_string(record).map_err(|e| failed(e.to_string()))? + "\n";
    let mut text = match std::fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(failed(format!("the history cannot be read: {e}"))),
    };
    let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.truncate(complete);
    text.extend_from_slice(line.as_bytes());
    write_atomically(file, &text)
}

/// Rewrites the history. On a resume this removes the lines after the checkpoint.
pub(crate) fn rewrite(file: &Path, records: &[EpochRecord]) -> Result<(), TrainError> {
    let mut text = String::new();
    for record in records {
        let line = serde_json::to_string(record)
            .map_err(|e| TrainError::File { what: e.to_string(), file: file.to_path_buf() })?;
        text.push_str(&line);
        text.push('\n');
    }
    write_atomically(file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize) -> EpochRecord {
        EpochRecord {
            epoch,
            steps: epoch,
            loss: 0.5,
            dice: BTreeMap::new(),
            mean_dice: None,
            best: true,
            learning_rate: 0.1,
            seconds: 1.0,
            waited_seconds: 0.0,
            elapsed_seconds: 1.0,
        }
    }

    #[test]
    fn truncated_line_does_not_affect_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        append(&file, &record(1)).unwrap();
        append(&file, &record(2)).unwrap();
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 5]).unwrap();
        append(&file, &record(3)).unwrap();
        assert_eq!(read_history(&file).unwrap(), [record(1), record(3)]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
