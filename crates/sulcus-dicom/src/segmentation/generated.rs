//! Values that are generated for each file: the current date and time, and unique identifiers.

use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::Timestamp;

/// The current date and time in UTC, as DICOM writes them (DA and TM).
pub(super) fn current_date_time() -> (String, String) {
    date_time(Timestamp::now())
}

fn date_time(time: Timestamp) -> (String, String) {
    (time.strftime("%Y%m%d").to_string(), time.strftime("%H%M%S").to_string())
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
    fn dates_and_times_have_dicom_s_form() {
        let at = |secs| date_time(Timestamp::from_second(secs).unwrap());
        assert_eq!(at(0), ("19700101".into(), "000000".into()));
        assert_eq!(at(951_827_696), ("20000229".into(), "123456".into()));
        assert_eq!(at(4_107_542_399), ("21000228".into(), "235959".into()));
    }

    #[test]
    fn uids_are_unique_and_within_the_length_limit() {
        let (a, b) = (new_uid(), new_uid());
        assert!(a.len() <= 64 && a != b && a.starts_with("2.25."));
        let uuid: u128 = a.strip_prefix("2.25.").unwrap().parse().unwrap();
        assert_eq!((uuid >> 76 & 0xf, uuid >> 62 & 0x3), (4, 2));
    }
}
