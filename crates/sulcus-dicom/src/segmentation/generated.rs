//! Values that are generated for each file: the current date and time, and unique identifiers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// The current date and time in UTC, as DICOM writes them (DA and TM).
pub(super) fn current_date_time() -> (String, String) {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date_time(elapsed.as_secs())
}

/// The civil date of a number of seconds since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn date_time(secs: u64) -> (String, String) {
    let (days, time) = (secs / 86_400 + 719_468, secs % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (
        format!("{:04}{month:02}{day:02}", year + era * 400),
        format!("{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60),
    )
}

/// A new unique identifier: `2.25.` and a random UUID as a decimal number (DICOM PS3.5, B.2).
pub(super) fn new_uid() -> String {
    // Each RandomState is seeded by the operating system.
    let half = || RandomState::new().build_hasher().finish();
    let random = u128::from(half()) << 64 | u128::from(half());
    // Version 4, variant 1 (RFC 9562).
    let uuid = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    format!("2.25.{uuid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_civil_calendar() {
        assert_eq!(date_time(0), ("19700101".into(), "000000".into()));
        assert_eq!(date_time(951_827_696), ("20000229".into(), "123456".into()));
        assert_eq!(date_time(4_107_542_399), ("21000228".into(), "235959".into()));
    }

    #[test]
    fn uids_are_unique_and_within_the_length_limit() {
        let (a, b) = (new_uid(), new_uid());
        assert!(a.len() <= 64 && a != b && a.starts_with("2.25."));
        let uuid: u128 = a.strip_prefix("2.25.").unwrap().parse().unwrap();
        assert_eq!((uuid >> 76 & 0xf, uuid >> 62 & 0x3), (4, 2));
    }
}
