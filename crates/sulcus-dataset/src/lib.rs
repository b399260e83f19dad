//! Data sets of scans with masks: opening, checking, describing, splitting and caching them.
//!
//! [`Dataset::open`] reads the folder layouts of the Medical Segmentation Decathlon and of nnU-Net, and plain folders
//! `images/` and `labels/`. [`Dataset::survey`] reads every voxel and reports everything that would harm a training:
//! grids that do not match, label values that are not in the table, damaged files, swapped labels. [`Dataset::summary`]
//! describes the data set for people, and [`Dataset::split`] divides it into training and validation cases, with the cases of a
//! patient on one side.
//!
//! The crate does not depend on a network: it reads volumes with `sulcus-io` and measures them. `sulcus-plan` decides how
//! to train
//! from the [`CaseFacts`] of a survey, `sulcus-train` trains.
//!
//! ```no_run
//! use sulcus_dataset::{Dataset, SplitChoice};
//!
//! # fn main() -> Result<(), sulcus_dataset::DatasetError> {
//! let dataset = Dataset::open("Task04_Hippocampus")?;
//! println!("{}: {} cases, {:?}", dataset.name(), dataset.cases().len(), dataset.layout());
//!
//! let survey = dataset.survey(&[]);
//! for finding in survey.problems.iter().chain(&survey.warnings) {
//!     println!("{finding}");
//! }
//! let facts = survey.into_facts()?;
//! println!("the first case has {:?} voxels", facts[0].shape);
//!
//! let split = dataset.split(&SplitChoice::default())?;
//! println!("{} cases to train on, {} held out", split.training.len(), split.validation.len());
//! # Ok(())
//! # }
//! ```

mod background;
mod cache;
mod case;
mod checks;
mod comparison;
mod dataset;
mod error;
mod exchanged_labels;
mod facts;
mod finding;
mod hash;
mod layout;
mod measures;
mod outliers;
mod parallel;
mod patients;
mod split;
mod statistics;
mod summary;
mod survey;
mod text;

pub use cache::{CacheKey, load_or_prepare};
pub use case::{Case, LabelledScan};
pub use dataset::{Dataset, Layout};
pub use error::DatasetError;
pub use facts::CaseFacts;
pub use finding::Finding;
pub use measures::{CaseMeasures, ForegroundSample};
pub use outliers::{MAX_ROBUST_SDS, Outlier};
pub use parallel::map_parallel;
pub use patients::{PatientChoice, PatientNote, PatientSource, Patients};
pub use split::{Folds, Split, SplitChoice};
pub use statistics::{Intensities, LabelVolumes, RegionVolumes, intensities, label_volumes, region_volumes};
pub use summary::{CaseSummary, ChannelSummary, DatasetSummary, Percentiles};
pub use survey::Survey;
