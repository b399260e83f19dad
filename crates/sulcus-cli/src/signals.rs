//! Signal handling that the crate `ctrlc` does not offer.

/// Makes a write beyond the limit of file sizes (`ulimit -f`) an error. By default the signal SIGXFSZ ends the process, which
/// leaves its temporary file behind.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the standard library has no interface to signals")]
pub(crate) fn file_size_limit_is_an_error() {
    // SAFETY: both arguments are constants of the C library, and no Rust code runs as a handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Other systems have no such signal.
#[cfg(not(unix))]
pub(crate) fn file_size_limit_is_an_error() {}

/// Installs signal handlers, but leaves SIGHUP ignored where it was ignored before, as `nohup` does: the program then goes on
/// when its terminal is closed.
#[cfg(unix)]
#[expect(unsafe_code, reason = "the standard library has no interface to signals")]
pub(crate) fn keep_hangup_ignored<T>(install: impl FnOnce() -> T) -> T {
    // SAFETY: `sigaction` is a plain C struct for which zeros are valid. With a null pointer as the new action, the call only
    // returns the current one.
    let before = unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut before) == 0).then_some(before)
    };
    let installed = install();
    if let Some(before) = before.filter(|before| before.sa_sigaction == libc::SIG_IGN) {
        // SAFETY: the action is the one that the C library returned above: the signal is ignored, and no Rust code runs as a
        // handler.
        unsafe {
            libc::sigaction(libc::SIGHUP, &raw const before, std::ptr::null_mut());
        }
    }
    installed
}

/// Other systems have no such signal.
#[cfg(not(unix))]
pub(crate) fn keep_hangup_ignored<T>(install: impl FnOnce() -> T) -> T {
    install()
}
