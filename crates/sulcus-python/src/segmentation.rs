use numpy::npyffi::NPY_ORDER;
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use sulcus_runtime::Segmentation;
use sulcus_volume::Label;

use crate::error::SulcusError;

/// Name, value in the mask, all values, number of voxels, millilitres.
type Structure = (String, Label, Vec<Label>, usize, Option<f64>);

/// A segmentation. The Python half converts it to its public class.
#[pyclass(frozen, get_all, module = "sulcus._sulcus")]
pub(crate) struct NativeSegmentation {
    /// `[x, y, z]`, first axis fastest; `uint8` where every label of the model fits, `uint16` otherwise.
    labels: Py<PyAny>,
    /// `[class, z, y, x]`, last axis fastest.
    probabilities: Option<Py<PyAny>>,
    ras_from_voxel: [[f64; 4]; 4],
    structures: Vec<Structure>,
    names: Vec<(Label, String)>,
    /// The runtime's report as JSON.
    report: String,
}

impl NativeSegmentation {
    pub(crate) fn new(py: Python<'_>, segmentation: Segmentation) -> PyResult<Self> {
        let report = segmentation.report();
        let json = serde_json::to_string(&report)
            .map_err(|e| SulcusError::new_err(format!("the report cannot be written: {e}")))?;
        let structures = report.labels.into_iter().map(|l| (l.name, l.value, l.values, l.voxels, l.ml)).collect();
        let names: Vec<(Label, String)> =
            segmentation.table.entries().iter().map(|e| (e.value, e.name.clone())).collect();
        let probabilities = match segmentation.probabilities {
            None => None,
            Some(image) => {
                let [nx, ny, nz] = image.geometry().shape();
                let shape = [image.channels(), nz, ny, nx];
                let (_, values) = image.into_parts();
                Some(array(py, values, shape, NPY_ORDER::NPY_CORDER)?)
            }
        };
        let (geometry, values) = segmentation.labels.into_parts();
        // The labels of the model decide, not those in this mask, so all masks of a model have the same type.
        let small = names.iter().all(|(value, _)| u8::try_from(*value).is_ok())
            && values.iter().all(|value| u8::try_from(*value).is_ok());
        let labels = if small {
            let values: Vec<u8> = values.iter().map(|value| *value as u8).collect();
            array(py, values, geometry.shape(), NPY_ORDER::NPY_FORTRANORDER)?
        } else {
            array(py, values, geometry.shape(), NPY_ORDER::NPY_FORTRANORDER)?
        };
        Ok(Self {
            labels,
            probabilities,
            ras_from_voxel: geometry.ras_from_voxel().matrix(),
            structures,
            names,
            report: json,
        })
    }
}

/// A NumPy array that owns the values.
pub(crate) fn array<T: Element, const N: usize>(
    py: Python<'_>,
    values: Vec<T>,
    shape: [usize; N],
    order: NPY_ORDER,
) -> PyResult<Py<PyAny>>
where
    [usize; N]: numpy::ndarray::IntoDimension,
{
    Ok(PyArray1::from_vec(py, values).reshape_with_order(shape, order)?.into_any().unbind())
}
