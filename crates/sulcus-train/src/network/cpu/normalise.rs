use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::nn::{BatchNorm, InstanceNorm};
use burn::tensor::Tensor;
use sulcus_kernels::{Moments, Norm, NormScope, NormShape, ResidualGradient};
use sulcus_model::Activation;

use super::{Values, dims, done, values_of};

/// The settings of a normalisation.
#[derive(Debug, Clone, Copy)]
struct Kind {
    scope: NormScope,
    epsilon: f32,
    /// Factor of negative values: 1 without an activation.
    slope: f32,
}

/// The factor of negative values that an activation stands for.
fn slope_of(activation: Option<Activation>) -> f32 {
    match activation {
        None => 1.0,
        Some(Activation::Relu) => 0.0,
        Some(Activation::LeakyRelu { slope }) => slope,
    }
}

/// Instance normalisation, the sum with `beside` and the activation in one pass.
///
/// # Shapes
/// All `[N, C, D, H, W]`.
pub(in crate::network) fn instance_norm(
    norm: &InstanceNorm,
    input: Tensor<5>,
    beside: Option<Tensor<5>>,
    activation: Option<Activation>,
) -> Tensor<5> {
    let (channels, device) = (input.dims()[1], input.device());
    let (input, beside) = (input.into_dispatch(), beside.map(Tensor::into_dispatch));
    let parameter = |given: Option<Tensor<1>>, absent: f32| {
        given.unwrap_or_else(|| Tensor::full([channels], absent, &device)).into_dispatch()
    };
    let gamma = parameter(norm.gamma.as_ref().map(|gamma| gamma.val()), 1.0);
    let beta = parameter(norm.beta.as_ref().map(|beta| beta.val()), 0.0);
    let kind = Kind { scope: NormScope::Instance, epsilon: norm.epsilon as f32, slope: slope_of(activation) };
    Tensor::from_dispatch(trained(input, gamma, beta, beside, kind).0)
}

/// Batch normalisation, the sum with `beside` and the activation in one pass. In training it updates the running statistics.
///
/// # Shapes
/// All `[N, C, D, H, W]`.
pub(in crate::network) fn batch_norm(
    norm: &BatchNorm,
    input: Tensor<5>,
    beside: Option<Tensor<5>>,
    activation: Option<Activation>,
) -> Tensor<5> {
    let training = input.device().is_autodiff();
    let (input, beside) = (input.into_dispatch(), beside.map(Tensor::into_dispatch));
    let kind = Kind { scope: NormScope::Batch, epsilon: norm.epsilon as f32, slope: slope_of(activation) };
    let (gamma, beta) = (norm.gamma.val().into_dispatch(), norm.beta.val().into_dispatch());
    if !training {
        let mean = norm.running_mean.value().into_dispatch();
        let variance = norm.running_var.value().into_dispatch();
        return Tensor::from_dispatch(match beside {
            Some(beside) => Dispatch::normalise_by_beside(input, gamma, beta, mean, variance, beside, kind),
            None => Dispatch::normalise_by(input, gamma, beta, mean, variance, kind),
        });
    }
    let (output, mean, variance) = trained(input, gamma, beta, beside, kind);
    let moved = |running: Tensor<1>, batch: Tensor<1>| {
        (running * (1.0 - norm.momentum) + batch.detach() * norm.momentum).detach()
    };
    norm.running_mean.update(moved(norm.running_mean.value_sync(), Tensor::from_dispatch(mean)));
    norm.running_var.update(moved(norm.running_var.value_sync(), Tensor::from_dispatch(variance)));
    Tensor::from_dispatch(output)
}

type Tensors = FloatTensor<Dispatch>;

fn trained(
    input: Tensors,
    gamma: Tensors,
    beta: Tensors,
    beside: Option<Tensors>,
    kind: Kind,
) -> (Tensors, Tensors, Tensors) {
    match beside {
        Some(beside) => Dispatch::normalise_beside(input, gamma, beta, beside, kind),
        None => Dispatch::normalise(input, gamma, beta, kind),
    }
}

#[backend_extension(Flex, Autodiff)]
trait ProcessorNorm: Backend {
    /// The output, and mean and biased variance of each group.
    fn normalise(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kind: Kind,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same; `beside` is added before the activation.
    fn normalise_beside(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        beside: FloatTensor<Self>,
        kind: Kind,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Normalisation by running statistics, which has no gradient.
#[backend_extension(Flex)]
trait ProcessorFixedNorm: Backend {
    fn normalise_by(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        kind: Kind,
    ) -> FloatTensor<Self>;

    fn normalise_by_beside(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        beside: FloatTensor<Self>,
        kind: Kind,
    ) -> FloatTensor<Self>;
}

impl ProcessorFixedNorm for Flex {
    fn normalise_by(
        input: Values,
        gamma: Values,
        beta: Values,
        mean: Values,
        variance: Values,
        kind: Kind,
    ) -> Values {
        forward_fixed([input, gamma, beta, mean, variance], None, kind)
    }

    fn normalise_by_beside(
        input: Values,
        gamma: Values,
        beta: Values,
        mean: Values,
        variance: Values,
        beside: Values,
        kind: Kind,
    ) -> Values {
        forward_fixed([input, gamma, beta, mean, variance], Some(beside), kind)
    }
}

impl ProcessorNorm for Flex {
    fn normalise(input: Values, gamma: Values, beta: Values, kind: Kind) -> (Values, Values, Values) {
        let (output, moments) = forward(&input, &gamma, &beta, None, kind);
        let [mean, variance] = of_groups(&moments);
        (output, mean, variance)
    }

    fn normalise_beside(
        input: Values,
        gamma: Values,
        beta: Values,
        beside: Values,
        kind: Kind,
    ) -> (Values, Values, Values) {
        let (output, moments) = forward(&input, &gamma, &beta, Some(&beside), kind);
        let [mean, variance] = of_groups(&moments);
        (output, mean, variance)
    }
}

impl<C: CheckpointStrategy> ProcessorNorm for Autodiff<Flex, C> {
    fn normalise(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        kind: Kind,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ((input, input_node), (gamma, gamma_node)) = (input.into_parts(), gamma.into_parts());
        let (beta, beta_node) = beta.into_parts();
        let (output, moments) = forward(&input, &gamma, &beta, None, kind);
        let [mean, variance] = of_groups(&moments).map(FloatTensor::<Self>::new);
        let state = Normalised { input, gamma, beta, beside: None, moments, kind };
        let output = match Normalise.prepare::<C>([input_node, gamma_node, beta_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(state, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        (output, mean, variance)
    }

    fn normalise_beside(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        beside: FloatTensor<Self>,
        kind: Kind,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ((input, input_node), (gamma, gamma_node)) = (input.into_parts(), gamma.into_parts());
        let ((beta, beta_node), (beside, beside_node)) = (beta.into_parts(), beside.into_parts());
        let (output, moments) = forward(&input, &gamma, &beta, Some(&beside), kind);
        let [mean, variance] = of_groups(&moments).map(FloatTensor::<Self>::new);
        let state = Normalised { input, gamma, beta, beside: Some(beside), moments, kind };
        let nodes = [input_node, gamma_node, beta_node, beside_node];
        let output = match Normalise.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(state, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        (output, mean, variance)
    }
}

/// The values from which the gradients are computed.
#[derive(Debug, Clone)]
struct Normalised {
    input: Values,
    gamma: Values,
    beta: Values,
    beside: Option<Values>,
    moments: Moments,
    kind: Kind,
}

#[derive(Debug)]
struct Normalise;

/// The backward pass, with three parents, or four if maps were added before the activation.
impl<const N: usize> Backward<Flex, N> for Normalise {
    type State = Normalised;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let found = ops.state.gradients(&gradient);
        for (node, values) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(values)) = (node, values) {
                gradients.register::<Flex>(node.id, values);
            }
        }
    }
}

impl Normalised {
    /// Gradients of the input, γ, β and of the added maps, if any.
    fn gradients(&self, gradient: &Values) -> [Option<Values>; 4] {
        let shape: [usize; 5] = dims(&self.input);
        let [input, gamma, beta, gradient] =
            [&self.input, &self.gamma, &self.beta, gradient].map(|values| values.to_contiguous());
        let beside = self.beside.as_ref().map(|beside| beside.to_contiguous());
        let voxels = shape.iter().product();
        let mut of_input = vec![0.0; voxels];
        let (mut of_gamma, mut of_beta) = (vec![0.0; shape[1]], vec![0.0; shape[1]]);
        let mut of_beside = beside.as_ref().map(|_| vec![0.0; voxels]);
        let residual = beside.as_ref().zip(of_beside.as_mut()).map(|(residual, gradient)| ResidualGradient {
            residual: residual.storage(),
            gradient: gradient.as_mut_slice(),
        });
        let kind = self.kind;
        let norm = done(Norm::new(norm_shape(shape, kind), gamma.storage(), beta.storage(), kind.slope));
        done(norm.backward(
            input.storage(),
            &self.moments,
            gradient.storage(),
            residual,
            &mut of_input,
            &mut of_gamma,
            &mut of_beta,
        ));
        let channels = [shape[1]];
        [
            Some(values_of(of_input, shape)),
            Some(values_of(of_gamma, channels)),
            Some(values_of(of_beta, channels)),
            of_beside.map(|values| values_of(values, shape)),
        ]
    }
}

fn forward(
    input: &Values,
    gamma: &Values,
    beta: &Values,
    beside: Option<&Values>,
    kind: Kind,
) -> (Values, Moments) {
    let shape: [usize; 5] = dims(input);
    let [input, gamma, beta] = [input, gamma, beta].map(|values| values.to_contiguous());
    let beside = beside.map(|beside| beside.to_contiguous());
    let mut output = vec![0.0; shape.iter().product()];
    let norm = done(Norm::new(norm_shape(shape, kind), gamma.storage(), beta.storage(), kind.slope));
    let beside = beside.as_ref().map(Values::storage);
    let moments = done(norm.forward_train(input.storage(), beside, kind.epsilon, &mut output));
    (values_of(output, shape), moments)
}

/// Normalises by running statistics: input, γ, β, mean and variance.
fn forward_fixed(parts: [Values; 5], beside: Option<Values>, kind: Kind) -> Values {
    let [input, gamma, beta, mean, variance] = parts.map(|values| values.to_contiguous());
    let shape: [usize; 5] = dims(&input);
    let beside = beside.map(|beside| beside.to_contiguous());
    let inv_sd = |variance: &f32| (1.0 / (f64::from(*variance) + f64::from(kind.epsilon)).sqrt()) as f32;
    let inv_sd: Vec<f32> = variance.storage::<f32>().iter().map(inv_sd).collect();
    let mut output = vec![0.0; shape.iter().product()];
    let norm = done(Norm::new(norm_shape(shape, kind), gamma.storage(), beta.storage(), kind.slope));
    let beside = beside.as_ref().map(Values::storage);
    done(norm.forward_fixed(input.storage(), mean.storage(), &inv_sd, beside, &mut output));
    values_of(output, shape)
}

/// Means and variances as tensors.
fn of_groups(moments: &Moments) -> [Values; 2] {
    [&moments.mean, &moments.variance].map(|values| values_of(values.clone(), [values.len()]))
}

fn norm_shape([batch, channels, d, h, w]: [usize; 5], kind: Kind) -> NormShape {
    NormShape { batch, channels, voxels: d * h * w, scope: kind.scope }
}
