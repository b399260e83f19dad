//! How devices average their gradients.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use crate::error::TrainError;
use crate::network::UNet;

/// How several devices average their gradients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Exchange {
    /// Burn's all-reduce among these devices, which is NCCL's on CUDA. In Burn 0.22.1 no other backend has one.
    Collective(Vec<Device>),
    /// The gradients of each device are copied to the first, which sums them in the order of the devices and sends the
    /// mean back.
    ThroughFirst,
}

impl Exchange {
    /// Sums a number over all devices and checks the result, so that a missing library or device is found before training.
    /// All devices must call this at the same time, each with its rank.
    pub(super) fn test(&self, rank: usize, device: &Device) -> Result<(), TrainError> {
        let Self::Collective(devices) = self else { return Ok(()) };
        let own = Tensor::<1>::from_floats([(rank + 1) as f32], &device.clone().without_autodiff());
        let sum = self.reduce(own, ReduceOperation::Sum)?;
        let found = sum.try_into_vec_as::<f32>().map_err(|e| failed(&format!("{e:?}")))?;
        let expected = (devices.len() * (devices.len() + 1) / 2) as f32;
        if found == [expected] {
            Ok(())
        } else {
            Err(failed(&format!("the sum {expected} came out as {found:?}")))
        }
    }

    /// The mean over all devices. All devices must call this at the same time.
    ///
    /// # Shapes
    /// `[values]`
    pub(super) fn mean(&self, own: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        self.reduce(own, ReduceOperation::Mean)
    }

    fn reduce(&self, own: Tensor<1>, operation: ReduceOperation) -> Result<Tensor<1>, TrainError> {
        let Self::Collective(devices) = self else { return Ok(own) };
        let devices = devices.iter().map(|device| device.clone().without_autodiff()).collect();
        // Burn panics if a backend or the machine has no collective operations.
        catch_unwind(AssertUnwindSafe(|| all_reduce(own, operation, devices).resolve())).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            failed(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("the backend panicked"))
        })
    }
}

fn failed(why: &str) -> TrainError {
    TrainError::Exchange(why.to_owned())
}

/// The mean of the devices' gradients, on `device`.
///
/// # Shapes
/// Each `[values]`.
pub(super) fn mean_on(all: Vec<Tensor<1>>, device: &Device) -> Result<Tensor<1>, TrainError> {
    let count = all.len() as f64;
    let device = device.clone().without_autodiff();
    let sum = all.into_iter().map(|values| values.to_device(&device)).reduce(|sum, values| sum + values);
    Ok(sum.ok_or_else(|| failed("no device has gradients"))? / count)
}

/// All gradients concatenated, and the order of their parameters.
///
/// # Shapes
/// `[values]`
pub(super) fn flatten(
    network: &UNet,
    gradients: &mut GradientsParams,
) -> Result<(Tensor<1>, Vec<ParamId>), TrainError> {
    struct Flatten<'a>(&'a mut GradientsParams, Vec<Tensor<1>>, Vec<ParamId>);
    impl ModuleVisitor for Flatten<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(parameter.id) {
                let values = gradient.shape().num_elements();
                self.1.push(gradient.reshape([values]));
                self.2.push(parameter.id);
            }
        }
    }
    let mut flat = Flatten(gradients, vec![], vec![]);
    network.visit(&mut flat);
    if flat.1.is_empty() {
        return Err(failed("no weight has a gradient"));
    }
    Ok((Tensor::cat(flat.1, 0), flat.2))
}

/// The inverse of [`flatten`].
pub(super) fn unflatten(network: &UNet, flat: &Tensor<1>, order: &[ParamId]) -> GradientsParams {
    struct Unflatten<'a> {
        flat: &'a Tensor<1>,
        order: std::slice::Iter<'a, ParamId>,
        at: usize,
        gradients: GradientsParams,
    }
    impl ModuleVisitor for Unflatten<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if self.order.as_slice().first() != Some(&parameter.id) {
                return;
            }
            self.order.next();
            let shape = parameter.shape();
            let values = shape.num_elements();
            let gradient: Tensor<D> = self.flat.clone().narrow(0, self.at, values).reshape(shape);
            self.gradients.register(parameter.id, gradient);
            self.at += values;
        }
    }
    let mut unflatten = Unflatten { flat, order: order.iter(), at: 0, gradients: GradientsParams::new() };
    network.visit(&mut unflatten);
    unflatten.gradients
}
