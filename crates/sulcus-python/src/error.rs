//! Errors of the runtime as Python exceptions. The classes are defined in Python, because they have two bases each.

use pyo3::PyErr;
use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{Error as RuntimeError, ErrorKind, with_causes};
use sulcus_volume::VolumeError;

pyo3::import_exception!(sulcus._errors, SulcusError);
pyo3::import_exception!(sulcus._errors, InputError);
pyo3::import_exception!(sulcus._errors, ModelError);

/// An error while a model is loaded or a scan is segmented.
pub(crate) fn runtime_error(error: &RuntimeError) -> PyErr {
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
        | R::Unchecked { .. }
        | R::NoGoldenCase { .. }
        | R::Pipeline(P::Spec(_) | P::Ensemble(_) | P::AnswerShape { .. } | P::NotFromNnunet { .. }) => {
            ModelError::new_err(text)
        }
        R::Pipeline(error) if error.is_about_scan() => {
            let warnings = serde_json::to_string(error.scan_warnings()).unwrap_or_else(|_| "[]".into());
            InputError::new_err((text, warnings))
        }
        _ => SulcusError::new_err(text),
    }
}

/// An invalid grid.
pub(crate) fn volume_error(error: &VolumeError) -> PyErr {
    InputError::new_err(with_causes(error))
}

/// A file that cannot be read as a scan.
pub(crate) fn read_error(error: &IoError) -> PyErr {
    InputError::new_err(with_causes(error))
}

/// A mask that cannot be written.
pub(crate) fn write_error(error: &IoError) -> PyErr {
    SulcusError::new_err(with_causes(error))
}
