//! Segments medical scans with an exported model.
//!
//! A [`Segmenter`] contains one model or an ensemble, ready to run: in ONNX Runtime, which is loaded from a library at
//! run time, or in a built-in engine (native or tract), which needs no other files. It is `Send + Sync`, reads no environment
//! variables and prints nothing. Scans are [`Image`](volume::Image)s in memory or files.
//!
//! ```
//! use sulcus_runtime::{SegmentOptions, Segmenter};
//! use sulcus_runtime::volume::{Geometry, Image, OrientationSource, RasFromVoxel, Spacing};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let model = sulcus_runtime::SELF_TEST_MODEL;
//! // From a file: `.model("model.onnx")`.
//! let segmenter = Segmenter::builder().model_bytes(model).build()?;
//!
//! // A scan of 8×8×4 voxels of 1×1×2 mm, dark except for one row. `segment_file` takes a path instead.
//! let ras_from_voxel = RasFromVoxel::aligned("RAS".parse()?, Spacing::new([1.0, 1.0, 2.0])?);
//! let geometry = Geometry::new([8, 8, 4], ras_from_voxel, OrientationSource::Sform)?;
//! let mut values = vec![0.0; 8 * 8 * 4];
//! values[8..16].fill(900.0);
//! let scan = Image::new(geometry, 1, values)?;
//!
//! let found = segmenter.segment(&scan, SegmentOptions::default())?;
//! for label in found.label_volumes() {
//!     // The grid of a picture has no volumes.
//!     if let Some(ml) = label.ml {
//!         println!("{}: {ml:.3} ml", label.name);
//!     }
//! }
//! # assert_eq!(found.label_volumes()[1].voxels, 8);
//! # Ok(())
//! # }
//! ```
//!
//! # Scans
//!
//! Voxels are stored with x fastest, then y, z and the channels, with slope and intercept applied. The rows of a [`RasFromVoxel`](volume::RasFromVoxel) map
//! voxel indices to RAS+ millimetres (right, anterior and superior are positive), as in NIfTI. DICOM and ITK use LPS+: negate the
//! first two rows of their matrix. A matrix in LPS+ looks valid, and left and right are then wrong.
//! [`io::read_scan`] reads a file, and [`io::write_labels`] writes the mask on the grid of the scan's metadata.
//!
//! # Progress and cancellation
//!
//! An observer is called after every tile and can stop the work:
//!
//! ```
//! # use sulcus_runtime::volume::{Geometry, Image, Orientation, OrientationSource, RasFromVoxel, Spacing};
//! use std::ops::ControlFlow;
//!
//! use sulcus_runtime::pipeline::{PipelineError, Progress};
//! use sulcus_runtime::{ErrorKind, SegmentOptions, Segmenter};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let segmenter = Segmenter::builder().model_bytes(sulcus_runtime::SELF_TEST_MODEL).build()?;
//! # let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3])?);
//! # let scan = Image::new(Geometry::new([8, 8, 4], map, OrientationSource::Sform)?, 1, (0..256).map(|i| i as f32).collect())?;
//! let mut observer = |progress: Progress| {
//!     println!("{} of {} tiles", progress.done, progress.total);
//!     if progress.done < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
//! };
//! let error = segmenter.segment(&scan, SegmentOptions::default().with_observer(&mut observer)).unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Cancelled)));
//! # Ok(())
//! # }
//! ```
//!
//! # Ensembles
//!
//! The logits of several models are averaged before labels are chosen. The models must agree on channels, labels,
//! activation and cropping. Network, patch, orientation, voxel size and normalisation may differ, so folds can be
//! combined, and 2-D with 3-D models; if the voxel grids differ, logits are averaged on the scan's own grid. The
//! postprocessing steps that all models have in common are applied.
//!
//! ```
//! # use sulcus_runtime::Segmenter;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let [fold_0, fold_1] = [sulcus_runtime::SELF_TEST_MODEL; 2];
//! let ensemble = Segmenter::builder().model_bytes(fold_0).model_bytes(fold_1).build()?;
//! assert_eq!(ensemble.models(), 2);
//!
//! // From files: `Segmenter::builder().models(["fold_0.onnx", "fold_1.onnx"])`. An error names the file:
//! let error = Segmenter::builder().models(["no.onnx", "such.onnx"]).build().unwrap_err();
//! assert!(error.to_string().contains("no.onnx"));
//! # Ok(())
//! # }
//! ```
//!
//! # Engines and devices
//!
//! [`Engine::Native`] runs the graphs that Sulcus exports and imports on this project's own kernels, including those in 8-bit integers,
//! and refuses others by name. [`Engine::Auto`] is the native engine on processors with AVX2 or AVX-512, in 8-bit integers with AMX. For
//! graphs that it does not know, on other processors, and on GPUs it is ONNX Runtime if [`OrtSearch`] finds it, and otherwise a built-in engine.
//! [`Device::Auto`] is CUDA if ONNX Runtime's provider starts, and the processor otherwise. [`Segmenter::engine`],
//! [`Segmenter::device`] and [`Segmenter::notes`] return the choice. A *named* engine, device or library is used, or an error is
//! returned: there is no silent fallback. An [`EngineFactory`] adds an engine of your own.
//!
//! [`Device::OpenVino`] is also the processor, through a provider that some builds of ONNX Runtime have (PyPI's
//! `onnxruntime-openvino`). It takes half the time for 3-D networks, and a quarter in bf16
//! ([`SegmenterBuilder::precision`]) on processors that support it.
//!
//! **Unverified:** no GPU has run this crate. Its GPU code (providers that fail with an error, batches in pinned memory, TensorRT's engine
//! cache and fp16) is type-checked; batches and bound buffers are also tested on the processor.
//!
//! A process can load only one ONNX Runtime. The first library stays loaded; naming another one is an error.
//!
//! # Results
//!
//! [`Segmentation::report`] returns the result as data: labels with volumes, timings, warnings. It serializes to the JSON
//! object of the command line and the HTTP server.
//!
//! # Packs
//!
//! A pack is a model file with several networks and a recipe ([`PackSpec`](model::PackSpec)): a rough network that finds the part of the
//! scan that the others see, or several networks whose masks become one, as in TotalSegmentator. It is loaded and used like a model;
//! [`Segmentation::steps`] says what was done. A pack cannot be averaged with other models.
//!
//! # Implausible scans
//!
//! Before a scan is predicted it is compared with those that the model was trained on: voxel size, field of view and intensities, as far
//! as the model file describes them. What differs is a [`ScanWarning`] in [`Segmentation::warnings`]; with
//! [`SegmenterBuilder::strict`] it is an error. A channel that has the same value in every voxel is always an error, unless
//! [`SegmenterBuilder::allow_constant`] is set.
//!
//! # Features
//!
//! `native`, `ort` and `tract` are the engines, all on by default; `cuda`, `tensorrt` and `openvino` add ONNX Runtime's providers
//! and compile without any SDK. Without `ort`, no library is loaded at run time. The crates whose types are part of
//! this interface are re-exported as [`model`], [`pipeline`], [`volume`] and [`io`].

#[cfg(not(any(feature = "native", feature = "ort", feature = "tract")))]
compile_error!("sulcus-runtime needs an engine: turn on its feature `native`, `ort` or `tract`");

mod builder;
mod device;
mod engine;
mod ensemble;
mod error;
#[cfg(feature = "ort")]
mod library;
mod loaded;
mod machine;
mod memory;

mod note;
mod report;
mod segmentation;
mod segmenter;
mod stages;

pub use sulcus_io as io;
pub use sulcus_model as model;
pub use sulcus_pipeline as pipeline;
pub use sulcus_volume as volume;

pub use builder::SegmenterBuilder;
pub use device::{Device, UnknownDevice};
#[cfg(feature = "native")]
pub use engine::NativePredictor;
#[cfg(feature = "tract")]
pub use engine::TractPredictor;
pub use engine::{Engine, EngineFactory, SharedPredictor, UnknownEngine};
pub use error::{Error, ErrorKind, with_causes};
#[cfg(feature = "ort")]
use library::{NamedLibrary, OrtLibrary, OrtSearch};
pub use machine::machine_memory_bytes;
pub use memory::peak_memory_bytes;
pub use note::Note;
pub use report::{LabelVolume, PackStep, Report, Seconds, VoxelBox, serialize_labels};
pub use segmentation::{SegmentOptions, Segmentation};
pub use segmenter::Segmenter;
pub use sulcus_pipeline::ScanWarning;

/// ONNX Runtime: the search for its library, and direct use of it.
#[cfg(feature = "ort")]
pub mod ort {
    pub use crate::engine::{
        OnnxRuntime, OrtMeasurements, OrtOptions, OrtPredictor, check_device, find_onnx_runtime,
    };
    pub use crate::library::{
        LibraryOrigin, NamedLibrary, OrtLibrary, OrtSearch, SearchOutcome, SearchedPlace, python_prefixes,
        wheel_member,
    };
}

/// A tiny 2-D U-Net with a golden case, to check an installation. It has one channel, normalises it to [0, 1], and labels
/// values above 0.4 as 1 and above 0.75 as 2.
pub const SELF_TEST_MODEL: &[u8] = include_bytes!("../data/self-test.onnx");
