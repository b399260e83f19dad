//! Memory that a training frees and asks for again in the next step.

/// Keeps freed memory in the process rather than giving it back, up to blocks of 32 MiB.
///
/// A training step allocates the same few hundred megabytes as the one before. By default the C library maps large blocks
/// and unmaps them when they are freed, so that each step faults in every page again, zeroed: up to a fifth of its time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's settings are reached through its interface")]
pub(crate) fn keep_freed_memory() {
    /// The greatest that the C library takes.
    const LARGEST_KEPT: i32 = 32 << 20;
    // SAFETY: `mallopt` takes two integers, locks what it changes, and refuses values that it doesn't know; a refusal
    // leaves the defaults, which are slower and as correct.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 2 * LARGEST_KEPT);
    }
}

/// Other systems' allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed_memory() {}
