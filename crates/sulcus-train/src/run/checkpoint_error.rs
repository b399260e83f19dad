use std::io;
use std::path::PathBuf;

/// The oldest supported version, which is written unless a newer one is needed. Version 2: weights of 2-D networks have a
/// depth axis, so that 2-D and 3-D networks share their layers.
pub(super) const MIN_VERSION: u32 = 2;
/// The newest version. Version 3 adds an average of the weights, which an older program would ignore.
pub(super) const FORMAT_VERSION: u32 = 3;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("could not read the checkpoint: {source} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("could not write the checkpoint: {0}")]
    Write(#[source] sulcus_io::IoError),
    /// The file is not a checkpoint.
    #[error("this is not a checkpoint of sulcus: it doesn't begin with SULCUSCK ({})", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// The file was truncated or changed.
    #[error(
        "the checkpoint is damaged: its checksum doesn't fit its content, so it was cut short or changed; \
         use the other checkpoint of the run, or train again ({})", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file has an unknown version.
    #[error(
        "the checkpoint has format version {found}, this program knows {MIN_VERSION} to {FORMAT_VERSION}: use the version of Sulcus that wrote it ({})",
        path.display()
    )]
    Version {
        /// The version in the file.
        found: u32,
        /// The file.
        path: PathBuf,
    },
    /// A part of the file is invalid although the checksum is correct.
    #[error("the checkpoint's {part} could not be used: {reason} ({})", path.display())]
    Part {
        /// The part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint has no optimizer.
    #[error(
        "training cannot be resumed from this checkpoint: it holds weights only; resume from the last one, not the best ({})",
        path.display()
    )]
    WeightsOnly {
        /// The file.
        path: PathBuf,
    },
}
