use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use sulcus_kernels::{ConvTranspose, ConvTransposeGradients};

use super::{Values, dims, done, fill, values_of};

/// See [`Up::forward`](crate::network::Up::forward).
pub(in crate::network) fn up(input: Tensor<5>, weight: Tensor<5>, bias: Tensor<1>) -> Tensor<5> {
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::bring_up(input, weight, bias))
}

#[backend_extension(Flex, Autodiff)]
trait ProcessorUp: Backend {
    fn bring_up(input: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>)
    -> FloatTensor<Self>;
}

impl ProcessorUp for Flex {
    fn bring_up(input: Values, weight: Values, bias: Values) -> Values {
        let layer = layer(&input, &weight);
        let ([n, _, d, h, w], [_, outputs, sd, sh, sw]) = (dims(&input), dims(&weight));
        let (input, weight, bias) = (input.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
        fill([n, outputs, d * sd, h * sh, w * sw], |output| {
            layer.forward(input.storage(), weight.storage(), bias.storage(), output)
        })
    }
}

impl<C: CheckpointStrategy> ProcessorUp for Autodiff<Flex, C> {
    fn bring_up(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((input, input_node), (weight, weight_node)) = (input.into_parts(), weight.into_parts());
        let (bias, bias_node) = bias.into_parts();
        let output = Flex::bring_up(input.clone(), weight.clone(), bias);
        match BringUp.prepare::<C>([input_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((input, weight), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct BringUp;

impl Backward<Flex, 3> for BringUp {
    type State = (Values, Values);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (input, weight) = ops.state;
        let layer = layer(&input, &weight);
        let (input_shape, weight_shape) = (dims::<5>(&input), dims::<5>(&weight));
        let (input, weight) = (input.to_contiguous(), weight.to_contiguous());
        let mut of_weight = vec![0.0; weight_shape.iter().product()];
        let mut of_bias = vec![0.0; weight_shape[1]];
        let of_input = fill(input_shape, |of_input| {
            let gradients = ConvTransposeGradients { input: of_input, weight: &mut of_weight, bias: &mut of_bias };
            layer.backward(input.storage(), weight.storage(), gradient.storage(), gradients)
        });
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = input_node {
            gradients.register::<Flex>(node.id, of_input);
        }
        if let Some(node) = weight_node {
            gradients.register::<Flex>(node.id, values_of(of_weight, weight_shape));
        }
        if let Some(node) = bias_node {
            gradients.register::<Flex>(node.id, values_of(of_bias, [weight_shape[1]]));
        }
    }
}

fn layer(input: &Values, weight: &Values) -> ConvTranspose {
    let ([n, _, d, h, w], [inputs, outputs, sd, sh, sw]) = (dims(input), dims(weight));
    done(ConvTranspose::new(n, [inputs, outputs], [d, h, w], [sd, sh, sw]))
}
