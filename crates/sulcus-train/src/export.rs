//! The trained network as an ONNX file.
//!
//! Burn's own exporter (0.22, experimental) knows no transposed convolution, so this walks the module and writes a
//! node for each layer.

use burn::module::{Module, Param};
use burn::nn::BatchNorm;
use burn::nn::conv::{Conv2d, ConvTranspose2d};
use burn::tensor::Tensor;
use sulcus_onnx::{Axis, GraphBuilder, OnnxError, attribute};
use sulcus_pipeline::{Activation, ModelSpec, SPEC_KEY};

use crate::network::{ConvBlock, NormLayer, UNet};

/// Why a network could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A network that is not the specification's.
    #[error("cannot export the network: its specification says {expected}, the network has {found}")]
    Mismatch {
        /// By the specification.
        expected: String,
        /// By the network.
        found: String,
    },
    /// Weights that are no numbers.
    #[error(
        "cannot export the network: the weights of `{layer}` are not finite, so training has diverged; train with a lower learning rate"
    )]
    NotFinite {
        /// The layer.
        layer: String,
    },
    /// Weights that can't be read back from their device.
    #[error("cannot export the network: the weights of `{layer}` could not be read: {reason}")]
    Unreadable {
        /// The layer.
        layer: String,
        /// Why.
        reason: String,
    },
    /// A file that can't be written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

/// Writes the network as an ONNX model file (operator set 17) that carries `spec`.
///
/// The graph takes `image` `[batch, C, height, width]` and gives `logits` `[batch, K, height, width]`, float32, with
/// batch, height and width free. Batch normalisation is folded into the convolution before it, in double precision;
/// everything else is one node a layer.
///
/// # Errors
/// When `spec` describes another network than this one, or weights are not finite.
pub fn export_onnx(network: &UNet, spec: &ModelSpec) -> Result<Vec<u8>, ExportError> {
    // The evaluation view: it has the running statistics up to and including the last training step.
    let network = network.valid();
    check(&network, spec)?;
    let mut walk = Walk { graph: GraphBuilder::new(&spec.network.name) };
    walk.network(&network)?;
    let doc = format!(
        "{}: {}, trained on {} cases of {}. Everything that prediction needs besides this graph is in the metadata \
         entry {SPEC_KEY}.",
        spec.name, spec.network.name, spec.training.training_cases, spec.training.dataset
    );
    Ok(walk.graph.finish(spec, &doc, env!("CARGO_PKG_VERSION"))?)
}

/// Refuses a network that is not the specification's: the file would contradict itself.
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

/// Goes through the network in the order of its forward pass and writes down each layer. Methods take the name of
/// the value that a layer reads and give that of the value it makes.
struct Walk {
    graph: GraphBuilder,
}

impl Walk {
    fn network(&mut self, network: &UNet) -> Result<(), ExportError> {
        let axes = |channels| {
            [Axis::Dynamic("batch"), Axis::Fixed(channels), Axis::Dynamic("height"), Axis::Dynamic("width")]
        };
        let [by_height, by_width] = network.multiple();
        self.graph.input(
            "image",
            &axes(network.input_channels()),
            &format!("Prepared slices; height a multiple of {by_height}, width of {by_width}."),
        );
        let mut value = "image".to_owned();
        let mut skips = Vec::new();
        for (i, stage) in network.encoder.iter().enumerate() {
            let name = format!("encoder.{i}");
            if let Some(window) = stage.pool {
                value = self.max_pool(window, &value, format!("{name}.pool"));
            }
            value = self.blocks(&stage.blocks, value, &name)?;
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
            value = self.blocks(&stage.blocks, value, &name)?;
        }
        let (weight, bias) = (read(&network.head.weight, "head")?, bias(&network.head, "head")?);
        self.convolution(&network.head, &weight, &bias, &value, "logits".to_owned());
        self.graph.output("logits", &axes(network.output_channels()), "Scores before softmax or sigmoid.");
        Ok(())
    }

    fn blocks(&mut self, blocks: &[ConvBlock], mut value: String, stage: &str) -> Result<String, ExportError> {
        for (i, block) in blocks.iter().enumerate() {
            value = self.block(block, &value, &format!("{stage}.{i}"))?;
        }
        Ok(value)
    }

    fn block(&mut self, block: &ConvBlock, value: &str, name: &str) -> Result<String, ExportError> {
        let mut weight = read(&block.conv.weight, name)?;
        let mut bias = bias(&block.conv, name)?;
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
        let output = format!("{name}.out");
        match block.activation {
            Activation::Relu => self.graph.node("Relu", &[&normalised], &output, vec![]),
            Activation::LeakyRelu { slope } => {
                self.graph.node("LeakyRelu", &[&normalised], &output, vec![attribute::float("alpha", slope)]);
            }
        }
        Ok(output)
    }

    fn convolution(&mut self, conv: &Conv2d, weight: &[f32], bias: &[f32], value: &str, output: String) -> String {
        let (weights, biases) = (format!("{output}.weight"), format!("{output}.bias"));
        self.graph.constant(&weights, &conv.weight.dims(), weight);
        self.graph.constant(&biases, &[bias.len()], bias);
        let [height, width] = conv.kernel_size;
        let attributes = vec![
            attribute::ints("kernel_shape", &[height, width]),
            attribute::ints("strides", &conv.stride),
            // Half an odd kernel on every side, as the layers are built.
            attribute::ints("pads", &[height / 2, width / 2, height / 2, width / 2]),
        ];
        self.graph.node("Conv", &[value, &weights, &biases], &output, attributes);
        output
    }

    fn transposed(&mut self, up: &ConvTranspose2d, value: &str, output: String) -> Result<String, ExportError> {
        let (weights, biases) = (format!("{output}.weight"), format!("{output}.bias"));
        self.graph.constant(&weights, &up.weight.dims(), &read(&up.weight, &output)?);
        self.graph.constant(&biases, &[up.channels[1]], &affine(up.bias.as_ref(), 0.0, up.channels[1], &output)?);
        let attributes =
            vec![attribute::ints("kernel_shape", &up.kernel_size), attribute::ints("strides", &up.stride)];
        self.graph.node("ConvTranspose", &[value, &weights, &biases], &output, attributes);
        Ok(output)
    }

    fn max_pool(&mut self, window: [usize; 2], value: &str, output: String) -> String {
        let attributes = vec![attribute::ints("kernel_shape", &window), attribute::ints("strides", &window)];
        self.graph.node("MaxPool", &[value], &output, attributes);
        output
    }

    fn concatenate(&mut self, skip: &str, up: &str, output: String) -> String {
        self.graph.node("Concat", &[skip, up], &output, vec![attribute::int("axis", 1)]);
        output
    }
}

/// Puts a batch normalisation with its running statistics into the convolution before it:
/// γ (w·x + b − μ) / √(σ² + ε) + β is a convolution again. One rounding at the end, not one a step.
///
/// # Shapes
/// `weight` `[out, …]`, `bias` `[out]`.
fn fold(norm: &BatchNorm, weight: &mut [f32], bias: &mut [f32], layer: &str) -> Result<(), ExportError> {
    let gamma = read(&norm.gamma, layer)?;
    let beta = read(&norm.beta, layer)?;
    let mean = values(norm.running_mean.value(), layer)?;
    let variance = values(norm.running_var.value(), layer)?;
    let per_output = weight.len() / bias.len().max(1);
    let kernels = weight.chunks_exact_mut(per_output.max(1));
    let statistics = gamma.iter().zip(&beta).zip(mean.iter().zip(&variance));
    for ((kernel, bias), ((gamma, beta), (mean, variance))) in kernels.zip(bias).zip(statistics) {
        let scale = f64::from(*gamma) / (f64::from(*variance) + norm.epsilon).sqrt();
        for weight in kernel {
            *weight = (f64::from(*weight) * scale) as f32;
        }
        *bias = ((f64::from(*bias) - f64::from(*mean)) * scale + f64::from(*beta)) as f32;
    }
    Ok(())
}

fn bias(conv: &Conv2d, layer: &str) -> Result<Vec<f32>, ExportError> {
    affine(conv.bias.as_ref(), 0.0, conv.weight.dims()[0], layer)
}

/// A layer's vector, or what its absence means.
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
