//! Decides from a data set how a network is trained on it, by nnU-Net's rules where it has any.
//!
//! [`TrainConfig`] holds the settings of a training; a preset such as `auto` or `nnunet-3d` fills it. [`Fingerprint`]
//! summarises the training cases. From both follows the [`Plan`]: the network, patch and batch size, orientation, voxel
//! size and normalisation, with a sentence for the reason of each decision. [`PlanFile`] keeps all three as `plan.json`,
//! which can be edited by hand.
//!
//! The crate neither trains nor opens a device. `sulcus-dataset` measures the cases, `sulcus-train` trains by the plan.
//!
//! ```
//! use sulcus_plan::{DeviceKind, Plan, TrainConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/hippocampus");
//! let dataset = sulcus_dataset::Dataset::open(root)?;
//! let facts = dataset.survey(&[]).into_facts()?;
//!
//! let config = TrainConfig::from_preset("nnunet-3d")?;
//! let plan = Plan::decide(&config, DeviceKind::Gpu, dataset.channels(), dataset.labels(), &facts)?;
//! assert_eq!(plan.network.dimensions.count(), 3);
//! for reason in &plan.why {
//!     println!("- {reason}");
//! }
//! # Ok(())
//! # }
//! ```

mod augmentation;
mod config;
mod convolutions;
mod cost;
mod decide;
mod device;
mod error;
mod fingerprint;
mod loss;
mod memory;
mod optimizer;
mod pace;
mod plan;
mod plan_file;
mod preset;
mod text;
mod training_scans;

pub use augmentation::{Augmentation, Flips, MirrorAxes, RandomRange};
pub use config::{SpacingChoice, TrainConfig};
pub use device::{DeviceChoice, DeviceKind, DeviceList, DeviceNameError};
pub use error::PlanError;
pub use fingerprint::{ChannelIntensities, Fingerprint};
pub use loss::{DiceScope, Loss};
pub use memory::count_parameters;
pub use optimizer::{Optimizer, Schedule};
pub use pace::{Pace, StepShape, StepTimer};
pub use plan::Plan;
pub use plan_file::PlanFile;
pub use preset::{NetworkChoice, NetworkRule, preset, preset_names};
pub use training_scans::training_scans;
