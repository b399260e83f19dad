use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::manifest::write_atomically;

/// Its name in a run's folder.
pub(crate) const FILE: &str = "history.jsonl";

/// A line of `history.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Steps since the beginning of the training.
    pub steps: usize,
    /// Mean training loss over the epoch.
    pub loss: f64,
    /// Mean Dice of each structure over the held-out cases that are scored each epoch, whole volumes on the prepared
    /// grid; `None` for a structure that occurs in none of them.
    pub dice: BTreeMap<String, Option<f64>>,
    /// Mean over the structures; `None` when nothing is held out.
    pub mean_dice: Option<f64>,
    /// Whether these weights were the best so far.
    pub best: bool,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Seconds for this epoch, scoring included.
    pub seconds: f64,
    /// Seconds of those for which the training waited for patches.
    #[serde(default)]
    pub waited_seconds: f64,
    /// Seconds since the beginning, interruptions left out.
    pub elapsed_seconds: f64,
}

/// Reads `history.jsonl`. A last line that was cut short, as a crash leaves it, is left out.
///
/// # Errors
/// When the file cannot be read, or a line before the last is broken.
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

/// Adds a line by writing the file anew, so that readers and crashes see whole lines. A last line that was cut short
/// is left out.
pub(crate) fn append(file: &Path, record: &EpochRecord) -> Result<(), TrainError> {
    let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
    let line = serde_json::to_string(record).map_err(|e| failed(e.to_string()))? + "\n";
    let mut text = match std::fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(failed(format!("the history cannot be read: {e}"))),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.truncate(whole);
    text.extend_from_slice(line.as_bytes());
    write_atomically(file, &text)
}

/// Writes the history anew: at a resume, without the lines after the checkpoint.
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
    fn a_line_that_was_cut_short_does_not_spoil_the_next_one() {
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
