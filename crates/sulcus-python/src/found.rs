use numpy::npyffi::NPY_ORDER;
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use sulcus_runtime::Segmentation;
use sulcus_volume::Label;

/// A structure: name, value in the mask, all of its values, voxels, millilitres.
type Structure = (String, Label, Vec<Label>, usize, f64);

/// What a segmentation found. The Python half makes its public class of it.
#[pyclass(frozen, get_all, module = "sulcus._sulcus")]
pub(crate) struct Found {
    /// `[x, y, z]`, first axis fastest; `uint8` where every label of the model fits, `uint16` otherwise.
    labels: Py<PyAny>,
    /// `[class, z, y, x]`, last axis fastest.
    probabilities: Option<Py<PyAny>>,
    ras_from_voxel: [[f64; 4]; 4],
    structures: Vec<Structure>,
    names: Vec<(Label, String)>,
    tiles: usize,
    /// Preprocessing, inference, the engine's part of it, postprocessing.
    seconds: (f64, f64, f64, f64),
    peak_memory_bytes: Option<u64>,
    engine: &'static str,
    device: String,
    precision: String,
}

impl Found {
    pub(crate) fn new(py: Python<'_>, found: Segmentation) -> PyResult<Self> {
        let structures =
            found.label_volumes().into_iter().map(|l| (l.name, l.value, l.values, l.voxels, l.ml)).collect();
        let names: Vec<(Label, String)> =
            found.table.entries().iter().map(|e| (e.value, e.name.clone())).collect();
        let seconds = found.seconds;
        let probabilities = match found.probabilities {
            None => None,
            Some(image) => {
                let [nx, ny, nz] = image.geometry().shape();
                let shape = [image.channels(), nz, ny, nx];
                let (_, values) = image.into_parts();
                Some(array(py, values, shape, NPY_ORDER::NPY_CORDER)?)
            }
        };
        let (geometry, values) = found.labels.into_parts();
        // By what the model can say, not by what it said: the type of two scans' masks is the same.
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
            tiles: found.tiles,
            seconds: (seconds.preprocess, seconds.infer, seconds.engine, seconds.postprocess),
            peak_memory_bytes: found.peak_memory_bytes,
            engine: found.engine.name(),
            device: found.device.to_string(),
            precision: found.precision,
        })
    }
}

/// An array that takes the values over.
fn array<T: Element, const N: usize>(
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
