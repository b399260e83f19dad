//! The memory of the machine or of its container.

use std::path::{Path, PathBuf};

/// The memory of the machine in bytes, or less: the limit of the control groups (containers) that this process runs in, or that of
/// the process itself (`ulimit -v`). Known on Linux.
pub fn machine_memory_bytes() -> Option<u64> {
    let machine = total_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| limit(&std::fs::read_to_string(file).ok()?));
    let of_process = process_limit(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default());
    Some(limits.chain(of_process).fold(machine, u64::min))
}

/// The memory limit of a segmenter without one of its own: the memory of the machine. A process that holds most of it already, with
/// `loaded` bytes, still gets an eighth.
pub(crate) fn default_memory_limit(loaded: u64) -> Option<u64> {
    let machine = machine_memory_bytes()?;
    Some(machine.max(loaded.saturating_add(machine / 8)))
}

/// The soft limit of the address space.
fn process_limit(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max address space"))?.split_whitespace().next()?.parse().ok()
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024).filter(|bytes| *bytes > 0)
}

/// The files with the memory limits of this process's control groups and their parents, in versions 1 and 2 of cgroups.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let relative = Path::new(path.trim_start_matches('/'));
        files.extend(relative.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// `None` for the text `max`. Version 1 writes its largest number instead, which exceeds the memory of any machine.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_parsed_and_malformed_text_is_none() {
        let text = "MemTotal:       24604356 kB\nMemFree:          813724 kB\n";
        assert_eq!(total_bytes(text), Some(24_604_356 * 1024));
        for text in ["", "MemFree: 1 kB", "MemTotal: many kB", "MemTotal: 0 kB", "MemTotal: 5"] {
            assert_eq!(total_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn address_space_of_the_process_is_parsed() {
        let limits = |soft: &str| {
            let header = "Limit                     Soft Limit           Hard Limit           Units     \n";
            format!(
                "{header}Max address space         {soft:<20} unlimited            bytes     \nMax cpu time  1 1 s\n"
            )
        };
        assert_eq!(process_limit(&limits("8589934592")), Some(8_589_934_592));
        assert_eq!((process_limit(&limits("unlimited")), process_limit("")), (None, None));
    }

    #[test]
    fn limit_files_of_both_cgroup_versions() {
        let files = |text| limit_files(text).iter().map(|f| f.display().to_string()).collect::<Vec<_>>();
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            files("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        let version_1 = "5:cpu,cpuacct:/x\n4:memory:/docker/1\n";
        assert_eq!(files(version_1)[0], "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes");
        assert_eq!((files(version_1).len(), files("nonsense").len()), (3, 0));
        assert_eq!((limit("max\n"), limit("1048576\n"), limit("0")), (None, Some(1_048_576), None));
    }
}
