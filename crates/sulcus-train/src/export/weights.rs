//! The tensors of a network by name, for formats of other programs.

use burn::module::Module;

use super::onnx::ExportError;
use crate::network::UNet;
use crate::network::tensors::network_tensors;

/// A tensor of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkWeights {
    /// Its name, as in exported graphs: `encoder.0.1.conv.weight`, `decoder.0.up.bias`.
    pub name: String,
    /// `[out, in, D, H, W]` of a convolution, `[in, out, D, H, W]` of a transposed one, `[channels]` of anything else; D = 1 in networks
    /// of slices.
    pub shape: Vec<usize>,
    /// The values, last axis fastest.
    pub values: Vec<f32>,
}

/// All tensors of a network as it predicts, batch normalisations and heads of deep supervision included.
///
/// # Errors
/// When weights are not finite or cannot be read from their device.
pub fn network_weights(network: &UNet) -> Result<Vec<NetworkWeights>, ExportError> {
    let mut network = network.valid();
    let tensors = network_tensors(&mut network);
    let mut weights = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values = tensor.values().map_err(|reason| ExportError::Unreadable { layer: name.clone(), reason })?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(ExportError::NotFinite { layer: name });
        }
        weights.push(NetworkWeights { shape: tensor.shape(), name, values });
    }
    Ok(weights)
}
