use sulcus_model::{Activation, Dimensions};
use sulcus_onnx::{Axis, GraphBuilder, attribute};

use super::layers::{ConvLayer, LayerWriter};
use crate::checkpoint::{CheckpointError, StateDict};
use crate::plans::{Architecture, Block, Stage};

/// Writes the networks of a model file into one graph.
pub(crate) struct GraphWriter {
    graph: GraphBuilder,
}

/// What the networks of one configuration, its folds, have in common.
#[derive(Clone, Copy)]
pub(crate) struct Folds<'a> {
    pub(crate) architecture: &'a Architecture,
    pub(crate) input_channels: usize,
    pub(crate) classes: usize,
    /// Comes before the names of their input, output and nodes where another configuration uses their mask.
    pub(crate) name: Option<&'a str>,
}

/// Writes the networks of one configuration. All read the same input; their logits follow one after the other along the channel axis.
pub(crate) struct FoldWriter<'a> {
    graph: &'a mut GraphBuilder,
    folds: Folds<'a>,
    /// Names of the logits of each network.
    logits: Vec<String>,
}

impl GraphWriter {
    pub(crate) fn new(name: &str) -> Self {
        Self { graph: GraphBuilder::new(name) }
    }

    /// Begins a configuration.
    pub(crate) fn folds<'a>(&'a mut self, folds: Folds<'a>) -> FoldWriter<'a> {
        let doc = describe_input(folds.architecture);
        let axes = axes(&folds, folds.input_channels);
        self.graph.input(&folds.named("image"), &as_axes(&axes), &doc);
        FoldWriter { graph: &mut self.graph, folds, logits: Vec::new() }
    }

    pub(crate) fn finish(self) -> GraphBuilder {
        self.graph
    }
}

impl Folds<'_> {
    /// A name in the graph.
    fn named(&self, name: &str) -> String {
        self.name.map_or_else(|| name.to_owned(), |of| format!("{of}.{name}"))
    }
}

impl FoldWriter<'_> {
    /// Adds a network. `fold` comes before the names of its nodes where the configuration has several networks. Returns the bytes of its
    /// weights.
    ///
    /// # Errors
    /// When the weights are not those of the architecture.
    pub(crate) fn add(&mut self, mut weights: StateDict, fold: Option<&str>) -> Result<u64, CheckpointError> {
        let Folds { architecture, input_channels, classes, .. } = self.folds;
        let prefix = fold.map(|fold| format!("{fold}.")).unwrap_or_default();
        let logits = self.folds.named(&format!("{prefix}logits"));
        let writer = LayerWriter {
            graph: self.graph,
            weights: &mut weights,
            dimensions: architecture.dimensions,
            epsilon: architecture.epsilon,
            prefix: self.folds.named(&prefix),
        };
        let image = self.folds.named("image");
        NetworkWriter { writer, architecture }.write(&image, input_channels, classes, &logits)?;
        self.logits.push(logits);
        weights.finish()
    }

    /// Declares the output.
    pub(crate) fn finish(self) {
        let Self { graph, folds, logits } = self;
        let output = folds.named("logits");
        if logits.len() > 1 {
            let inputs: Vec<&str> = logits.iter().map(String::as_str).collect();
            graph.node("Concat", &inputs, &output, vec![attribute::int("axis", 1)]);
        }
        let channels = folds.classes.saturating_mul(logits.len());
        let doc = match logits.len() {
            0 | 1 => "Scores before softmax or sigmoid.".to_owned(),
            networks => format!(
                "Scores before softmax or sigmoid of {networks} networks, {} channels each, which are to be averaged.",
                folds.classes
            ),
        };
        let axes = axes(&folds, channels);
        graph.output(&output, &as_axes(&axes), &doc);
    }
}

/// What the input must be, for people.
fn describe_input(architecture: &Architecture) -> String {
    let (kind, names) = names(architecture.dimensions);
    let multiples: Vec<String> = names
        .iter()
        .zip(architecture.padding_multiple())
        .map(|(name, multiple)| format!("{name} a multiple of {multiple}"))
        .collect();
    format!("Preprocessed {kind}; {}.", multiples.join(", "))
}

fn names(dimensions: Dimensions) -> (&'static str, &'static [&'static str]) {
    match dimensions {
        Dimensions::Two => ("slices", &["height", "width"]),
        Dimensions::Three => ("blocks", &["depth", "height", "width"]),
    }
}

/// An axis whose length is fixed, or has a name.
enum AxisLength {
    Fixed(usize),
    Named(String),
}

/// The axes of an input or output. Those of different configurations have different lengths, and therefore names.
fn axes(folds: &Folds<'_>, channels: usize) -> Vec<AxisLength> {
    let named = |name: &str| AxisLength::Named(folds.named(name));
    let spatial = names(folds.architecture.dimensions).1.iter().map(|name| named(name));
    [named("batch"), AxisLength::Fixed(channels)].into_iter().chain(spatial).collect()
}

fn as_axes(axes: &[AxisLength]) -> Vec<Axis<'_>> {
    let axis = |axis| match axis {
        &AxisLength::Fixed(length) => Axis::Fixed(length),
        AxisLength::Named(name) => Axis::Dynamic(name),
    };
    axes.iter().map(axis).collect()
}

/// Writes the layers of one network in the order of its forward pass.
struct NetworkWriter<'a, 'w> {
    writer: LayerWriter<'w>,
    architecture: &'a Architecture,
}

impl NetworkWriter<'_, '_> {
    fn write(
        &mut self,
        image: &str,
        input_channels: usize,
        classes: usize,
        logits: &str,
    ) -> Result<(), CheckpointError> {
        let architecture = self.architecture;
        let ones = vec![1; architecture.dimensions.count()];
        let (mut value, mut channels) = (image.to_owned(), input_channels);
        if let (Some(stem), Some(first)) = (architecture.stem, architecture.stages.first()) {
            let name = "encoder.stem.convs.0".to_owned();
            value = self.conv(name, [channels, stem], &first.kernel, &ones, &value)?;
            channels = stem;
        }
        let mut skips: Vec<(&Stage, String)> = Vec::new();
        for (i, stage) in architecture.stages.iter().enumerate() {
            for block in 0..stage.blocks {
                let stride = if block == 0 { &stage.stride } else { &ones };
                value = match architecture.block {
                    Block::Plain => {
                        let name = format!("encoder.stages.{i}.0.convs.{block}");
                        self.conv(name, [channels, stage.features], &stage.kernel, stride, &value)?
                    }
                    Block::Basic | Block::Bottleneck => {
                        let name = format!("encoder.stages.{i}.blocks.{block}");
                        self.residual(&name, channels, stage, stride, &value)?
                    }
                };
                channels = stage.features;
            }
            skips.push((stage, value.clone()));
        }
        let Some((mut below, _)) = skips.pop() else { return Ok(()) };
        let heads = architecture.decoder.len();
        for (i, convolutions) in architecture.decoder.iter().enumerate() {
            let Some((stage, skip)) = skips.pop() else { break };
            let up = self.writer.upsampling(
                &format!("decoder.transpconvs.{i}"),
                [below.features, stage.features],
                &below.stride,
                architecture.conv_bias,
                &value,
            )?;
            let name = format!("decoder.stages.{i}");
            value = self.writer.name(&format!("{name}.cat"));
            self.writer.graph.node("Concat", &[&up, &skip], &value, vec![attribute::int("axis", 1)]);
            let mut channels = 2 * stage.features;
            for convolution in 0..*convolutions {
                let name = format!("{name}.convs.{convolution}");
                value = self.conv(name, [channels, stage.features], &stage.kernel, &ones, &value)?;
                channels = stage.features;
            }
            below = stage;
            // Deep supervision has a head for each resolution; prediction uses the finest, which is the last.
            if i + 1 < heads {
                for part in ["weight", "bias"] {
                    self.writer.weights.ignore(&format!("decoder.seg_layers.{i}.{part}"));
                }
            }
        }
        let head = format!("decoder.seg_layers.{}", heads.saturating_sub(1));
        self.writer.head(&head, [below.features, classes], &value, logits)
    }

    /// A block of convolution, normalisation and activation.
    fn conv(
        &mut self,
        name: String,
        [input, output]: [usize; 2],
        kernel: &[usize],
        stride: &[usize],
        value: &str,
    ) -> Result<String, CheckpointError> {
        let layer = ConvLayer {
            name,
            input,
            output,
            kernel,
            stride,
            bias: self.architecture.conv_bias,
            activation: Some(self.architecture.activation),
            activation_first: self.architecture.activation_first,
        };
        self.writer.block(&layer, value)
    }

    /// `BasicBlockD` or `BottleneckD` (He et al. 2019, arXiv:1812.01187, figure 2c): the shortcut is averaged, then projected.
    fn residual(
        &mut self,
        name: &str,
        input: usize,
        stage: &Stage,
        stride: &[usize],
        value: &str,
    ) -> Result<String, CheckpointError> {
        let ones = vec![1; stage.kernel.len()];
        let activation = self.architecture.activation;
        let output = stage.features;
        // Kernel, stride, channels and activation of the convolutions.
        type Part<'p> = (&'p [usize], &'p [usize], [usize; 2], Option<Activation>);
        let parts: Vec<Part<'_>> = match stage.bottleneck {
            None => vec![
                (&stage.kernel, stride, [input, output], Some(activation)),
                (&stage.kernel, &ones, [output, output], None),
            ],
            Some(inner) => vec![
                (&ones, &ones, [input, inner], Some(activation)),
                (&stage.kernel, stride, [inner, inner], Some(activation)),
                (&ones, &ones, [inner, output], None),
            ],
        };
        let mut shortcut = value.to_owned();
        let has_stride = stride.iter().any(|stride| *stride != 1);
        if has_stride {
            shortcut = self.writer.average_pool(&format!("{name}.skip.0"), stride, &shortcut);
        }
        if input != output {
            let layer = ConvLayer {
                name: format!("{name}.skip.{}", usize::from(has_stride)),
                input,
                output,
                kernel: &ones,
                stride: &ones,
                bias: false,
                activation: None,
                activation_first: false,
            };
            shortcut = self.writer.block(&layer, &shortcut)?;
        }
        let mut value = value.to_owned();
        for (i, (kernel, stride, [input, output], activation)) in parts.into_iter().enumerate() {
            let layer = ConvLayer {
                name: format!("{name}.conv{}", i + 1),
                input,
                output,
                kernel,
                stride,
                bias: self.architecture.conv_bias,
                activation,
                activation_first: false,
            };
            value = self.writer.block(&layer, &value)?;
        }
        let sum = self.writer.name(&format!("{name}.sum"));
        self.writer.graph.node("Add", &[&value, &shortcut], &sum, vec![]);
        let output = self.writer.name(&format!("{name}.nonlin"));
        Ok(self.writer.activation(activation, &sum, output))
    }
}
