//! What training minimises.

use burn::tensor::activation::{log_softmax, relu, sigmoid, softmax};
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use sulcus_pipeline::Output;

/// Keeps the Dice of one sigmoid channel defined where both masks are empty.
const SIGMOID_SMOOTH: f64 = 1e-6;
/// The same for softmax classes; nnU-Net's value.
const SOFTMAX_SMOOTH: f64 = 1e-5;

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// 1 − soft Dice (Milletari et al. 2016).
    Dice,
    /// Cross-entropy + 1 − soft Dice (Isensee et al. 2021).
    DiceCe,
}

/// Over what soft Dice sums before it divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiceScope {
    /// All slices of the batch together: a class that is small in one slice counts little there. nnU-Net's 2-D choice.
    Batch,
    /// Each slice alone, then the mean.
    Case,
}

impl Loss {
    /// The loss of a batch.
    ///
    /// Softmax: Dice is the mean over the foreground classes; cross-entropy over all voxels and classes. Sigmoid:
    /// any class above 0 is foreground.
    ///
    /// # Shapes
    /// `logits` `[N, K, H, W]`, `targets` `[N, H, W]` class indices below K (0 or 1 for sigmoid) → `[1]`.
    pub fn forward(self, output: Output, scope: DiceScope, logits: Tensor<4>, targets: Tensor<3, Int>) -> Tensor<1> {
        match output {
            Output::Sigmoid => {
                let truth = targets.greater_elem(0).float().unsqueeze_dim::<4>(1);
                let dice = soft_dice(sigmoid(logits.clone()), truth.clone(), scope, SIGMOID_SMOOTH);
                match self {
                    Self::Dice => 1.0 - dice,
                    Self::DiceCe => binary_cross_entropy(logits, truth) + 1.0 - dice,
                }
            }
            Output::Softmax => {
                let classes = logits.dims()[1];
                let truth = one_hot(targets, classes);
                let probabilities = softmax(logits.clone(), 1);
                let dice =
                    soft_dice(foreground(probabilities), foreground(truth.clone()), scope, SOFTMAX_SMOOTH);
                match self {
                    Self::Dice => 1.0 - dice,
                    Self::DiceCe => cross_entropy(logits, truth) + 1.0 - dice,
                }
            }
        }
    }
}

/// (2 Σ p t + s) / (Σ p + Σ t + s), the mean over channels, and over cases where each is summed alone.
///
/// # Shapes
/// Both `[N, K, H, W]` → `[1]`.
fn soft_dice(probabilities: Tensor<4>, truth: Tensor<4>, scope: DiceScope, smooth: f64) -> Tensor<1> {
    let sums = |values: Tensor<4>| {
        let per_case = values.sum_dim(3).sum_dim(2);
        match scope {
            DiceScope::Batch => per_case.sum_dim(0),
            DiceScope::Case => per_case,
        }
    };
    let both = sums(probabilities.clone() * truth.clone());
    let either = sums(probabilities) + sums(truth);
    ((both * 2.0 + smooth) / (either + smooth)).mean()
}

/// Mean over voxels of −log p(truth).
fn cross_entropy(logits: Tensor<4>, truth: Tensor<4>) -> Tensor<1> {
    let [cases, _, height, width] = logits.dims();
    let voxels = (cases * height * width) as f64;
    (log_softmax(logits, 1) * truth).sum() / -voxels
}

/// Mean over voxels of −t log σ(x) − (1 − t) log(1 − σ(x)), as max(x, 0) − x t + log(1 + e^−|x|), which no logit
/// overflows.
fn binary_cross_entropy(logits: Tensor<4>, truth: Tensor<4>) -> Tensor<1> {
    let softplus = logits.clone().abs().neg().exp().log1p();
    (relu(logits.clone()) - logits * truth + softplus).mean()
}

/// # Shapes
/// `[N, H, W]` → `[N, K, H, W]`.
fn one_hot(targets: Tensor<3, Int>, classes: usize) -> Tensor<4> {
    let device = targets.device();
    let indices = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes, 1, 1]);
    targets.unsqueeze_dim::<4>(1).equal(indices).float()
}

/// All channels but the first.
fn foreground(maps: Tensor<4>) -> Tensor<4> {
    let classes = maps.dims()[1];
    maps.narrow(1, 1, classes.saturating_sub(1))
}
