//! Training states on disk: weights, optimiser moments and what the training loop wants to remember, in one file, so
//! that the three can't come from different moments.
//!
//! Layout: the magic `SULCUSCK`; the length of the header (u64, little-endian); the header, JSON with a
//! `format_version`; the weights as Burn's burnpack; for states that can be resumed, the optimiser, and where the weights
//! are averaged, their mean, a burnpack as well; last the SHA-256 of everything before it. No part of it can hold code.

use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sulcus_model::NetworkSpec;

use crate::network::{NetworkError, UNet};
use crate::{Descent, Optimiser};

const MAGIC: &[u8; 8] = b"SULCUSCK";
/// The oldest version, written where nothing newer is needed. 2: weights of slices have a depth axis too, so that slices
/// and blocks share their layers.
const OLDEST_VERSION: u32 = 2;
/// The newest version. 3: a mean of the weights; what does not know of it would go on without.
const FORMAT_VERSION: u32 = 3;
const DIGEST_BYTES: usize = 32;

/// A training state that was read from a file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    header: Header,
    weights: Vec<u8>,
    optimiser: Option<Vec<u8>>,
    average: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format_version: u32,
    network: NetworkSpec,
    input_channels: usize,
    output_channels: usize,
    /// The training loop's own.
    state: Value,
    weights_bytes: usize,
    optimiser_bytes: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    average_bytes: Option<usize>,
}

/// Why a training state could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file that can't be read.
    #[error("could not read the checkpoint: {source} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that can't be written.
    #[error("could not write the checkpoint: {0}")]
    Write(#[source] sulcus_io::IoError),
    /// A file of another kind.
    #[error("this is not a checkpoint of sulcus: it doesn't begin with SULCUSCK ({})", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// A file that was cut short or changed.
    #[error(
        "the checkpoint is damaged: its checksum doesn't fit its content, so it was cut short or changed; \
         use the other checkpoint of the run, or train again ({})", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file of a version that this program doesn't know.
    #[error(
        "the checkpoint has format version {found}, this program knows {OLDEST_VERSION} to {FORMAT_VERSION}: use the sulcus that wrote it ({})",
        path.display()
    )]
    Version {
        /// The version in the file.
        found: u32,
        /// The file.
        path: PathBuf,
    },
    /// A part of the file that can't be understood though its checksum fits.
    #[error("the checkpoint's {part} could not be used: {reason} ({})", path.display())]
    Part {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A state without an optimiser.
    #[error(
        "training cannot be resumed from this checkpoint: it holds weights only; resume from the last one, not the best ({})",
        path.display()
    )]
    WeightsOnly {
        /// The file.
        path: PathBuf,
    },
}

/// What a checkpoint is made of.
#[derive(Clone, Copy)]
pub struct CheckpointParts<'a> {
    /// The specification that the network was built from.
    pub spec: &'a NetworkSpec,
    /// The network. Training must be between two steps, and this be the thread that trains: Burn keeps the running
    /// statistics of batch normalisation by thread.
    pub network: &'a UNet,
    /// Absent in checkpoints that are only evaluated and exported.
    pub optimiser: Option<&'a Descent>,
    /// The network with the mean of the weights, where they are averaged.
    pub average: Option<&'a UNet>,
    /// What the training loop wants back: epoch, step, best score, random state.
    pub state: &'a Value,
}

impl CheckpointParts<'_> {
    /// Writes the file, under a temporary name in the same folder first, so that a file of that name is whole always.
    ///
    /// # Errors
    /// When the folder can't be written or Burn can't serialise a part.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let part = |part| move |reason: String| CheckpointError::Part { part, reason, path: path.to_owned() };
        // A record taken from the training network itself would miss the last update of the running statistics.
        let weights_of = |network: &UNet, name: &'static str| {
            network.valid().into_record().into_bytes().map_err(|e| part(name)(e.to_string()))
        };
        let weights = weights_of(self.network, "weights")?;
        let average = self.average.map(|network| weights_of(network, "mean weights")).transpose()?;
        let optimiser = match self.optimiser {
            Some(optimiser) => Some(optimiser.to_bytes().map_err(part("optimiser"))?),
            None => None,
        };
        let header = Header {
            format_version: if average.is_some() { FORMAT_VERSION } else { OLDEST_VERSION },
            network: self.spec.clone(),
            input_channels: self.network.input_channels(),
            output_channels: self.network.output_channels(),
            state: self.state.clone(),
            weights_bytes: weights.len(),
            optimiser_bytes: optimiser.as_ref().map(|bytes| bytes.len()),
            average_bytes: average.as_ref().map(|bytes| bytes.len()),
        };
        let header = serde_json::to_vec(&header).map_err(|e| part("header")(e.to_string()))?;
        let length = (header.len() as u64).to_le_bytes();
        let mut pieces: Vec<&[u8]> = vec![MAGIC, &length, &header, &weights];
        if let Some(optimiser) = &optimiser {
            pieces.push(optimiser);
        }
        if let Some(average) = &average {
            pieces.push(average);
        }
        let mut digest = Sha256::new();
        pieces.iter().for_each(|piece| digest.update(piece));
        let digest = digest.finalize();
        pieces.push(&digest);
        sulcus_io::write_atomically(path, |file| pieces.iter().try_for_each(|piece| file.write_all(piece)))
            .map_err(CheckpointError::Write)
    }
}

impl Checkpoint {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it can't be read, is of another kind or version, or damaged.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let owned = || path.to_owned();
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read { path: owned(), source })?;
        let damaged = || CheckpointError::Damaged { path: owned() };
        if !bytes.starts_with(MAGIC) {
            return Err(CheckpointError::NotACheckpoint { path: owned() });
        }
        let end = bytes.len().checked_sub(DIGEST_BYTES).ok_or_else(damaged)?;
        let (content, digest) = bytes.split_at(end);
        if Sha256::digest(content).as_slice() != digest {
            return Err(damaged());
        }
        let mut rest = content.get(MAGIC.len()..).ok_or_else(damaged)?;
        let length: [u8; 8] = take(&mut rest, 8).and_then(|b| b.try_into().ok()).ok_or_else(damaged)?;
        let json = usize::try_from(u64::from_le_bytes(length)).ok().and_then(|n| take(&mut rest, n));
        let header = read_header(json.ok_or_else(damaged)?, path)?;
        let weights = take(&mut rest, header.weights_bytes).ok_or_else(damaged)?.to_vec();
        let mut part = |bytes: Option<usize>| match bytes {
            Some(n) => take(&mut rest, n).ok_or_else(damaged).map(|bytes| Some(bytes.to_vec())),
            None => Ok(None),
        };
        let optimiser = part(header.optimiser_bytes)?;
        let average = part(header.average_bytes)?;
        Ok(Self { path: owned(), header, weights, optimiser, average })
    }

    /// What the training loop had stored.
    pub fn state(&self) -> &Value {
        &self.header.state
    }

    /// The specification of its network.
    pub fn spec(&self) -> &NetworkSpec {
        &self.header.network
    }

    /// Builds its network on `device`, with the weights of the last step; an autodiff device gives one that can be trained
    /// on.
    ///
    /// # Errors
    /// When the weights are not those of the network that the header describes.
    pub fn network(&self, device: &Device) -> Result<UNet, CheckpointError> {
        self.network_of("weights", &self.weights, device)
    }

    /// The network with the mean of the weights, where they were averaged.
    ///
    /// # Errors
    /// As [`Self::network`].
    pub fn average(&self, device: &Device) -> Result<Option<UNet>, CheckpointError> {
        self.average.as_deref().map(|weights| self.network_of("mean weights", weights, device)).transpose()
    }

    /// The network to predict with: of the mean weights, where they were averaged.
    ///
    /// # Errors
    /// As [`Self::network`].
    pub fn trained_network(&self, device: &Device) -> Result<UNet, CheckpointError> {
        self.average(device)?.map_or_else(|| self.network(device), Ok)
    }

    fn network_of(&self, part: &'static str, weights: &[u8], device: &Device) -> Result<UNet, CheckpointError> {
        let part = |reason: String| CheckpointError::Part { part, reason, path: self.path.clone() };
        let Header { network, input_channels, output_channels, .. } = &self.header;
        let fresh = UNet::new(network, *input_channels, *output_channels, 0, device)
            .map_err(|e: NetworkError| part(e.to_string()))?;
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(weights.to_vec()));
        let record = record.map_err(|e| part(e.to_string()))?;
        fresh.try_load_record(record).map_err(|e| part(e.to_string()))
    }

    /// The optimiser with the stored moments, for the choice that it was made with. It goes with the network of the same
    /// checkpoint: moments are keyed by the identities of its parameters.
    ///
    /// # Errors
    /// When the file holds weights only, or the moments can't be read or are another optimiser's.
    pub fn optimiser(&self, choice: Optimiser) -> Result<Descent, CheckpointError> {
        let bytes = self.optimiser.as_ref();
        let bytes = bytes.ok_or_else(|| CheckpointError::WeightsOnly { path: self.path.clone() })?;
        Descent::from_bytes(choice, bytes).map_err(|reason| CheckpointError::Part {
            part: "optimiser",
            reason,
            path: self.path.clone(),
        })
    }
}

/// The version is looked at before anything else, so that a newer file is named as such.
fn read_header(json: &[u8], path: &Path) -> Result<Header, CheckpointError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let part = |e: serde_json::Error| CheckpointError::Part {
        part: "header",
        reason: e.to_string(),
        path: path.to_owned(),
    };
    let Version { format_version: found } = serde_json::from_slice(json).map_err(part)?;
    if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Err(CheckpointError::Version { found, path: path.to_owned() });
    }
    serde_json::from_slice(json).map_err(part)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}
