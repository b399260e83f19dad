//! How much memory this machine has.

/// Share of the machine's memory that training plans with: the data set and other programs need some too.
const SHARE: u64 = 2;

/// Bytes that a step of training on the processor may take: half of the machine's memory, not of what happens to be
/// free, so that the same machine gets the same plan each time. Nothing where the system doesn't say.
pub(crate) fn for_training() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    total_bytes(&text).map(|bytes| bytes / SHARE)
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_counts_and_nonsense_is_nothing() {
        let text = "MemTotal:       24604356 kB\nMemFree:          813724 kB\n";
        assert_eq!(total_bytes(text), Some(24_604_356 * 1024));
        for text in ["", "MemFree: 1 kB", "MemTotal: many kB", "MemTotal: 0 kB", "MemTotal: 5"] {
            assert_eq!(total_bytes(text), None, "{text}");
        }
    }
}
