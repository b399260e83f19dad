use std::path::Path;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// Writes under a temporary name in the same folder, then renames, so that readers see the old file or the new one.
pub(crate) fn write_atomically(file: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    sulcus_io::write_atomically(file, |out| out.write_all(bytes))
        .map_err(|e| TrainError::File { what: e.kind().to_string(), file: file.to_path_buf() })
}

/// The current time to the second, such as `2026-11-23T08:15:00Z`.
pub(crate) fn now_utc() -> String {
    utc(Timestamp::now())
}

fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes a value as indented JSON.
pub(crate) fn write_json(file: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.to_path_buf() })?;
    write_atomically(file, &json)
}

/// Reads a JSON file that begins with its format version. `name` is what messages call it.
///
/// # Errors
/// `missing` where there is no file, and an error that names the file where it is invalid or of another version than `known`.
pub(crate) fn read_versioned_json<T: DeserializeOwned>(
    file: &Path,
    name: &str,
    known: u32,
    missing: impl FnOnce() -> TrainError,
) -> Result<T, TrainError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
    let text = std::fs::read_to_string(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => failed(format!("{name} cannot be read: {e}")),
    })?;
    let broken = |e: serde_json::Error| failed(format!("{name} is broken: {e}"));
    let Version { format_version } = serde_json::from_str(&text).map_err(broken)?;
    if format_version != known {
        return Err(failed(format!("{name} has format version {format_version}, this program knows {known}")));
    }
    serde_json::from_str(&text).map_err(broken)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_in_utc_to_the_second() {
        let at = |secs| super::utc(jiff::Timestamp::new(secs, 999_999_999).unwrap());
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_421_826), "2026-11-23T08:17:06Z");
    }
}
