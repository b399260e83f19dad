use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use sulcus_kernels::{Bf16Convolution, ConvShape, conv_forward, conv_input_gradient, conv_weight_gradient};

use super::{Values, dims, done, fill, values_of};

/// The stride of a convolution, and whether its products are in bfloat16.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) struct ConvSettings {
    pub(in crate::network) stride: [usize; 3],
    pub(in crate::network) bf16: Option<Bf16Convolution>,
}

/// See [`Conv::forward`](crate::network::Conv::forward).
pub(in crate::network) fn convolve(
    input: Tensor<5>,
    behind: Option<Tensor<5>>,
    weight: Tensor<5>,
    bias: Tensor<1>,
    settings: ConvSettings,
) -> Tensor<5> {
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match behind {
        Some(behind) => Dispatch::convolve_both(input, behind.into_dispatch(), weight, bias, settings),
        None => Dispatch::convolve(input, weight, bias, settings),
    })
}

#[backend_extension(Flex, Autodiff)]
trait ProcessorLayers: Backend {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: ConvSettings,
    ) -> FloatTensor<Self>;

    fn convolve_both(
        input: FloatTensor<Self>,
        behind: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: ConvSettings,
    ) -> FloatTensor<Self>;
}

impl ProcessorLayers for Flex {
    fn convolve(input: Values, weight: Values, bias: Values, settings: ConvSettings) -> Values {
        Convolution::new([Some(&input), None], &weight, settings).forward([Some(&input), None], &weight, &bias)
    }

    fn convolve_both(
        input: Values,
        behind: Values,
        weight: Values,
        bias: Values,
        settings: ConvSettings,
    ) -> Values {
        let maps = [Some(&input), Some(&behind)];
        Convolution::new(maps, &weight, settings).forward(maps, &weight, &bias)
    }
}

impl<C: CheckpointStrategy> ProcessorLayers for Autodiff<Flex, C> {
    fn convolve(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: ConvSettings,
    ) -> FloatTensor<Self> {
        let ((input, input_node), (weight, weight_node)) = (input.into_parts(), weight.into_parts());
        let (bias, bias_node) = bias.into_parts();
        let geometry = Convolution::new([Some(&input), None], &weight, settings);
        let output = geometry.forward([Some(&input), None], &weight, &bias);
        match Convolve.prepare::<C>([input_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((geometry, input, weight), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn convolve_both(
        input: FloatTensor<Self>,
        behind: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: ConvSettings,
    ) -> FloatTensor<Self> {
        let ((input, input_node), (behind, behind_node)) = (input.into_parts(), behind.into_parts());
        let ((weight, weight_node), (bias, bias_node)) = (weight.into_parts(), bias.into_parts());
        let maps = [Some(&input), Some(&behind)];
        let geometry = Convolution::new(maps, &weight, settings);
        let output = geometry.forward(maps, &weight, &bias);
        let nodes = [input_node, behind_node, weight_node, bias_node];
        match ConvolveBoth.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((geometry, [input, behind], weight), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct Convolve;

impl Backward<Flex, 3> for Convolve {
    type State = (Convolution, Values, Values);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (geometry, input, weight) = ops.state;
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = input_node {
            let [of_input, _] = geometry.input_gradients(&weight, &gradient);
            gradients.register::<Flex>(node.id, of_input);
        }
        if weight_node.is_some() || bias_node.is_some() {
            let (of_weight, of_bias) = geometry.weight_gradients([Some(&input), None], &gradient);
            // Moved, because a shared tensor could not be accumulated in place.
            for (node, values) in [(weight_node, of_weight), (bias_node, of_bias)] {
                if let Some(node) = node {
                    gradients.register::<Flex>(node.id, values);
                }
            }
        }
    }
}

#[derive(Debug)]
struct ConvolveBoth;

impl Backward<Flex, 4> for ConvolveBoth {
    type State = (Convolution, [Values; 2], Values);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (geometry, [input, behind], weight) = ops.state;
        let [input_node, behind_node, weight_node, bias_node] = ops.parents;
        if input_node.is_some() || behind_node.is_some() {
            let of_maps = geometry.input_gradients(&weight, &gradient);
            for (node, of_maps) in [input_node, behind_node].into_iter().zip(of_maps) {
                if let Some(node) = node {
                    gradients.register::<Flex>(node.id, of_maps);
                }
            }
        }
        if weight_node.is_some() || bias_node.is_some() {
            let (of_weight, of_bias) = geometry.weight_gradients([Some(&input), Some(&behind)], &gradient);
            // Moved, because a shared tensor could not be accumulated in place.
            for (node, values) in [(weight_node, of_weight), (bias_node, of_bias)] {
                if let Some(node) = node {
                    gradients.register::<Flex>(node.id, values);
                }
            }
        }
    }
}

/// The sizes of one convolution, of one or two blocks of maps.
#[derive(Debug, Clone, Copy)]
struct Convolution {
    shape: ConvShape,
    /// Channels of the input and of the maps behind it.
    channels: [usize; 2],
    bf16: Option<Bf16Convolution>,
}

impl Convolution {
    fn new(maps: [Option<&Values>; 2], weight: &Values, settings: ConvSettings) -> Self {
        let [batch, _, d, h, w] = maps[0].map_or([0; 5], dims);
        let channels = maps.map(|maps| maps.map_or(0, |maps| dims::<5>(maps)[1]));
        let [outputs, inputs, kd, kh, kw] = dims(weight);
        let ConvSettings { stride, bf16 } = settings;
        let shape = ConvShape { batch, inputs, outputs, size: [d, h, w], kernel: [kd, kh, kw], stride };
        Self { shape, channels, bf16 }
    }

    fn forward(&self, maps: [Option<&Values>; 2], weight: &Values, bias: &Values) -> Values {
        let [d, h, w] = self.shape.output_size();
        let shape = [self.shape.batch, self.shape.outputs, d, h, w];
        let maps: Vec<Values> = maps.into_iter().flatten().map(Values::to_contiguous).collect();
        let parts: Vec<&[f32]> = maps.iter().map(Values::storage).collect();
        let (weight, bias) = (weight.to_contiguous(), bias.to_contiguous());
        let (weight, bias) = (weight.storage(), Some(bias.storage()));
        fill(shape, |output| match self.bf16 {
            Some(bf16) => bf16.forward(&self.shape, &parts, weight, bias, output),
            None => conv_forward(&self.shape, &parts, weight, bias, output),
        })
    }

    fn input_gradients(&self, weight: &Values, gradient: &Values) -> [Values; 2] {
        let ConvShape { batch, size: [d, h, w], .. } = self.shape;
        let weight = weight.to_contiguous();
        let mut maps = self.channels.map(|channels| vec![0.0_f32; batch * channels * d * h * w]);
        let mut parts: Vec<&mut [f32]> =
            maps.iter_mut().filter(|m| !m.is_empty()).map(Vec::as_mut_slice).collect();
        let (weight, gradient) = (weight.storage(), gradient.storage());
        done(match self.bf16 {
            Some(bf16) => bf16.input_gradient(&self.shape, weight, gradient, &mut parts),
            None => conv_input_gradient(&self.shape, weight, gradient, &mut parts),
        });
        let [first, second] = maps;
        let values = |values, channels| values_of(values, [batch, channels, d, h, w]);
        [values(first, self.channels[0]), values(second, self.channels[1])]
    }

    /// Gradients of the weights and of the bias.
    fn weight_gradients(&self, maps: [Option<&Values>; 2], gradient: &Values) -> (Values, Values) {
        let ConvShape { inputs, outputs, kernel: [d, h, w], .. } = self.shape;
        let maps: Vec<Values> = maps.into_iter().flatten().map(Values::to_contiguous).collect();
        let parts: Vec<&[f32]> = maps.iter().map(Values::storage).collect();
        let mut bias = vec![0.0; outputs];
        let weight = fill([outputs, inputs, d, h, w], |weight| {
            let (gradient, bias) = (gradient.storage(), Some(&mut bias[..]));
            match self.bf16 {
                Some(bf16) => bf16.weight_gradient(&self.shape, &parts, gradient, weight, bias),
                None => conv_weight_gradient(&self.shape, &parts, gradient, weight, bias),
            }
        });
        (weight, values_of(bias, [outputs]))
    }
}
