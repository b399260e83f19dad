use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sulcus_model::{GridAxes, Normalisation, OutputActivation, Precision};
use sulcus_volume::Spacing;

use crate::augmentation::Augmentation;
use crate::device::DeviceList;
use crate::error::PlanError;
use crate::loss::{DiceScope, Loss};
use crate::optimizer::{Optimizer, Schedule};
use crate::preset::{NetworkChoice, NetworkRule, preset_names};

/// How to train. Settings that are `None` are decided from the data; the [`Plan`](crate::Plan) contains the decisions and
/// their reasons.
///
/// ```
/// use sulcus_plan::TrainConfig;
///
/// # fn main() -> Result<(), sulcus_plan::PlanError> {
/// let config = TrainConfig::from_preset("nnunet-3d")?.with(|config| {
///     config.epochs = Some(100);
///     config.batch_size = Some(4);
/// });
/// config.check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainConfig {
    /// The network, or the rule from which it follows.
    #[serde(default, skip_serializing_if = "NetworkChoice::is_auto")]
    pub network: NetworkChoice,
    /// How intensities are normalised, for all channels [default: from the channels' names].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
    /// The output activation [default: sigmoid for one structure, softmax for several, regions if the data set has them].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputActivation>,
    /// The axes of the prepared grid [default: from shape, spacing and orientation of the scans]. A 2-D network sees slices
    /// along its third axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<GridAxes>,
    /// The voxel size of the prepared grid.
    #[serde(default, skip_serializing_if = "SpacingChoice::is_auto")]
    pub spacing: SpacingChoice,
    /// Patch size for training, (D,) H, W [default: from the median shape and the memory].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Vec<usize>>,
    /// Patches per step [default: from the memory and the size of the data set].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// The cases over which soft Dice sums [default: the batch for 2-D networks, each patch for 3-D networks].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dice_scope: Option<DiceScope>,
    /// Memory for one training step in bytes [default: [`DeviceKind::default_memory_bytes`](crate::DeviceKind)]. The plan
    /// fits patch and batch into it.
    pub memory_bytes: Option<u64>,
    /// The loss.
    pub loss: Loss,
    /// The optimizer.
    #[serde(rename = "optimiser")]
    pub optimizer: Optimizer,
    /// The maximum learning rate.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly to its maximum.
    pub warmup_steps: usize,
    /// The decay of the learning rate.
    pub schedule: Schedule,
    /// The maximum norm of the gradient over all weights. A larger gradient is scaled down to it.
    pub gradient_clip: Option<f64>,
    /// Decay of the exponential moving average of the weights, which is then scored and exported: 0.99 averages over about
    /// 100 steps [default: no average, the weights of the last step].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Training stops after this many epochs without a better validation score.
    pub early_stopping: Option<usize>,
    /// Number of epochs [default: 30, or as many as the time budget allows].
    pub epochs: Option<usize>,
    /// Steps per epoch [default: about one patch per slice with foreground for 2-D networks, four patches per case for 3-D
    /// networks, at most 250 steps].
    pub steps_per_epoch: Option<usize>,
    /// Time budget in seconds, including reading and scoring. The learning rate then decays with the spent time, so that
    /// it ends low on any machine.
    pub time_budget_secs: Option<f64>,
    /// Minimum fraction of the patches of a batch that contain foreground.
    pub foreground_share: f64,
    /// Random transforms of the training patches.
    pub augmentation: Augmentation,
    /// Number of validation cases that are scored after each epoch, evenly spaced among all; all are scored at the end.
    pub cases_scored_per_epoch: usize,
    /// A file or folder with pretrained weights, which replace the random initial weights where they fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Seed of initial weights, patches and augmentation.
    pub seed: u64,
    /// The devices to train on.
    pub device: DeviceList,
    /// The precision of convolutions: fp32, bf16 or fp16. Weights, gradients of weights, moments of the optimizer, normalisation
    /// layers and the loss always use single precision.
    #[serde(default, skip_serializing_if = "is_single_precision")]
    pub precision: Precision,
    /// Number of threads that draw patches.
    pub workers: usize,
    /// A folder in which prepared cases are cached for later trainings.
    #[serde(default)]
    pub cache: Option<PathBuf>,
}

/// The voxel size of the prepared grid.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SpacingChoice {
    /// nnU-Net's target spacing. If the spacings of all scans are similar, they and later scans like them keep their own.
    #[default]
    Auto,
    /// Each scan's own spacing, whatever it is.
    Native,
    /// This spacing for every scan, along right, anterior, superior; with acquired axes along x, y, z of the prepared grid.
    Resample(Spacing),
}

impl SpacingChoice {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl TrainConfig {
    /// Number of epochs if neither epochs nor a time budget are given.
    pub const DEFAULT_EPOCHS: usize = 30;

    /// Changes some settings and returns the configuration.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The default settings for a network or a rule.
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
            optimizer: Optimizer::AdamW { weight_decay: 1e-2 },
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
                optimizer: Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 },
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

    /// The default settings for a preset, such as `auto`. Those of the `nnunet-*` presets and of `resenc-3d` are nnU-Net's
    /// (Isensee et al. 2021).
    ///
    /// # Errors
    /// When there is no preset with this name; the message lists the presets.
    pub fn from_preset(name: &str) -> Result<Self, PlanError> {
        let unknown =
            || PlanError::Config(format!("there is no preset `{name}`; known are {}", preset_names().join(", ")));
        Ok(Self::new(NetworkChoice::from_preset(name).ok_or_else(unknown)?))
    }

    /// Names of the fields that are set although a plan decides them.
    pub(crate) fn choices(&self) -> Vec<&'static str> {
        let set = [
            ("network", !self.network.is_auto()),
            ("normalisation", self.normalisation.is_some()),
            ("output", self.output.is_some()),
            ("orientation", self.orientation.is_some()),
            ("spacing", !self.spacing.is_auto()),
            ("patch", self.patch.is_some()),
            ("batch_size", self.batch_size.is_some()),
            ("dice_scope", self.dice_scope.is_some()),
        ];
        set.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
    }

    /// This configuration without the settings that a plan decides.
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

    /// The maximum number of epochs; `None` if only the time budget ends the training.
    pub fn epoch_limit(&self) -> Option<usize> {
        self.epochs.or(if self.time_budget_secs.is_some() { None } else { Some(Self::DEFAULT_EPOCHS) })
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`PlanError::Config`] with the first invalid setting.
    pub fn check(&self) -> Result<(), PlanError> {
        let bad = |what: String| Err(PlanError::Config(what));
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
        self.optimizer.check().map_err(PlanError::Config)?;
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
        self.augmentation.check().map_err(PlanError::Config)
    }
}

fn is_single_precision(precision: &Precision) -> bool {
    *precision == Precision::Fp32
}

/// nnU-Net's maximum norm of the gradient.
const NNUNET_CLIP: f64 = 12.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_round_trips_through_json() {
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
    fn nnunet_presets_have_nnunets_hyperparameters() {
        let config = TrainConfig::from_preset("nnunet-3d").unwrap();
        assert_eq!(config.optimizer, Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 });
        assert_eq!((config.learning_rate, config.schedule), (0.01, Schedule::Poly { power: 0.9 }));
        assert_eq!(
            (config.epochs, config.steps_per_epoch, config.gradient_clip),
            (Some(1000), Some(250), Some(12.0))
        );
        for name in preset_names() {
            TrainConfig::from_preset(name).unwrap().check().unwrap();
        }
    }

    #[test]
    fn open_choices_removes_what_a_plan_decides() {
        let mut config = TrainConfig::from_preset("unet2d-lite").unwrap();
        config.batch_size = Some(3);
        assert_eq!(config.choices(), ["network", "batch_size"]);
        let open = config.open_choices();
        assert_eq!((open.choices().len(), open.learning_rate), (0, config.learning_rate));
        assert!(!serde_json::to_string(&open).unwrap().contains("batch_size"));
    }

    #[test]
    fn invalid_settings_are_named() {
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
        insta::assert_snapshot!(message(|c| c.optimizer = Optimizer::Sgd { momentum: 1.0, nesterov: true, weight_decay: 0.0 }), @"cannot train with this configuration: `momentum` must lie in 0 to below 1, found 1");
        insta::assert_snapshot!(message(|c| c.optimizer = Optimizer::AdamW { weight_decay: -1.0 }), @"cannot train with this configuration: `weight_decay` must not be negative, found -1");
        insta::assert_snapshot!(TrainConfig::from_preset("unet3d").unwrap_err(), @"cannot train with this configuration: there is no preset `unet3d`; known are auto, nnunet-3d, nnunet-2d, resenc-3d, unet3d-lite, unet2d-classic, unet2d-lite");
    }
}
