//! Model files in fewer bits.
//!
//! [`to_half`] stores the weights in half precision and computes as before. [`to_int8`] makes the convolutions compute
//! in 8-bit integers, in the form that ONNX calls QDQ: `QuantizeLinear` and `DequantizeLinear` around them, which an
//! engine fuses into integer kernels. What it has to know of the values between the layers is found by running
//! [`with_ranges`], the same graph with the extremes of these values as its outputs.
//!
//! All three take what [`GraphBuilder`](crate::GraphBuilder) wrote. They change the graph alone: the specification is
//! the caller's to replace with [`with_spec`](crate::with_spec).

mod flatten;
mod half_weights;
mod int8;
mod ranges;
mod rewrite;
mod scale;

pub(crate) use half_weights::HALF_SUFFIX;
pub use half_weights::to_half;
pub use int8::to_int8;
pub use ranges::{RangeOutput, with_ranges};
pub use scale::{Affine, PerChannel, ValueRange};
