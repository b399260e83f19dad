//! One file or folder per command, and what several commands share: [`segmenter`] loads models.

pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod figure;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod mesh;
pub(crate) mod pack;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod runtime_install;
mod segmenter;
pub(crate) mod serve;
pub(crate) mod train;
pub(crate) mod view;
