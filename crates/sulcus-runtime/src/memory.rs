//! The memory of this process, if the system reports it.

/// The peak resident memory of the process, in bytes. Known on Linux.
pub fn peak_memory_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// The resident memory of the process now, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

fn status(field: &str) -> Option<u64> {
    // Exists only on Linux.
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, field)
}

fn parse(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// An estimate of the memory of an engine and its library for systems that do not report it; larger than measured values.
const ENGINE_BYTES: u64 = 96 << 20;

/// The memory of the process with models of this many bytes loaded.
pub(crate) fn loaded_bytes(models: u64) -> u64 {
    resident_bytes().unwrap_or(ENGINE_BYTES + 3 * models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_file_is_parsed_and_malformed_fields_are_none() {
        let status = "Name:\tsulcus\nVmHWM:\t  123456 kB\nVmRSS:\t    7890 kB\n";
        assert_eq!(parse(status, "VmHWM:"), Some(123_456 * 1024));
        assert_eq!(parse(status, "VmRSS:"), Some(7890 * 1024));
        assert_eq!((parse(status, "VmSwap:"), parse("VmHWM: many kB", "VmHWM:")), (None, None));
        if cfg!(target_os = "linux") {
            // In this order, because other tests allocate memory at the same time.
            let resident = resident_bytes();
            assert!(resident > Some(0) && peak_memory_bytes() >= resident);
        }
    }
}
