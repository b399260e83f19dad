//! A cache of optimised graphs on disk.
//!
//! ONNX Runtime folds constants, fuses nodes and converts weights to its own layout each time it loads a graph, which
//! takes a large part of the time from a cold start to the first mask. The optimised graph is cached instead. It is valid
//! for one version of the library and one kind of processor, so the file name contains both and the hash of the model,
//! and a file is loaded only if its checksum is correct.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use twox_hash::{XxHash3_64, XxHash3_128};

use super::ort_library::OnnxRuntime;

/// The length of the checksum at the end of a file.
const CHECKSUM_BYTES: usize = 16;

/// The cache entry of one model.
pub(super) struct KeptGraph<'a> {
    folder: &'a Path,
    path: PathBuf,
}

impl<'a> KeptGraph<'a> {
    pub(super) fn new(folder: &'a Path, model: &[u8], runtime: &OnnxRuntime) -> Self {
        let machine = format!("{} {} {}", runtime.version(), ort::info(), processor());
        let name =
            format!("{:032x}-{:016x}.graph", XxHash3_128::oneshot(model), XxHash3_64::oneshot(machine.as_bytes()));
        Self { folder, path: folder.join(name) }
    }

    /// The cached graph, if there is one and it is intact.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(&self.path).ok()?;
        let (graph, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if XxHash3_128::oneshot(graph) != u128::from_le_bytes(*checksum) {
            tracing::warn!("an optimised graph is damaged and is created again: {}", self.path.display());
            return None;
        }
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        Some(bytes)
    }

    /// A temporary file for ONNX Runtime to write the graph to.
    pub(super) fn draft(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(".sulcus-").suffix(".graph").tempfile_in(self.folder)
    }

    /// Appends the checksum to the file that ONNX Runtime wrote, and renames it to its final name.
    pub(super) fn keep(&self, draft: NamedTempFile) -> io::Result<()> {
        let graph = std::fs::read(draft.path())?;
        let mut file = std::fs::File::options().append(true).open(draft.path())?;
        file.write_all(&XxHash3_128::oneshot(&graph).to_le_bytes())?;
        draft.persist(&self.path).map(drop).map_err(|e| e.error)
    }
}

/// The properties that ONNX Runtime's layout depends on: architecture and instruction sets of this processor.
fn processor() -> String {
    let mut known = vec![std::env::consts::ARCH, std::env::consts::OS];
    #[cfg(target_arch = "x86_64")]
    macro_rules! instructions {
        ($($name:tt),*) => { $(if std::arch::is_x86_feature_detected!($name) { known.push($name); })* };
    }
    #[cfg(target_arch = "aarch64")]
    macro_rules! instructions {
        ($($name:tt),*) => { $(if std::arch::is_aarch64_feature_detected!($name) { known.push($name); })* };
    }
    #[cfg(target_arch = "x86_64")]
    instructions!(
        "sse4.1",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    );
    #[cfg(target_arch = "aarch64")]
    instructions!("neon", "dotprod", "fp16", "bf16", "i8mm", "sve", "sve2");
    known.join(" ")
}
