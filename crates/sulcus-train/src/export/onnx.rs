//! Writes a network as an ONNX file.
//!
//! Burn's own exporter (0.22, experimental) does not support transposed convolutions, so this module writes a node for each
//! layer of the network.

use burn::module::{Module, Param};
use burn::nn::BatchNorm;
use burn::tensor::Tensor;
use sulcus_model::{Activation, Dimensions, ModelSpec};
use sulcus_onnx::{Axis, GraphBuilder, OnnxError, attribute, doc_string};

use crate::network::{Block, Conv, ConvBlock, NormLayer, ResidualBlock, UNet, Up};

/// Why a network cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The network does not match the specification.
    #[error("cannot export the network: its specification says {expected}, the network has {found}")]
    Mismatch {
        /// The specification.
        expected: String,
        /// The network.
        found: String,
    },
    /// Weights are not finite.
    #[error(
        "cannot export the network: the weights of `{layer}` are not finite, so training has diverged; train with a lower learning rate"
    )]
    NotFinite {
        /// The layer.
        layer: String,
    },
    /// Weights cannot be read from their device.
    #[error("cannot export the network: the weights of `{layer}` could not be read: {reason}")]
    Unreadable {
        /// The layer.
        layer: String,
        /// The cause.
        reason: String,
    },
    /// The model file cannot be made.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

/// Writes the network as an ONNX model file (operator set 17) that carries `spec`.
///
/// The graph maps `image` `[batch, C, (depth,) height, width]` to `logits` `[batch, K, (depth,) height, width]`, float32, with
/// dynamic batch and spatial axes. Batch normalisation is folded into the preceding convolution in double precision; every
/// other layer is one node. The heads of deep supervision, which only training uses, are omitted.
///
/// # Errors
/// When `spec` describes another network, or weights are not finite.
pub fn export_onnx(network: &UNet, spec: &ModelSpec) -> Result<Vec<u8>, ExportError> {
    // The evaluation view: it has the running statistics up to and including the last training step.
    let network = network.valid();
    check(&network, spec)?;
    let mut writer =
        GraphWriter { graph: GraphBuilder::new(&spec.network.name), dimensions: network.dimensions() };
    writer.network(&network)?;
    let doc = doc_string(format_args!(
        "{}: {}, trained on {} cases of {}",
        spec.name, spec.network.name, spec.training.training_cases, spec.training.dataset
    ));
    Ok(writer.graph.finish(spec, &doc, env!("CARGO_PKG_VERSION"))?)
}

/// Refuses a network that does not match the specification, because the file would contradict itself.
fn check(network: &UNet, spec: &ModelSpec) -> Result<(), ExportError> {
    let channels = |inputs: usize, outputs: usize| format!("{inputs} input and {outputs} output channel(s)");
    let expected = channels(spec.channels.len(), spec.classes());
    let found = channels(network.input_channels(), network.output_channels());
    if expected != found {
        return Err(ExportError::Mismatch { expected, found });
    }
    let found = network.describe(&spec.network);
    if found != spec.network {
        return Err(ExportError::Mismatch {
            expected: format!("{:?}", spec.network),
            found: format!("{found:?}"),
        });
    }
    Ok(())
}

/// Writes the layers of a network in the order of its forward pass. Methods take the name of the value that a layer reads and
/// return the name of its output.
struct GraphWriter {
    graph: GraphBuilder,
    dimensions: Dimensions,
}

impl GraphWriter {
    fn network(&mut self, network: &UNet) -> Result<(), ExportError> {
        let names = self.spatial(["depth", "height", "width"]);
        let axes = |channels| {
            let spatial = names.iter().map(|name| Axis::Dynamic(name));
            [Axis::Dynamic("batch"), Axis::Fixed(channels)].into_iter().chain(spatial).collect::<Vec<_>>()
        };
        let multiples: Vec<String> = names
            .iter()
            .zip(self.spatial(network.multiple()))
            .map(|(name, multiple)| format!("{name} a multiple of {multiple}"))
            .collect();
        let kind = match self.dimensions {
            Dimensions::Two => "slices",
            Dimensions::Three => "blocks",
        };
        self.graph.input(
            "image",
            &axes(network.input_channels()),
            &format!("Preprocessed {kind}; {}.", multiples.join(", ")),
        );
        let mut value = "image".to_owned();
        if let Some(stem) = &network.stem {
            value = self.block(stem, &value, "stem")?;
        }
        let mut skips = Vec::new();
        for (i, stage) in network.encoder.iter().enumerate() {
            let name = format!("encoder.{i}");
            if let Some(window) = stage.pool {
                value = self.pool("MaxPool", window, &value, format!("{name}.pool"));
            }
            for (i, block) in stage.blocks.iter().enumerate() {
                let name = format!("{name}.{i}");
                value = match block {
                    Block::Plain(block) => self.block(block, &value, &name)?,
                    Block::Residual(block) => self.residual(block, &value, &name)?,
                };
            }
            skips.push(value.clone());
        }
        skips.pop();
        for (i, stage) in network.decoder.iter().enumerate() {
            let name = format!("decoder.{i}");
            let up = self.transposed(&stage.up, &value, format!("{name}.up"))?;
            value = match skips.pop() {
                Some(skip) => self.concatenate(&skip, &up, format!("{name}.cat")),
                None => up,
            };
            for (i, block) in stage.blocks.iter().enumerate() {
                value = self.block(block, &value, &format!("{name}.{i}"))?;
            }
        }
        let (weight, bias) = (read(&network.head.weight, "head")?, read(&network.head.bias, "head")?);
        self.convolution(&network.head, &weight, &bias, &value, "logits".to_owned());
        self.graph.output("logits", &axes(network.output_channels()), "Scores before softmax or sigmoid.");
        Ok(())
    }

    /// Convolution, normalisation and, if the block has one, activation.
    fn block(&mut self, block: &ConvBlock, value: &str, name: &str) -> Result<String, ExportError> {
        let mut weight = read(&block.conv.weight, name)?;
        let mut bias = read(&block.conv.bias, name)?;
        let sums = format!("{name}.conv");
        let normalised = match &block.norm {
            NormLayer::Batch(norm) => {
                fold(norm, &mut weight, &mut bias, name)?;
                self.convolution(&block.conv, &weight, &bias, value, sums)
            }
            NormLayer::Instance(norm) => {
                let sums = self.convolution(&block.conv, &weight, &bias, value, sums);
                let channels = norm.num_channels;
                let scale = affine(norm.gamma.as_ref(), 1.0, channels, name)?;
                let shift = affine(norm.beta.as_ref(), 0.0, channels, name)?;
                let output = format!("{name}.norm");
                let inputs = [format!("{output}.scale"), format!("{output}.shift")];
                self.graph.constant(&inputs[0], &[channels], &scale);
                self.graph.constant(&inputs[1], &[channels], &shift);
                let epsilon = vec![attribute::float("epsilon", norm.epsilon as f32)];
                self.graph.node("InstanceNormalization", &[&sums, &inputs[0], &inputs[1]], &output, epsilon);
                output
            }
        };
        Ok(match block.activation {
            Some(activation) => self.activation(activation, &normalised, format!("{name}.out")),
            None => normalised,
        })
    }

    fn residual(&mut self, block: &ResidualBlock, value: &str, name: &str) -> Result<String, ExportError> {
        let mut shortcut = value.to_owned();
        if block.first.conv.stride != [1; 3] {
            shortcut =
                self.pool("AveragePool", block.first.conv.stride, &shortcut, format!("{name}.shortcut.pool"));
        }
        if let Some(project) = &block.project {
            shortcut = self.block(project, &shortcut, &format!("{name}.shortcut"))?;
        }
        let first = self.block(&block.first, value, &format!("{name}.first"))?;
        let second = self.block(&block.second, &first, &format!("{name}.second"))?;
        let sum = format!("{name}.sum");
        self.graph.node("Add", &[&second, &shortcut], &sum, vec![]);
        Ok(self.activation(block.activation, &sum, format!("{name}.out")))
    }

    fn activation(&mut self, activation: Activation, value: &str, output: String) -> String {
        match activation {
            Activation::Relu => self.graph.node("Relu", &[value], &output, vec![]),
            Activation::LeakyRelu { slope } => {
                self.graph.node("LeakyRelu", &[value], &output, vec![attribute::float("alpha", slope)]);
            }
        }
        output
    }

    fn convolution(&mut self, conv: &Conv, weight: &[f32], bias: &[f32], value: &str, output: String) -> String {
        let (weights, biases) = (format!("{output}.weight"), format!("{output}.bias"));
        let kernel = self.spatial(conv.kernel());
        self.graph.constant(&weights, &self.weight_shape(conv.weight.dims()), weight);
        self.graph.constant(&biases, &[bias.len()], bias);
        // Half an odd kernel on every side, as the layers are built.
        let half: Vec<usize> = kernel.iter().map(|edge| edge / 2).collect();
        let attributes = vec![
            attribute::ints("kernel_shape", &kernel),
            attribute::ints("strides", &self.spatial(conv.stride)),
            attribute::ints("pads", &[half.as_slice(), half.as_slice()].concat()),
        ];
        self.graph.node("Conv", &[value, &weights, &biases], &output, attributes);
        output
    }

    fn transposed(&mut self, up: &Up, value: &str, output: String) -> Result<String, ExportError> {
        let (weights, biases) = (format!("{output}.weight"), format!("{output}.bias"));
        self.graph.constant(&weights, &self.weight_shape(up.weight.dims()), &read(&up.weight, &output)?);
        let bias = read(&up.bias, &output)?;
        self.graph.constant(&biases, &[bias.len()], &bias);
        let stride = self.spatial(up.stride());
        let attributes = vec![attribute::ints("kernel_shape", &stride), attribute::ints("strides", &stride)];
        self.graph.node("ConvTranspose", &[value, &weights, &biases], &output, attributes);
        Ok(output)
    }

    fn pool(&mut self, operator: &str, window: [usize; 3], value: &str, output: String) -> String {
        let window = self.spatial(window);
        let attributes = vec![attribute::ints("kernel_shape", &window), attribute::ints("strides", &window)];
        self.graph.node(operator, &[value], &output, attributes);
        output
    }

    fn concatenate(&mut self, skip: &str, up: &str, output: String) -> String {
        self.graph.node("Concat", &[skip, up], &output, vec![attribute::int("axis", 1)]);
        output
    }

    /// Selects the axes of the graph: slices have no D.
    fn spatial<T: Copy>(&self, [d, h, w]: [T; 3]) -> Vec<T> {
        match self.dimensions {
            Dimensions::Two => vec![h, w],
            Dimensions::Three => vec![d, h, w],
        }
    }

    fn weight_shape(&self, [first, second, d, h, w]: [usize; 5]) -> Vec<usize> {
        [vec![first, second], self.spatial([d, h, w])].concat()
    }
}

/// Folds a batch normalisation into the preceding convolution.
///
/// # Shapes
/// `weight` `[out, …]`, `bias` `[out]`.
fn fold(norm: &BatchNorm, weight: &mut [f32], bias: &mut [f32], layer: &str) -> Result<(), ExportError> {
    let (scale, shift) = (read(&norm.gamma, layer)?, read(&norm.beta, layer)?);
    let mean = values(norm.running_mean.value(), layer)?;
    let variance = values(norm.running_var.value(), layer)?;
    let norm = sulcus_onnx::BatchNorm {
        scale: &scale,
        shift: &shift,
        mean: &mean,
        variance: &variance,
        epsilon: norm.epsilon,
    };
    norm.fold_into(weight, bias);
    Ok(())
}

/// The vector of a layer, or the constant that its absence means.
fn affine(
    parameter: Option<&Param<Tensor<1>>>,
    absent: f32,
    channels: usize,
    layer: &str,
) -> Result<Vec<f32>, ExportError> {
    parameter.map_or_else(|| Ok(vec![absent; channels]), |parameter| read(parameter, layer))
}

fn read<const D: usize>(parameter: &Param<Tensor<D>>, layer: &str) -> Result<Vec<f32>, ExportError> {
    values(parameter.val(), layer)
}

fn values<const D: usize>(tensor: Tensor<D>, layer: &str) -> Result<Vec<f32>, ExportError> {
    let layer = || layer.to_owned();
    let values = tensor
        .try_into_vec_as::<f32>()
        .map_err(|e| ExportError::Unreadable { layer: layer(), reason: format!("{e:?}") })?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ExportError::NotFinite { layer: layer() });
    }
    Ok(values)
}
