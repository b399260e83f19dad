//! Values that are new in each file: the date, the time, and unique identifiers.

use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::Timestamp;

/// The date and time of a new file, and its unique identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    /// DA, in UTC.
    pub(super) date: String,
    /// TM, in UTC.
    pub(super) time: String,
    pub(super) instance: String,
    pub(super) series: String,
    /// For a series without a study.
    pub(super) study: String,
    /// For a series without a frame of reference.
    pub(super) frame_of_reference: String,
    /// For a referenced series without an identifier.
    pub(super) referenced_series: String,
    pub(super) dimensions: String,
}

impl FileStamp {
    /// Number of random bytes that a stamp needs, 16 for each identifier.
    pub const RANDOM_BYTES: usize = 96;

    /// The current time and random identifiers. Not in WebAssembly, which has neither a clock nor random numbers: use [`Self::new`].
    pub fn now() -> Self {
        // Each RandomState is seeded by the operating system.
        let mut random = [0; Self::RANDOM_BYTES];
        for bytes in random.chunks_exact_mut(size_of::<u64>()) {
            bytes.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
        }
        Self::at(Timestamp::now(), &random)
    }

    /// The given time, in milliseconds since 1970 (UTC), and identifiers from bytes of a cryptographic random number generator.
    /// None if no calendar has the time.
    pub fn new(unix_millis: i64, random: &[u8; Self::RANDOM_BYTES]) -> Option<Self> {
        Some(Self::at(Timestamp::from_millisecond(unix_millis).ok()?, random))
    }

    fn at(time: Timestamp, random: &[u8; Self::RANDOM_BYTES]) -> Self {
        let (numbers, _) = random.as_chunks::<16>();
        let mut uids = numbers.iter().map(|bytes| uid(u128::from_le_bytes(*bytes)));
        let mut next = || uids.next().unwrap_or_default();
        Self {
            date: time.strftime("%Y%m%d").to_string(),
            time: time.strftime("%H%M%S").to_string(),
            instance: next(),
            series: next(),
            study: next(),
            frame_of_reference: next(),
            referenced_series: next(),
            dimensions: next(),
        }
    }
}

/// A unique identifier: `2.25.` and a random UUID as a decimal number (DICOM PS3.5, B.2).
fn uid(random: u128) -> String {
    // Version 4, variant 1 (RFC 9562).
    let uuid = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    format!("2.25.{uuid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_have_dicom_s_form() {
        let at = |secs: i64| {
            let stamp = FileStamp::new(1000 * secs, &[0; FileStamp::RANDOM_BYTES]).unwrap();
            (stamp.date, stamp.time)
        };
        assert_eq!(at(0), ("19700101".into(), "000000".into()));
        assert_eq!(at(951_827_696), ("20000229".into(), "123456".into()));
        assert_eq!(at(4_107_542_399), ("21000228".into(), "235959".into()));
        assert_eq!(FileStamp::new(i64::MAX, &[0; FileStamp::RANDOM_BYTES]), None);
    }

    #[test]
    fn uids_are_unique_and_within_the_length_limit() {
        let uids = |s: FileStamp| {
            [s.instance, s.series, s.study, s.frame_of_reference, s.referenced_series, s.dimensions]
        };
        let all: std::collections::BTreeSet<String> =
            [FileStamp::now(), FileStamp::now()].map(uids).concat().into_iter().collect();
        assert_eq!(all.len(), 12);
        for uid in all {
            let uuid: u128 = uid.strip_prefix("2.25.").unwrap().parse().unwrap();
            assert!(uid.len() <= 64);
            assert_eq!((uuid >> 76 & 0xf, uuid >> 62 & 0x3), (4, 2));
        }
    }
}
