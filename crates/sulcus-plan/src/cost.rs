use sulcus_model::{Encoder, NetworkSpec};

/// Multiply-adds of the convolutions in one forward pass over a patch ((D,) H, W). Normalisation and activations are not
/// counted: their time is in the speed that is measured.
pub(crate) fn multiply_adds(network: &NetworkSpec, patch: &[usize], channels: usize, classes: usize) -> f64 {
    let volume = |axes: &[usize]| axes.iter().map(|n| *n as f64).product::<f64>();
    let mut edges: Vec<usize> = patch.to_vec();
    let mut input = channels as f64;
    let mut sum = 0.0;
    let mut voxels = Vec::with_capacity(network.stages.len());
    for (depth, stage) in network.stages.iter().enumerate() {
        edges = edges.iter().zip(&stage.stride).map(|(edge, stride)| edge.div_ceil((*stride).max(1))).collect();
        let (output, at, kernel) = (stage.channels as f64, volume(&edges), volume(&stage.kernel));
        if depth == 0 && network.encoder == Encoder::Residual {
            sum += at * kernel * input * output;
            input = output;
        }
        for _ in 0..stage.convolutions {
            sum += at * kernel * input * output;
            if network.encoder == Encoder::Residual {
                sum += at * kernel * output * output + if input == output { 0.0 } else { at * input * output };
            }
            input = output;
        }
        voxels.push(at);
    }
    let pairs = network.stages.iter().zip(network.stages.iter().skip(1)).zip(&voxels);
    for ((finer, coarser), at) in pairs {
        let (from, to, kernel) = (coarser.channels as f64, finer.channels as f64, volume(&finer.kernel));
        let further = network.decoder_convolutions(finer).saturating_sub(1) as f64;
        sum += at * (from * to + kernel * to * (2.0 * to + further * to));
    }
    for (depth, (stage, at)) in network.stages.iter().zip(&voxels).enumerate() {
        let supervised = depth == 0 || (network.deep_supervision && depth + 2 < network.stages.len());
        sum += if supervised { at * stage.channels as f64 * classes as f64 } else { 0.0 };
    }
    sum
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
