use sulcus_model::ModelSpec;

use crate::PipelineError;

pub(in crate::inference) fn check(_: &[&ModelSpec]) -> Result<(), PipelineError> {
    Err(PipelineError::WithoutExact)
}
