//! Models in lower precision.
//!
//! [`to_half`] stores the weights in half precision; the network still computes in single precision. [`to_int8`] quantizes
//! the convolutions to 8-bit integers in ONNX's QDQ form: `QuantizeLinear` and `DequantizeLinear` nodes around each
//! convolution, which an engine fuses into an integer kernel. The ranges of the quantized values come from calibration: run
//! [`calibration_model`], the same graph with the minimum and maximum of these values as its outputs, on representative
//! tiles.
//!
//! All three take files that [`GraphBuilder`](crate::GraphBuilder) wrote. They change only the graph; the caller replaces the
//! specification with [`with_spec`](crate::with_spec).

mod calibration;
mod conv3d_as_conv2d;
mod half_weights;
mod int8;
mod quantization;

pub use calibration::{RangeOutput, calibration_model};
pub(crate) use half_weights::HALF_SUFFIX;
pub use half_weights::to_half;
pub use int8::to_int8;
pub use quantization::{QuantizationParams, QuantizedWeights, ValueRange};
