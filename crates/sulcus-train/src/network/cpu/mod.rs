//! Layers on the processor: operations with handwritten gradients, computed by `sulcus-kernels`, as a backend extension of
//! Burn's flex. GPU backends do not use them.

mod convolve;
mod loss;
mod normalise;
mod pool;
mod up;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Device, Tensor, TensorData};
use sulcus_kernels::KernelError;

pub(super) use convolve::{ConvSettings, convolve};
pub(crate) use loss::loss;
pub(super) use normalise::{batch_norm, instance_norm};
pub(super) use pool::max_pool;
pub(super) use up::up;

/// Maps or parameters as tensors of flex.
pub(crate) type Values = FloatTensor<Flex>;

/// Whether a tensor belongs to flex and has the type of `sulcus-kernels`.
pub(crate) fn is_on<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_processor(&tensor.device()) && tensor.dtype() == DType::F32
}

/// Whether a device is the processor.
pub(crate) fn is_processor(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

fn dims<const D: usize>(values: &Values) -> [usize; D] {
    values.shape().dims()
}

fn values_of<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Values {
    Values::from_data(TensorData::new(values, shape))
}

/// A new tensor, filled by `compute`.
fn fill<const D: usize>(shape: [usize; D], compute: impl FnOnce(&mut [f32]) -> Result<(), KernelError>) -> Values {
    let mut values = vec![0.0; shape.iter().product()];
    done(compute(&mut values));
    values_of(values, shape)
}

/// Burn's operations cannot return errors. Shapes that do not fit are an error in the network's code, which panics as in Burn's
/// own operations.
#[expect(clippy::panic, reason = "an operation of Burn's cannot return an error")]
pub(crate) fn done<T>(result: Result<T, KernelError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a layer of the network was given tensors that do not fit: {error}"),
    }
}
