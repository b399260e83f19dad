use burn::module::{Param, RunningState};
use burn::tensor::{Device, Tensor, TensorData};

use super::block::{Block, ConvBlock};
use super::layers::{Conv, NormLayer};
use super::unet::UNet;

/// A tensor of a network that can be read or replaced.
pub(crate) enum NetworkTensor<'a> {
    /// `[out, in, D, H, W]` of a convolution, `[in, out, D, H, W]` of a transposed convolution.
    Weight(&'a mut Param<Tensor<5>>),
    /// `[channels]`
    Vector(&'a mut Param<Tensor<1>>),
    /// `[channels]`, a running statistic of batch normalisation.
    Running(&'a mut RunningState<Tensor<1>>),
}

impl NetworkTensor<'_> {
    pub(crate) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Weight(weight) => weight.dims().to_vec(),
            Self::Vector(vector) => vector.dims().to_vec(),
            Self::Running(state) => state.value().dims().to_vec(),
        }
    }

    /// The values, last axis fastest.
    pub(crate) fn values(&self) -> Result<Vec<f32>, String> {
        match self {
            Self::Weight(weight) => weight.val().try_into_vec_as::<f32>(),
            Self::Vector(vector) => vector.val().try_into_vec_as::<f32>(),
            Self::Running(state) => state.value().try_into_vec_as::<f32>(),
        }
        .map_err(|e| format!("{e:?}"))
    }

    /// Replaces the values; their number must match [`Self::shape`].
    pub(crate) fn replace(&mut self, values: Vec<f32>, device: &Device) {
        let data = TensorData::new(values, self.shape());
        match self {
            Self::Weight(weight) => **weight = Param::from_data(data, device),
            Self::Vector(vector) => **vector = Param::from_data(data, device),
            Self::Running(state) => **state = RunningState::new(Tensor::from_data(data, device)),
        }
    }
}

/// All tensors of a network by name, in the order of the forward pass. The names are those of an exported graph, where it has
/// the tensor.
pub(crate) fn network_tensors(network: &mut UNet) -> Vec<(String, NetworkTensor<'_>)> {
    let mut tensors = Vec::new();
    if let Some(stem) = &mut network.stem {
        block(stem, "stem", &mut tensors);
    }
    for (i, stage) in network.encoder.iter_mut().enumerate() {
        for (j, part) in stage.blocks.iter_mut().enumerate() {
            let name = format!("encoder.{i}.{j}");
            match part {
                Block::Plain(plain) => block(plain, &name, &mut tensors),
                Block::Residual(residual) => {
                    block(&mut residual.first, &format!("{name}.first"), &mut tensors);
                    block(&mut residual.second, &format!("{name}.second"), &mut tensors);
                    if let Some(project) = &mut residual.project {
                        block(project, &format!("{name}.shortcut"), &mut tensors);
                    }
                }
            }
        }
    }
    for (i, stage) in network.decoder.iter_mut().enumerate() {
        let name = format!("decoder.{i}");
        tensors.push((format!("{name}.up.weight"), NetworkTensor::Weight(&mut stage.up.weight)));
        tensors.push((format!("{name}.up.bias"), NetworkTensor::Vector(&mut stage.up.bias)));
        for (j, part) in stage.blocks.iter_mut().enumerate() {
            block(part, &format!("{name}.{j}"), &mut tensors);
        }
    }
    convolution(&mut network.head, "logits", &mut tensors);
    for (i, head) in network.side_heads.iter_mut().enumerate() {
        convolution(head, &format!("side_heads.{i}"), &mut tensors);
    }
    tensors
}

fn block<'a>(block: &'a mut ConvBlock, name: &str, tensors: &mut Vec<(String, NetworkTensor<'a>)>) {
    convolution(&mut block.conv, &format!("{name}.conv"), tensors);
    let (scale, shift) = (format!("{name}.norm.scale"), format!("{name}.norm.shift"));
    match &mut block.norm {
        NormLayer::Instance(norm) => {
            let parts = [(scale, &mut norm.gamma), (shift, &mut norm.beta)];
            tensors.extend(
                parts.into_iter().filter_map(|(name, part)| Some((name, NetworkTensor::Vector(part.as_mut()?)))),
            );
        }
        NormLayer::Batch(norm) => tensors.extend([
            (scale, NetworkTensor::Vector(&mut norm.gamma)),
            (shift, NetworkTensor::Vector(&mut norm.beta)),
            (format!("{name}.norm.mean"), NetworkTensor::Running(&mut norm.running_mean)),
            (format!("{name}.norm.variance"), NetworkTensor::Running(&mut norm.running_var)),
        ]),
    }
}

fn convolution<'a>(conv: &'a mut Conv, name: &str, tensors: &mut Vec<(String, NetworkTensor<'a>)>) {
    tensors.push((format!("{name}.weight"), NetworkTensor::Weight(&mut conv.weight)));
    tensors.push((format!("{name}.bias"), NetworkTensor::Vector(&mut conv.bias)));
}
