use serde::{Deserialize, Serialize};
use sulcus_model::{
    ChannelSpec, CropRule, GridAxes, ModelSpec, NetworkSpec, Normalisation, OutputActivation, Region, SpacingRule,
    SpecError, Structure, Tiling, Training, TrainingScans,
};
use sulcus_volume::LabelTable;

use crate::augmentation::Flips;
use crate::config::TrainConfig;
use crate::device::DeviceKind;
use crate::error::PlanError;
use crate::loss::DiceScope;
use crate::memory::{MemoryEstimate, count_parameters};
use crate::pace::Pace;

/// Everything about a model except its weights, with the reason for each decision. A plan is data: any value may be
/// changed as long as the parts fit each other; [`Plan::check`] checks that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// The network.
    pub network: NetworkSpec,
    /// The names of the image channels.
    pub channels: Vec<String>,
    /// The label values of masks. They are the structures, unless there are regions.
    pub labels: LabelTable,
    /// Structures that are unions of label values, in the order in which they are written to a mask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// How intensities are normalised, for each channel.
    pub normalisation: Vec<Normalisation>,
    /// The output activation.
    pub output: OutputActivation,
    /// The part of a scan that the model sees.
    #[serde(default)]
    pub crop: CropRule,
    /// The axes of the prepared grid. A 2-D network sees slices along its third axis.
    pub orientation: GridAxes,
    /// The voxel size of the prepared grid.
    pub spacing: SpacingRule,
    /// Patch size for training, (D,) H, W: along z, y, x of the prepared grid.
    pub patch: Vec<usize>,
    /// Patches per step.
    pub batch_size: usize,
    /// The cases over which soft Dice sums.
    pub dice_scope: DiceScope,
    /// How a volume is tiled at prediction.
    pub tiling: Tiling,
    /// The axes along which training patches are mirrored.
    pub flips: Flips,
    /// What the training scans look like, for the checks of scans at prediction. A training sets it from its own cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_scans: Option<TrainingScans>,
    /// How patch and batch fit the time budget, if they were fitted to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// The reasons, one sentence per decision.
    pub why: Vec<String>,
}

/// Patches per step.
const MAX_BATCH: usize = 65_536;
/// Twenty times as many as nnU-Net's largest networks have; weights, gradients and moments then take up to 32 GB.
const MAX_PARAMETERS: u64 = 2_000_000_000;

impl Plan {
    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`PlanError::Plan`] with the first part that does not fit.
    pub fn check(&self) -> Result<(), PlanError> {
        let bad = |what: String| Err(PlanError::Plan(what));
        if self.normalisation.len() != self.channels.len() {
            return bad(format!(
                "`normalisation` must have an entry for each of {} channel(s), found {}",
                self.channels.len(),
                self.normalisation.len()
            ));
        }
        if !(1..=MAX_BATCH).contains(&self.batch_size) {
            return bad(format!("`batch_size` must be from 1 to {MAX_BATCH}, found {}", self.batch_size));
        }
        if let Err(what) = self.network.check() {
            return bad(what);
        }
        if self.flips == Flips::Auto {
            return bad("`flips` must list the axes; `auto` is allowed only in configurations".into());
        }
        if self.pace.is_some_and(|pace| !pace.is_valid()) {
            return bad("`pace` must have positive numbers; it may be left out".into());
        }
        let multiple = self.network.padding_multiple();
        let fits = |(edge, multiple): (&usize, &usize)| *edge > 0 && edge.is_multiple_of(*multiple);
        if self.patch.len() != multiple.len() || !self.patch.iter().zip(&multiple).all(fits) {
            return bad(format!(
                "`patch` is {:?}; the strides of a {}-D network's {} stages need {} edges, multiples of {multiple:?}",
                self.patch,
                self.network.dimensions.count(),
                self.network.stages.len(),
                multiple.len(),
            ));
        }
        let mut spec = self.model_spec(String::new(), Training::default());
        // A training describes its own cases, whatever the plan says.
        spec.training_scans = None;
        match spec.check() {
            Err(SpecError::Invalid(what)) => return bad(what),
            other => other?,
        }
        let parameters = self.parameters();
        if parameters > MAX_PARAMETERS {
            return bad(format!(
                "the network has {parameters} parameters, at most {MAX_PARAMETERS} can be trained: give its stages fewer \
                 `channels` or `convolutions`"
            ));
        }
        Ok(())
    }

    /// Checks that the plan fits data with these channels and structures.
    ///
    /// # Errors
    /// [`PlanError::Plan`] with the difference.
    pub fn check_data(
        &self,
        channels: &[String],
        labels: &LabelTable,
        regions: &[Region],
    ) -> Result<(), PlanError> {
        if self.channels != channels {
            return Err(PlanError::Plan(format!(
                "`channels` are {:?}, the data set's are {channels:?}",
                self.channels
            )));
        }
        let names = |table: &LabelTable| -> Vec<String> {
            table.entries().iter().map(|entry| format!("{} {}", entry.value, entry.name)).collect()
        };
        let (planned, found) = (names(&self.labels), names(labels));
        if planned != found {
            return Err(PlanError::Plan(format!("`labels` are {planned:?}, the data set's are {found:?}")));
        }
        if self.output == OutputActivation::Regions && self.regions != regions {
            return Err(PlanError::Plan(format!(
                "`regions` are {:?}, the data set's are {regions:?}",
                self.regions
            )));
        }
        Ok(())
    }

    /// Estimated memory of a training step in bytes, without the data set and the device's workspace.
    pub fn memory_bytes(&self, config: &TrainConfig, kind: DeviceKind) -> u64 {
        self.memory(config, kind).bytes(self.batch_size)
    }

    /// The number of trainable parameters.
    pub fn parameters(&self) -> u64 {
        count_parameters(&self.network, self.channels.len(), self.classes())
    }

    fn memory(&self, config: &TrainConfig, kind: DeviceKind) -> MemoryEstimate {
        let (channels, classes) = (self.channels.len(), self.classes());
        MemoryEstimate::new(&self.network, &self.patch, channels, classes, kind, config.optimizer)
    }

    pub(crate) fn classes(&self) -> usize {
        match self.output {
            OutputActivation::Softmax => self.labels.entries().len() + 1,
            OutputActivation::Sigmoid => 1,
            OutputActivation::Regions => self.regions.len(),
        }
    }

    /// The structures to segment: the regions, or the labels if there are no regions.
    pub fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.labels, &self.regions)
    }

    /// The specification of a model with this plan. It has no golden case, which depends on the weights.
    pub fn model_spec(&self, name: String, training: Training) -> ModelSpec {
        let channel = |(name, normalisation): (&String, &Normalisation)| ChannelSpec {
            name: name.clone(),
            normalisation: *normalisation,
        };
        let mut spec = ModelSpec {
            format_version: 0,
            name,
            network: self.network.clone(),
            channels: self.channels.iter().zip(&self.normalisation).map(channel).collect(),
            labels: self.labels.clone(),
            regions: self.regions.clone(),
            activation: self.output,
            networks: 1,
            crop: self.crop,
            orientation: self.orientation,
            spacing: self.spacing,
            patch: self.patch.clone(),
            tiling: self.tiling,
            tile_step: 0.5,
            mirror_axes: self.flips.axes(self.network.dimensions.count()),
            padding_multiple: self.network.padding_multiple(),
            postprocessing: Vec::new(),
            training,
            nnunet: None,
            training_scans: self.training_scans.clone(),
            precision: None,
            unchecked: None,
            golden_case: None,
            previous: None,
            assumed_mm: None,
        };
        spec.format_version = spec.min_format_version();
        spec
    }
}
