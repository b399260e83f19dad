use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in UTC, as DICOM writes dates (DA) and times (TM).
pub(super) fn now() -> (String, String) {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    of(elapsed.as_secs())
}

/// The civil date of a number of seconds since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn of(secs: u64) -> (String, String) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        let at = |secs| of(secs);
        assert_eq!(at(0), ("19700101".into(), "000000".into()));
        assert_eq!(at(951_827_696), ("20000229".into(), "123456".into()));
        assert_eq!(at(4_107_542_399), ("21000228".into(), "235959".into()));
    }
}
