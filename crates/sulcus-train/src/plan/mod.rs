//! What is decided from the data before training, and why.
//!
//! [`fingerprint`] measures the cases, [`decide`] draws the conclusions, [`topology`] shapes the network, [`memory`]
//! says what fits, [`file`](mod@file) keeps it all as `plan.json`.

mod decide;
mod file;
mod fingerprint;
mod memory;
mod size;
#[cfg(test)]
mod tests;
mod topology;

use serde::{Deserialize, Serialize};
use sulcus_model::{
    ChannelSpec, CropRule, ModelSpec, NetworkSpec, Normalisation, OutputActivation, Region, SpacingRule,
    SpecError, Structure, Tiling, Training,
};
use sulcus_volume::{LabelTable, Orientation};

use crate::{CaseFacts, DiceScope, Flips, TrainConfig, TrainError};

pub use file::PlanFile;
pub use fingerprint::{
    CaseMeasures, ChannelIntensities, Fingerprint, ForegroundSample, Intensities, LabelVolumes, RegionVolumes,
};
pub(crate) use fingerprint::{intensities, quantile, region_volumes, volumes};
pub use memory::DeviceKind;

use memory::MemoryEstimate;

/// What was decided from the data, and why: everything about a model besides its weights. It is data: any value may be
/// changed as long as the parts fit each other, which [`Plan::check`] says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The network.
    pub network: NetworkSpec,
    /// Names of the channels.
    pub channels: Vec<String>,
    /// The values that masks may have. Unless there are regions they are the structures.
    pub labels: LabelTable,
    /// The structures where these are unions of values, in the order of writing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// How intensities are brought to a common scale, channel by channel.
    pub normalisation: Vec<Normalisation>,
    /// What the network's channels mean.
    pub output: OutputActivation,
    /// What of a scan the model looks at.
    #[serde(default)]
    pub crop: CropRule,
    /// How the prepared grid lies; a 2-D network sees slices along its third axis.
    pub orientation: Orientation,
    /// On which voxel size the network works.
    pub spacing: SpacingRule,
    /// Patch for training, (D,) H, W: along z, y, x of the prepared grid.
    pub patch: Vec<usize>,
    /// Patches a step.
    pub batch_size: usize,
    /// Over what soft Dice sums.
    pub dice_scope: DiceScope,
    /// How a volume is cut up at prediction.
    pub tiling: Tiling,
    /// Mirroring while training.
    pub flips: Flips,
    /// A sentence for each decision.
    pub why: Vec<String>,
}

impl Plan {
    /// Decides what the configuration leaves open, for data without regions; [`PlanFile::decide`] knows them.
    ///
    /// # Errors
    /// When a setting does not fit the data or the network, or nothing fits the memory.
    pub fn decide(
        config: &TrainConfig,
        channels: &[String],
        labels: &LabelTable,
        facts: &[CaseFacts],
    ) -> Result<Self, TrainError> {
        decide::plan(config, labels, &[], facts, &Fingerprint::new(channels, labels, &[], facts))
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`TrainError::Plan`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), TrainError> {
        let bad = |what: String| Err(TrainError::Plan(what));
        if self.normalisation.len() != self.channels.len() {
            return bad(format!(
                "`normalisation` must have an entry for each of {} channel(s), found {}",
                self.channels.len(),
                self.normalisation.len()
            ));
        }
        if self.batch_size == 0 {
            return bad("`batch_size` must be at least 1".into());
        }
        if self.flips == Flips::Auto {
            return bad("`flips` must say which, `auto` is for configurations".into());
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
        match self.model_spec(String::new(), Training::default()).check() {
            Err(SpecError::Invalid(what)) => bad(what),
            other => Ok(other?),
        }
    }

    /// Checks that the plan is for data of these channels and structures.
    ///
    /// # Errors
    /// [`TrainError::Plan`] with what differs.
    pub fn check_data(
        &self,
        channels: &[String],
        labels: &LabelTable,
        regions: &[Region],
    ) -> Result<(), TrainError> {
        if self.channels != channels {
            return Err(TrainError::Plan(format!(
                "`channels` are {:?}, the data set's are {channels:?}",
                self.channels
            )));
        }
        let names = |table: &LabelTable| -> Vec<String> {
            table.entries().iter().map(|entry| format!("{} {}", entry.value, entry.name)).collect()
        };
        let (planned, found) = (names(&self.labels), names(labels));
        if planned != found {
            return Err(TrainError::Plan(format!("`labels` are {planned:?}, the data set's are {found:?}")));
        }
        if self.output == OutputActivation::Regions && self.regions != regions {
            return Err(TrainError::Plan(format!(
                "`regions` are {:?}, the data set's are {regions:?}",
                self.regions
            )));
        }
        Ok(())
    }

    /// Bytes that training by this plan takes, the data set and the device's work space left out: an estimate, see
    /// [`DeviceKind`].
    pub fn memory_bytes(&self, config: &TrainConfig, kind: DeviceKind) -> u64 {
        self.memory(config, kind).bytes(self.batch_size)
    }

    /// Numbers that training moves.
    pub fn parameters(&self) -> u64 {
        memory::parameters(&self.network, self.channels.len(), self.classes())
    }

    fn memory(&self, config: &TrainConfig, kind: DeviceKind) -> MemoryEstimate {
        let (channels, classes) = (self.channels.len(), self.classes());
        MemoryEstimate::new(&self.network, &self.patch, channels, classes, kind, config.optimiser)
    }

    fn classes(&self) -> usize {
        match self.output {
            OutputActivation::Softmax => self.labels.entries().len() + 1,
            OutputActivation::Sigmoid => 1,
            OutputActivation::Regions => self.regions.len(),
        }
    }

    /// What is to be found: the regions, or where there are none the labels.
    pub fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.labels, &self.regions)
    }

    /// The specification of a model with this plan; its golden case is chosen once there are weights.
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
            precision: None,
            golden_case: None,
        };
        spec.format_version = spec.min_format_version();
        spec
    }
}
