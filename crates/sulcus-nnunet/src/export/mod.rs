//! The other way: a network that Sulcus has trained as a model folder of nnU-Net v2.

mod archive;
mod pickle;
mod plans;
mod state_dict;

use serde_json::Value;
use sulcus_model::ModelSpec;

use plans::Plan;

/// Why a model cannot be written for nnU-Net.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// nnU-Net has nothing that does the same.
    #[error("cannot write the model for nnU-Net: {what}, which nnU-Net cannot do{}", with_reason(reason))]
    Unsupported {
        /// What the model does.
        what: String,
        /// Further details; possibly empty.
        reason: String,
    },
    /// The tensors are not those of the network in the specification.
    #[error("cannot write the model for nnU-Net: the tensor `{name}` {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// The problem.
        reason: String,
    },
    /// The checkpoint cannot be made.
    #[error("cannot write the model for nnU-Net: {0}")]
    Archive(String),
}

fn with_reason(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// A tensor of a network of Sulcus.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name, as in exported graphs: `encoder.0.1.conv.weight`, `decoder.0.up.bias`.
    pub name: String,
    /// `[out, in, D, H, W]` of a convolution, `[in, out, D, H, W]` of a transposed one, `[channels]` of anything else. Networks of slices
    /// have D = 1.
    pub shape: Vec<usize>,
    /// The values, last axis fastest.
    pub values: Vec<f32>,
}

/// A model as nnU-Net stores it, apart from the weights.
#[derive(Debug, Clone)]
pub struct NnunetModel {
    plan: Plan,
    dataset: String,
}

impl NnunetModel {
    /// The name of the trainer in the checkpoints. nnU-Net looks for a class of this name.
    pub const TRAINER: &'static str = "nnUNetTrainer";
    /// The checkpoint in the folder of a fold.
    pub const CHECKPOINT: &'static str = "checkpoint_final.pth";

    /// Describes a model that Sulcus has trained.
    ///
    /// # Errors
    /// [`ExportError::Unsupported`] with the first thing that nnU-Net cannot do.
    pub fn new(spec: &ModelSpec) -> Result<Self, ExportError> {
        Ok(Self { plan: Plan::new(spec)?, dataset: plans::dataset_json(spec)? })
    }

    /// The text of `plans.json`.
    pub fn plans_json(&self) -> String {
        format!("{:#}\n", self.plan.json)
    }

    /// The text of `dataset.json`.
    pub fn dataset_json(&self) -> &str {
        &self.dataset
    }

    /// What nnU-Net will do in another way than Sulcus with the same scan, a sentence each.
    pub fn differences(&self) -> &[String] {
        &self.plan.differences
    }

    /// A checkpoint of a fold, as `torch.save` writes it.
    ///
    /// # Errors
    /// When the tensors are not those of the network in the specification.
    pub fn checkpoint(
        &self,
        spec: &ModelSpec,
        fold: usize,
        tensors: Vec<NamedTensor>,
    ) -> Result<Vec<u8>, ExportError> {
        let weights = state_dict::state_dict(spec, tensors)?;
        let dataset: Value =
            serde_json::from_str(&self.dataset).map_err(|e| ExportError::Archive(e.to_string()))?;
        let arguments = [
            ("plans", self.plan.json.clone()),
            ("configuration", self.plan.configuration.into()),
            ("fold", fold.into()),
            ("dataset_json", dataset),
        ];
        let rest = [
            (
                "init_args",
                Value::Object(arguments.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()),
            ),
            ("trainer_name", Self::TRAINER.into()),
            ("current_epoch", spec.training.epochs.into()),
        ];
        archive::write(&weights, &rest, &spec.mirror_axes)
    }
}

#[cfg(test)]
mod tests {
    use sulcus_model::{GridAxes, Postprocess, Tiling};

    use super::*;

    #[test]
    fn reasons_name_what_nnunet_lacks() {
        let mut spec = sulcus_testing::test_spec(3).build();
        insta::assert_snapshot!(NnunetModel::new(&spec).unwrap_err(), @"cannot write the model for nnU-Net: its network `test` pools with maxima between its resolutions, which nnU-Net cannot do: nnU-Net's networks have strided convolutions");
        spec.network.downsampling = sulcus_model::Downsampling::StridedConvolution;
        spec.tiling = Tiling::Whole;
        spec.postprocessing = vec![Postprocess::KeepLargestComponent { labels: vec![1] }];
        let differences = NnunetModel::new(&spec).unwrap().differences().join("\n");
        insta::assert_snapshot!(differences, @r"
        nnU-Net crops every scan to its voxels that are not 0, which this model was trained without; scans without a margin of zeros are the same
        Sulcus predicts whole slices or scans at once, nnU-Net with a window of [8, 8, 8] voxels
        the model's postprocessing is not in the folder: nnU-Net's predictor keeps the mask as it is
        ");
        spec.orientation = "LPS".parse().unwrap();
        insta::assert_snapshot!(NnunetModel::new(&spec).unwrap_err(), @"cannot write the model for nnU-Net: it sees scans in the orientation LPS, which nnU-Net cannot do: possible are R, A and S in any order");
        spec.orientation = GridAxes::Acquired;
        insta::assert_snapshot!(NnunetModel::new(&spec).unwrap_err(), @"cannot write the model for nnU-Net: it sees scans along their acquired axes, which nnU-Net cannot do: train with another orientation: R, A and S in any order");
    }
}
