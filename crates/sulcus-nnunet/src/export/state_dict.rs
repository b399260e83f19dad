//! The tensors of a network under all the names that they have in nnU-Net's.

use std::collections::BTreeMap;

use sulcus_model::{Dimensions, Encoder, ModelSpec, Norm, OutputActivation, StageConfig};

use super::{ExportError, NamedTensor};

/// The weights of a network of nnU-Net.
pub(super) struct StateDict {
    /// Each name with the index of its tensor. Most tensors have several names.
    pub(super) names: Vec<(String, usize)>,
    pub(super) tensors: Vec<Tensor>,
}

pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

pub(super) enum Values {
    Floats(Vec<f32>),
    /// The number of batches that a batch normalisation has seen, which predictions do not depend on.
    Counter,
}

/// Renames the tensors of a network of Sulcus.
///
/// # Errors
/// [`ExportError::Tensor`] if one is missing, left over or has another shape.
pub(super) fn state_dict(spec: &ModelSpec, tensors: Vec<NamedTensor>) -> Result<StateDict, ExportError> {
    let by_name = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut writer = Writer { spec, ours: by_name, dict: StateDict { names: Vec::new(), tensors: Vec::new() } };
    writer.encoder()?;
    writer.decoder()?;
    match writer.ours.keys().next() {
        Some(name) => Err(tensor_error(name, "has no place in nnU-Net's network".to_owned())),
        None => Ok(writer.dict),
    }
}

fn tensor_error(name: &str, reason: String) -> ExportError {
    ExportError::Tensor { name: name.to_owned(), reason }
}

struct Writer<'a> {
    spec: &'a ModelSpec,
    /// The tensors that have not been written.
    ours: BTreeMap<String, NamedTensor>,
    dict: StateDict,
}

impl Writer<'_> {
    fn encoder(&mut self) -> Result<(), ExportError> {
        let network = &self.spec.network;
        if network.encoder == Encoder::Residual {
            self.block("stem", "encoder.stem.convs.0")?;
        }
        let mut channels = network.stages.first().map_or(0, |stage| stage.channels);
        for (i, stage) in network.stages.iter().enumerate() {
            for j in 0..stage.convolutions {
                let ours = format!("encoder.{i}.{j}");
                if network.encoder == Encoder::Plain {
                    self.block(&ours, &format!("encoder.stages.{i}.0.convs.{j}"))?;
                    continue;
                }
                let theirs = format!("encoder.stages.{i}.blocks.{j}");
                self.block(&format!("{ours}.first"), &format!("{theirs}.conv1"))?;
                self.block(&format!("{ours}.second"), &format!("{theirs}.conv2"))?;
                if channels != stage.channels {
                    // The pooling of a stride comes before it.
                    let pooled = j == 0 && stage.stride.iter().any(|stride| *stride != 1);
                    self.projection(
                        &format!("{ours}.shortcut"),
                        &format!("{theirs}.skip.{}", usize::from(pooled)),
                    )?;
                    channels = stage.channels;
                }
            }
        }
        Ok(())
    }

    fn decoder(&mut self) -> Result<(), ExportError> {
        let network = &self.spec.network;
        let finer: Vec<&StageConfig> = network.stages.iter().rev().skip(1).collect();
        let last = finer.len().saturating_sub(1);
        for (i, stage) in finer.into_iter().enumerate() {
            for part in ["weight", "bias"] {
                let tensor = self.take(&format!("decoder.{i}.up.{part}"))?;
                self.add(&[format!("decoder.transpconvs.{i}.{part}")], tensor);
            }
            for j in 0..network.decoder_convolutions(stage) {
                let name = format!("decoder.{i}.{j}.conv.weight");
                if let Some(weight) = self.ours.get_mut(&name).filter(|_| j == 0) {
                    upsampled_first(weight);
                }
                self.block(&format!("decoder.{i}.{j}"), &format!("decoder.stages.{i}.convs.{j}"))?;
            }
            let ours = match last - i {
                0 => "logits".to_owned(),
                coarser => format!("side_heads.{}", coarser - 1),
            };
            self.head(&ours, &format!("decoder.seg_layers.{i}"), stage.channels)?;
        }
        Ok(())
    }

    /// A convolution with its normalisation.
    fn block(&mut self, ours: &str, theirs: &str) -> Result<(), ExportError> {
        for part in ["weight", "bias"] {
            let tensor = self.take(&format!("{ours}.conv.{part}"))?;
            self.add_twice(theirs, ("conv", 0), part, tensor);
        }
        self.norm(ours, theirs, None)
    }

    /// The convolution of a shortcut, which has no bias in nnU-Net. The normalisation after it subtracts the mean: with the bias
    /// subtracted from the running mean too, nothing changes, and means of the case itself contain it.
    fn projection(&mut self, ours: &str, theirs: &str) -> Result<(), ExportError> {
        let weight = self.take(&format!("{ours}.conv.weight"))?;
        self.add_twice(theirs, ("conv", 0), "weight", weight);
        let bias = self.take(&format!("{ours}.conv.bias"))?;
        self.norm(ours, theirs, Some(&bias.values))
    }

    fn norm(&mut self, ours: &str, theirs: &str, bias: Option<&[f32]>) -> Result<(), ExportError> {
        let mut parts = vec![("scale", "weight"), ("shift", "bias")];
        if self.spec.network.norm == Norm::Batch {
            parts.extend([("mean", "running_mean"), ("variance", "running_var")]);
        }
        for (part, name) in parts {
            let mut tensor = self.take(&format!("{ours}.norm.{part}"))?;
            if let Some(bias) = bias.filter(|_| part == "mean") {
                tensor.values.iter_mut().zip(bias).for_each(|(mean, bias)| *mean -= bias);
            }
            self.add_twice(theirs, ("norm", 1), name, tensor);
        }
        if self.spec.network.norm == Norm::Batch {
            let names = both_names(theirs, ("norm", 1), "num_batches_tracked");
            self.push(&names, Tensor { shape: Vec::new(), values: Values::Counter });
        }
        Ok(())
    }

    /// The logits of a resolution. Those that the network lacks, because only training uses them, are zeros.
    fn head(&mut self, ours: &str, theirs: &str, channels: usize) -> Result<(), ExportError> {
        for part in ["weight", "bias"] {
            let name = format!("{ours}.{part}");
            let mut tensor = if ours == "logits" || self.ours.contains_key(&name) {
                self.take(&name)?
            } else {
                let shape = match part {
                    "weight" => vec![self.spec.classes(), channels, 1, 1, 1],
                    _ => vec![self.spec.classes()],
                };
                let values = vec![0.0; shape.iter().product()];
                NamedTensor { name, shape: self.spatial(shape), values }
            };
            if self.spec.activation == OutputActivation::Sigmoid {
                // Background has the logit 0: the label's is greater exactly where it is above 0.
                tensor.values.splice(0..0, vec![0.0; tensor.values.len()]);
                tensor.shape.iter_mut().take(1).for_each(|classes| *classes = 2);
            }
            self.add(&[format!("{theirs}.{part}")], tensor);
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Result<NamedTensor, ExportError> {
        let tensor = self.ours.remove(name);
        let mut tensor = tensor.ok_or_else(|| tensor_error(name, "is missing".to_owned()))?;
        let count: usize = tensor.shape.iter().product();
        if tensor.values.len() != count || tensor.shape.is_empty() {
            return Err(tensor_error(
                name,
                format!("has {} values for shape {:?}", tensor.values.len(), tensor.shape),
            ));
        }
        if tensor.values.iter().any(|value| !value.is_finite()) {
            return Err(tensor_error(
                name,
                "has values that are not finite, so the training has diverged".to_owned(),
            ));
        }
        tensor.shape = self.spatial(tensor.shape);
        Ok(tensor)
    }

    /// Removes the depth axis of weights of slices.
    fn spatial(&self, mut shape: Vec<usize>) -> Vec<usize> {
        const DEPTH: usize = 2;
        if self.spec.network.dimensions == Dimensions::Two && shape.get(DEPTH) == Some(&1) && shape.len() == 5 {
            shape.remove(DEPTH);
        }
        shape
    }

    fn add_twice(&mut self, theirs: &str, layer: (&str, usize), part: &str, tensor: NamedTensor) {
        self.add(&both_names(theirs, layer, part), tensor);
    }

    fn add(&mut self, names: &[String], tensor: NamedTensor) {
        self.push(names, Tensor { shape: tensor.shape, values: Values::Floats(tensor.values) });
    }

    /// The decoder of nnU-Net also holds the encoder.
    fn push(&mut self, names: &[String], tensor: Tensor) {
        let key = self.dict.tensors.len();
        for name in names {
            self.dict.names.push((name.clone(), key));
            if name.starts_with("encoder.") {
                self.dict.names.push((format!("decoder.{name}"), key));
            }
        }
        self.dict.tensors.push(tensor);
    }
}

/// A layer is an attribute of its block and an element of the block's sequence.
fn both_names(block: &str, (layer, index): (&str, usize), part: &str) -> [String; 2] {
    [format!("{block}.{layer}.{part}"), format!("{block}.all_modules.{index}.{part}")]
}

/// nnU-Net's decoder concatenates the upsampled maps before the encoder's, ours after them.
fn upsampled_first(weight: &mut NamedTensor) {
    let per_output: usize = weight.shape.iter().skip(1).product();
    for kernels in weight.values.chunks_exact_mut(per_output.max(1)) {
        kernels.rotate_left(per_output / 2);
    }
}
