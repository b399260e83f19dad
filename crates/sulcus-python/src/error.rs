//! Errors of the runtime as Python's exceptions. The classes are Python's own, as they have two bases each.

use pyo3::PyErr;
use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{Error as RuntimeError, ErrorKind, with_causes};
use sulcus_volume::VolumeError;

pyo3::import_exception!(sulcus._errors, SulcusError);
pyo3::import_exception!(sulcus._errors, InputError);
pyo3::import_exception!(sulcus._errors, ModelError);

/// Of loading a model or segmenting a scan.
pub(crate) fn of_runtime(error: &RuntimeError) -> PyErr {
    use ErrorKind as R;
    use PipelineError as P;
    let text = with_causes(error);
    match error.kind() {
        R::NoModel
        | R::ReadModel { .. }
        | R::Model { .. }
        | R::Graph { .. }
        | R::NeedsOnnxRuntime { .. }
        | R::Ensemble { .. }
        | R::NoGoldenCase { .. }
        | R::Pipeline(P::Spec(_) | P::Ensemble(_) | P::AnswerShape { .. }) => ModelError::new_err(text),
        R::Pipeline(P::Channels { .. } | P::NonFinite { .. } | P::Volume(_)) => InputError::new_err(text),
        _ => SulcusError::new_err(text),
    }
}

/// Of a grid that no scan can have.
pub(crate) fn of_volume(error: &VolumeError) -> PyErr {
    InputError::new_err(with_causes(error))
}

/// Of a file that cannot be read as a scan.
pub(crate) fn of_reading(error: &IoError) -> PyErr {
    InputError::new_err(with_causes(error))
}

/// Of a mask that cannot be written.
pub(crate) fn of_writing(error: &IoError) -> PyErr {
    SulcusError::new_err(with_causes(error))
}
