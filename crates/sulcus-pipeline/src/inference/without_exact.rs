//! In place of `exact` where the feature of that name is off: each call is refused.

use std::ops::ControlFlow;

use sulcus_model::ModelSpec;

use super::plan::InferencePlan;
use super::settings::{ModelInput, ScanInput};
use super::stage_seconds::StageSeconds;
use super::tile_queue::TileQueue;
use crate::{PipelineError, Prediction};

pub(super) mod configurations {
    use super::{ModelSpec, PipelineError};

    pub(in crate::inference) fn check(_: &[&ModelSpec]) -> Result<(), PipelineError> {
        Err(PipelineError::WithoutExact)
    }
}

pub(super) mod memory {
    use super::super::settings::InferenceSettings;
    use super::{ModelSpec, PipelineError};
    use sulcus_volume::Geometry;

    pub(in crate::inference) fn peak_bytes(
        _: &[&ModelSpec],
        _: &Geometry,
        _: &InferenceSettings,
        _: usize,
    ) -> Result<u64, PipelineError> {
        Err(PipelineError::WithoutExact)
    }
}

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
