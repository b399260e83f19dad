//! Cross-entropy and soft Dice with their gradient, in one pass over the logits and one over the gradient.
//!
//! nnU-Net's training loss (Isensee et al. 2021): cross-entropy, the mean over the voxels that count, plus 1 − soft Dice
//! (Milletari et al. 2016), the mean over the foreground's classes of (2 Σ p t + s) / (Σ p + Σ t + s).

use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::vector::{Kernel, Simd, sum, vectorised};

/// The class of a voxel that has no part in the loss.
const IGNORED: u8 = 255;
/// Keeps the Dice of one sigmoid channel defined where both masks are empty.
const SIGMOID_SMOOTH: f64 = 1e-6;
/// The same for softmax classes and regions; nnU-Net's value.
const SMOOTH: f64 = 1e-5;
/// Voxels of one task.
const TASK: usize = 8192;
/// Voxels that are worked on while they are in the nearest cache.
const BLOCK: usize = 512;

/// What turns logits into probabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// Over the channels, which are the classes; the first is background.
    Softmax,
    /// One channel; any class above 0 is foreground.
    Sigmoid,
    /// A channel a region, each by itself; regions may overlap. The cross-entropy is the mean over channels as well.
    Regions(Regions),
}

/// Which channel each class is true in, where a class may be true in several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    count: usize,
    members: Arc<Members>,
}

impl Regions {
    /// More don't fit into the bits of a class.
    pub const MOST: usize = 31;

    /// Regions of `classes` classes, the background included, each region given by its classes.
    ///
    /// # Errors
    /// When there is no region or more than [`Self::MOST`], or one has a class that is none or the background.
    pub fn new(regions: &[Vec<u8>], classes: usize) -> Result<Self, KernelError> {
        if regions.is_empty() || regions.len() > Self::MOST || classes > usize::from(IGNORED) {
            return Err(KernelError::Shape(format!("{} regions of {classes} classes", regions.len())));
        }
        let mut members = Members { of_class: [0; 256], classes };
        members.of_class[usize::from(IGNORED)] = UNCOUNTED;
        for (region, of_region) in regions.iter().enumerate() {
            for &class in of_region {
                if class == 0 || usize::from(class) >= classes {
                    return Err(KernelError::Class { found: class, classes });
                }
                members.of_class[usize::from(class)] |= 1 << region;
            }
        }
        Ok(Self { count: regions.len(), members: Arc::new(members) })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a class belongs to a region.
    pub fn holds(&self, region: usize, class: u8) -> bool {
        region < self.count && self.members.of_class[usize::from(class)] >> region & 1 == 1
    }
}

/// The bit of a class that counts in no channel.
const UNCOUNTED: u32 = 1 << 31;

/// For each class the channels that it is true in, as bits.
#[derive(Debug, PartialEq, Eq)]
struct Members {
    of_class: [u32; 256],
    /// Classes that may occur.
    classes: usize,
}

impl Members {
    /// One channel, true for any class.
    fn any() -> Self {
        let mut of_class = [1; 256];
        (of_class[0], of_class[usize::from(IGNORED)]) = (0, UNCOUNTED);
        Self { of_class, classes: usize::from(IGNORED) }
    }
}

/// What the loss is the sum of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// Cross-entropy alone.
    CrossEntropy,
    /// 1 − soft Dice alone.
    Dice,
    /// Both.
    DiceCrossEntropy,
}

/// Over what soft Dice sums before it divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiceSums {
    /// The whole batch.
    Batch,
    /// Each case alone, then the mean.
    Case,
}

/// A loss of logits `[batch, channels, voxels]` against classes `[batch, voxels]`.
#[derive(Debug, Clone)]
pub struct SegmentationLoss {
    /// What turns logits into probabilities.
    pub activation: Activation,
    /// What the loss is the sum of.
    pub terms: Terms,
    /// Over what soft Dice sums.
    pub sums: DiceSums,
}

impl SegmentationLoss {
    /// The loss, multiplied by `weight`, and its gradient. Voxels of class 255 count in neither; where all are, cross-entropy
    /// is 0.
    ///
    /// # Shapes
    /// `[batch, channels, voxels]` says the shape of `logits` and `gradient`, which is overwritten; `classes`
    /// `[batch, voxels]`.
    ///
    /// # Errors
    /// A slice of another length than the shape's; an empty shape; softmax over fewer than two channels or more than 255,
    /// sigmoid over more than one, regions over more or fewer than there are; a class that there is not. The gradient then holds nothing of use.
    pub fn value_and_gradient(
        &self,
        [batch, channels, voxels]: [usize; 3],
        weight: f64,
        logits: &[f32],
        classes: &[u8],
        gradient: &mut [f32],
    ) -> Result<f64, KernelError> {
        let len = product("loss", &[batch, channels, voxels])?;
        let any;
        let (channels_fit, members) = match &self.activation {
            Activation::Softmax => ((2..=usize::from(IGNORED)).contains(&channels), None),
            Activation::Sigmoid => {
                any = Members::any();
                (channels == 1, Some(&any))
            }
            Activation::Regions(regions) => (channels == regions.count, Some(&*regions.members)),
        };
        if len == 0 || !channels_fit {
            let kind = match &self.activation {
                Activation::Softmax => "softmax".to_owned(),
                Activation::Sigmoid => "sigmoid".to_owned(),
                Activation::Regions(regions) => format!("{} regions'", regions.count),
            };
            return Err(KernelError::Shape(format!("{kind} loss of [{batch}, {channels}, {voxels}] logits")));
        }
        check_length("logits", logits.len(), len)?;
        check_length("gradient", gradient.len(), len)?;
        check_length("classes", classes.len(), batch * voxels)?;

        let mut tasks = split([channels, voxels], logits, classes, gradient);
        let found: Vec<Sums> = tasks
            .par_iter_mut()
            .map(|task| match members {
                None => vectorised(Softmax(task)),
                Some(members) => vectorised(Sigmoid(task, &members.of_class)),
            })
            .collect();
        let highest = found.iter().map(|sums| sums.highest).max().unwrap_or(0);
        let classes = members.map_or(channels, |members| members.classes);
        if usize::from(highest) >= classes {
            return Err(KernelError::Class { found: highest, classes });
        }

        let of_cases = match self.sums {
            DiceSums::Batch => 1,
            DiceSums::Case => batch,
        };
        let tasks_of_case = found.len() / of_cases;
        let cases: Vec<Sums> = found.chunks(tasks_of_case).map(Sums::of_all).collect();
        let all = Sums::of_all(&cases);
        let mut value = 0.0;
        let mut slopes = Slopes { entropy: 0.0, dice: Vec::new() };
        if self.terms != Terms::Dice && all.counted > 0 {
            value += weight * all.entropy / all.counted as f64;
            slopes.entropy = (weight / all.counted as f64) as f32;
        }
        let mut slopes: Vec<Slopes> = vec![slopes; of_cases];
        if self.terms != Terms::CrossEntropy {
            let (first, smooth) = match &self.activation {
                Activation::Softmax => (1, SMOOTH),
                Activation::Sigmoid => (0, SIGMOID_SMOOTH),
                Activation::Regions(_) => (0, SMOOTH),
            };
            let share = weight / (of_cases * (channels - first)) as f64;
            value += weight;
            for (case, slopes) in cases.iter().zip(&mut slopes) {
                for (channel, dice) in case.dice.iter().enumerate() {
                    if channel < first {
                        slopes.dice.push([0.0; 2]);
                        continue;
                    }
                    let above = 2.0 * dice.both + smooth;
                    let below = dice.predicted + dice.true_voxels + smooth;
                    value -= share * above / below;
                    slopes.dice.push([(share * above / (below * below)) as f32, (-2.0 * share / below) as f32]);
                }
            }
        } else {
            slopes.iter_mut().for_each(|slopes| slopes.dice = vec![[0.0; 2]; channels]);
        }
        tasks.par_iter_mut().enumerate().for_each(|(task, part)| {
            let slopes = &slopes[task / tasks_of_case];
            match members {
                None => vectorised(SoftmaxGradient(part, slopes)),
                Some(members) => vectorised(SigmoidGradient(part, &members.of_class, slopes)),
            }
        });
        Ok(value)
    }
}

/// Some voxels of one case: a slice per channel.
struct Task<'a> {
    logits: Vec<&'a [f32]>,
    classes: &'a [u8],
    /// Between the passes, probabilities: 0 where ignored.
    out: Vec<&'a mut [f32]>,
}

/// The same number of tasks for each case, case by case.
fn split<'a>(
    [channels, voxels]: [usize; 2],
    logits: &'a [f32],
    classes: &'a [u8],
    out: &'a mut [f32],
) -> Vec<Task<'a>> {
    let of_case = voxels.div_ceil(TASK);
    let mut tasks: Vec<Task<'a>> = classes
        .chunks_exact(voxels)
        .flat_map(|case| case.chunks(TASK))
        .map(|classes| Task { logits: Vec::with_capacity(channels), classes, out: Vec::with_capacity(channels) })
        .collect();
    for (row, (logits, out)) in logits.chunks_exact(voxels).zip(out.chunks_exact_mut(voxels)).enumerate() {
        let tasks = &mut tasks[row / channels * of_case..];
        for ((task, logits), out) in tasks.iter_mut().zip(logits.chunks(TASK)).zip(out.chunks_mut(TASK)) {
            task.logits.push(logits);
            task.out.push(out);
        }
    }
    tasks
}

/// What the first pass adds up.
#[derive(Debug, Clone, Default)]
struct Sums {
    /// Voxels that are not ignored; of several sigmoid channels in each.
    counted: u64,
    highest: u8,
    /// Σ −log p(truth)
    entropy: f64,
    dice: Vec<DiceParts>,
}

/// One channel's.
#[derive(Debug, Clone, Copy, Default)]
struct DiceParts {
    both: f64,
    predicted: f64,
    true_voxels: f64,
}

impl Sums {
    fn of_all(parts: &[Self]) -> Self {
        let channels = parts.first().map_or(0, |part| part.dice.len());
        let mut all = Self { dice: vec![DiceParts::default(); channels], ..Self::default() };
        for part in parts {
            all.counted += part.counted;
            all.highest = all.highest.max(part.highest);
            all.entropy += part.entropy;
            for (all, part) in all.dice.iter_mut().zip(&part.dice) {
                all.both += part.both;
                all.predicted += part.predicted;
                all.true_voxels += part.true_voxels;
            }
        }
        all
    }

    #[inline(always)]
    fn see(&mut self, classes: &[u8]) {
        self.counted += classes.iter().map(|&class| u32::from(class != IGNORED)).sum::<u32>() as u64;
        let highest = classes.iter().map(|&class| if class == IGNORED { 0 } else { class }).max();
        self.highest = self.highest.max(highest.unwrap_or(0));
    }
}

/// What the second pass multiplies by: the loss's slopes.
#[derive(Debug, Clone)]
struct Slopes {
    /// By a voxel's cross-entropy.
    entropy: f32,
    /// By a channel's probability: everywhere, and what is added where the channel is true.
    dice: Vec<[f32; 2]>,
}

/// Scratch rows of one block.
struct Rows {
    truth: [u32; BLOCK],
    highest: [f32; BLOCK],
    sum: [f32; BLOCK],
    of_truth: [f32; BLOCK],
}

impl Rows {
    fn new() -> Self {
        Self { truth: [0; BLOCK], highest: [0.0; BLOCK], sum: [0.0; BLOCK], of_truth: [0.0; BLOCK] }
    }
}

#[inline(always)]
fn widen(classes: &[u8], truth: &mut [u32]) {
    for (truth, &class) in truth.iter_mut().zip(classes) {
        *truth = u32::from(class);
    }
}

struct Softmax<'t, 'a>(&'t mut Task<'a>);

impl Kernel for Softmax<'_, '_> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Sums {
        let Task { logits, classes, out } = self.0;
        let mut sums = Sums { dice: vec![DiceParts::default(); logits.len()], ..Sums::default() };
        let mut rows = Rows::new();
        for start in (0..classes.len()).step_by(BLOCK) {
            let end = classes.len().min(start + BLOCK);
            let classes = &classes[start..end];
            let truth = &mut rows.truth[..classes.len()];
            let highest = &mut rows.highest[..classes.len()];
            let sum_of = &mut rows.sum[..classes.len()];
            let of_truth = &mut rows.of_truth[..classes.len()];
            sums.see(classes);
            widen(classes, truth);
            highest.fill(f32::NEG_INFINITY);
            of_truth.fill(0.0);
            sum_of.fill(0.0);
            for (channel, logits) in (0_u32..).zip(logits.iter()) {
                let logits = &logits[start..end];
                for (((&z, highest), of_truth), &truth) in
                    logits.iter().zip(highest.iter_mut()).zip(of_truth.iter_mut()).zip(truth.iter())
                {
                    *highest = if z > *highest { z } else { *highest };
                    *of_truth = if truth == channel { z } else { *of_truth };
                }
            }
            for (logits, out) in logits.iter().zip(out.iter_mut()) {
                let (logits, out) = (&logits[start..end], &mut out[start..end]);
                for (((&z, out), &highest), sum) in
                    logits.iter().zip(out.iter_mut()).zip(highest.iter()).zip(sum_of.iter_mut())
                {
                    *out = exp(z - highest);
                    *sum += *out;
                }
            }
            for (((highest, sum), &of_truth), &truth) in
                highest.iter_mut().zip(sum_of.iter_mut()).zip(of_truth.iter()).zip(truth.iter())
            {
                let entropy = *highest - of_truth + ln(*sum);
                *highest = if truth == u32::from(IGNORED) { 0.0 } else { entropy };
                *sum = 1.0 / *sum;
            }
            sums.entropy += sum(simd, highest);
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
                dice.both += sum(simd, of_truth);
                dice.true_voxels += f64::from(count);
            }
        }
        sums
    }
}

struct SoftmaxGradient<'t, 'a>(&'t mut Task<'a>, &'t Slopes);

impl Kernel for SoftmaxGradient<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self(Task { classes, out, .. }, slopes) = self;
        let mut rows = Rows::new();
        for start in (0..classes.len()).step_by(BLOCK) {
            let end = classes.len().min(start + BLOCK);
            let classes = &classes[start..end];
            let truth = &mut rows.truth[..classes.len()];
            let mean = &mut rows.sum[..classes.len()];
            widen(classes, truth);
            mean.fill(-slopes.entropy);
            for ((channel, out), &[always, if_true]) in (0_u32..).zip(out.iter()).zip(&slopes.dice) {
                for ((&p, mean), &truth) in out[start..end].iter().zip(mean.iter_mut()).zip(truth.iter()) {
                    *mean += p * (always + if truth == channel { if_true } else { 0.0 });
                }
            }
            for ((channel, out), &[always, if_true]) in (0_u32..).zip(out.iter_mut()).zip(&slopes.dice) {
                for ((p, &mean), &truth) in out[start..end].iter_mut().zip(mean.iter()).zip(truth.iter()) {
                    let hit = truth == channel;
                    let slope = always + if hit { if_true } else { 0.0 };
                    *p = *p * (slope - mean) - if hit { slopes.entropy } else { 0.0 };
                }
            }
        }
    }
}

/// The bits of each voxel's class.
#[inline(always)]
fn look_up(of_class: &[u32; 256], classes: &[u8], bits: &mut [u32]) {
    for (bits, &class) in bits.iter_mut().zip(classes) {
        *bits = of_class[usize::from(class)];
    }
}

struct Sigmoid<'t, 'a>(&'t mut Task<'a>, &'t [u32; 256]);

impl Kernel for Sigmoid<'_, '_> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Sums {
        let Self(Task { logits, classes, out }, of_class) = self;
        let mut sums = Sums::default();
        let mut rows = Rows::new();
        for (channel, (logits, out)) in (0_u32..).zip(logits.iter().zip(out.iter_mut())) {
            let mut dice = DiceParts::default();
            let blocks = logits.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).zip(classes.chunks(BLOCK));
            for ((logits, out), classes) in blocks {
                let truth = &mut rows.truth[..classes.len()];
                let entropy = &mut rows.sum[..classes.len()];
                let hit = &mut rows.of_truth[..classes.len()];
                sums.see(classes);
                look_up(of_class, classes, truth);
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
                dice.both += sum(simd, hit);
                dice.true_voxels += f64::from(count);
            }
            sums.dice.push(dice);
        }
        sums
    }
}

struct SigmoidGradient<'t, 'a>(&'t mut Task<'a>, &'t [u32; 256], &'t Slopes);

impl Kernel for SigmoidGradient<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self(Task { classes, out, .. }, of_class, slopes) = self;
        let mut rows = Rows::new();
        for (channel, (out, &[always, if_true])) in (0_u32..).zip(out.iter_mut().zip(&slopes.dice)) {
            for (out, classes) in out.chunks_mut(BLOCK).zip(classes.chunks(BLOCK)) {
                let truth = &mut rows.truth[..classes.len()];
                look_up(of_class, classes, truth);
                for (p, &truth) in out.iter_mut().zip(truth.iter()) {
                    // An ignored voxel's probability was set to 0, and its bits are those of no channel.
                    let is_true = truth >> channel & 1 == 1;
                    let slope = always + if is_true { if_true } else { 0.0 };
                    *p = slope * (*p * (1.0 - *p)) + slopes.entropy * (*p - if is_true { 1.0 } else { 0.0 });
                }
            }
        }
    }
}

/// eˣ for x ≤ 0 to seven digits, 0 below −87 (Cody and Waite's reduction, a polynomial of degree 6). NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ rounds to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    // ln 2 in two parts; the product with the first is exact.
    let r = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let series = 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let value = series * (r * r) + r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let scaled = value * f32::from_bits(exponent << 23);
    if x < -87.0 { 0.0 } else { scaled }
}

/// ln x for x ≥ 1 to seven digits: x = 2ᵏ m, ln m = 2 artanh((m − 1) / (m + 1)) by its series. NaN stays NaN.
#[inline(always)]
fn ln(x: f32) -> f32 {
    // The bits of √½: m lies between it and √2.
    const LOW: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(LOW);
    let power = (bits.cast_signed() >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(LOW));
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    let series = 1.0 / 9.0;
    let series = series * square + 1.0 / 7.0;
    let series = series * square + 1.0 / 5.0;
    let series = series * square + 1.0 / 3.0;
    let of_m = 2.0 * (t + t * square * series);
    // The last term is 0, and NaN for NaN.
    power * 0.693_359_4 + (of_m - power * 2.121_944_4e-4) + x * 0.0
}
