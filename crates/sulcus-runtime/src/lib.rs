//! Segments scans with an exported model, in another program or behind the `sulcus` command.
//!
//! A [`Segmenter`] holds one model or an ensemble, ready to run: in ONNX Runtime, which is loaded at run time from
//! wherever it lies, or in the embedded engine tract, which needs nothing. It is `Send + Sync`, reads no environment
//! variable, prints nothing, and takes scans as [`Image`](sulcus_volume::Image)s or as files.
//!
//! ```
//! use sulcus_runtime::{SegmentOptions, Segmenter};
//! use sulcus_volume::{Geometry, Image, OrientationSource, RasFromVoxel, Spacing};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let model = sulcus_runtime::SELF_TEST_MODEL;
//! // `.model("model.onnx")` for a file.
//! let segmenter = Segmenter::builder().model_bytes(model).build()?;
//!
//! // A scan of 8×8×4 voxels of 1×1×2 mm, dark but for one row. `segment_file` takes a path instead.
//! let ras_from_voxel = RasFromVoxel::aligned("RAS".parse()?, Spacing::new([1.0, 1.0, 2.0])?);
//! let geometry = Geometry::new([8, 8, 4], ras_from_voxel, OrientationSource::Sform)?;
//! let mut values = vec![0.0; 8 * 8 * 4];
//! values[8..16].fill(900.0);
//! let scan = Image::new(geometry, 1, values)?;
//!
//! let found = segmenter.segment(&scan, SegmentOptions::default())?;
//! for label in found.label_volumes() {
//!     println!("{}: {:.3} ml", label.name, label.ml);
//! }
//! # assert_eq!(found.label_volumes()[1].voxels, 8);
//! # Ok(())
//! # }
//! ```
//!
//! # Ensembles
//!
//! Several models are averaged: their logits, each network weighing the same, before the mask is decided. They must
//! agree on channels, labels and activation. Network, patch, orientation, voxel size and normalisation may be each
//! model's own, so folds, and 2-D with 3-D models, go together; where the voxel grids differ, the logits meet on the
//! scan's own. Postprocessing is what all of them ask for.
//!
//! ```
//! # use sulcus_runtime::Segmenter;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let [fold_0, fold_1] = [sulcus_runtime::SELF_TEST_MODEL; 2];
//! let ensemble = Segmenter::builder().model_bytes(fold_0).model_bytes(fold_1).build()?;
//! assert_eq!(ensemble.models(), 2);
//!
//! // From files: `Segmenter::builder().models(["fold_0.onnx", "fold_1.onnx"])`. What does not fit is named:
//! let error = Segmenter::builder().models(["no.onnx", "such.onnx"]).build().unwrap_err();
//! assert!(error.to_string().contains("no.onnx"));
//! # Ok(())
//! # }
//! ```
//!
//! # Engines and devices
//!
//! [`Engine::Auto`] takes ONNX Runtime where [`OrtSearch`] finds it, and tract otherwise. [`Device::Auto`] takes CUDA
//! where ONNX Runtime has a provider that answers, and the processor otherwise. What was taken,
//! [`Segmenter::engine`], [`Segmenter::device`] and [`Segmenter::notes`] say. Whatever is *named* is used or is an
//! error: nothing falls back in silence.
//!
//! [`Device::OpenVino`] is the processor too, through a provider that only some builds of ONNX Runtime have (PyPI's
//! `onnxruntime-openvino`, which `sulcus runtime install --openvino` fetches). It answers 3-D networks in half the time, and with
//! [`Arithmetic::Half`] in a quarter where the processor has bf16.
//!
//! **Unverified:** no GPU has run this crate. What is done for one, providers that fail aloud, batches of one size in pinned
//! memory with the last one filled up, copying while another batch is computed, TensorRT's engine and timing caches and its
//! fp16, is type-checked; batches and bound buffers are also tested on the processor.
//!
//! A process holds one ONNX Runtime: the first one loaded stays, every search gives it again, and naming another one
//! is an error.
//!
//! # Features
//!
//! `ort` and `tract` are the engines, both on by default; `cuda`, `tensorrt` and `openvino` add ONNX Runtime's providers of
//! these names and compile without any SDK. With `tract` alone nothing is loaded at run time.

#[cfg(not(any(feature = "ort", feature = "tract")))]
compile_error!("sulcus-runtime needs an engine: turn on its feature `ort` or `tract`");

mod arithmetic;
mod builder;
mod by_name;
mod causes;
mod clock;
mod cropped;
mod device;
mod engine;
mod ensemble;
mod error;
mod session_pool;
#[cfg(feature = "ort")]
mod library;
mod memory;
mod segmentation;
mod segmenter;

pub use arithmetic::Arithmetic;
pub use builder::SegmenterBuilder;
pub use by_name::serialize_labels;
pub use causes::with_causes;
pub use device::{Device, UnknownDevice};
#[cfg(feature = "tract")]
pub use engine::TractPredictor;
pub use engine::{Engine, UnknownEngine};
#[cfg(feature = "ort")]
pub use engine::{OnnxRuntime, OrtMeasurements, OrtOptions, OrtPredictor, check_device, find_onnx_runtime};
pub use error::RuntimeError;
#[cfg(feature = "ort")]
pub use library::{NamedLibrary, Origin, OrtLibrary, OrtSearch, Outcome, Place, python_prefixes, wheel_member};
pub use memory::peak_memory_bytes;
pub use segmentation::{LabelVolume, Seconds, SegmentOptions, Segmentation};
pub use segmenter::Segmenter;

/// A tiny 2-D U-Net with a golden case, to try an installation with: of one channel, scaled to [0, 1], it labels what
/// lies above 0.4 as 1 and above 0.75 as 2.
pub const SELF_TEST_MODEL: &[u8] = include_bytes!("../data/self-test.onnx");
