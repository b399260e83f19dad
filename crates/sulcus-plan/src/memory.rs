use sulcus_model::{Downsampling, Encoder, NetworkSpec, Norm};

use crate::convolutions::{Convolution, Role, convolutions};
use crate::device::DeviceKind;
use crate::optimizer::Optimizer;

impl DeviceKind {
    /// Values that are kept for the backward pass of one convolution with its normalisation and activation, as multiples
    /// of its output. Our fused kernel keeps the convolution's output and the activation; Burn's separate operations also
    /// keep the centred and the normalised values.
    const fn kept_maps(self) -> u64 {
        match self {
            Self::Processor => 2,
            Self::Gpu => 4,
        }
    }
}

/// The memory of a training step without the data set, in values of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryEstimate {
    /// Per patch: what is kept until the backward pass, and the gradients that exist at the same time.
    per_patch: u64,
    /// Weights, gradients and the optimizer's state.
    fixed: u64,
}

/// Logits, their logarithmic softmax, the probabilities and the truth as planes.
const LOSS_MAPS: u64 = 4;
/// At the finest stage the gradients of the decoder's concatenated input (as wide as two maps), of a convolution's output
/// and of its input exist at the same time.
const GRADIENT_MAPS: u64 = 4;

impl MemoryEstimate {
    /// Counts what `network` keeps for `patch` ((D,) H, W):
    ///
    /// - each convolution: [`DeviceKind::kept_maps`] × output; each residual block's sum once more;
    /// - each stage of the decoder: its concatenated input, twice as wide as the stage;
    /// - each output that the loss uses: [`LOSS_MAPS`] × classes;
    /// - the gradients that exist at the same time: [`GRADIENT_MAPS`] × voxels × channels of the largest stage;
    /// - each parameter: weight, gradient and the optimizer's moments.
    ///
    /// The device's workspace and the overhead of its allocator are not included.
    pub(crate) fn new(
        network: &NetworkSpec,
        patch: &[usize],
        channels: usize,
        classes: usize,
        kind: DeviceKind,
        optimizer: Optimizer,
    ) -> Self {
        let mut edges: Vec<u64> = patch.iter().map(|edge| *edge as u64).collect();
        let mut kept = edges.iter().product::<u64>() * channels as u64;
        let mut widest = 0;
        for (depth, stage) in network.stages.iter().enumerate() {
            let pooled = edges.iter().zip(&stage.stride).map(|(edge, stride)| edge.div_ceil(*stride as u64));
            edges = pooled.collect();
            let voxels = edges.iter().product::<u64>();
            let map = voxels * stage.channels as u64;
            let blocks = stage.convolutions as u64;
            let down = match network.encoder {
                Encoder::Plain => blocks * kind.kept_maps(),
                // The first stage has a convolution before its blocks.
                Encoder::Residual => {
                    blocks * (2 * kind.kept_maps() + 1) + u64::from(depth == 0) * kind.kept_maps()
                }
            };
            let pool = u64::from(network.downsampling == Downsampling::MaxPool);
            let is_coarsest = depth + 1 == network.stages.len();
            let up =
                if is_coarsest { 0 } else { network.decoder_convolutions(stage) as u64 * kind.kept_maps() + 2 };
            let supervised = depth == 0 || (network.deep_supervision && depth + 2 < network.stages.len());
            kept += map * (down + up + pool) + u64::from(supervised) * LOSS_MAPS * voxels * classes as u64;
            widest = widest.max(map);
        }
        let moments = match optimizer {
            Optimizer::Sgd { .. } => 1,
            Optimizer::Adam | Optimizer::AdamW { .. } => 2,
        };
        let copies = 2 + moments;
        Self {
            per_patch: kept + GRADIENT_MAPS * widest,
            fixed: copies * count_parameters(network, channels, classes),
        }
    }

    /// Bytes for a batch of this many patches.
    pub(crate) fn bytes(self, batch: usize) -> u64 {
        self.per_patch.saturating_mul(batch as u64).saturating_add(self.fixed).saturating_mul(4)
    }

    /// The largest batch that fits; may be 0.
    pub(crate) fn max_batch(self, bytes: u64) -> usize {
        ((bytes / 4).saturating_sub(self.fixed) / self.per_patch.max(1)) as usize
    }
}

/// The number of trainable parameters of a network with these input and output channels.
pub fn count_parameters(network: &NetworkSpec, channels: usize, classes: usize) -> u64 {
    let norm = match network.norm {
        Norm::Batch | Norm::Instance => 2,
    };
    let of_convolution = |convolution: Convolution<'_>| {
        let of_norm = match convolution.role {
            Role::Block | Role::Shortcut => norm,
            Role::Upsampling | Role::Head => 0,
        };
        convolution.outputs * (convolution.inputs * convolution.taps() + 1 + of_norm)
    };
    convolutions(network, channels, classes).into_iter().map(of_convolution).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::preset;

    /// Counted by hand: one stage of two convolutions, 4 × 4 pixels, 3 maps.
    #[test]
    fn estimate_of_smallest_network_equals_manual_count() {
        let mut spec = preset("unet2d-lite").unwrap();
        spec.stages.truncate(1);
        spec.stages[0].channels = 3;
        spec.downsampling = Downsampling::StridedConvolution;
        let estimate = MemoryEstimate::new(&spec, &[4, 4], 1, 2, DeviceKind::Processor, Optimizer::Adam);
        // The image, two maps of each of two convolutions, the maps of the loss, the gradients.
        let per_patch = 16 + 2 * 2 * 48 + 4 * 32 + 4 * 48;
        let parameters = 3 * (9 + 3) + 3 * (27 + 3) + 2 * 4;
        assert_eq!(estimate.bytes(5), 4 * (5 * per_patch + 4 * parameters));
        assert_eq!(estimate.max_batch(estimate.bytes(5)), 5);
        assert_eq!(estimate.max_batch(estimate.bytes(5) - 1), 4);
        assert_eq!(estimate.max_batch(7), 0);
    }

    #[test]
    fn gpu_estimate_is_larger_than_processor_estimate() {
        let spec = preset("unet2d-lite").unwrap();
        let estimate = |kind| MemoryEstimate::new(&spec, &[64, 64], 1, 2, kind, Optimizer::Adam).bytes(1);
        assert!(estimate(DeviceKind::Gpu) > estimate(DeviceKind::Processor));
    }
}
