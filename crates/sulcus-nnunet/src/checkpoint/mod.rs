//! Checkpoints of nnU-Net (`checkpoint_final.pth`): archives of a pickle and the raw values of tensors.

mod archive;
mod state_dict;
mod storage;

use std::io::{Read, Seek};

pub(crate) use state_dict::StateDict;

use crate::pickle::{Pickle, PickleError, Value, ValueId};
use archive::Archive;

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is not an archive as `torch.save` writes it.
    #[error("it is {found}, expected a checkpoint that nnU-Net v2 has written with torch.save()")]
    NotACheckpoint {
        /// What it is.
        found: &'static str,
    },
    /// Its archive is damaged, or not one that `torch.save` writes.
    #[error("its archive cannot be read: {reason}")]
    Archive {
        /// The cause.
        reason: String,
    },
    /// Its pickle is refused.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// It lacks an entry that nnU-Net writes, or the entry has another kind.
    #[error("its entry `{entry}` is missing or is not {expected}")]
    Entry {
        /// The entry.
        entry: &'static str,
        /// What nnU-Net writes.
        expected: &'static str,
    },
    /// A tensor cannot be read.
    #[error("its tensor `{name}` cannot be used: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The weights are not those of the network in the plan.
    #[error("its weights do not fit the network of the plan: {reason}")]
    Weights {
        /// The difference.
        reason: String,
    },
}

/// Something that a checkpoint can be read from.
pub(crate) trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// What a checkpoint says besides its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointInfo {
    /// Class of the trainer, which is recorded.
    pub(crate) trainer: String,
    pub(crate) configuration: String,
    /// Axes of the *transposed* grid along which training mirrored its input; none if the checkpoint does not say.
    pub(crate) mirror_axes: Vec<usize>,
    /// Number of epochs.
    pub(crate) epochs: usize,
}

/// An open checkpoint.
pub(crate) struct Checkpoint {
    archive: Archive,
    pickle: Pickle,
}

impl Checkpoint {
    /// Opens a checkpoint and reads its pickle.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub(crate) fn open(source: Box<dyn Source>) -> Result<Self, CheckpointError> {
        let mut archive = Archive::open(source)?;
        let pickle = Pickle::read(archive.pickle(Pickle::MAX_BYTES)?)?;
        Ok(Self { archive, pickle })
    }

    /// # Errors
    /// [`CheckpointError::Entry`].
    pub(crate) fn info(&self) -> Result<CheckpointInfo, CheckpointError> {
        let missing = |entry, expected| CheckpointError::Entry { entry, expected };
        let text = |parent: ValueId, key| {
            let found = self.pickle.entry(parent, key).and_then(|value| self.pickle.text(value));
            found.map(str::to_owned)
        };
        let top = self.pickle.top();
        let arguments = self.pickle.entry(top, "init_args").ok_or_else(|| missing("init_args", "a dictionary"))?;
        let epochs = self.pickle.entry(top, "current_epoch").and_then(|value| self.pickle.int(value));
        Ok(CheckpointInfo {
            trainer: text(top, "trainer_name").ok_or_else(|| missing("trainer_name", "a text"))?,
            configuration: text(arguments, "configuration")
                .ok_or_else(|| missing("init_args.configuration", "a text"))?,
            mirror_axes: self.mirror_axes()?,
            epochs: epochs.and_then(|epochs| usize::try_from(epochs).ok()).unwrap_or(0),
        })
    }

    fn mirror_axes(&self) -> Result<Vec<usize>, CheckpointError> {
        let Some(entry) = self.pickle.entry(self.pickle.top(), "inference_allowed_mirroring_axes") else {
            return Ok(Vec::new());
        };
        if *self.pickle.value(entry) == Value::None {
            return Ok(Vec::new());
        }
        let axes = self.pickle.sequence(entry).and_then(|axes| {
            let axis = |axis: &ValueId| usize::try_from(self.pickle.int(*axis)?).ok().filter(|axis| *axis < 3);
            axes.iter().map(axis).collect::<Option<Vec<usize>>>()
        });
        let mut axes = axes.ok_or(CheckpointError::Entry {
            entry: "inference_allowed_mirroring_axes",
            expected: "a tuple of axes from 0 to 2",
        })?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// The weights of the network.
    ///
    /// # Errors
    /// [`CheckpointError::Entry`] if there are none, and [`CheckpointError::Tensor`] for entries that are no tensors.
    pub(crate) fn into_weights(self) -> Result<StateDict, CheckpointError> {
        StateDict::new(self.archive, self.pickle)
    }
}
