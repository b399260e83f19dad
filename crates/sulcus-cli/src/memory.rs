//! Memory of this machine.

use sulcus_runtime::machine_memory_bytes;

/// Training plans with half of the machine's memory: the data set and other programs need the rest.
const SHARE: u64 = 2;

/// Memory limit of a training step on the CPU, in bytes: half of the machine's memory rather than half of the free memory,
/// so that a machine gets the same plan each time. `None` where the system does not report it.
pub(crate) fn for_training() -> Option<u64> {
    machine_memory_bytes().map(|bytes| bytes / SHARE)
}
