//! Ctrl-C, SIGTERM and SIGHUP: the first one asks a command to stop, a second one ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{CliError, Context};
use crate::signals;

/// Signals that follow the first one this fast count as the same request: a shell and the system both send SIGHUP when a
/// terminal is closed.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// Set when the user asked to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. A second signal ends the program at once.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        on_signals(move |count| match count {
            1 => flag.0.store(true, Ordering::Relaxed),
            _ => std::process::exit(1),
        })?;
        Ok(interrupt)
    }

    /// Whether a signal came.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Calls `stop` at each signal with the number of signals so far, on a thread of its own.
pub(crate) fn on_signals(mut stop: impl FnMut(usize) + Send + 'static) -> Result<(), CliError> {
    let mut count = 0;
    let mut first: Option<Instant> = None;
    let handler = move || {
        if first.is_some_and(|first| first.elapsed() < SAME_REQUEST) {
            return;
        }
        first.get_or_insert_with(Instant::now);
        count += 1;
        stop(count);
    };
    signals::keep_hangup_ignored(|| ctrlc::set_handler(handler)).context("listening for Ctrl-C")
}
