//! How the memory of the process is divided among request bodies and workers.

use crate::{Options, ServeError};

/// The memory limits of a server, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLimits {
    /// Of the whole process; `None` when neither a limit was set nor the memory of the machine is known.
    pub(crate) process: Option<u64>,
    /// Of all request bodies together.
    pub(crate) held_bodies: u64,
    /// Of one request body.
    pub(crate) max_body: u64,
    /// Of one scan while it is read.
    pub(crate) max_read: u64,
    /// Of the process, as one worker sees it. A worker does not count the others.
    pub(crate) per_worker: Option<u64>,
}

impl MemoryLimits {
    /// Limits for a process that holds `loaded` bytes with the model loaded, on a machine with `machine` bytes.
    pub(crate) fn new(options: &Options, loaded: u64, machine: Option<u64>) -> Result<Self, ServeError> {
        let held_bodies = options.max_body.saturating_mul(Options::HELD_BODIES_FACTOR);
        let max_read = options.max_body.saturating_mul(Options::READ_FACTOR);
        let process = options.max_memory.or_else(|| Some(default_limit(machine?, loaded)));
        let Some(limit) = process else {
            return Ok(Self { process, held_bodies, max_body: options.max_body, max_read, per_worker: None });
        };
        let free = limit.checked_sub(loaded).filter(|free| *free > 0);
        let free = free.ok_or(ServeError::MemoryLimit { limit, held: loaded })?;
        // Request bodies get at most a quarter.
        let held_bodies = held_bodies.min(free / 4);
        let per_worker = loaded + (free - held_bodies) / options.workers as u64;
        let max_body = options.max_body.min(held_bodies);
        Ok(Self { process, held_bodies, max_body, max_read, per_worker: Some(per_worker) })
    }
}

/// Three quarters of the machine's memory. A model that leaves too little of that still gets an eighth of the machine's memory
/// to work in.
fn default_limit(machine: u64, loaded: u64) -> u64 {
    (machine / 4 * 3).max(loaded.saturating_add(machine / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_and_a_limit_below_the_loaded_model_is_refused() {
        let options = Options::default().max_body(100).workers(2);
        let unknown = MemoryLimits::new(&options, 1000, None).unwrap();
        let (process, per_worker) = (None, None);
        assert_eq!(unknown, MemoryLimits { process, held_bodies: 200, max_body: 100, max_read: 900, per_worker });
        let tight = MemoryLimits::new(&options.clone().max_memory(1200), 1000, Some(1 << 40)).unwrap();
        let (process, per_worker) = (Some(1200), Some(1075));
        assert_eq!(tight, MemoryLimits { process, held_bodies: 50, max_body: 50, max_read: 900, per_worker });
        for limit in [10, 1000] {
            let error = MemoryLimits::new(&options.clone().max_memory(limit), 1000, None).unwrap_err();
            assert!(matches!(error, ServeError::MemoryLimit { held: 1000, .. }), "{error}");
        }
    }

    #[test]
    fn default_limit_is_three_quarters_of_the_machine() {
        let options = Options::default().max_body(100);
        let limits = MemoryLimits::new(&options, 1000, Some(16_000)).unwrap();
        assert_eq!((limits.process, limits.per_worker), (Some(12_000), Some(11_800)));
        // A model that fills the machine does not prevent the start.
        let limits = MemoryLimits::new(&options, 15_000, Some(16_000)).unwrap();
        assert_eq!((limits.process, limits.per_worker), (Some(17_000), Some(16_800)));
    }
}
