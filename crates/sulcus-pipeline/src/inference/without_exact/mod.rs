//! In place of `exact` where the feature of that name is off: each call is refused.

use std::ops::ControlFlow;

use sulcus_model::ModelSpec;

use crate::inference::plan::InferencePlan;
use crate::inference::settings::{ModelInput, ScanInput};
use crate::inference::stage_seconds::StageSeconds;
use crate::inference::tile_queue::TileQueue;
use crate::{PipelineError, Prediction};

pub(super) mod configurations;
pub(super) mod memory;

pub(super) fn run(
    _: &InferencePlan,
    _: &[ModelInput<'_>],
    _: &ModelSpec,
    _: ScanInput<'_>,
    _: &mut dyn TileQueue,
    _: &mut dyn FnMut() -> ControlFlow<()>,
    _: &mut StageSeconds,
) -> Result<Prediction, PipelineError> {
    Err(PipelineError::WithoutExact)
}
