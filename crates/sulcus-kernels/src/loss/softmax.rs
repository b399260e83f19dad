//! The passes with softmax.

use super::IGNORED;
use super::math::{exp, ln};
use super::task::{BLOCK_VOXELS, Derivatives, DiceParts, Rows, Sums, Task};
use crate::simd::{Kernel, Simd, sum};

/// Converts classes to `u32`, the width of the other lanes.
#[inline(always)]
fn widen(classes: &[u8], truth: &mut [u32]) {
    for (truth, &class) in truth.iter_mut().zip(classes) {
        *truth = u32::from(class);
    }
}

/// The first pass: computes probabilities and sums.
pub(super) struct Softmax<'t, 'a>(pub(super) &'t mut Task<'a>);

impl Kernel for Softmax<'_, '_> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Sums {
        let Task { logits, classes, out } = self.0;
        let mut sums = Sums { dice: vec![DiceParts::default(); logits.len()], ..Sums::default() };
        let mut rows = Rows::new();
        for start in (0..classes.len()).step_by(BLOCK_VOXELS) {
            let end = classes.len().min(start + BLOCK_VOXELS);
            let classes = &classes[start..end];
            let truth = &mut rows.truth[..classes.len()];
            let max = &mut rows.max[..classes.len()];
            let sum_of = &mut rows.sum[..classes.len()];
            let of_truth = &mut rows.of_truth[..classes.len()];
            sums.count_classes(classes);
            widen(classes, truth);
            max.fill(f32::NEG_INFINITY);
            of_truth.fill(0.0);
            sum_of.fill(0.0);
            for (channel, logits) in (0_u32..).zip(logits.iter()) {
                let logits = &logits[start..end];
                for (((&z, max), of_truth), &truth) in
                    logits.iter().zip(max.iter_mut()).zip(of_truth.iter_mut()).zip(truth.iter())
                {
                    *max = if z > *max { z } else { *max };
                    *of_truth = if truth == channel { z } else { *of_truth };
                }
            }
            for (logits, out) in logits.iter().zip(out.iter_mut()) {
                let (logits, out) = (&logits[start..end], &mut out[start..end]);
                for (((&z, out), &max), sum) in
                    logits.iter().zip(out.iter_mut()).zip(max.iter()).zip(sum_of.iter_mut())
                {
                    *out = exp(z - max);
                    *sum += *out;
                }
            }
            for (((max, sum), &of_truth), &truth) in
                max.iter_mut().zip(sum_of.iter_mut()).zip(of_truth.iter()).zip(truth.iter())
            {
                let entropy = *max - of_truth + ln(*sum);
                *max = if truth == u32::from(IGNORED) { 0.0 } else { entropy };
                *sum = 1.0 / *sum;
            }
            sums.entropy += sum(simd, max);
            for ((channel, out), dice) in (0_u32..).zip(out.iter_mut()).zip(&mut sums.dice) {
                let out = &mut out[start..end];
                let mut count = 0;
                for (((out, &inverse), hit), &truth) in
                    out.iter_mut().zip(sum_of.iter()).zip(of_truth.iter_mut()).zip(truth.iter())
                {
                    *out = if truth == u32::from(IGNORED) { 0.0 } else { *out * inverse };
                    *hit = if truth == channel { *out } else { 0.0 };
                    count += u32::from(truth == channel);
                }
                dice.predicted += sum(simd, out);
                dice.intersection += sum(simd, of_truth);
                dice.true_voxels += f64::from(count);
            }
        }
        sums
    }
}

/// The second pass: replaces the probabilities by the gradient.
pub(super) struct SoftmaxGradient<'t, 'a>(pub(super) &'t mut Task<'a>, pub(super) &'t Derivatives);

impl Kernel for SoftmaxGradient<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self(Task { classes, out, .. }, derivatives) = self;
        let mut rows = Rows::new();
        for start in (0..classes.len()).step_by(BLOCK_VOXELS) {
            let end = classes.len().min(start + BLOCK_VOXELS);
            let classes = &classes[start..end];
            let truth = &mut rows.truth[..classes.len()];
            let mean = &mut rows.sum[..classes.len()];
            widen(classes, truth);
            mean.fill(-derivatives.entropy);
            for ((channel, out), &[always, if_true]) in (0_u32..).zip(out.iter()).zip(&derivatives.dice) {
                for ((&p, mean), &truth) in out[start..end].iter().zip(mean.iter_mut()).zip(truth.iter()) {
                    *mean += p * (always + if truth == channel { if_true } else { 0.0 });
                }
            }
            for ((channel, out), &[always, if_true]) in (0_u32..).zip(out.iter_mut()).zip(&derivatives.dice) {
                for ((p, &mean), &truth) in out[start..end].iter_mut().zip(mean.iter()).zip(truth.iter()) {
                    let hit = truth == channel;
                    let slope = always + if hit { if_true } else { 0.0 };
                    *p = *p * (slope - mean) - if hit { derivatives.entropy } else { 0.0 };
                }
            }
        }
    }
}
