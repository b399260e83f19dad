//! Optimised graphs, kept on disk from one process to the next.
//!
//! ONNX Runtime folds constants, fuses nodes and turns weights to a layout of its own each time it loads a graph, which is
//! a good part of the time from a cold start to the first mask. The optimised graph can be written and loaded instead. It
//! is for one version of the library and for one kind of processor, so a file is named after both and after the model's
//! bytes, and it is loaded only if its checksum says that it is as it was written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use twox_hash::{XxHash3_64, XxHash3_128};

use super::OnnxRuntime;

/// At the end of a file: the checksum of what is before it.
const CHECKSUM_BYTES: usize = 16;

/// Where the optimised graph of one model lies, once there is one.
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

    /// The optimised graph, if there is one and it is whole.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(&self.path).ok()?;
        let (graph, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if XxHash3_128::oneshot(graph) != u128::from_le_bytes(*checksum) {
            tracing::warn!("an optimised graph is damaged and is made anew: {}", self.path.display());
            return None;
        }
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        Some(bytes)
    }

    /// A file for ONNX Runtime to write the graph to.
    pub(super) fn draft(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(".sulcus-").suffix(".graph").tempfile_in(self.folder)
    }

    /// Gives what ONNX Runtime wrote its checksum and its name.
    pub(super) fn keep(&self, draft: NamedTempFile) -> io::Result<()> {
        let graph = std::fs::read(draft.path())?;
        let mut file = std::fs::File::options().append(true).open(draft.path())?;
        file.write_all(&XxHash3_128::oneshot(&graph).to_le_bytes())?;
        draft.persist(&self.path).map(drop).map_err(|e| e.error)
    }
}

/// What ONNX Runtime lays a graph out by: the architecture and the instructions that this processor has.
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
