//! How much memory this process takes, where the system says, and how much an engine will.

use sulcus_pipeline::{ModelSpec, Tiling};
use sulcus_volume::Geometry;

/// The most memory that the process has held so far, in bytes: its resident set at its largest. Known on Linux.
pub fn peak_memory_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// What the process holds now.
pub(crate) fn resident_bytes() -> Option<u64> {
    status("VmRSS:")
}

fn status(field: &str) -> Option<u64> {
    // The file is the kernel's; elsewhere there is none.
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, field)
}

fn parse(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// An engine with its library, where the system does not say what the process holds: more than was seen.
const ENGINE_BYTES: u64 = 96 << 20;

/// What the process holds with models of so many bytes loaded.
pub(crate) fn loaded_bytes(models: u64) -> u64 {
    resident_bytes().unwrap_or(ENGINE_BYTES + 3 * models)
}

/// What one more session of a model whose file has so many bytes holds before it has answered: weights as they are in the
/// file, and as the engine's kernels like them.
pub(crate) fn loaded_again_bytes(model: u64) -> u64 {
    3 * model
}

/// What an engine works in while it answers one tile, estimated from the network.
///
/// The most is held at the finest resolution, where the decoder's input (skip connection and coarser maps), the two
/// joined, and a convolution's result lie side by side, or in the encoder, where a block's input, its result and what is
/// between them do; beside them the skip connections of all other resolutions.
pub(crate) fn workspace_bytes(spec: &ModelSpec, geometry: &Geometry) -> u64 {
    /// Engines keep freed blocks, which fit the next request only by chance. An estimate: with it, ONNX Runtime's whole
    /// process stayed below 2 GB on 512×512×512 voxels with a network of base 16 and patches of 96³; other networks were
    /// not measured.
    const ARENA: f64 = 1.6;
    let network = &spec.network;
    let edges: Vec<usize> = match spec.tiling {
        Tiling::Patch => spec.patch.clone(),
        Tiling::Whole => {
            let turned = sulcus_volume::Reorientation::between(geometry.orientation(), spec.orientation);
            let [x, y, z] = turned.shape(geometry.shape());
            let padded = [z, y, x].into_iter().skip(3 - spec.padding_multiple.len()).zip(&spec.padding_multiple);
            padded.map(|(edge, multiple)| edge.next_multiple_of((*multiple).max(1))).collect()
        }
    };
    let mut divisor = vec![1; edges.len()];
    let mut maps = Vec::new();
    for stage in &network.stages {
        divisor.iter_mut().zip(&stage.stride).for_each(|(d, s)| *d *= s);
        let voxels: usize = edges.iter().zip(&divisor).map(|(edge, d)| edge.div_ceil(*d)).product();
        maps.push((stage.channels * voxels * size_of::<f32>()) as u64);
    }
    let all: u64 = maps.iter().sum();
    let most = maps.iter().map(|map| all + 4 * map).max().unwrap_or(0);
    (most as f64 * ARENA) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_numbers_are_read_and_nonsense_is_nothing() {
        let status = "Name:\tsulcus\nVmHWM:\t  123456 kB\nVmRSS:\t    7890 kB\n";
        assert_eq!(parse(status, "VmHWM:"), Some(123_456 * 1024));
        assert_eq!(parse(status, "VmRSS:"), Some(7890 * 1024));
        assert_eq!((parse(status, "VmSwap:"), parse("VmHWM: many kB", "VmHWM:")), (None, None));
        if cfg!(target_os = "linux") {
            // In this order: other tests take memory meanwhile.
            let resident = resident_bytes();
            assert!(resident > Some(0) && peak_memory_bytes() >= resident);
        }
    }
}
