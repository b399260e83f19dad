use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::manifest::write_atomically;
use crate::{CaseFacts, Dataset, Fingerprint, Flips, Plan, TrainConfig, TrainError};

/// `plan.json`: what the data are like, what follows from it, and how to train. Anything in it may be changed by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Version of this structure.
    pub format_version: u32,
    /// `sulcus` and its version.
    pub tool_version: String,
    /// Name of the data set.
    pub dataset: String,
    /// What the plan was made from; training does not read it.
    pub fingerprint: Fingerprint,
    /// The decisions.
    pub plan: Plan,
    /// The rest of what training needs to know. What the plan decides is left out here.
    pub config: TrainConfig,
}

impl PlanFile {
    /// The version of this structure that this program reads and writes.
    pub const FORMAT_VERSION: u32 = 1;
    /// Its name in a run's folder.
    pub const FILE: &'static str = "plan.json";

    /// Plans for these cases.
    ///
    /// # Errors
    /// As [`Plan::decide`].
    pub fn decide(dataset: &Dataset, config: &TrainConfig, facts: &[CaseFacts]) -> Result<Self, TrainError> {
        let (labels, regions) = (dataset.labels(), dataset.regions());
        let fingerprint = Fingerprint::new(dataset.channels(), labels, regions, facts);
        let plan = super::decide::plan(config, labels, regions, facts, &fingerprint)?;
        Ok(Self::new(dataset, config, fingerprint, plan))
    }

    /// Puts a plan beside what it was made from.
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
    /// When it cannot be read, is of an unknown version, has an unknown field, its parts don't fit each other, or its
    /// configuration decides what the plan decides.
    pub fn read(file: &Path) -> Result<Self, TrainError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
        let text = std::fs::read_to_string(file).map_err(|e| failed(format!("the plan cannot be read: {e}")))?;
        let broken = |e: serde_json::Error| failed(format!("this is no plan that can be used: {e}"));
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

    fn check(&self) -> Result<(), TrainError> {
        self.plan.check()?;
        if let Some(name) = self.config.choices().first() {
            return Err(TrainError::Plan(format!(
                "`config.{name}` is what the plan decides; change it under `plan` and leave it out of `config`"
            )));
        }
        let flips = self.config.augmentation.flips;
        if flips != Flips::Auto && flips != self.plan.flips {
            return Err(TrainError::Plan(
                "`config.augmentation.flips` is what the plan decides; change it under `plan` and leave it `auto` in `config`"
                    .into(),
            ));
        }
        self.config.check()
    }

    /// The file's text.
    ///
    /// # Errors
    /// When a number in it is not finite.
    pub fn to_json(&self) -> Result<String, TrainError> {
        serde_json::to_string_pretty(self).map_err(|e| TrainError::Plan(e.to_string()))
    }

    /// Writes it, under a temporary name first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), TrainError> {
        let mut json = self.to_json()?;
        json.push('\n');
        write_atomically(file, json.as_bytes())
    }
}
