//! Single layers: their weights from the checkpoint, and their nodes.

use sulcus_model::{Activation, Dimensions};
use sulcus_onnx::{BatchNorm, GraphBuilder, attribute};

use crate::checkpoint::{CheckpointError, StateDict};

/// A convolution, and what follows it.
pub(super) struct ConvLayer<'a> {
    /// Its name in the checkpoint, to which `.conv` and `.norm` are added.
    pub(super) name: String,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) kernel: &'a [usize],
    pub(super) stride: &'a [usize],
    pub(super) bias: bool,
    pub(super) activation: Option<Activation>,
    /// Whether the activation comes before the normalisation.
    pub(super) activation_first: bool,
}

/// Adds layers to a graph. Methods take the name of the value that a layer reads and return the name of its output.
pub(super) struct LayerWriter<'a> {
    pub(super) graph: &'a mut GraphBuilder,
    pub(super) weights: &'a mut StateDict,
    pub(super) dimensions: Dimensions,
    pub(super) epsilon: f64,
    /// Comes before the names of nodes and constants.
    pub(super) prefix: String,
}

/// The normalisation of a layer.
enum Norm {
    /// Over space, case by case, with these factors and offsets.
    Instance { scale: Vec<f32>, shift: Vec<f32> },
    /// With the running statistics of the training.
    Batch { scale: Vec<f32>, shift: Vec<f32>, mean: Vec<f32>, variance: Vec<f32> },
}

impl LayerWriter<'_> {
    /// Convolution, normalisation and activation (`ConvDropoutNormReLU`).
    pub(super) fn block(&mut self, layer: &ConvLayer<'_>, value: &str) -> Result<String, CheckpointError> {
        let name = self.name(&layer.name);
        let (mut weight, mut bias) = self.conv_weights(&format!("{}.conv", layer.name), layer)?;
        let norm = self.norm_weights(&format!("{}.norm", layer.name), layer.output)?;
        let sums = format!("{name}.conv");
        let is_last_norm = !layer.activation_first || layer.activation.is_none();
        let is_folded = match &norm {
            Norm::Batch { scale, shift, mean, variance } if is_last_norm => {
                let norm = BatchNorm { scale, shift, mean, variance, epsilon: self.epsilon };
                norm.fold_into(&mut weight, &mut bias);
                true
            }
            _ => false,
        };
        let channels = [layer.output, layer.input];
        self.convolution(layer.kernel, layer.stride, channels, &weight, &bias, value, &sums);
        let normalised = if is_folded {
            sums
        } else {
            let before = match layer.activation.filter(|_| !is_last_norm) {
                Some(activation) => self.activation(activation, &sums, format!("{name}.nonlin")),
                None => sums,
            };
            self.norm(norm, &before, format!("{name}.norm"))
        };
        Ok(match layer.activation.filter(|_| is_last_norm) {
            Some(activation) => self.activation(activation, &normalised, format!("{name}.nonlin")),
            None => normalised,
        })
    }

    /// The upsampling of a decoder's stage: a transposed convolution whose kernel is its stride.
    pub(super) fn upsampling(
        &mut self,
        name: &str,
        [input, output]: [usize; 2],
        stride: &[usize],
        has_bias: bool,
        value: &str,
    ) -> Result<String, CheckpointError> {
        let weight = self.weights.take(&format!("{name}.weight"), &[&[input, output], stride].concat())?;
        let bias =
            if has_bias { self.weights.take(&format!("{name}.bias"), &[output])? } else { vec![0.0; output] };
        let node = self.name(name);
        let (weights, biases) = (format!("{node}.weight"), format!("{node}.bias"));
        self.graph.constant(&weights, &[&[input, output], stride].concat(), &weight);
        self.graph.constant(&biases, &[output], &bias);
        let attributes = vec![attribute::ints("kernel_shape", stride), attribute::ints("strides", stride)];
        self.graph.node("ConvTranspose", &[value, &weights, &biases], &node, attributes);
        Ok(node)
    }

    /// The 1×1 convolution that gives the logits.
    pub(super) fn head(
        &mut self,
        name: &str,
        [input, output]: [usize; 2],
        value: &str,
        logits: &str,
    ) -> Result<(), CheckpointError> {
        let ones = vec![1; self.dimensions.count()];
        let weight =
            self.weights.take(&format!("{name}.weight"), &[&[output, input], ones.as_slice()].concat())?;
        let bias = self.weights.take(&format!("{name}.bias"), &[output])?;
        self.convolution(&ones, &ones, [output, input], &weight, &bias, value, logits);
        Ok(())
    }

    pub(super) fn average_pool(&mut self, name: &str, window: &[usize], value: &str) -> String {
        let output = self.name(name);
        let attributes = vec![attribute::ints("kernel_shape", window), attribute::ints("strides", window)];
        self.graph.node("AveragePool", &[value], &output, attributes);
        output
    }

    pub(super) fn activation(&mut self, activation: Activation, value: &str, output: String) -> String {
        match activation {
            Activation::Relu => self.graph.node("Relu", &[value], &output, vec![]),
            Activation::LeakyRelu { slope } => {
                self.graph.node("LeakyRelu", &[value], &output, vec![attribute::float("alpha", slope)]);
            }
        }
        output
    }

    /// The name of a node.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn conv_weights(
        &mut self,
        name: &str,
        layer: &ConvLayer<'_>,
    ) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
        let shape = [&[layer.output, layer.input], layer.kernel].concat();
        let weight = self.weights.take(&format!("{name}.weight"), &shape)?;
        let bias = match layer.bias {
            true => self.weights.take(&format!("{name}.bias"), &[layer.output])?,
            false => vec![0.0; layer.output],
        };
        Ok((weight, bias))
    }

    /// Layers without factors and offsets have ones and zeros.
    fn norm_weights(&mut self, name: &str, channels: usize) -> Result<Norm, CheckpointError> {
        let mut take = |part: &str, absent: Option<f32>| {
            let name = format!("{name}.{part}");
            match absent {
                Some(value) if !self.weights.contains(&name) => Ok(vec![value; channels]),
                _ => self.weights.take(&name, &[channels]),
            }
        };
        let (scale, shift) = (take("weight", Some(1.0))?, take("bias", Some(0.0))?);
        if !self.weights.contains(&format!("{name}.running_mean")) {
            return Ok(Norm::Instance { scale, shift });
        }
        let mean = self.weights.take(&format!("{name}.running_mean"), &[channels])?;
        let variance = self.weights.take(&format!("{name}.running_var"), &[channels])?;
        if variance.iter().any(|value| *value < 0.0) {
            return Err(CheckpointError::Tensor {
                name: format!("{name}.running_var"),
                reason: "a variance is negative".to_owned(),
            });
        }
        self.weights.ignore(&format!("{name}.num_batches_tracked"));
        Ok(Norm::Batch { scale, shift, mean, variance })
    }

    fn norm(&mut self, norm: Norm, value: &str, output: String) -> String {
        let epsilon = vec![attribute::float("epsilon", self.epsilon as f32)];
        let mut inputs = vec![value.to_owned()];
        let mut constant = |part: &str, values: &[f32]| {
            let name = format!("{output}.{part}");
            self.graph.constant(&name, &[values.len()], values);
            inputs.push(name);
        };
        let operator = match norm {
            Norm::Instance { scale, shift } => {
                constant("scale", &scale);
                constant("shift", &shift);
                "InstanceNormalization"
            }
            Norm::Batch { scale, shift, mean, variance } => {
                constant("scale", &scale);
                constant("shift", &shift);
                constant("mean", &mean);
                constant("variance", &variance);
                "BatchNormalization"
            }
        };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.graph.node(operator, &inputs, &output, epsilon);
        output
    }

    #[expect(clippy::too_many_arguments, reason = "the properties of one node")]
    fn convolution(
        &mut self,
        kernel: &[usize],
        stride: &[usize],
        channels: [usize; 2],
        weight: &[f32],
        bias: &[f32],
        value: &str,
        output: &str,
    ) {
        let (weights, biases) = (format!("{output}.weight"), format!("{output}.bias"));
        self.graph.constant(&weights, &[&channels, kernel].concat(), weight);
        self.graph.constant(&biases, &[bias.len()], bias);
        // Half an odd kernel on every side.
        let half: Vec<usize> = kernel.iter().map(|edge| edge / 2).collect();
        let attributes = vec![
            attribute::ints("kernel_shape", kernel),
            attribute::ints("strides", stride),
            attribute::ints("pads", &[half.as_slice(), half.as_slice()].concat()),
        ];
        self.graph.node("Conv", &[value, &weights, &biases], output, attributes);
    }
}
