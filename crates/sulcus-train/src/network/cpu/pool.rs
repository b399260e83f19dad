use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use sulcus_kernels::MaxPool;

use super::{Values, dims, done, values_of};

/// See [`max_pool`](crate::network::layers::max_pool).
pub(in crate::network) fn max_pool(maps: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::take_maxima(maps.into_dispatch(), window))
}

#[backend_extension(Flex, Autodiff)]
trait ProcessorPool: Backend {
    fn take_maxima(input: FloatTensor<Self>, window: [usize; 3]) -> FloatTensor<Self>;
}

impl ProcessorPool for Flex {
    fn take_maxima(input: Values, window: [usize; 3]) -> Values {
        maxima(&input, window).0
    }
}

impl<C: CheckpointStrategy> ProcessorPool for Autodiff<Flex, C> {
    fn take_maxima(input: FloatTensor<Self>, window: [usize; 3]) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let (output, places) = maxima(&input, window);
        match TakeMaxima.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((dims(&input), window, places), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct TakeMaxima;

impl Backward<Flex, 1> for TakeMaxima {
    type State = ([usize; 5], [usize; 3], Vec<u8>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (shape, window, places) = ops.state;
        let [node] = ops.parents;
        if let Some(node) = node {
            let mut of_input = vec![0.0; shape.iter().product()];
            done(layer(shape, window).backward(gradient.storage(), &places, &mut of_input));
            gradients.register::<Flex>(node.id, values_of(of_input, shape));
        }
    }
}

/// The maxima, and the position of each in its window.
fn maxima(input: &Values, window: [usize; 3]) -> (Values, Vec<u8>) {
    let shape: [usize; 5] = dims(input);
    let layer = layer(shape, window);
    let [d, h, w] = layer.output();
    let shape = [shape[0], shape[1], d, h, w];
    let voxels = shape.iter().product();
    let (mut output, mut places) = (vec![0.0; voxels], vec![0; voxels]);
    done(layer.forward(input.to_contiguous().storage(), &mut output, &mut places));
    (values_of(output, shape), places)
}

fn layer([n, c, d, h, w]: [usize; 5], window: [usize; 3]) -> MaxPool {
    done(MaxPool::new(n * c, [d, h, w], window))
}
