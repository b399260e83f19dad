//! What to export from a run, and the loss of Dice of a reduced precision.

use std::path::Path;

use sulcus_model::{Precision, QuantizationReport};
use sulcus_train::Weights;

/// What to export of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ExportRequest<'a> {
    pub(crate) weights: Weights,
    pub(crate) precision: Precision,
    /// The data set of the run, if it was moved.
    pub(crate) data: Option<&'a Path>,
    /// Whether transposed convolutions are written as 1×1 convolutions and permutations.
    pub(crate) conv_transpose_to_conv: bool,
    /// Whether a model that fails its check is written nevertheless. It is marked, and programs refuse it by default.
    pub(crate) allow_unchecked: bool,
}

/// The loss of Dice in a reduced precision, for people.
pub(crate) fn reduction_line(reduction: &QuantizationReport) -> String {
    let ranges =
        reduction.calibration.map(|c| format!("; ranges from {} tiles of {} training cases", c.tiles, c.cases));
    format!(
        "mean Dice {:.4} in {}, {:.4} in fp32, over {} held-out cases{}",
        reduction.dice,
        reduction.kind,
        reduction.dice_fp32,
        reduction.cases,
        ranges.unwrap_or_default()
    )
}
