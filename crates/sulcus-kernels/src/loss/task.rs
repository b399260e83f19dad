//! The units of parallel work of the loss, and the buffers and sums of its passes.

use super::IGNORED;

/// The number of voxels per task.
const TASK_VOXELS: usize = 8192;
/// The number of voxels per block. The rows of a block stay in the L1 cache.
pub(super) const BLOCK_VOXELS: usize = 512;

/// A range of voxels of one sample, with one slice per channel.
pub(super) struct Task<'a> {
    pub(super) logits: Vec<&'a [f32]>,
    pub(super) classes: &'a [u8],
    /// The gradient. Between the two passes it holds the probabilities, which are 0 for ignored voxels.
    pub(super) out: Vec<&'a mut [f32]>,
}

/// Splits the tensors into tasks: the same number for each sample, ordered by sample.
pub(super) fn split<'a>(
    [channels, voxels]: [usize; 2],
    logits: &'a [f32],
    classes: &'a [u8],
    out: &'a mut [f32],
) -> Vec<Task<'a>> {
    let tasks_per_sample = voxels.div_ceil(TASK_VOXELS);
    let mut tasks: Vec<Task<'a>> = classes
        .chunks_exact(voxels)
        .flat_map(|sample| sample.chunks(TASK_VOXELS))
        .map(|classes| Task { logits: Vec::with_capacity(channels), classes, out: Vec::with_capacity(channels) })
        .collect();
    for (row, (logits, out)) in logits.chunks_exact(voxels).zip(out.chunks_exact_mut(voxels)).enumerate() {
        let tasks = &mut tasks[row / channels * tasks_per_sample..];
        let parts = logits.chunks(TASK_VOXELS).zip(out.chunks_mut(TASK_VOXELS));
        for (task, (logits, out)) in tasks.iter_mut().zip(parts) {
            task.logits.push(logits);
            task.out.push(out);
        }
    }
    tasks
}

/// The sums of the first pass.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// The number of voxels that are not ignored. With several sigmoid channels, each channel counts.
    pub(super) counted: u64,
    pub(super) max_class: u8,
    /// Σ −log p(true class).
    pub(super) entropy: f64,
    pub(super) dice: Vec<DiceParts>,
}

/// The sums of one channel for soft Dice, with probabilities p and true labels t.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DiceParts {
    /// Σ p t.
    pub(super) intersection: f64,
    /// Σ p.
    pub(super) predicted: f64,
    /// Σ t.
    pub(super) true_voxels: f64,
}

impl Sums {
    /// The sums over several tasks.
    pub(super) fn merge(parts: &[Self]) -> Self {
        let channels = parts.first().map_or(0, |part| part.dice.len());
        let mut all = Self { dice: vec![DiceParts::default(); channels], ..Self::default() };
        for part in parts {
            all.counted += part.counted;
            all.max_class = all.max_class.max(part.max_class);
            all.entropy += part.entropy;
            for (all, part) in all.dice.iter_mut().zip(&part.dice) {
                all.intersection += part.intersection;
                all.predicted += part.predicted;
                all.true_voxels += part.true_voxels;
            }
        }
        all
    }

    /// Counts the voxels that are not ignored and finds their largest class.
    #[inline(always)]
    pub(super) fn count_classes(&mut self, classes: &[u8]) {
        self.counted += classes.iter().map(|&class| u32::from(class != IGNORED)).sum::<u32>() as u64;
        let max_class = classes.iter().map(|&class| if class == IGNORED { 0 } else { class }).max();
        self.max_class = self.max_class.max(max_class.unwrap_or(0));
    }
}

/// The derivatives of the loss that the second pass multiplies by.
#[derive(Debug, Clone)]
pub(super) struct Derivatives {
    /// With respect to the cross-entropy of a voxel.
    pub(super) entropy: f32,
    /// With respect to the probability of a channel: everywhere, and in addition where the channel is true.
    pub(super) dice: Vec<[f32; 2]>,
}

/// Working rows for one block.
pub(super) struct Rows {
    pub(super) truth: [u32; BLOCK_VOXELS],
    pub(super) max: [f32; BLOCK_VOXELS],
    pub(super) sum: [f32; BLOCK_VOXELS],
    pub(super) of_truth: [f32; BLOCK_VOXELS],
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            truth: [0; BLOCK_VOXELS],
            max: [0.0; BLOCK_VOXELS],
            sum: [0.0; BLOCK_VOXELS],
            of_truth: [0.0; BLOCK_VOXELS],
        }
    }
}
