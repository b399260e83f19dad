//! A trained network as a model file, and the data that reducing its precision needs.

pub(crate) mod calibration;
pub(crate) mod onnx;
pub(crate) mod weights;
