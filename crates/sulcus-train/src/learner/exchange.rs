//! How devices average what they have.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use crate::{TrainError, UNet};

/// How several devices average their gradients.
#[derive(Debug, Clone)]
pub enum Exchange {
    /// By Burn's all-reduce among these devices, which is NCCL's on CUDA. No other backend has one in Burn 0.22.1.
    Collective(Vec<Device>),
    /// Each device's gradients are copied to the first, which adds them up in the order of the devices and sends the mean
    /// back.
    ThroughFirst,
}

impl Exchange {
    /// Lets all devices add up a number whose sum is known: a library that is missing or a device that does not take part
    /// is found before training. Every device has to call this at the same time, with its place among them.
    pub(super) fn try_out(&self, seat: usize, device: &Device) -> Result<(), TrainError> {
        let Self::Collective(devices) = self else { return Ok(()) };
        let own = Tensor::<1>::from_floats([(seat + 1) as f32], &device.clone().without_autodiff());
        let sum = self.reduce_by(own, ReduceOperation::Sum)?;
        let found = sum.try_into_vec_as::<f32>().map_err(|e| failed(&format!("{e:?}")))?;
        let expected = (devices.len() * (devices.len() + 1) / 2) as f32;
        if found == [expected] {
            Ok(())
        } else {
            Err(failed(&format!("the sum {expected} came out as {found:?}")))
        }
    }

    /// The mean over all devices. Every device has to call this at the same time.
    ///
    /// # Shapes
    /// `[values]`
    pub(super) fn reduce(&self, own: Tensor<1>) -> Result<Tensor<1>, TrainError> {
        self.reduce_by(own, ReduceOperation::Mean)
    }

    fn reduce_by(&self, own: Tensor<1>, operation: ReduceOperation) -> Result<Tensor<1>, TrainError> {
        let Self::Collective(devices) = self else { return Ok(own) };
        let devices = devices.iter().map(|device| device.clone().without_autodiff()).collect();
        // Burn panics where a backend or the machine has no collective operations.
        catch_unwind(AssertUnwindSafe(|| all_reduce(own, operation, devices).resolve())).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            failed(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("the backend gave up"))
        })
    }
}

fn failed(why: &str) -> TrainError {
    TrainError::Exchange(why.to_owned())
}

/// The mean, on `device`.
///
/// # Shapes
/// Each `[values]`.
pub(super) fn mean(all: Vec<Tensor<1>>, device: &Device) -> Result<Tensor<1>, TrainError> {
    let count = all.len() as f64;
    let device = device.clone().without_autodiff();
    let sum = all.into_iter().map(|values| values.to_device(&device)).reduce(|sum, values| sum + values);
    Ok(sum.ok_or_else(|| failed("no device has gradients"))? / count)
}

/// All gradients in one row, in the order of the parameters that are given with it.
///
/// # Shapes
/// `[values]`
pub(super) fn flatten(
    network: &UNet,
    gradients: &mut GradientsParams,
) -> Result<(Tensor<1>, Vec<ParamId>), TrainError> {
    struct Row<'a>(&'a mut GradientsParams, Vec<Tensor<1>>, Vec<ParamId>);
    impl ModuleVisitor for Row<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(parameter.id) {
                let values = gradient.shape().num_elements();
                self.1.push(gradient.reshape([values]));
                self.2.push(parameter.id);
            }
        }
    }
    let mut row = Row(gradients, vec![], vec![]);
    network.visit(&mut row);
    if row.1.is_empty() {
        return Err(failed("no weight has a gradient"));
    }
    Ok((Tensor::cat(row.1, 0), row.2))
}

/// What [`flatten`] put in a row.
pub(super) fn unflatten(network: &UNet, row: &Tensor<1>, order: &[ParamId]) -> GradientsParams {
    struct Cut<'a> {
        row: &'a Tensor<1>,
        order: std::slice::Iter<'a, ParamId>,
        at: usize,
        gradients: GradientsParams,
    }
    impl ModuleVisitor for Cut<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if self.order.as_slice().first() != Some(&parameter.id) {
                return;
            }
            self.order.next();
            let shape = parameter.shape();
            let values = shape.num_elements();
            let gradient: Tensor<D> = self.row.clone().narrow(0, self.at, values).reshape(shape);
            self.gradients.register(parameter.id, gradient);
            self.at += values;
        }
    }
    let mut cut = Cut { row, order: order.iter(), at: 0, gradients: GradientsParams::new() };
    network.visit(&mut cut);
    cut.gradients
}
