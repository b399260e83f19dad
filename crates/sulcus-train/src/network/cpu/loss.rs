use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use std::sync::Arc;
use sulcus_kernels::SegmentationLoss;

use super::{Values, dims, done, values_of};

/// A loss that is computed together with its gradient.
///
/// # Shapes
/// `logits` `[N, K, D, H, W]`, `classes` `[N, D, H, W]` → `[1]`.
pub(crate) fn loss(kind: SegmentationLoss, logits: Tensor<5>, classes: Arc<[u8]>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::compare(logits.into_dispatch(), kind, classes))
}

#[backend_extension(Flex, Autodiff)]
trait ProcessorLoss: Backend {
    fn compare(logits: FloatTensor<Self>, kind: SegmentationLoss, classes: Arc<[u8]>) -> FloatTensor<Self>;
}

impl ProcessorLoss for Flex {
    fn compare(logits: Values, kind: SegmentationLoss, classes: Arc<[u8]>) -> Values {
        value_and_gradient(&logits, kind, &classes).0
    }
}

impl<C: CheckpointStrategy> ProcessorLoss for Autodiff<Flex, C> {
    fn compare(logits: FloatTensor<Self>, kind: SegmentationLoss, classes: Arc<[u8]>) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let (value, gradient) = value_and_gradient(&logits, kind, &classes);
        match Compare.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(gradient, value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }
}

#[derive(Debug)]
struct Compare;

impl Backward<Flex, 1> for Compare {
    type State = Values;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let outer = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let factor = outer.storage::<f32>().first().copied().unwrap_or_default();
        let [node] = ops.parents;
        if let Some(node) = node {
            let mut values = ops.state;
            values.storage_mut::<f32>().iter_mut().for_each(|slope| *slope *= factor);
            gradients.register::<Flex>(node.id, values);
        }
    }
}

fn value_and_gradient(logits: &Values, kind: SegmentationLoss, classes: &[u8]) -> (Values, Values) {
    let shape: [usize; 5] = dims(logits);
    let [n, k, d, h, w] = shape;
    let mut gradient = vec![0.0; shape.iter().product()];
    let logits = logits.to_contiguous();
    let value = kind.value_and_gradient([n, k, d * h * w], 1.0, logits.storage(), classes, &mut gradient);
    (values_of(vec![done(value) as f32], [1]), values_of(gradient, shape))
}
