use sulcus_model::NetworkSpec;

use crate::convolutions::{Convolution, Role, convolutions};

/// Multiply-adds of the convolutions in one forward pass over a patch ((D,) H, W). Normalisation and activations are not
/// counted: their time is in the speed that is measured.
pub(crate) fn multiply_adds(network: &NetworkSpec, patch: &[usize], channels: usize, classes: usize) -> f64 {
    let mut edges = patch.to_vec();
    let voxels_of = network.stages.iter().map(|stage| {
        edges = edges.iter().zip(&stage.stride).map(|(edge, stride)| edge.div_ceil((*stride).max(1))).collect();
        edges.iter().map(|n| *n as f64).product::<f64>()
    });
    let voxels: Vec<f64> = voxels_of.collect();
    let of_convolution = |convolution: Convolution<'_>| {
        let taps = if convolution.role == Role::Upsampling { 1 } else { convolution.taps() };
        let per_voxel = taps as f64 * convolution.inputs as f64 * convolution.outputs as f64;
        voxels.get(convolution.stage).copied().unwrap_or(0.0) * per_voxel
    };
    convolutions(network, channels, classes).into_iter().map(of_convolution).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::preset;

    /// One stage of two 3×3 convolutions and the output layer, counted by hand.
    #[test]
    fn convolutions_are_counted() {
        let mut network = preset("unet2d-lite").unwrap();
        network.stages.truncate(1);
        let pixels = 8.0 * 6.0;
        assert_eq!(
            multiply_adds(&network, &[8, 6], 3, 2),
            pixels * (9.0 * (3.0 * 16.0 + 16.0 * 16.0) + 16.0 * 2.0)
        );
    }

    /// A second stage: two convolutions at a quarter of the pixels, the way up, and two convolutions of its sum of inputs.
    #[test]
    fn decoder_is_counted() {
        let mut network = preset("unet2d-lite").unwrap();
        network.stages.truncate(2);
        let encoder = 48.0 * 9.0 * (3.0 + 16.0) * 16.0 + 12.0 * 9.0 * (16.0 + 32.0) * 32.0;
        let decoder = 48.0 * (32.0 * 16.0 + 9.0 * (32.0 + 16.0) * 16.0) + 48.0 * 16.0 * 2.0;
        assert_eq!(multiply_adds(&network, &[8, 6], 3, 2), encoder + decoder);
    }
}
