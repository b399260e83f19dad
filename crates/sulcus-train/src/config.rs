use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sulcus_model::{Normalisation, OutputActivation};
use sulcus_volume::{Orientation, Spacing};

use crate::{Augmentation, DeviceList, DiceScope, Loss, NetworkChoice, NetworkRule, Precision, TrainError};

/// How to train. What is `None` is decided from the data; the [`Plan`](crate::Plan) has the decisions and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network, or the rule that leads to one.
    #[serde(default, skip_serializing_if = "NetworkChoice::is_auto")]
    pub network: NetworkChoice,
    /// How intensities are brought to a common scale, the same for all channels; by the channels' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
    /// One sigmoid channel or a softmax over all structures; by the number of structures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputActivation>,
    /// How the prepared grid lies; a 2-D network sees slices along its third axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<Orientation>,
    /// On which voxel size the network works.
    #[serde(default, skip_serializing_if = "SpacingChoice::is_auto")]
    pub spacing: SpacingChoice,
    /// Patch for training, (D,) H, W; from the median shape and the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Vec<usize>>,
    /// Patches a step; from the memory and the size of the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// Over what soft Dice sums; the batch for 2-D networks, each patch for 3-D ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dice_scope: Option<DiceScope>,
    /// Bytes that a step of training may take; [`DeviceKind::default_memory_bytes`](crate::DeviceKind) unless said.
    /// The plan makes the patch and the batch fit.
    pub memory_bytes: Option<u64>,
    /// What is minimised.
    pub loss: Loss,
    /// How weights are moved.
    pub optimiser: Optimiser,
    /// Learning rate at its greatest.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly to its greatest.
    pub warmup_steps: usize,
    /// How it falls afterwards.
    pub schedule: Schedule,
    /// Gradients whose norm over all weights is greater are scaled down to it.
    pub gradient_clip: Option<f64>,
    /// The network that is scored and exported has the mean of the weights over the steps; each step keeps this share of
    /// it, so that 0.99 reaches back over about 100 steps. Without it the weights of the last step count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Training ends early after this many epochs without a better score.
    pub early_stopping: Option<usize>,
    /// Epochs; 30, or as many as fit when there is a time budget.
    pub epochs: Option<usize>,
    /// Steps an epoch; as many as draw about as many patches as the cases have slices with foreground, or four blocks a
    /// case, but at most 250.
    pub steps_per_epoch: Option<usize>,
    /// Seconds that everything may take, reading and scoring included. The learning rate then falls with the share
    /// of the budget that is spent, so that it ends low on any machine.
    pub time_budget_secs: Option<f64>,
    /// At least this share of a batch holds foreground.
    pub foreground_share: f64,
    /// How patches are varied.
    pub augmentation: Augmentation,
    /// Held-out cases that are scored after each epoch (evenly picked from all); all of them are scored at the end.
    pub cases_scored_per_epoch: usize,
    /// Trained weights to start from instead of random ones, wherever they fit: what [`InitSource`](crate::InitSource)
    /// reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Decides weights, patches and variations.
    pub seed: u64,
    /// Where to train.
    pub device: DeviceList,
    /// What convolutions compute in.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
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
    /// Stochastic gradient descent (Robbins & Monro 1951) with momentum.
    Sgd {
        /// Share of the last step that the next one keeps, below 1; nnU-Net uses 0.99.
        momentum: f64,
        /// Whether the gradient is taken ahead of the step (Nesterov 1983).
        nesterov: bool,
        /// Factor of the weights that is added to their gradient.
        weight_decay: f32,
    },
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
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SpacingChoice {
    /// Each scan's own where they are alike, else nnU-Net's target spacing.
    #[default]
    Auto,
    /// Each scan's own.
    Native,
    /// This one, in millimetres along right, anterior, superior.
    Resample(Spacing),
}

impl SpacingChoice {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl TrainConfig {
    /// Epochs when neither epochs nor a time budget are given.
    pub const DEFAULT_EPOCHS: usize = 30;

    /// Good defaults for a network or a rule.
    pub fn new(network: impl Into<NetworkChoice>) -> Self {
        let network = network.into();
        let rule = match network {
            NetworkChoice::Rule(rule) => Some(rule),
            NetworkChoice::Fixed(_) => None,
        };
        let config = Self {
            network,
            normalisation: None,
            output: None,
            orientation: None,
            spacing: SpacingChoice::Auto,
            patch: None,
            batch_size: None,
            dice_scope: None,
            memory_bytes: None,
            loss: Loss::DiceCe,
            optimiser: Optimiser::AdamW { weight_decay: 1e-2 },
            learning_rate: 2e-3,
            warmup_steps: 20,
            schedule: Schedule::Cosine,
            gradient_clip: None,
            ema: None,
            early_stopping: None,
            epochs: None,
            steps_per_epoch: None,
            time_budget_secs: None,
            foreground_share: 0.5,
            augmentation: Augmentation::default(),
            cases_scored_per_epoch: 16,
            init: None,
            seed: 0,
            device: DeviceList::default(),
            precision: Precision::Fp32,
            workers: 1,
            cache: None,
        };
        match rule {
            None => config,
            Some(NetworkRule::Auto | NetworkRule::Unet3dLite) => {
                Self { learning_rate: 1e-3, gradient_clip: Some(NNUNET_CLIP), ..config }
            }
            Some(NetworkRule::NnUnet3d | NetworkRule::NnUnet2d | NetworkRule::ResEnc3d) => Self {
                optimiser: Optimiser::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 },
                learning_rate: 1e-2,
                warmup_steps: 0,
                schedule: Schedule::Poly { power: 0.9 },
                gradient_clip: Some(NNUNET_CLIP),
                epochs: Some(1000),
                steps_per_epoch: Some(250),
                foreground_share: 1.0 / 3.0,
                augmentation: Augmentation::nnunet(),
                ..config
            },
        }
    }

    /// Good defaults for a preset, such as `auto`. Those of the `nnunet-*` presets and of `resenc-3d` are nnU-Net's
    /// (Isensee et al. 2021).
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
        Ok(Self::new(NetworkChoice::from_preset(name).ok_or_else(unknown)?))
    }

    /// Names of the fields that say what a plan decides.
    pub(crate) fn choices(&self) -> Vec<&'static str> {
        let said = [
            ("network", !self.network.is_auto()),
            ("normalisation", self.normalisation.is_some()),
            ("output", self.output.is_some()),
            ("orientation", self.orientation.is_some()),
            ("spacing", !self.spacing.is_auto()),
            ("patch", self.patch.is_some()),
            ("batch_size", self.batch_size.is_some()),
            ("dice_scope", self.dice_scope.is_some()),
        ];
        said.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect()
    }

    /// The same with everything open that a plan decides.
    pub fn open_choices(&self) -> Self {
        Self {
            network: NetworkChoice::default(),
            normalisation: None,
            output: None,
            orientation: None,
            spacing: SpacingChoice::Auto,
            patch: None,
            batch_size: None,
            dice_scope: None,
            ..self.clone()
        }
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
        if let NetworkChoice::Fixed(network) = &self.network
            && let Err(what) = network.check()
        {
            return bad(what);
        }
        if let Some(normalisation) = &self.normalisation {
            normalisation.check()?;
        }
        let counts = [
            ("batch_size", self.batch_size),
            ("workers", Some(self.workers)),
            ("epochs", self.epochs),
            ("steps_per_epoch", self.steps_per_epoch),
            ("early_stopping", self.early_stopping),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
            return bad(format!("`{name}` must be at least 1"));
        }
        if self.memory_bytes == Some(0) {
            return bad("`memory_bytes` must be at least 1".into());
        }
        self.optimiser.check().map_err(TrainError::Config)?;
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return bad(format!("`learning_rate` must be positive, found {}", self.learning_rate));
        }
        if !(0.0..=1.0).contains(&self.foreground_share) {
            return bad(format!("`foreground_share` must lie in 0 to 1, found {}", self.foreground_share));
        }
        for (name, value) in [("time_budget_secs", self.time_budget_secs), ("gradient_clip", self.gradient_clip)] {
            if let Some(value) = value
                && !(value > 0.0 && value.is_finite())
            {
                return bad(format!("`{name}` must be positive, found {value}"));
            }
        }
        if let Some(ema) = self.ema
            && !(ema > 0.0 && ema < 1.0)
        {
            return bad(format!("`ema` must lie between 0 and 1, found {ema}"));
        }
        self.augmentation.check().map_err(TrainError::Config)
    }
}

/// nnU-Net's greatest norm of a gradient.
const NNUNET_CLIP: f64 = 12.0;

impl Optimiser {
    fn check(self) -> Result<(), String> {
        let (momentum, weight_decay) = match self {
            Self::Adam => (0.0, 0.0),
            Self::AdamW { weight_decay } => (0.0, weight_decay),
            Self::Sgd { momentum, weight_decay, .. } => (momentum, weight_decay),
        };
        if !(0.0..1.0).contains(&momentum) {
            return Err(format!("`momentum` must lie in 0 to below 1, found {momentum}"));
        }
        if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
            return Err(format!("`weight_decay` must not be negative, found {weight_decay}"));
        }
        Ok(())
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
        config.device = "cuda:1,0".parse().unwrap();
        config.precision = Precision::Bf16;
        config.time_budget_secs = Some(0.1 + 0.2);
        config.ema = Some(0.99);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
        let typo = json.replacen("warmup_steps", "warmupsteps", 1);
        assert!(serde_json::from_str::<TrainConfig>(&typo).unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn nnu_nets_presets_train_as_nnu_net_does() {
        let config = TrainConfig::from_preset("nnunet-3d").unwrap();
        assert_eq!(config.optimiser, Optimiser::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 });
        assert_eq!((config.learning_rate, config.schedule), (0.01, Schedule::Poly { power: 0.9 }));
        assert_eq!(
            (config.epochs, config.steps_per_epoch, config.gradient_clip),
            (Some(1000), Some(250), Some(12.0))
        );
        for name in crate::preset_names() {
            TrainConfig::from_preset(name).unwrap().check().unwrap();
        }
    }

    #[test]
    fn what_a_plan_decides_can_be_left_out() {
        let mut config = TrainConfig::from_preset("unet2d-lite").unwrap();
        config.batch_size = Some(3);
        assert_eq!(config.choices(), ["network", "batch_size"]);
        let open = config.open_choices();
        assert_eq!((open.choices().len(), open.learning_rate), (0, config.learning_rate));
        assert!(!serde_json::to_string(&open).unwrap().contains("batch_size"));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let message = |change: fn(&mut TrainConfig)| {
            let mut config = TrainConfig::from_preset("unet2d-lite").unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        insta::assert_snapshot!(message(|c| c.batch_size = Some(0)), @"cannot train with this configuration: `batch_size` must be at least 1");
        insta::assert_snapshot!(message(|c| c.learning_rate = f64::NAN), @"cannot train with this configuration: `learning_rate` must be positive, found NaN");
        insta::assert_snapshot!(message(|c| c.time_budget_secs = Some(-5.0)), @"cannot train with this configuration: `time_budget_secs` must be positive, found -5");
        insta::assert_snapshot!(message(|c| c.gradient_clip = Some(0.0)), @"cannot train with this configuration: `gradient_clip` must be positive, found 0");
        insta::assert_snapshot!(message(|c| c.ema = Some(1.0)), @"cannot train with this configuration: `ema` must lie between 0 and 1, found 1");
        insta::assert_snapshot!(message(|c| c.early_stopping = Some(0)), @"cannot train with this configuration: `early_stopping` must be at least 1");
        insta::assert_snapshot!(message(|c| c.optimiser = Optimiser::Sgd { momentum: 1.0, nesterov: true, weight_decay: 0.0 }), @"cannot train with this configuration: `momentum` must lie in 0 to below 1, found 1");
        insta::assert_snapshot!(message(|c| c.optimiser = Optimiser::AdamW { weight_decay: -1.0 }), @"cannot train with this configuration: `weight_decay` must not be negative, found -1");
        insta::assert_snapshot!(TrainConfig::from_preset("unet3d").unwrap_err(), @"cannot train with this configuration: there is no preset `unet3d`; known are auto, nnunet-3d, nnunet-2d, resenc-3d, unet3d-lite, unet2d-classic, unet2d-lite");
    }
}
