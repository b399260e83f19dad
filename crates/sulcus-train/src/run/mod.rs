//! A training and its folder: beginning, resuming, the loop over epochs, checkpoints, scores and cross-validation.

pub(crate) mod begin;
mod case_memory;
mod cases;
pub(crate) mod checkpoint;
pub(crate) mod checkpoint_error;
pub(crate) mod cross_validation;
pub(crate) mod cross_validation_manifest;
mod curves;
mod files;
pub(crate) mod golden_case;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod manifest;
pub(crate) mod observer;
pub(crate) mod preflight;
pub(crate) mod resume;
pub(crate) mod run_folder;
mod samples;
mod score;
mod speed;
mod state;
mod survey;
mod trainer;
pub(crate) mod weights;

pub(crate) use cases::{evenly_spaced, read_case};
