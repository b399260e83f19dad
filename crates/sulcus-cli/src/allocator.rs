//! Settings of the C library's allocator for training.

/// Keeps freed blocks of up to 32 MiB in the process instead of returning them to the system.
///
/// Each training step allocates the same few hundred megabytes. By default the C library maps large blocks and unmaps them
/// when they are freed, so that each step takes page faults for all of them: up to a fifth of its time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's settings are reached through its interface")]
pub(crate) fn keep_freed_memory() {
    /// The maximum that the C library accepts.
    const MAX_KEPT: i32 = 32 << 20;
    // SAFETY: `mallopt` takes two integers, locks the state that it changes, and refuses unknown values; the defaults, which
    // then remain, are correct and slower.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAX_KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 2 * MAX_KEPT);
    }
}

/// The allocators of other systems are not changed.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed_memory() {}
