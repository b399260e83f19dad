//! Arguments of `pack`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sulcus_model::NothingFound;

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The rough model, which sees the whole scan
    #[arg(value_name = "ROUGH.onnx")]
    pub(crate) rough: PathBuf,
    /// The model whose mask is the result; it sees the box of what the rough model found
    #[arg(value_name = "MODEL.onnx")]
    pub(crate) fine: PathBuf,
    /// The model file
    #[arg(short, long, value_name = "PACK.onnx")]
    pub(crate) output: PathBuf,
    /// By how many millimetres the box is enlarged on each side
    #[arg(long, value_name = "MM", default_value_t = 20.0, allow_negative_numbers = true)]
    pub(crate) margin: f64,
    /// A label of the rough model, by name or value, that belongs to the box; can be repeated [default: all its labels]
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Vec<String>,
    /// What the result is if the rough model finds none of the labels
    #[arg(long, value_name = "WHAT", default_value = "whole")]
    pub(crate) nothing_found: NothingFoundName,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NothingFoundName {
    /// The model segments the whole scan
    Whole,
    /// The mask is empty
    Empty,
}

impl From<NothingFoundName> for NothingFound {
    fn from(name: NothingFoundName) -> Self {
        match name {
            NothingFoundName::Whole => Self::WholeScan,
            NothingFoundName::Empty => Self::EmptyMask,
        }
    }
}
