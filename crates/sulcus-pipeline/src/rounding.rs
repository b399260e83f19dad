use sulcus_model::{Encoder, ModelSpec, NetworkSpec};

use crate::parity::Parity;

/// How far the logits of two correct engines may lie apart in single precision.
///
/// Engines sum in different orders. A sum of `n` products has a relative error of about `√n · u`, where `u` = 2⁻²⁴ is the unit
/// roundoff (Higham & Mary 2019, SIAM J. Sci. Comput. 41, A2815). Normalisation brings the values after each convolution back to
/// a common size, so that the errors of the layers are relative ones, are independent, and add by their squares: with `n` summands
/// in each convolution on the way through the network, the logits have a relative error of about `u · √(Σ n)`, which is
/// 1e-6 to 2e-5 for the networks of Sulcus. The number of layers and the width are thus part of the tolerance, and so is the
/// size of the logits, in two ways:
///
/// - The root mean square of the differences is at most [`AMPLIFICATION`](Self::AMPLIFICATION) times this error. This is the
///   sharper test: an error of the graph, such as a wrong weight, padding or ε, changes most logits.
/// - The greatest difference is at most [`PEAK`](Self::PEAK) times as large. Where a channel is almost constant, as in the black
///   margin of a picture, instance normalisation divides by a small standard deviation and amplifies the rounding of few voxels.
///
/// Logits whose root mean square is below 1 are compared as if it were 1: a probability changes by at most a quarter of the
/// difference of its logit, whatever the size of the logit.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RoundingTolerance {
    /// The expected relative error of the logits, `u · √(Σ n)`.
    pub relative: f64,
}

/// The unit roundoff of single precision.
const UNIT_ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;

impl RoundingTolerance {
    /// Winograd's convolutions lose about a decimal digit (Lavin & Gray 2016, CVPR), and a normalisation amplifies the errors of
    /// the layers before it.
    pub const AMPLIFICATION: f64 = 16.0;
    /// How many times the root mean square of the tolerance the difference of a single logit may be.
    pub const PEAK: f64 = 100.0;

    /// The tolerance for the network of a model.
    pub fn of(spec: &ModelSpec) -> Self {
        Self { relative: UNIT_ROUNDOFF * summands(&spec.network, spec.channels.len()).sqrt() }
    }

    /// The greatest root mean square of the differences.
    pub fn max_rms_difference(&self, parity: &Parity) -> f64 {
        Self::AMPLIFICATION * self.relative * parity.rms_logits.max(1.0)
    }

    /// The greatest difference of a single logit.
    pub fn max_difference(&self, parity: &Parity) -> f64 {
        Self::PEAK * self.max_rms_difference(parity)
    }

    /// Whether rounding explains the differences.
    pub fn allows(&self, parity: &Parity) -> bool {
        parity.rms_difference <= self.max_rms_difference(parity)
            && f64::from(parity.max_abs_difference) <= self.max_difference(parity)
    }
}

/// The summands of a value in each convolution on the way down to the coarsest stage and up again, added.
fn summands(network: &NetworkSpec, channels: usize) -> f64 {
    let volume = |axes: &[usize]| axes.iter().map(|n| *n as f64).product::<f64>();
    let per_block = match network.encoder {
        Encoder::Plain => 1.0,
        Encoder::Residual => 2.0,
    };
    let mut input = channels as f64;
    let mut sum = 0.0;
    for stage in &network.stages {
        let (width, kernel) = (stage.channels as f64, volume(&stage.kernel));
        let further = per_block * stage.convolutions as f64 - 1.0;
        sum += kernel * (input + further.max(0.0) * width);
        input = width;
    }
    for (finer, coarser) in network.stages.iter().zip(network.stages.iter().skip(1)) {
        let width = finer.channels as f64;
        let further = network.decoder_convolutions(finer).saturating_sub(1) as f64;
        sum += coarser.channels as f64 + volume(&finer.kernel) * width * (2.0 + further);
    }
    sum + network.stages.first().map_or(0.0, |stage| stage.channels as f64)
}

#[cfg(test)]
mod tests {
    use sulcus_testing::{test_spec, test_stage};

    use super::*;

    fn parity(rms_difference: f64, max_abs_difference: f32, rms_logits: f64) -> Parity {
        Parity { rms_difference, max_abs_difference, rms_logits, values: 1, ..Parity::default() }
    }

    /// One stage of 3×3 convolutions: 9 × 1 summands, 9 × 4 in the second, 4 in the output layer.
    #[test]
    fn tolerance_grows_with_depth_and_with_the_logits() {
        let stages = |n: usize| (0..n).map(|i| test_stage(2, 4, if i == 0 { 1 } else { 2 })).collect::<Vec<_>>();
        let one = test_spec(2).stages(stages(1)).build();
        let convolutions = one.network.stages[0].convolutions as f64;
        let expected = 9.0 + 36.0 * (convolutions - 1.0) + 4.0;
        let tolerance = RoundingTolerance::of(&one);
        assert!((tolerance.relative - 2.0_f64.powi(-24) * expected.sqrt()).abs() < 1e-12);
        let deeper = RoundingTolerance::of(&test_spec(2).stages(stages(3)).build());
        assert!(deeper.relative > tolerance.relative);
        let (small, large) = (parity(0.0, 0.0, 0.1), parity(0.0, 0.0, 10.0));
        assert_eq!(10.0 * tolerance.max_rms_difference(&small), tolerance.max_rms_difference(&large));
    }

    #[test]
    fn differences_beyond_rounding_are_refused() {
        let tolerance = RoundingTolerance { relative: 1e-6 };
        assert!(tolerance.allows(&parity(1e-5, 1e-3, 1.0)));
        assert!(!tolerance.allows(&parity(1e-4, 1e-3, 1.0)));
        assert!(tolerance.allows(&parity(1e-4, 1e-3, 10.0)));
        assert!(!tolerance.allows(&parity(1e-5, 1e-2, 1.0)));
        assert!(!tolerance.allows(&parity(f64::NAN, 0.0, 1.0)));
    }
}
