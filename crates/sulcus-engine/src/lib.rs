//! Runs the networks of model files on `sulcus-kernels`, without another library.
//!
//! [`Engine`] reads the ONNX graph of a model file. It knows the operators that Sulcus exports (convolutions, transposed convolutions for
//! upsampling, instance and batch normalisation, leaky ReLU, pooling, concatenation, addition, resizing, softmax and sigmoid, weights in
//! half precision, and networks in 8-bit integers) and refuses any other by name, with an [`EngineError`] that carries the node and the
//! reason.
//!
//! A graph becomes a list of steps once. For each input size, memory is planned by the lifetimes of the values; after the first input of
//! a size nothing large is allocated. The results are the same to the bit on any number of threads.
//!
//! ```no_run
//! use sulcus_engine::{Engine, EngineOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(&std::fs::read("model.onnx")?, &EngineOptions::default())?;
//! // One slice of 64 × 48 pixels with one channel.
//! let shape = [1, 1, 64, 48];
//! let output_shape = engine.output_shape(&shape)?;
//! let mut logits = vec![0.0; output_shape.iter().product()];
//! engine.run(&shape, &vec![0.0; 64 * 48], &mut logits)?;
//! # Ok(())
//! # }
//! ```

mod arithmetic;
mod engine;
mod error;
mod execute;
mod layer;
mod memory_plan;
mod pack;
mod pointwise;
mod program;
mod read;
mod schedule;

pub use arithmetic::Arithmetic;
pub use engine::{Engine, EngineOptions};
pub use error::{EngineError, GraphProblem, NodeProblem};
pub use execute::StepInfo;

/// Whether the kernels have vector instructions of their own for this processor (AVX2, AVX-512 or AMX). On other processors they are plain
/// Rust, compiled for its baseline.
#[must_use]
pub fn has_vector_kernels() -> bool {
    sulcus_kernels::instruction_set() != sulcus_kernels::InstructionSet::Portable
}

/// Whether the kernels multiply tiles of matrices (AMX) in bfloat16 and in 8-bit integers on this processor.
#[must_use]
pub fn has_tile_kernels() -> bool {
    sulcus_kernels::instruction_set() == sulcus_kernels::InstructionSet::Amx
}
