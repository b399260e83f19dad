use burn::tensor::Tensor;
use sulcus_model::OutputActivation;
use sulcus_plan::{DiceScope, Loss};

use super::loss::segmentation_loss;
use super::targets::Targets;
use crate::error::TrainError;
use crate::network::UNet;

/// The loss of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// The loss function.
    pub loss: Loss,
    /// The output activation.
    pub output: OutputActivation,
    /// The cases over which soft Dice sums.
    pub dice_scope: DiceScope,
}

impl Objective {
    /// The loss of a batch. With deep supervision it is the weighted mean over the resolutions; the weight halves with each
    /// coarser resolution.
    ///
    /// # Shapes
    /// `image` `[N, C, D, H, W]`, `targets` `[N, D, H, W]` → `[1]`.
    ///
    /// # Errors
    /// When a stride does not divide the targets' grid.
    pub fn loss(self, network: &UNet, image: Tensor<5>, targets: &Targets) -> Result<Tensor<1>, TrainError> {
        let logits = network.forward_all(image);
        let weights = (0..logits.len()).map(|i| 0.5_f64.powi(i as i32));
        let sum: f64 = weights.clone().sum();
        let mut total: Option<Tensor<1>> = None;
        for ((logits, stride), weight) in logits.into_iter().zip(network.supervised_strides()).zip(weights) {
            let loss =
                segmentation_loss(self.loss, self.output, self.dice_scope, logits, &targets.coarser(stride)?);
            let loss = loss * (weight / sum);
            total = Some(match total {
                Some(total) => total + loss,
                None => loss,
            });
        }
        total.ok_or_else(|| TrainError::Tensor("the network gave no logits".into()))
    }
}
