use sulcus_model::{Downsampling, Encoder, NetworkSpec, Norm};

use crate::{DeviceChoice, DeviceError, DeviceList, Optimiser};

/// What plans need to know of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor, with this program's own kernels.
    Processor,
    /// A GPU, with Burn's.
    Gpu,
}

impl DeviceKind {
    /// Bytes that a plan may count on when nobody says how many there are: nnU-Net's reference GPU has 8 GB; on a
    /// processor half of a small laptop's.
    pub const fn default_memory_bytes(self) -> u64 {
        match self {
            Self::Processor => 4_000_000_000,
            Self::Gpu => 8_000_000_000,
        }
    }

    /// Of devices, all of one kind, as they are asked for. They need not be there: plans for a GPU can be made anywhere.
    ///
    /// # Errors
    /// None today: `auto`, which alone is looked for, always finds one.
    pub fn of(list: &DeviceList) -> Result<Self, DeviceError> {
        for choice in list.choices() {
            match choice {
                DeviceChoice::Cpu => return Ok(Self::Processor),
                DeviceChoice::Auto if choice.resolve()?.0 == burn::tensor::Device::flex() => {
                    return Ok(Self::Processor);
                }
                DeviceChoice::Cuda(_) | DeviceChoice::Vulkan(_) | DeviceChoice::Auto => {}
            }
        }
        Ok(Self::Gpu)
    }

    /// Values that are kept for the backward pass of one convolution with its normalisation and activation, as
    /// multiples of its output. Our fused kernel keeps the convolution's sum and the activation; Burn's separate
    /// operations also keep the centred and the normalised values.
    const fn kept_maps(self) -> u64 {
        match self {
            Self::Processor => 2,
            Self::Gpu => 4,
        }
    }
}

/// What training takes besides the data set, in values of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryEstimate {
    /// A patch: what is kept of it until the backward pass, and the gradients that are alive at once.
    per_patch: u64,
    /// Weights, gradients, the optimiser's state.
    fixed: u64,
}

/// Logits, their logarithmic softmax, the probabilities and the truth as planes.
const LOSS_MAPS: u64 = 4;
/// At the finest stage the gradients of the decoder's joined input (as wide as two maps), of a convolution's output
/// and of its input are alive together.
const GRADIENT_MAPS: u64 = 4;

impl MemoryEstimate {
    /// Counts what `network` keeps for `patch` ((D,) H, W):
    ///
    /// - each convolution: [`DeviceKind::kept_maps`] × output; each residual block's sum once more;
    /// - each stage of the decoder: its joined input, twice as wide as the stage;
    /// - each output that the loss looks at: [`LOSS_MAPS`] × classes;
    /// - the gradients alive at once: [`GRADIENT_MAPS`] × the widest stage in voxels × channels;
    /// - each parameter: weight and gradient, and the optimiser's moments.
    ///
    /// The device's work space and the losses of its allocator are not in it.
    pub(crate) fn new(
        network: &NetworkSpec,
        patch: &[usize],
        channels: usize,
        classes: usize,
        kind: DeviceKind,
        optimiser: Optimiser,
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
        let moments = match optimiser {
            Optimiser::Sgd { .. } => 1,
            Optimiser::Adam | Optimiser::AdamW { .. } => 2,
        };
        let copies = 2 + moments;
        Self { per_patch: kept + GRADIENT_MAPS * widest, fixed: copies * parameters(network, channels, classes) }
    }

    /// Bytes for a batch of this many patches.
    pub(crate) fn bytes(self, batch: usize) -> u64 {
        4 * self.per_patch.saturating_mul(batch as u64).saturating_add(self.fixed)
    }

    /// The largest batch that fits, which may be 0.
    pub(crate) fn largest_batch(self, bytes: u64) -> usize {
        ((bytes / 4).saturating_sub(self.fixed) / self.per_patch.max(1)) as usize
    }
}

/// Numbers that training moves.
pub(crate) fn parameters(network: &NetworkSpec, channels: usize, classes: usize) -> u64 {
    let norm = match network.norm {
        Norm::Batch | Norm::Instance => 2,
    };
    let volume = |axes: &[usize]| axes.iter().map(|n| *n as u64).product::<u64>();
    let convolution = |input: u64, output: u64, kernel: &[usize]| output * (input * volume(kernel) + 1 + norm);
    let mut sum = 0;
    let mut input = channels as u64;
    for (depth, stage) in network.stages.iter().enumerate() {
        let output = stage.channels as u64;
        if depth == 0 && network.encoder == Encoder::Residual {
            sum += convolution(input, output, &stage.kernel);
            input = output;
        }
        for _ in 0..stage.convolutions {
            sum += convolution(input, output, &stage.kernel);
            if network.encoder == Encoder::Residual {
                sum += convolution(output, output, &stage.kernel);
                // Where the channels change the shortcut has a convolution of one voxel.
                sum += if input == output { 0 } else { output * (input + 1 + norm) };
            }
            input = output;
        }
    }
    for (finer, coarser) in network.stages.iter().zip(network.stages.iter().skip(1)) {
        let (from, to) = (coarser.channels as u64, finer.channels as u64);
        sum += to * (from * volume(&coarser.stride) + 1);
        sum += convolution(2 * to, to, &finer.kernel);
        sum += (network.decoder_convolutions(finer) as u64 - 1) * convolution(to, to, &finer.kernel);
    }
    for (depth, stage) in network.stages.iter().enumerate() {
        let supervised = depth == 0 || (network.deep_supervision && depth + 2 < network.stages.len());
        sum += u64::from(supervised) * classes as u64 * (stage.channels as u64 + 1);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UNet, preset};

    #[test]
    fn parameters_are_those_of_the_networks() {
        let device = burn::tensor::Device::flex();
        for name in ["unet2d-classic", "unet2d-lite"] {
            let spec = preset(name).unwrap();
            let network = UNet::new(&spec, 2, 5, 0, &device).unwrap();
            assert_eq!(parameters(&spec, 2, 5), network.parameters() as u64, "{name}");
        }
    }

    /// Counted by hand: one stage of two convolutions, 4 × 4 pixels, 3 maps.
    #[test]
    fn the_smallest_network_takes_what_a_hand_counts() {
        let mut spec = preset("unet2d-lite").unwrap();
        spec.stages.truncate(1);
        spec.stages[0].channels = 3;
        spec.downsampling = Downsampling::StridedConvolution;
        let estimate = MemoryEstimate::new(&spec, &[4, 4], 1, 2, DeviceKind::Processor, Optimiser::Adam);
        // The image, two convolutions' two maps, the loss's planes, the gradients.
        let per_patch = 16 + 2 * 2 * 48 + 4 * 32 + 4 * 48;
        let parameters = 3 * (9 + 3) + 3 * (27 + 3) + 2 * 4;
        assert_eq!(estimate.bytes(5), 4 * (5 * per_patch + 4 * parameters));
        assert_eq!(estimate.largest_batch(estimate.bytes(5)), 5);
        assert_eq!(estimate.largest_batch(estimate.bytes(5) - 1), 4);
        assert_eq!(estimate.largest_batch(7), 0);
    }

    #[test]
    fn a_gpu_keeps_more() {
        let spec = preset("unet2d-lite").unwrap();
        let estimate = |kind| MemoryEstimate::new(&spec, &[64, 64], 1, 2, kind, Optimiser::Adam).bytes(1);
        assert!(estimate(DeviceKind::Gpu) > estimate(DeviceKind::Processor));
    }

    #[test]
    fn devices_that_are_asked_for_need_not_be_there() {
        assert_eq!(DeviceKind::of(&DeviceChoice::Cuda(3).into()).unwrap(), DeviceKind::Gpu);
        assert_eq!(DeviceKind::of(&DeviceChoice::Cpu.into()).unwrap(), DeviceKind::Processor);
    }
}
