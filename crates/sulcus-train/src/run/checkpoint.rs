//! Checkpoints: weights, optimizer moments and the state of the training loop in one file, so that the three always belong
//! together.
//!
//! Layout: the magic `SULCUSCK`; the length of the header (u64, little-endian); the header, JSON with a `format_version`;
//! the weights as Burn's burnpack; for checkpoints that can be resumed, the optimizer and, if the weights are averaged, their
//! average as a burnpack; last the SHA-256 of everything before it. No part can contain code.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sulcus_model::NetworkSpec;
use sulcus_plan::{Optimizer, count_parameters};

use super::checkpoint_error::{CheckpointError, FORMAT_VERSION, MIN_VERSION};
use crate::network::{NetworkError, UNet};
use crate::step::optimizer::OptimizerState;

const MAGIC: &[u8; 8] = b"SULCUSCK";
const DIGEST_BYTES: usize = 32;

/// A checkpoint that was read from a file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    header: Header,
    weights: Vec<u8>,
    optimizer: Option<Vec<u8>>,
    average: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format_version: u32,
    network: NetworkSpec,
    input_channels: usize,
    output_channels: usize,
    /// The state of the training loop.
    state: Value,
    weights_bytes: usize,
    #[serde(rename = "optimiser_bytes")]
    optimizer_bytes: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    average_bytes: Option<usize>,
}

/// The content of a checkpoint that is written.
#[derive(Clone, Copy)]
pub struct CheckpointParts<'a> {
    /// The specification that the network was built from.
    pub spec: &'a NetworkSpec,
    /// The network. Save only between two steps and on the training thread: Burn keeps the running statistics of batch
    /// normalisation per thread.
    pub network: &'a UNet,
    /// The optimizer; `None` in checkpoints that are only evaluated and exported.
    pub optimizer: Option<&'a OptimizerState>,
    /// The network with the averaged weights, if they are averaged.
    pub average: Option<&'a UNet>,
    /// The state of the training loop: epoch, step, best score.
    pub state: &'a Value,
}

impl CheckpointParts<'_> {
    /// Writes the file under a temporary name in the same folder and renames it, so that it is always complete.
    ///
    /// # Errors
    /// When the folder cannot be written or Burn cannot serialise a part.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        self.save_with(path, || {})
    }

    /// As [`Self::save`]. `before_rename` is called when the temporary file is complete.
    pub(crate) fn save_with(&self, path: &Path, before_rename: impl FnOnce()) -> Result<(), CheckpointError> {
        let part = |part| move |reason: String| CheckpointError::Part { part, reason, path: path.to_owned() };
        // A record of the training network itself would miss the last update of the running statistics.
        let weights_of = |network: &UNet, name: &'static str| {
            network.valid().into_record().into_bytes().map_err(|e| part(name)(e.to_string()))
        };
        let weights = weights_of(self.network, "weights")?;
        let average = self.average.map(|network| weights_of(network, "mean weights")).transpose()?;
        let optimizer = match self.optimizer {
            Some(optimizer) => Some(optimizer.to_bytes().map_err(part("optimizer"))?),
            None => None,
        };
        let header = Header {
            format_version: if average.is_some() { FORMAT_VERSION } else { MIN_VERSION },
            network: self.spec.clone(),
            input_channels: self.network.input_channels(),
            output_channels: self.network.output_channels(),
            state: self.state.clone(),
            weights_bytes: weights.len(),
            optimizer_bytes: optimizer.as_ref().map(|bytes| bytes.len()),
            average_bytes: average.as_ref().map(|bytes| bytes.len()),
        };
        let header = serde_json::to_vec(&header).map_err(|e| part("header")(e.to_string()))?;
        let length = (header.len() as u64).to_le_bytes();
        let mut pieces: Vec<&[u8]> = vec![MAGIC, &length, &header, &weights];
        if let Some(optimizer) = &optimizer {
            pieces.push(optimizer);
        }
        if let Some(average) = &average {
            pieces.push(average);
        }
        let mut digest = Sha256::new();
        pieces.iter().for_each(|piece| digest.update(piece));
        let digest = digest.finalize();
        pieces.push(&digest);
        sulcus_io::write_atomically(path, |file| {
            pieces.iter().try_for_each(|piece| file.write_all(piece))?;
            file.flush()?;
            before_rename();
            Ok(())
        })
        .map_err(CheckpointError::Write)
    }
}

impl Checkpoint {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a checkpoint of a known version, or is damaged.
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
        let optimizer = part(header.optimizer_bytes)?;
        let average = part(header.average_bytes)?;
        Ok(Self { path: owned(), header, weights, optimizer, average })
    }

    /// The state of the training loop.
    pub fn state(&self) -> &Value {
        &self.header.state
    }

    /// The specification of its network.
    pub fn spec(&self) -> &NetworkSpec {
        &self.header.network
    }

    /// Builds the network on `device`, with the weights of the last step. On an autodiff device it can be trained.
    ///
    /// # Errors
    /// When the weights do not fit the network in the header.
    pub fn network(&self, device: &Device) -> Result<UNet, CheckpointError> {
        self.network_of("weights", &self.weights, device)
    }

    /// The network with the averaged weights, if they were averaged.
    ///
    /// # Errors
    /// As [`Self::network`].
    pub fn average(&self, device: &Device) -> Result<Option<UNet>, CheckpointError> {
        self.average.as_deref().map(|weights| self.network_of("mean weights", weights, device)).transpose()
    }

    /// The network for prediction: with the averaged weights if they were averaged, else those of the last step.
    ///
    /// # Errors
    /// As [`Self::network`].
    pub fn trained_network(&self, device: &Device) -> Result<UNet, CheckpointError> {
        self.average(device)?.map_or_else(|| self.network(device), Ok)
    }

    fn network_of(&self, part: &'static str, weights: &[u8], device: &Device) -> Result<UNet, CheckpointError> {
        let part = |reason: String| CheckpointError::Part { part, reason, path: self.path.clone() };
        let Header { network, input_channels, output_channels, .. } = &self.header;
        let broken = |error: NetworkError| part(error.to_string());
        UNet::check(network, *input_channels, *output_channels).map_err(broken)?;
        // A header can announce more weights than memory can hold; each takes at least 4 bytes of the file.
        let announced = count_parameters(network, *input_channels, *output_channels);
        if announced > (weights.len() / size_of::<f32>()) as u64 {
            return Err(part(format!(
                "they have {} bytes, too few for the {announced} parameters of the network in its header",
                weights.len()
            )));
        }
        let fresh = UNet::new(network, *input_channels, *output_channels, 0, device).map_err(broken)?;
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(weights.to_vec()));
        let record = record.map_err(|e| part(e.to_string()))?;
        fresh.try_load_record(record).map_err(|e| part(e.to_string()))
    }

    /// The optimizer with the stored moments. Use it with the network of the same checkpoint: moments are keyed by the ids of
    /// its parameters.
    ///
    /// # Errors
    /// When the file holds only weights, or the moments are invalid or belong to another optimizer.
    pub fn optimizer(&self, choice: Optimizer) -> Result<OptimizerState, CheckpointError> {
        let bytes = self.optimizer.as_ref();
        let bytes = bytes.ok_or_else(|| CheckpointError::WeightsOnly { path: self.path.clone() })?;
        OptimizerState::from_bytes(choice, bytes).map_err(|reason| CheckpointError::Part {
            part: "optimizer",
            reason,
            path: self.path.clone(),
        })
    }
}

/// Checks the version first, so that a newer file is reported as such.
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
    if !(MIN_VERSION..=FORMAT_VERSION).contains(&found) {
        return Err(CheckpointError::Version { found, path: path.to_owned() });
    }
    serde_json::from_slice(json).map_err(part)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}
