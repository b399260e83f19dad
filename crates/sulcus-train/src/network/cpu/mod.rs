//! Layers on the processor: operations of ours with handwritten gradients, computed by `sulcus-kernels` and known to
//! Burn as a backend extension of flex. GPU backends never come here.

mod convolve;
mod loss;
mod normalise;
mod pool;
mod up;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Device, Tensor, TensorData};
use sulcus_kernels::KernelError;

pub(super) use convolve::convolve;
pub(crate) use loss::loss;
pub(super) use normalise::normalise;
pub(super) use pool::max_pool;
pub(super) use up::up;

/// Maps or parameters as flex holds them.
pub(crate) type Values = FloatTensor<Flex>;

/// Whether a tensor is flex's, in the one type that `sulcus-kernels` computes in.
pub(crate) fn is_on<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_processor(&tensor.device()) && tensor.dtype() == DType::F32
}

/// Whether a device is flex's.
pub(crate) fn is_processor(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

fn dims<const D: usize>(values: &Values) -> [usize; D] {
    values.shape().dims()
}

fn values_of<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Values {
    Values::from_data(TensorData::new(values, shape))
}

/// New values, written by `compute`.
fn fill<const D: usize>(shape: [usize; D], compute: impl FnOnce(&mut [f32]) -> Result<(), KernelError>) -> Values {
    let mut values = vec![0.0; shape.iter().product()];
    done(compute(&mut values));
    values_of(values, shape)
}

/// Burn's operations have no way to fail. Shapes that don't fit are a mistake in the network's code, which panics as
/// it would in Burn's own operations.
#[expect(clippy::panic, reason = "an operation of Burn's cannot return an error")]
pub(crate) fn done<T>(result: Result<T, KernelError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a layer of the network was given tensors that do not fit: {error}"),
    }
}
