use sulcus_model::ModelSpec;
use sulcus_volume::Geometry;

use crate::PipelineError;
use crate::inference::settings::InferenceSettings;

pub(in crate::inference) fn peak_bytes(
    _: &[&ModelSpec],
    _: &Geometry,
    _: &InferenceSettings,
    _: usize,
) -> Result<u64, PipelineError> {
    Err(PipelineError::WithoutExact)
}
