//! Tests of the inference layers against the training layers, on every instruction set of this processor.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod conv;
mod conv_transpose;
mod pointwise;
mod precision;
mod tiles;

use proptest::test_runner::TestCaseError;

use super::precision::Machine;
use super::{ConvKernel, InputTransform, LayerInput, Precision, Values};
use crate::ConvShape;
use crate::instruction_set::InstructionSet;
pub(super) use crate::tests::{assert_same_on_any_threads, available, bits, noise};

/// Single precision on an instruction set.
pub(super) fn single(with: InstructionSet) -> Machine {
    Machine::new(with, Precision::F32, 0).unwrap()
}

/// A convolution with one or two inputs.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) batch: usize,
    pub(super) kernel: ConvKernel,
    pub(super) size: [usize; 3],
    /// The channels of the first input; the second has the others.
    pub(super) cut: usize,
}

impl Case {
    pub(super) fn shape(&self) -> ConvShape {
        self.kernel.shape(self.batch, self.size)
    }

    pub(super) fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    /// The channels of each input.
    pub(super) fn parts(&self) -> impl Iterator<Item = usize> {
        [self.cut, self.kernel.inputs - self.cut].into_iter().filter(|&channels| channels > 0)
    }

    pub(super) fn inputs(&self, seed: u64) -> Vec<Tensor> {
        let parts = self.parts().zip(seed..);
        parts.map(|(channels, seed)| Tensor::noise([self.batch, channels, self.voxels()], seed)).collect()
    }

    /// The number of channels of the output in all samples, and the number of values of each.
    pub(super) fn outputs(&self) -> [usize; 2] {
        [self.batch * self.kernel.outputs, self.shape().output_plane()]
    }
}

/// A tensor with its transform.
pub(super) struct Tensor {
    pub(super) values: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) slope: f32,
}

impl Tensor {
    /// Noise of shape `[batch, channels, voxels]`, to be transformed.
    pub(super) fn noise([batch, channels, voxels]: [usize; 3], seed: u64) -> Self {
        let count = batch * channels;
        Self {
            values: noise(count * voxels, seed),
            scale: noise(count, seed + 100).iter().map(|value| value + 1.5).collect(),
            shift: noise(count, seed + 200),
            slope: 0.01,
        }
    }

    pub(super) fn input(&self) -> LayerInput<'_> {
        self.with(Values::F32(&self.values))
    }

    /// Other storage with the same transform.
    pub(super) fn with<'a>(&'a self, values: Values<'a>) -> LayerInput<'a> {
        let transform = InputTransform { scale: &self.scale, shift: &self.shift, slope: self.slope };
        LayerInput { values, transform: Some(transform) }
    }

    /// The transformed values.
    pub(super) fn materialised(&self) -> Vec<f32> {
        transformed(&self.values, &self.scale, &self.shift, self.slope)
    }
}

/// `leaky_relu(x · scale + shift)` by its definition.
pub(super) fn transformed(x: &[f32], scale: &[f32], shift: &[f32], slope: f32) -> Vec<f32> {
    let voxels = x.len() / scale.len();
    let of_channel = x.chunks(voxels).zip(scale.iter().zip(shift));
    let values = of_channel.flat_map(|(x, (scale, shift))| x.iter().map(move |x| x * scale + shift));
    values.map(|value| if value > 0.0 { value } else { value * slope }).collect()
}

/// Fails unless no value differs by more than `tolerance` times the largest expected value.
pub(super) fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) -> Result<(), TestCaseError> {
    let scale = expected.iter().fold(1e-3_f32, |scale, value| scale.max(value.abs()));
    proptest::prop_assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let is_close = (found - expected).abs() <= tolerance * scale;
        proptest::prop_assert!(is_close, "{what}[{index}]: {found} instead of {expected}, scale {scale}");
    }
    Ok(())
}

/// The mean and the biased variance of each channel, in double precision.
pub(super) fn moments(y: &[f32], voxels: usize) -> [Vec<f32>; 2] {
    let channels = y.chunks(voxels).map(|channel| {
        let count = channel.len() as f64;
        let mean = channel.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let squares = channel.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
        (mean as f32, (squares / count) as f32)
    });
    let (mean, variance) = channels.unzip();
    [mean, variance]
}
