use sulcus_model::{Encoder, NetworkSpec};

/// What a convolution of a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A convolution of a stage, with normalisation.
    Block,
    /// The 1×1 convolution of a residual block whose number of channels changes, with normalisation.
    Shortcut,
    /// A transposed convolution, whose kernel equals its stride: each output reads one position.
    Upsampling,
    /// A 1×1 convolution to the output channels.
    Head,
}

/// A convolution of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Convolution<'a> {
    pub(crate) role: Role,
    /// The stage on whose grid its outputs lie.
    pub(crate) stage: usize,
    pub(crate) inputs: u64,
    pub(crate) outputs: u64,
    /// Empty for 1 along each axis.
    pub(crate) kernel: &'a [usize],
}

impl Convolution<'_> {
    /// The number of elements of the kernel.
    pub(crate) fn taps(&self) -> u64 {
        self.kernel.iter().map(|n| *n as u64).product()
    }
}

/// All convolutions of a network with these input and output channels: down, up, and the heads.
pub(crate) fn convolutions(network: &NetworkSpec, channels: usize, classes: usize) -> Vec<Convolution<'_>> {
    let mut found = Vec::new();
    let mut inputs = channels as u64;
    for (stage, of_stage) in network.stages.iter().enumerate() {
        let outputs = of_stage.channels as u64;
        let block =
            |inputs| Convolution { role: Role::Block, stage, inputs, outputs, kernel: of_stage.kernel.as_slice() };
        if stage == 0 && network.encoder == Encoder::Residual {
            found.push(block(inputs));
            inputs = outputs;
        }
        for _ in 0..of_stage.convolutions {
            found.push(block(inputs));
            if network.encoder == Encoder::Residual {
                found.push(block(outputs));
                let shortcut = Convolution { role: Role::Shortcut, stage, inputs, outputs, kernel: &[] };
                found.extend((inputs != outputs).then_some(shortcut));
            }
            inputs = outputs;
        }
    }
    for (stage, (finer, coarser)) in network.stages.iter().zip(network.stages.iter().skip(1)).enumerate() {
        let (inputs, outputs) = (coarser.channels as u64, finer.channels as u64);
        let block =
            |inputs| Convolution { role: Role::Block, stage, inputs, outputs, kernel: finer.kernel.as_slice() };
        found.push(Convolution { role: Role::Upsampling, stage, inputs, outputs, kernel: &coarser.stride });
        found.push(block(2 * outputs));
        let further = network.decoder_convolutions(finer).saturating_sub(1);
        found.extend(std::iter::repeat_n(block(outputs), further));
    }
    for (stage, of_stage) in network.stages.iter().enumerate() {
        if stage == 0 || (network.deep_supervision && stage + 2 < network.stages.len()) {
            let (inputs, outputs) = (of_stage.channels as u64, classes as u64);
            found.push(Convolution { role: Role::Head, stage, inputs, outputs, kernel: &[] });
        }
    }
    found
}
