//! Memory of this machine.

use std::path::Path;

use sulcus_runtime::machine_memory_bytes;

use crate::error::CliError;
use crate::output::human_bytes;

/// Training plans with half of the machine's memory: the data set and other programs need the rest.
const SHARE: u64 = 2;

/// Memory limit of a training step on the CPU, in bytes: half of the machine's memory rather than half of the free memory,
/// so that a machine gets the same plan each time. `None` where the system does not report it.
pub(crate) fn for_training() -> Option<u64> {
    machine_memory_bytes().map(|bytes| bytes / SHARE)
}

/// Refuses a volume whose header announces more voxels than this machine can hold, before they are read. `bytes_per_value` is needed for
/// each value besides the one in the file. DICOM series and files whose header cannot be read are left to their readers.
///
/// # Errors
/// With the memory that the volume needs.
pub(crate) fn check_volume(path: &Path, bytes_per_value: usize) -> Result<(), CliError> {
    let (false, Some(machine)) = (path.is_dir(), machine_memory_bytes()) else { return Ok(()) };
    let Ok(metadata) = sulcus_io::read_metadata(path) else { return Ok(()) };
    let values = (metadata.geometry().voxels() as u64).saturating_mul(metadata.channels() as u64);
    let bytes = values.saturating_mul((metadata.voxel_type().bytes() + bytes_per_value) as u64);
    if bytes <= machine {
        return Ok(());
    }
    Err(CliError::failed(format_args!(
        "the volume needs {} of memory, but this machine or its limits allow {}: {}",
        human_bytes(bytes),
        human_bytes(machine),
        path.display()
    ))
    .hint("crop or resample it on a machine with more memory, or get the file again if its header is wrong"))
}
