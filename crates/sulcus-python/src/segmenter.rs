use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sulcus_io::{Compression, VolumeMetadata, encode_labels, read_scan, would_replace, write_labels};
use sulcus_model::{ModelSpec, Precision};
use sulcus_pipeline::{Numerics, Progress};
use sulcus_runtime::{Device, Engine, Error as RuntimeError, ErrorKind, SegmentOptions, Segmentation};
use sulcus_volume::{Geometry, Image, LabelMap, OrientationSource, RasFromVoxel, VolumeError};

use crate::error::{self, InputError, ModelError, SulcusError};
use crate::ort_library::{SearchPaths, note_text, require_library};
use crate::progress::ProgressCallback;
use crate::scan::Scan;
use crate::segmentation::NativeSegmentation;

/// A model argument from Python.
#[derive(FromPyObject)]
enum Model {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// The options of a segmenter, as a Python dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Options {
    engine: String,
    device: String,
    threads: Option<usize>,
    mirror: bool,
    exact: bool,
    step: Option<f64>,
    max_memory: Option<u64>,
    precision: String,
    allow_unchecked: bool,
    strict: bool,
    allow_constant: bool,
    cache_folder: Option<PathBuf>,
    ort_library: Option<PathBuf>,
    ort_packages: Vec<PathBuf>,
    ort_data: Option<PathBuf>,
}

/// The runtime's segmenter. Python threads can share it, because the GIL is released while a scan is segmented.
#[pyclass(frozen, module = "sulcus._sulcus")]
pub(crate) struct Segmenter {
    segmenter: sulcus_runtime::Segmenter,
    notes: Vec<String>,
}

#[pymethods]
impl Segmenter {
    /// Loads the models into the engine.
    #[new]
    fn new(py: Python<'_>, models: Vec<Model>, options: Options) -> PyResult<Self> {
        let wanted: Engine = options.engine.parse().map_err(|e| SulcusError::new_err(format!("{e}")))?;
        let device: Device = options.device.parse().map_err(|e| SulcusError::new_err(format!("{e}")))?;
        let precision = precision(&options.precision)?;
        let paths = SearchPaths {
            library: options.ort_library,
            package_folders: options.ort_packages,
            data_folder: options.ort_data,
        };
        let library = paths.into_library();
        py.detach(|| require_library(wanted, device, &library))?;
        let mut builder = sulcus_runtime::Segmenter::builder()
            .engine(wanted)
            .device(device)
            .ort_library(library.clone())
            .mirror(options.mirror)
            .numerics(if options.exact { Numerics::Nnunet } else { Numerics::Float32 })
            .step(options.step)
            .allow_unchecked(options.allow_unchecked)
            .strict(options.strict)
            .allow_constant(options.allow_constant);
        for model in models {
            builder = match model {
                Model::File(path) => builder.model(path),
                Model::Bytes(bytes) => builder.model_bytes(bytes),
            };
        }
        if let Some(precision) = precision {
            builder = builder.precision(precision);
        }
        if let Some(threads) = options.threads {
            builder = builder.threads(threads);
        }
        if let Some(bytes) = options.max_memory {
            builder = builder.max_memory(bytes);
        }
        if let Some(folder) = options.cache_folder {
            builder = builder.cache_folder(folder);
        }
        let segmenter = py.detach(|| builder.build()).map_err(|e| error::runtime_error(&e))?;
        let notes = segmenter.notes().iter().map(|note| note_text(note, &library)).collect();
        Ok(Self { segmenter, notes })
    }

    /// Segments a scan and takes its voxels.
    fn segment(
        &self,
        py: Python<'_>,
        scan: &mut Scan,
        probabilities: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<NativeSegmentation> {
        let image = scan.take()?;
        let mut callback = ProgressCallback::new(progress);
        let segmentation = py.detach(|| self.run(image, probabilities, &mut callback));
        callback.into_result()?;
        NativeSegmentation::new(py, segmentation.map_err(|e| error::runtime_error(&e))?)
    }

    /// Segments a file and writes the mask on its grid.
    fn segment_file(
        &self,
        py: Python<'_>,
        image: PathBuf,
        mask: PathBuf,
        probabilities: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<NativeSegmentation> {
        let mut callback = ProgressCallback::new(progress);
        let segmentation = py.detach(|| {
            if would_replace(&image, &mask) {
                let error = ErrorKind::WouldOverwrite { path: mask };
                return Err(InputError::new_err(error.to_string()));
            }
            let scan = read_scan(&image).map_err(|e| error::read_error(&e))?;
            let segmentation =
                self.run(scan.image, probabilities, &mut callback).map_err(|e| error::runtime_error(&e))?;
            write_labels(&mask, &segmentation.labels, &scan.metadata, &segmentation.table)
                .map_err(|e| error::write_error(&e))?;
            Ok(segmentation)
        });
        callback.into_result()?;
        NativeSegmentation::new(py, segmentation?)
    }

    /// Segments the golden case of each model and compares the mask with the recorded one.
    fn replay_golden(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.segmenter.replay_golden()).map_err(|e| error::runtime_error(&e))
    }

    /// The specification of each model as JSON.
    fn specs(&self) -> PyResult<Vec<String>> {
        let specs: Result<_, _> = self.segmenter.specs().map(serde_json::to_string::<ModelSpec>).collect();
        specs.map_err(|e| ModelError::new_err(format!("the model's specification cannot be written: {e}")))
    }

    /// The NIfTI header extension with the label names: its code and its text.
    fn label_extension<'py>(&self, py: Python<'py>) -> PyResult<Option<(i32, Bound<'py, PyBytes>)>> {
        let voxel = voxel().map_err(|e| error::volume_error(&e))?;
        let source = VolumeMetadata::from(*voxel.geometry());
        let file = encode_labels(&voxel, &source, &self.segmenter.spec().labels, Compression::None);
        let file = file.map_err(|e| error::write_error(&e))?;
        Ok(first_extension(&file).map(|(code, text)| (code, PyBytes::new(py, text))))
    }

    #[getter]
    fn engine(&self) -> &'static str {
        self.segmenter.engine().name()
    }

    #[getter]
    fn device(&self) -> String {
        self.segmenter.device().to_string()
    }

    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    #[getter]
    fn channels(&self) -> Vec<String> {
        self.segmenter.spec().channels.iter().map(|c| c.name.clone()).collect()
    }

    /// The classes along the first axis of the probabilities.
    #[getter]
    fn classes(&self) -> Vec<String> {
        let spec = self.segmenter.spec();
        let names: Vec<String> = spec.structures().into_iter().map(|s| s.name).collect();
        // A model with a background class has one class more than structures.
        let background = (spec.classes() > names.len()).then(|| "background".to_owned());
        background.into_iter().chain(names).collect()
    }
}

impl Segmenter {
    fn run(
        &self,
        image: Image,
        probabilities: bool,
        callback: &mut ProgressCallback,
    ) -> Result<Segmentation, RuntimeError> {
        let mut observer = |tiles: Progress| callback.on_tile(tiles);
        let options = SegmentOptions::default().with_observer(&mut observer);
        let options = if probabilities { options.with_probabilities() } else { options };
        self.segmenter.segment_owned(image, options)
    }
}

/// The precision that the Python half names.
fn precision(name: &str) -> PyResult<Option<Precision>> {
    match name {
        "native" => Ok(None),
        "bf16" => Ok(Some(Precision::Bf16)),
        "fp16" => Ok(Some(Precision::Fp16)),
        _ => Err(SulcusError::new_err(format!("`{name}` is not a precision: expected native, bf16 or fp16"))),
    }
}

/// A mask of one voxel.
fn voxel() -> Result<LabelMap, VolumeError> {
    let map = RasFromVoxel::new([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])?;
    LabelMap::new(Geometry::new([1; 3], map, OrientationSource::Sform)?, vec![0])
}

/// Code and text of the first extension in a little-endian NIfTI-1 file.
fn first_extension(file: &[u8]) -> Option<(i32, &[u8])> {
    let size = i32::from_le_bytes(*file.get(352..)?.first_chunk()?);
    let code = i32::from_le_bytes(*file.get(356..)?.first_chunk()?);
    let text = file.get(360..352_usize.checked_add(usize::try_from(size).ok()?)?)?;
    // Zero bytes pad it.
    let end = text.iter().rposition(|byte| *byte != 0)? + 1;
    Some((code, text.get(..end)?))
}
