use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sulcus_pipeline::{NetworkSpec, Normalisation, Output};
use sulcus_volume::{Orientation, Spacing};

use crate::{Augmentation, DeviceChoice, DiceScope, Loss, TrainError, preset};

/// How to train. What is `None` is decided from the data; the [`Plan`](crate::Plan) has the decisions and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network.
    pub network: NetworkSpec,
    /// How intensities are brought to a common scale.
    pub normalisation: Normalisation,
    /// One sigmoid channel or a softmax over all structures; by the number of structures.
    pub output: Option<Output>,
    /// How the prepared grid lies; a 2-D network sees slices along its third axis.
    pub orientation: Option<Orientation>,
    /// On which voxel size the network works.
    pub spacing: SpacingChoice,
    /// Patch for training, H and W; from the median shape.
    pub patch: Option<Vec<usize>>,
    /// Patches a step.
    pub batch_size: usize,
    /// What is minimised.
    pub loss: Loss,
    /// Over what soft Dice sums.
    pub dice_scope: DiceScope,
    /// How weights are moved.
    pub optimiser: Optimiser,
    /// Learning rate at its greatest.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly to its greatest.
    pub warmup_steps: usize,
    /// How it falls afterwards.
    pub schedule: Schedule,
    /// Epochs; 30, or as many as fit when there is a time budget.
    pub epochs: Option<usize>,
    /// Steps an epoch; as many as let an epoch draw about as many patches as the cases have slices with foreground.
    pub steps_per_epoch: Option<usize>,
    /// Seconds that everything may take, reading and scoring included. The learning rate then falls with the share
    /// of the budget that is spent, so that it ends low on any machine.
    pub time_budget_secs: Option<f64>,
    /// At least this share of a batch holds foreground.
    pub foreground_share: f64,
    /// How slices are varied.
    pub augmentation: Augmentation,
    /// Held-out cases that are scored after each epoch (evenly picked from all); all of them are scored at the end.
    pub cases_scored_per_epoch: usize,
    /// Decides weights, patches and variations.
    pub seed: u64,
    /// Where to train.
    #[serde(with = "device_text")]
    pub device: DeviceChoice,
    /// Threads that draw patches beside the training.
    pub workers: usize,
    /// Folder where prepared cases are kept for later trainings, by the hash of their files and of the preparing.
    #[serde(default)]
    pub cache: Option<PathBuf>,
}

/// How weights are moved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimiser {
    /// Kingma & Ba 2015.
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    AdamW {
        /// Share of a weight that is taken away a step, times the learning rate.
        weight_decay: f32,
    },
}

/// How the learning rate falls while a share p of the training goes by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// (1 − p) to this power; nnU-Net uses 0.9.
    Poly {
        /// The exponent.
        power: f64,
    },
    /// Half a cosine, to a hundredth.
    Cosine,
}

/// On which voxel size the network is to work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SpacingChoice {
    /// Each scan's own where they are alike, else the median.
    Auto,
    /// Each scan's own.
    Native,
    /// This one, in millimetres along right, anterior, superior.
    Resample(Spacing),
}

impl TrainConfig {
    /// Epochs when neither epochs nor a time budget are given.
    pub const DEFAULT_EPOCHS: usize = 30;

    /// Good defaults for a network.
    pub fn new(network: NetworkSpec) -> Self {
        Self {
            network,
            normalisation: Normalisation::ZScore,
            output: None,
            orientation: None,
            spacing: SpacingChoice::Auto,
            patch: None,
            batch_size: 16,
            loss: Loss::DiceCe,
            dice_scope: DiceScope::Batch,
            optimiser: Optimiser::AdamW { weight_decay: 1e-2 },
            learning_rate: 2e-3,
            warmup_steps: 20,
            schedule: Schedule::Cosine,
            epochs: None,
            steps_per_epoch: None,
            time_budget_secs: None,
            foreground_share: 0.5,
            augmentation: Augmentation::default(),
            cases_scored_per_epoch: 16,
            seed: 0,
            device: DeviceChoice::Auto,
            workers: 1,
            cache: None,
        }
    }

    /// Good defaults for a preset, such as `unet2d-lite`.
    ///
    /// # Errors
    /// When there is no preset of this name; the message lists them.
    pub fn from_preset(name: &str) -> Result<Self, TrainError> {
        let unknown = || {
            TrainError::Config(format!(
                "there is no preset `{name}`; known are {}",
                crate::preset_names().join(", ")
            ))
        };
        Ok(Self::new(preset(name).ok_or_else(unknown)?))
    }

    /// After how many epochs training ends, where something says so.
    pub(crate) fn epoch_limit(&self) -> Option<usize> {
        self.epochs.or(if self.time_budget_secs.is_some() { None } else { Some(Self::DEFAULT_EPOCHS) })
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`TrainError::Config`] with the first number that makes no sense.
    pub fn check(&self) -> Result<(), TrainError> {
        let bad = |what: String| Err(TrainError::Config(what));
        if let Err(what) = self.network.check() {
            return bad(what);
        }
        if self.network.dimensions.count() != 2 {
            return bad(format!("this version trains 2-D networks, `{}` is 3-D", self.network.name));
        }
        self.normalisation.check()?;
        for (name, value) in [("batch_size", self.batch_size), ("workers", self.workers)] {
            if value == 0 {
                return bad(format!("`{name}` must be at least 1"));
            }
        }
        if self.epochs == Some(0) || self.steps_per_epoch == Some(0) {
            return bad("`epochs` and `steps_per_epoch` must be at least 1".into());
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return bad(format!("`learning_rate` must be positive, found {}", self.learning_rate));
        }
        if !(0.0..=1.0).contains(&self.foreground_share) {
            return bad(format!("`foreground_share` must lie in 0 to 1, found {}", self.foreground_share));
        }
        if let Some(budget) = self.time_budget_secs
            && !(budget > 0.0 && budget.is_finite())
        {
            return bad(format!("`time_budget_secs` must be positive, found {budget}"));
        }
        self.augmentation.check().map_err(TrainError::Config)
    }
}

impl Schedule {
    /// The factor of the greatest learning rate when `share` of the training has gone by.
    pub(crate) fn factor(self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        match self {
            Self::Constant => 1.0,
            Self::Poly { power } => (1.0 - share).powf(power),
            Self::Cosine => 0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
        }
    }
}

mod device_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::DeviceChoice;

    pub(super) fn serialize<S: Serializer>(device: &DeviceChoice, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(device)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DeviceChoice, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_begin_high_and_end_low() {
        for schedule in [Schedule::Poly { power: 0.9 }, Schedule::Cosine] {
            let factors: Vec<f64> = (0..=10).map(|i| schedule.factor(f64::from(i) / 10.0)).collect();
            assert_eq!(factors[0], 1.0);
            assert!(factors[10] <= 0.01 + 1e-12);
            assert!(factors.is_sorted_by(|a, b| a > b), "{factors:?}");
        }
    }

    #[test]
    fn a_configuration_survives_its_json() {
        let mut config = TrainConfig::from_preset("unet2d-classic").unwrap();
        config.device = DeviceChoice::Cuda(1);
        config.time_budget_secs = Some(0.1 + 0.2);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
        let typo = json.replacen("batch_size", "batchsize", 1);
        assert!(serde_json::from_str::<TrainConfig>(&typo).unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let message = |change: fn(&mut TrainConfig)| {
            let mut config = TrainConfig::from_preset("unet2d-lite").unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        insta::assert_snapshot!(message(|c| c.batch_size = 0), @"cannot train with this configuration: `batch_size` must be at least 1");
        insta::assert_snapshot!(message(|c| c.learning_rate = f64::NAN), @"cannot train with this configuration: `learning_rate` must be positive, found NaN");
        insta::assert_snapshot!(message(|c| c.time_budget_secs = Some(-5.0)), @"cannot train with this configuration: `time_budget_secs` must be positive, found -5");
        insta::assert_snapshot!(TrainConfig::from_preset("unet3d").unwrap_err(), @"cannot train with this configuration: there is no preset `unet3d`; known are unet2d-classic, unet2d-lite");
    }
}
