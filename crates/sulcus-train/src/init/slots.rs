use burn::module::{Param, RunningState};
use burn::tensor::{Device, Tensor, TensorData};

use crate::UNet;
use crate::network::{Block, Conv, ConvBlock, NormLayer};

/// A tensor of a network, to be read or replaced.
pub(super) enum Slot<'a> {
    /// Of a convolution: `[out, in, D, H, W]`; of a transposed one `[in, out, D, H, W]`.
    Weight(&'a mut Param<Tensor<5>>),
    /// `[channels]`
    Vector(&'a mut Param<Tensor<1>>),
    /// `[channels]`, carried along by batch normalisation without being trained.
    Running(&'a mut RunningState<Tensor<1>>),
}

impl Slot<'_> {
    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Weight(weight) => weight.dims().to_vec(),
            Self::Vector(vector) => vector.dims().to_vec(),
            Self::Running(state) => state.value().dims().to_vec(),
        }
    }

    /// Its values, last axis fastest.
    pub(super) fn values(&self) -> Result<Vec<f32>, String> {
        match self {
            Self::Weight(weight) => weight.val().try_into_vec_as::<f32>(),
            Self::Vector(vector) => vector.val().try_into_vec_as::<f32>(),
            Self::Running(state) => state.value().try_into_vec_as::<f32>(),
        }
        .map_err(|e| format!("{e:?}"))
    }

    /// `values`: as many as [`Self::shape`] says. They are put in place as fresh weights are, so training can't tell
    /// the two apart.
    pub(super) fn replace(&mut self, values: Vec<f32>, device: &Device) {
        let data = TensorData::new(values, self.shape());
        match self {
            Self::Weight(weight) => **weight = Param::from_data(data, device),
            Self::Vector(vector) => **vector = Param::from_data(data, device),
            Self::Running(state) => **state = RunningState::new(Tensor::from_data(data, device)),
        }
    }
}

/// Every tensor of a network by its name, in the order of the forward pass. Those that an exported model has are
/// named as in its graph.
pub(super) fn slots(network: &mut UNet) -> Vec<(String, Slot<'_>)> {
    let mut slots = Vec::new();
    if let Some(stem) = &mut network.stem {
        block(stem, "stem", &mut slots);
    }
    for (i, stage) in network.encoder.iter_mut().enumerate() {
        for (j, part) in stage.blocks.iter_mut().enumerate() {
            let name = format!("encoder.{i}.{j}");
            match part {
                Block::Plain(plain) => block(plain, &name, &mut slots),
                Block::Residual(residual) => {
                    block(&mut residual.first, &format!("{name}.first"), &mut slots);
                    block(&mut residual.second, &format!("{name}.second"), &mut slots);
                    if let Some(project) = &mut residual.project {
                        block(project, &format!("{name}.shortcut"), &mut slots);
                    }
                }
            }
        }
    }
    for (i, stage) in network.decoder.iter_mut().enumerate() {
        let name = format!("decoder.{i}");
        slots.push((format!("{name}.up.weight"), Slot::Weight(&mut stage.up.weight)));
        slots.push((format!("{name}.up.bias"), Slot::Vector(&mut stage.up.bias)));
        for (j, part) in stage.blocks.iter_mut().enumerate() {
            block(part, &format!("{name}.{j}"), &mut slots);
        }
    }
    convolution(&mut network.head, "logits", &mut slots);
    for (i, head) in network.side_heads.iter_mut().enumerate() {
        convolution(head, &format!("side_heads.{i}"), &mut slots);
    }
    slots
}

fn block<'a>(block: &'a mut ConvBlock, name: &str, slots: &mut Vec<(String, Slot<'a>)>) {
    convolution(&mut block.conv, &format!("{name}.conv"), slots);
    let (scale, shift) = (format!("{name}.norm.scale"), format!("{name}.norm.shift"));
    match &mut block.norm {
        NormLayer::Instance(norm) => {
            let parts = [(scale, &mut norm.gamma), (shift, &mut norm.beta)];
            slots.extend(parts.into_iter().filter_map(|(name, part)| Some((name, Slot::Vector(part.as_mut()?)))));
        }
        NormLayer::Batch(norm) => slots.extend([
            (scale, Slot::Vector(&mut norm.gamma)),
            (shift, Slot::Vector(&mut norm.beta)),
            (format!("{name}.norm.mean"), Slot::Running(&mut norm.running_mean)),
            (format!("{name}.norm.variance"), Slot::Running(&mut norm.running_var)),
        ]),
    }
}

fn convolution<'a>(conv: &'a mut Conv, name: &str, slots: &mut Vec<(String, Slot<'a>)>) {
    slots.push((format!("{name}.weight"), Slot::Weight(&mut conv.weight)));
    slots.push((format!("{name}.bias"), Slot::Vector(&mut conv.bias)));
}
