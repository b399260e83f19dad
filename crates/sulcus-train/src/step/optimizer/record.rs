//! An optimizer in a checkpoint: the length of the header (u64, little-endian); the header, JSON; the moments (f32,
//! little-endian) of each parameter, in the order of the header.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sulcus_plan::Optimizer;

use super::OptimizerState;
use super::update_rule::{Moments, UpdateRule};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(rename = "optimiser")]
    optimizer: Optimizer,
    parameters: Vec<Parameter>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter {
    /// The parameter's id in the network.
    id: u64,
    /// Number of steps.
    steps: u64,
    /// Number of weights.
    values: usize,
}

impl OptimizerState {
    /// Serialises the state for [`Self::from_bytes`].
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let parameters = self.moments.iter().map(|(&id, moments)| Parameter {
            id,
            steps: moments.steps,
            values: moments.values.first().map_or(0, |values| values.dims()[0]),
        });
        let header = Header { optimizer: self.choice, parameters: parameters.collect() };
        let json = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json);
        for values in self.moments.values().flat_map(|moments| &moments.values) {
            let values = values.to_data().try_into_vec_as::<f32>().map_err(|e| format!("{e:?}"))?;
            bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
        }
        Ok(bytes)
    }

    /// Reads a state that belongs to this optimizer. Moments stay on the processor until the next step.
    pub(crate) fn from_bytes(choice: Optimizer, bytes: &[u8]) -> Result<Self, String> {
        let short = || "it ends too early".to_owned();
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
        let (json, mut rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let Header { optimizer, parameters } = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if UpdateRule::of(optimizer).moments() != UpdateRule::of(choice).moments() {
            return Err(format!("it holds the moments of {optimizer:?}, the run is of {choice:?}"));
        }
        let mut moments = BTreeMap::new();
        for Parameter { id, steps, values } in parameters {
            let mut read = || {
                let bytes = values.checked_mul(size_of::<f32>()).ok_or_else(short)?;
                let (taken, left) = rest.split_at_checked(bytes).ok_or_else(short)?;
                rest = left;
                let floats: Vec<f32> =
                    taken.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                Ok(Tensor::from_data(TensorData::new(floats, [values]), &Device::flex()))
            };
            let values = (0..UpdateRule::of(choice).moments()).map(|_| read()).collect::<Result<_, String>>()?;
            moments.insert(id, Moments { steps, values });
        }
        if rest.is_empty() {
            Ok(Self { choice, moments })
        } else {
            Err(format!("{} bytes follow where it should end", rest.len()))
        }
    }
}
