use std::path::Path;

use serde::{Deserialize, Serialize};
use sulcus_dataset::{CaseFacts, Dataset};

use crate::augmentation::Flips;
use crate::config::TrainConfig;
use crate::decide::decide_plan;
use crate::device::DeviceKind;
use crate::error::PlanError;
use crate::fingerprint::Fingerprint;
use crate::pace::StepTimer;
use crate::plan::Plan;

/// `plan.json`: the fingerprint of the data, the plan, and the rest of the configuration. The plan and the configuration may
/// be edited by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlanFile {
    /// Version of this structure.
    pub format_version: u32,
    /// `sulcus` and its version.
    pub tool_version: String,
    /// The data set's name.
    pub dataset: String,
    /// The properties from which the plan was made. Training does not read them.
    pub fingerprint: Fingerprint,
    /// The plan.
    pub plan: Plan,
    /// The settings that the plan does not decide.
    pub config: TrainConfig,
}

impl PlanFile {
    /// The version of this structure that this program reads and writes.
    pub const FORMAT_VERSION: u32 = 1;
    /// Its name in a run's folder.
    pub const FILE: &'static str = "plan.json";

    /// Plans a training on these cases, for this kind of device. With a time budget, patch and batch fit the speed that
    /// `timer` measures.
    ///
    /// # Errors
    /// As [`Plan::decide`].
    pub fn decide(
        dataset: &Dataset,
        config: &TrainConfig,
        device: DeviceKind,
        facts: &[CaseFacts],
        timer: &mut dyn StepTimer,
    ) -> Result<Self, PlanError> {
        let (labels, regions) = (dataset.labels(), dataset.regions());
        let fingerprint = Fingerprint::new(dataset.channels(), labels, regions, facts);
        let plan = decide_plan(config, device, labels, regions, facts, (&fingerprint, timer))?;
        Ok(Self::new(dataset, config, fingerprint, plan))
    }

    /// Combines a plan with the fingerprint from which it was made.
    pub fn new(dataset: &Dataset, config: &TrainConfig, fingerprint: Fingerprint, plan: Plan) -> Self {
        Self {
            format_version: Self::FORMAT_VERSION,
            tool_version: concat!("sulcus ", env!("CARGO_PKG_VERSION")).into(),
            dataset: dataset.name().to_owned(),
            fingerprint,
            plan,
            config: config.open_choices(),
        }
    }

    /// Reads and checks a plan.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown version or an unknown field, its parts do not fit each other, or its
    /// configuration sets what the plan decides.
    pub fn read(file: &Path) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let failed = |what: String| PlanError::File { what, file: file.to_path_buf() };
        let text = std::fs::read_to_string(file).map_err(|e| failed(format!("the plan cannot be read: {e}")))?;
        let broken = |e: serde_json::Error| failed(format!("the plan cannot be used: {e}"));
        let version: Version = serde_json::from_str(&text).map_err(broken)?;
        if version.format_version != Self::FORMAT_VERSION {
            return Err(failed(format!(
                "the plan has format version {}, this program knows {}",
                version.format_version,
                Self::FORMAT_VERSION
            )));
        }
        let read: Self = serde_json::from_str(&text).map_err(broken)?;
        read.check().map_err(|e| failed(e.to_string()))?;
        Ok(read)
    }

    fn check(&self) -> Result<(), PlanError> {
        self.plan.check()?;
        if let Some(name) = self.config.choices().first() {
            return Err(PlanError::Plan(format!(
                "`config.{name}` is decided by the plan; change it under `plan` and leave it out of `config`"
            )));
        }
        let flips = self.config.augmentation.flips;
        if flips != Flips::Auto && flips != self.plan.flips {
            return Err(PlanError::Plan(
                "`config.augmentation.flips` is decided by the plan; change it under `plan` and leave it `auto` in `config`"
                    .into(),
            ));
        }
        self.config.check()
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When a number in it is not finite.
    pub fn to_json(&self) -> Result<String, PlanError> {
        serde_json::to_string_pretty(self).map_err(|e| PlanError::Plan(e.to_string()))
    }

    /// Writes it, under a temporary name first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), PlanError> {
        let mut json = self.to_json()?;
        json.push('\n');
        sulcus_io::write_atomically(file, |out| out.write_all(json.as_bytes()))
            .map_err(|e| PlanError::File { what: e.kind().to_string(), file: file.to_path_buf() })
    }
}
