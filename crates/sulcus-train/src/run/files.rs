use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// Writes under a temporary name in the same folder, then renames, so that readers see the old file or the new one.
pub(crate) fn write_atomically(file: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    sulcus_io::write_atomically(file, |out| out.write_all(bytes))
        .map_err(|e| TrainError::File { what: e.kind().to_string(), file: file.to_path_buf() })
}

/// The current time, such as `2026-11-23T08:15:00Z`.
pub(crate) fn now_utc() -> String {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    utc(secs)
}

fn utc(unix_secs: u64) -> String {
    let (days, secs) = (unix_secs / 86_400, unix_secs % 86_400);
    // Days to civil date in the proleptic Gregorian calendar, years from March (Hinnant 2013, days_from_civil).
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", secs / 3600, secs / 60 % 60, secs % 60)
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
    fn dates_follow_the_calendar() {
        assert_eq!(super::utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(super::utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(super::utc(1_795_421_826), "2026-11-23T08:17:06Z");
    }
}
