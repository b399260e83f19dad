//! Steps on the processor, computed in place by `sulcus-kernels`. Their tensors are never on an autodiff graph.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use sulcus_kernels::{Adam, Sgd, StepSize, sum_of_squares};

use crate::network::cpu::{Values, done};

/// See [`Adam::step`].
pub(super) fn adam(
    rule: Adam,
    number: u64,
    size: StepSize,
    weight: Tensor<1>,
    gradient: Tensor<1>,
    [mean, square]: [Tensor<1>; 2],
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let (weight, gradient) = (weight.into_dispatch(), gradient.into_dispatch());
    let moments = (mean.into_dispatch(), square.into_dispatch());
    let (weight, mean, square) = Dispatch::adam_step(weight, gradient, moments.0, moments.1, rule, number, size);
    (Tensor::from_dispatch(weight), Tensor::from_dispatch(mean), Tensor::from_dispatch(square))
}

/// See [`Sgd::step`].
pub(super) fn sgd(
    rule: Sgd,
    size: StepSize,
    weight: Tensor<1>,
    gradient: Tensor<1>,
    velocity: Tensor<1>,
) -> (Tensor<1>, Tensor<1>) {
    let (weight, velocity) =
        Dispatch::sgd_step(weight.into_dispatch(), gradient.into_dispatch(), velocity.into_dispatch(), rule, size);
    (Tensor::from_dispatch(weight), Tensor::from_dispatch(velocity))
}

/// The Euclidean norm of values, `[1]`.
pub(super) fn norm<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::euclidean_norm(values.into_dispatch()))
}

#[backend_extension(Flex)]
trait ProcessorSteps: Backend {
    /// The weights, the mean and the mean square after a step.
    fn adam_step(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        rule: Adam,
        number: u64,
        size: StepSize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The weights and the velocity after a step.
    fn sgd_step(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        rule: Sgd,
        size: StepSize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    fn euclidean_norm(values: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl ProcessorSteps for Flex {
    fn adam_step(
        weight: Values,
        gradient: Values,
        mean: Values,
        square: Values,
        rule: Adam,
        number: u64,
        size: StepSize,
    ) -> (Values, Values, Values) {
        let [mut weight, mut mean, mut square] = [weight, mean, square].map(ordered);
        let gradient = ordered(gradient);
        done(rule.step(
            number,
            size,
            weight.storage_mut(),
            gradient.storage(),
            mean.storage_mut(),
            square.storage_mut(),
        ));
        (weight, mean, square)
    }

    fn sgd_step(
        weight: Values,
        gradient: Values,
        velocity: Values,
        rule: Sgd,
        size: StepSize,
    ) -> (Values, Values) {
        let [mut weight, mut velocity] = [weight, velocity].map(ordered);
        let gradient = ordered(gradient);
        done(rule.step(size, weight.storage_mut(), gradient.storage(), velocity.storage_mut()));
        (weight, velocity)
    }

    fn euclidean_norm(values: Values) -> Values {
        let norm = sum_of_squares(ordered(values).storage()).sqrt() as f32;
        Values::from_data(TensorData::new(vec![norm], [1]))
    }
}

/// Contiguous row-major values. It takes ownership, so that unshared values stay unshared and `storage_mut` copies nothing.
fn ordered(values: Values) -> Values {
    values.to_contiguous()
}
