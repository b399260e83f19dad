use std::hash::{BuildHasher, Hasher, RandomState};

/// A new identifier: `2.25.` and a random UUID as a decimal number (DICOM PS3.5, B.2).
pub(super) fn fresh() -> String {
    // Each RandomState is seeded by the operating system.
    let half = || RandomState::new().build_hasher().finish();
    let random = u128::from(half()) << 64 | u128::from(half());
    // Version 4, variant 1 (RFC 9562).
    let uuid = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    format!("2.25.{uuid}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn identifiers_are_short_enough_and_new() {
        let (a, b) = (super::fresh(), super::fresh());
        assert!(a.len() <= 64 && a != b && a.starts_with("2.25."));
        let uuid: u128 = a.strip_prefix("2.25.").unwrap().parse().unwrap();
        assert_eq!((uuid >> 76 & 0xf, uuid >> 62 & 0x3), (4, 2));
    }
}
