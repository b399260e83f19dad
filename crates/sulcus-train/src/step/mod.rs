//! One step of training: the loss, its gradients, and the update of the weights, on one device or several.

pub(crate) mod device;
pub(crate) mod exchange;
pub(crate) mod learner;
pub(crate) mod loss;
pub(crate) mod loss_scaler;
pub(crate) mod objective;
pub(crate) mod optimizer;
pub(crate) mod placement;
pub(crate) mod precision;
mod replica;
pub(crate) mod targets;
mod worker;
