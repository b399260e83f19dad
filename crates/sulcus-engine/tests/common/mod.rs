//! Small graphs for the tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use prost::Message;
use sulcus_engine::{Engine, EngineError, EngineOptions};
use sulcus_model::{ModelSpec, StageConfig};
use sulcus_onnx::messages::{AttributeProto, ModelProto, NodeProto};
use sulcus_onnx::{Axis, GraphBuilder, attribute};
use sulcus_testing::{Noise, test_spec};

pub(crate) fn spec() -> ModelSpec {
    let stage = StageConfig { channels: 2, convolutions: 1, kernel: vec![1, 1], stride: vec![1, 1] };
    test_spec(2).name("tiny").stages(vec![stage]).labels(&[(1, "one")]).build()
}

/// Builds a graph from `[N, inputs, (D,) H, W]` to `logits`.
pub(crate) struct TestGraph {
    graph: GraphBuilder,
    axes: usize,
    noise: Noise,
}

impl TestGraph {
    pub(crate) fn new(axes: usize, inputs: usize, outputs: usize) -> Self {
        let mut graph = GraphBuilder::new("test");
        let names = ["D", "H", "W"];
        let shape = |channels: usize| -> Vec<Axis<'_>> {
            let spatial = names.iter().skip(3 - axes).map(|name| Axis::Dynamic(name));
            [Axis::Dynamic("N"), Axis::Fixed(channels)].into_iter().chain(spatial).collect()
        };
        graph.input("image", &shape(inputs), "");
        graph.output("logits", &shape(outputs), "");
        Self { graph, axes, noise: Noise(5) }
    }

    pub(crate) fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        self.graph.constant(name, shape, values);
        self
    }

    pub(crate) fn random(&mut self, name: &str, shape: &[usize], scale: f32) -> &mut Self {
        let values = self.noise.take(shape.iter().product(), scale);
        self.constant(name, shape, &values)
    }

    pub(crate) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> &mut Self {
        self.graph.node(operator, inputs, output, attributes);
        self
    }

    pub(crate) fn conv(
        &mut self,
        input: &str,
        output: &str,
        channels: [usize; 2],
        edge: usize,
        stride: usize,
    ) -> &mut Self {
        let [inputs, outputs] = channels;
        let (weight, bias) = (format!("{output}.w"), format!("{output}.b"));
        let kernel = vec![edge; self.axes];
        let scale = (1.0 / (inputs * edge.pow(self.axes as u32)) as f32).sqrt();
        self.random(&weight, &[&[outputs, inputs], kernel.as_slice()].concat(), 1.7 * scale);
        self.random(&bias, &[outputs], 0.3);
        let attributes = conv_attributes(&kernel, stride);
        self.node("Conv", &[input, &weight, &bias], output, attributes)
    }

    /// Instance normalisation and leaky ReLU.
    pub(crate) fn norm(&mut self, input: &str, output: &str, channels: usize) -> &mut Self {
        let (scale, shift, normed) = (format!("{output}.s"), format!("{output}.z"), format!("{output}.n"));
        self.random(&scale, &[channels], 1.0).random(&shift, &[channels], 0.5);
        let epsilon = vec![attribute::float("epsilon", 1e-5)];
        self.node("InstanceNormalization", &[input, &scale, &shift], &normed, epsilon);
        self.node("LeakyRelu", &[&normed], output, vec![attribute::float("alpha", 0.01)])
    }

    pub(crate) fn up(&mut self, input: &str, output: &str, channels: [usize; 2]) -> &mut Self {
        let weight = format!("{output}.w");
        let stride = vec![2; self.axes];
        self.random(&weight, &[channels.as_slice(), stride.as_slice()].concat(), 0.4);
        let attributes = vec![attribute::ints("kernel_shape", &stride), attribute::ints("strides", &stride)];
        self.node("ConvTranspose", &[input, &weight], output, attributes)
    }

    pub(crate) fn pool(&mut self, operator: &str, input: &str, output: &str) -> &mut Self {
        let window = vec![2; self.axes];
        let attributes = vec![attribute::ints("kernel_shape", &window), attribute::ints("strides", &window)];
        self.node(operator, &[input], output, attributes)
    }

    pub(crate) fn concat(&mut self, inputs: &[&str], output: &str) -> &mut Self {
        self.node("Concat", inputs, output, vec![attribute::int("axis", 1)])
    }

    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.graph).finish(&spec(), "", "test").unwrap()
    }
}

pub(crate) fn conv_attributes(kernel: &[usize], stride: usize) -> Vec<AttributeProto> {
    let half: Vec<usize> = kernel.iter().map(|edge| edge / 2).collect();
    vec![
        attribute::ints("kernel_shape", kernel),
        attribute::ints("strides", &vec![stride; kernel.len()]),
        attribute::ints("pads", &[half.as_slice(), half.as_slice()].concat()),
    ]
}

/// A U-Net with every kind of layer: plain, residual with projection and average pooling, max pooling, concatenation.
pub(crate) fn unet(axes: usize) -> Vec<u8> {
    let mut graph = TestGraph::new(axes, 2, 3);
    graph.conv("image", "a.c", [2, 8], 3, 1).norm("a.c", "a", 8);
    graph.conv("a", "b.c", [8, 20], 3, 2).norm("b.c", "b", 20);
    // A residual block: two convolutions, a projected average, their sum and its activation.
    graph.pool("AveragePool", "b", "r.pool").conv("r.pool", "r.p", [20, 24], 1, 1);
    graph.conv("b", "r.1c", [20, 24], 3, 2).norm("r.1c", "r.1", 24).conv("r.1", "r.2", [24, 24], 3, 1);
    graph.random("r.s", &[24], 1.0).random("r.z", &[24], 0.3);
    let epsilon = vec![attribute::float("epsilon", 1e-5)];
    graph.node("InstanceNormalization", &["r.2", "r.s", "r.z"], "r.n", epsilon);
    graph.node("Add", &["r.n", "r.p"], "r.sum", vec![]);
    graph.node("Relu", &["r.sum"], "r", vec![]);
    graph.pool("MaxPool", "r", "m");
    graph.up("m", "u2", [24, 20]).up("u2", "u1", [20, 20]).concat(&["b", "u1"], "j1");
    graph.conv("j1", "d1.c", [40, 20], 3, 1).norm("d1.c", "d1", 20);
    graph.up("d1", "u0", [20, 8]).concat(&["a", "u0"], "j0");
    graph.conv("j0", "d0.c", [16, 8], 3, 1).norm("d0.c", "d0", 8);
    graph.conv("d0", "logits", [8, 3], 1, 1);
    graph.bytes()
}

pub(crate) fn engine(model: &[u8], threads: usize) -> Engine {
    Engine::new(model, &EngineOptions::default().with_threads(threads)).unwrap()
}

pub(crate) fn run(engine: &Engine, shape: &[usize], input: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut output = vec![f32::NAN; engine.output_shape(shape)?.iter().product()];
    engine.run(shape, input, &mut output)?;
    Ok(output)
}

pub(crate) fn refusal(model: &[u8]) -> EngineError {
    Engine::new(model, &EngineOptions::default()).expect_err("the graph was accepted")
}

/// A model file whose decoded form is changed.
pub(crate) fn changed(model: &[u8], change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut decoded = ModelProto::decode(model).unwrap();
    change(&mut decoded);
    decoded.encode_to_vec()
}

/// The node that computes a value.
pub(crate) fn node_of<'a>(model: &'a mut ModelProto, output: &str) -> &'a mut NodeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.output[0] == output).unwrap()
}
