//! The passes with sigmoid channels: one foreground channel, or one channel per region.

use super::math::{exp, ln};
use super::regions::UNCOUNTED;
use super::task::{BLOCK_VOXELS, Derivatives, DiceParts, Rows, Sums, Task};
use crate::simd::{Kernel, Simd, sum};

/// Looks up the channel bits of each voxel's class.
#[inline(always)]
fn look_up_channels(of_class: &[u32; 256], classes: &[u8], bits: &mut [u32]) {
    for (bits, &class) in bits.iter_mut().zip(classes) {
        *bits = of_class[usize::from(class)];
    }
}

/// The first pass: computes probabilities and sums.
pub(super) struct Sigmoid<'t, 'a>(pub(super) &'t mut Task<'a>, pub(super) &'t [u32; 256]);

impl Kernel for Sigmoid<'_, '_> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Sums {
        let Self(Task { logits, classes, out }, of_class) = self;
        let mut sums = Sums::default();
        let mut rows = Rows::new();
        for (channel, (logits, out)) in (0_u32..).zip(logits.iter().zip(out.iter_mut())) {
            let mut dice = DiceParts::default();
            let blocks =
                logits.chunks(BLOCK_VOXELS).zip(out.chunks_mut(BLOCK_VOXELS)).zip(classes.chunks(BLOCK_VOXELS));
            for ((logits, out), classes) in blocks {
                let truth = &mut rows.truth[..classes.len()];
                let entropy = &mut rows.sum[..classes.len()];
                let hit = &mut rows.of_truth[..classes.len()];
                sums.count_classes(classes);
                look_up_channels(of_class, classes, truth);
                let mut count = 0;
                for ((((&z, out), entropy), hit), &truth) in
                    logits.iter().zip(out.iter_mut()).zip(entropy.iter_mut()).zip(hit.iter_mut()).zip(truth.iter())
                {
                    let small = exp(-z.abs());
                    let p = if z < 0.0 { small } else { 1.0 } / (1.0 + small);
                    let ignored = truth == UNCOUNTED;
                    let is_true = truth >> channel & 1 == 1;
                    let above = if z < 0.0 { 0.0 } else { z };
                    let cost = above - if is_true { z } else { 0.0 } + ln(1.0 + small);
                    *entropy = if ignored { 0.0 } else { cost };
                    *out = if ignored { 0.0 } else { p };
                    *hit = if is_true { p } else { 0.0 };
                    count += u32::from(is_true);
                }
                sums.entropy += sum(simd, entropy);
                dice.predicted += sum(simd, out);
                dice.intersection += sum(simd, hit);
                dice.true_voxels += f64::from(count);
            }
            sums.dice.push(dice);
        }
        sums
    }
}

/// The second pass: replaces the probabilities by the gradient.
pub(super) struct SigmoidGradient<'t, 'a>(
    pub(super) &'t mut Task<'a>,
    pub(super) &'t [u32; 256],
    pub(super) &'t Derivatives,
);

impl Kernel for SigmoidGradient<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self(Task { classes, out, .. }, of_class, derivatives) = self;
        let mut rows = Rows::new();
        for (channel, (out, &[always, if_true])) in (0_u32..).zip(out.iter_mut().zip(&derivatives.dice)) {
            for (out, classes) in out.chunks_mut(BLOCK_VOXELS).zip(classes.chunks(BLOCK_VOXELS)) {
                let truth = &mut rows.truth[..classes.len()];
                look_up_channels(of_class, classes, truth);
                for (p, &truth) in out.iter_mut().zip(truth.iter()) {
                    // The probability of an ignored voxel was set to 0, and it has no channel bits.
                    let is_true = truth >> channel & 1 == 1;
                    let slope = always + if is_true { if_true } else { 0.0 };
                    *p = slope * (*p * (1.0 - *p)) + derivatives.entropy * (*p - if is_true { 1.0 } else { 0.0 });
                }
            }
        }
    }
}
