//! What the viewer in notebooks needs: its page, and volumes as files that the page reads.

use numpy::npyffi::NPY_ORDER;
use numpy::{PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sulcus_io::{Compression, VolumeMetadata};
use sulcus_page::SinglePage;
use sulcus_volume::{Geometry, Label, LabelMap, LabelTable, OrientationSource, RasFromVoxel};

use crate::error::{self, InputError, SulcusError};
use crate::scan::Scan;
use crate::segmentation::array;

/// The page in one file, as UTF-8.
#[pyfunction]
pub(crate) fn viewer_page(py: Python<'_>) -> PyResult<Py<PyBytes>> {
    let mut html = Vec::new();
    SinglePage::default().write(&mut html).map_err(|e| SulcusError::new_err(e.to_string()))?;
    Ok(PyBytes::new(py, &html).unbind())
}

/// The script of the custom element.
#[pyfunction]
pub(crate) fn viewer_script() -> &'static str {
    sulcus_page::element_script()
}

/// The scan as a gzipped NIfTI file; afterwards it is empty.
#[pyfunction]
pub(crate) fn encode_scan(py: Python<'_>, scan: &mut Scan) -> PyResult<Py<PyBytes>> {
    let image = scan.take()?;
    let like = VolumeMetadata::from(*image.geometry());
    let bytes = py.detach(|| sulcus_io::encode_image(&image, &like, Compression::Gzip));
    Ok(PyBytes::new(py, &bytes.map_err(|e| error::write_error(&e))?).unbind())
}

/// A label map with the names of its labels as a gzipped NIfTI file.
///
/// # Shapes
/// `[x, y, z]`, first axis fastest.
#[pyfunction]
pub(crate) fn encode_labels(
    py: Python<'_>,
    labels: PyReadonlyArray3<'_, Label>,
    ras_from_voxel: [[f64; 4]; 3],
    names: Vec<(Label, String)>,
) -> PyResult<Py<PyBytes>> {
    if !labels.is_fortran_contiguous() {
        return Err(InputError::new_err("a mask must have its first axis fastest"));
    }
    let volume_error = |e| error::volume_error(&e);
    let shape = <[usize; 3]>::try_from(labels.shape()).unwrap_or_default();
    let map = RasFromVoxel::new(ras_from_voxel).map_err(volume_error)?;
    let geometry = Geometry::new(shape, map, OrientationSource::Sform).map_err(volume_error)?;
    let labels = LabelMap::new(geometry, labels.as_slice()?.to_vec()).map_err(volume_error)?;
    let table = LabelTable::from_names(names).map_err(volume_error)?;
    let bytes = py.detach(|| sulcus_io::encode_labels(&labels, &geometry.into(), &table, Compression::Gzip));
    Ok(PyBytes::new(py, &bytes.map_err(|e| error::write_error(&e))?).unbind())
}

/// The labels of a NIfTI file and their place: `[x, y, z]`, first axis fastest, and the map from voxels to RAS+ millimetres.
#[pyfunction]
pub(crate) fn decode_labels(py: Python<'_>, bytes: &[u8]) -> PyResult<(Py<PyAny>, [[f64; 4]; 4])> {
    let read = py.detach(|| sulcus_io::read_labels_bytes(bytes));
    let (labels, _) = read.map_err(|e| error::read_error(&e))?;
    let (geometry, values) = labels.into_parts();
    Ok((array(py, values, geometry.shape(), NPY_ORDER::NPY_FORTRANORDER)?, geometry.ras_from_voxel().matrix()))
}
