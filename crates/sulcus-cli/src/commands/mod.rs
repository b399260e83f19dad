//! One file a command.

pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod cross_validation;
pub(crate) mod demo;
pub(crate) mod dicom_folder;
pub(crate) mod doctor;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod figure;
pub(crate) mod info;
pub(crate) mod info_dataset;
mod label_names;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod runtime_install;
pub(crate) mod serve;
pub(crate) mod train;
pub(crate) mod view;
