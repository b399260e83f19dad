use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ort::memory::AllocationDevice;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use sulcus_model::Precision;
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::graph::{INPUT, OUTPUT, all_threads};
use super::ort_bound::Bound;
use super::ort_device::{Provider, plain, register};
use super::ort_kept::KeptGraph;
use super::ort_library::OnnxRuntime;
use crate::{Device, Engine, Error, ErrorKind};

/// How ONNX Runtime runs a model.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OrtOptions {
    /// The device. [`Device::Auto`] is the processor here; the [`Segmenter`](crate::Segmenter) makes the automatic choice.
    pub device: Device,
    /// Threads for one operation. Defaults to all that the process may use.
    pub threads: Option<usize>,
    /// The precision of the arithmetic. Defaults to that of the model file.
    pub precision: Option<Precision>,
    /// Tiles per call on a GPU. Defaults to 1; processors always process one.
    pub batch: Option<usize>,
    /// The existing folder that keeps optimised graphs and TensorRT's engines from one run to the next.
    pub cache_folder: Option<PathBuf>,
}

/// A model in ONNX Runtime. Calls from several threads are serialised.
#[derive(Debug)]
pub struct OrtPredictor {
    session: SessionKind,
}

#[derive(Debug)]
enum SessionKind {
    /// Reads the caller's memory.
    Plain(Mutex<Session>),
    /// Copies batches through buffers that are bound to the device.
    Bound(Bound),
}

impl OrtPredictor {
    /// Loads a graph from the bytes of its file.
    ///
    /// `device` and `threads` are described at [`OrtOptions`].
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device cannot be used, [`ErrorKind::Graph`] when ONNX Runtime refuses
    /// the graph, or its input and output do not have the names `image` and `logits`.
    pub fn new(
        runtime: &OnnxRuntime,
        model: &[u8],
        device: Device,
        threads: Option<usize>,
    ) -> Result<Self, Error> {
        Self::with_options(runtime, model, &OrtOptions { device, threads, ..OrtOptions::default() })
    }

    /// As [`OrtPredictor::new`], with all options.
    ///
    /// # Errors
    /// As [`OrtPredictor::new`].
    pub fn with_options(runtime: &OnnxRuntime, model: &[u8], options: &OrtOptions) -> Result<Self, Error> {
        let session = session(runtime, model, options)?;
        let session = match gpu(options.device) {
            Some(number) => {
                let id = i32::try_from(number).unwrap_or_default();
                let batch = options.batch.unwrap_or(1);
                let bound = Bound::new(session, AllocationDevice::CUDA_PINNED, id, batch);
                SessionKind::Bound(bound.map_err(|message| refused(&message))?)
            }
            None => SessionKind::Plain(Mutex::new(session)),
        };
        Ok(Self { session })
    }

    /// The code path of GPUs on the processor, with buffers in ordinary memory; for tests.
    ///
    /// # Errors
    /// As [`OrtPredictor::new`].
    #[doc(hidden)]
    pub fn bound_on_processor(runtime: &OnnxRuntime, model: &[u8], batch: usize) -> Result<Self, Error> {
        let session = session(runtime, model, &OrtOptions::default())?;
        let bound = Bound::new(session, AllocationDevice::CPU, 0, batch).map_err(|message| refused(&message))?;
        Ok(Self { session: SessionKind::Bound(bound) })
    }
}

fn gpu(device: Device) -> Option<u32> {
    match device {
        Device::Cuda(number) | Device::TensorRt(number) => Some(number),
        Device::Auto | Device::Cpu | Device::OpenVino | Device::Vulkan(_) => None,
    }
}

fn session(runtime: &OnnxRuntime, model: &[u8], options: &OrtOptions) -> Result<Session, Error> {
    let session = match (options.device, &options.cache_folder) {
        (Device::Auto | Device::Cpu, Some(folder)) => {
            kept_session(runtime, model, options, &KeptGraph::new(folder, model, runtime))?
        }
        _ => commit(session_builder(runtime, options)?, model, options.device)?,
    };
    for (kind, names, expected) in [
        ("input", session.inputs().iter().map(|i| i.name()).collect::<Vec<_>>(), INPUT),
        ("output", session.outputs().iter().map(|o| o.name()).collect(), OUTPUT),
    ] {
        if names != [expected] {
            return Err(refused(&format!("expected only the {kind} `{expected}`, found {names:?}")));
        }
    }
    Ok(session)
}

/// A session of the cached optimised graph, or a session of the model, whose optimised graph is then cached. A full disk does not
/// prevent the session.
fn kept_session(
    runtime: &OnnxRuntime,
    model: &[u8],
    options: &OrtOptions,
    kept: &KeptGraph<'_>,
) -> Result<Session, Error> {
    let builder = || session_builder(runtime, options);
    if let Some(graph) = kept.read() {
        let as_it_is =
            builder()?.with_optimization_level(GraphOptimizationLevel::Disable).map_err(refused_option)?;
        match commit(as_it_is, &graph, options.device) {
            Ok(session) => return Ok(session),
            Err(reason) => tracing::warn!("an optimised graph is not used: {reason}"),
        }
    }
    let writing = || {
        let draft = kept.draft().map_err(|e| e.to_string())?;
        let builder = builder().and_then(|b| b.with_optimized_model_path(draft.path()).map_err(refused_option));
        let session = builder.and_then(|builder| commit(builder, model, options.device));
        let session = session.map_err(|e| e.to_string())?;
        kept.keep(draft).map_err(|e| e.to_string())?;
        Ok::<_, String>(session)
    };
    writing().or_else(|reason| {
        tracing::warn!("the optimised graph is not kept: {reason}");
        commit(builder()?, model, options.device)
    })
}

/// The options that all sessions have in common.
fn session_builder(runtime: &OnnxRuntime, options: &OrtOptions) -> Result<SessionBuilder, Error> {
    let threads = options.threads.unwrap_or_else(all_threads);
    let builder = Session::builder(runtime.environment()).map_err(|e| refused(plain(e.message())))?;
    let provider = Provider {
        device: options.device,
        threads,
        precision: options.precision,
        cache_folder: options.cache_folder.as_deref(),
    };
    let builder = register(builder, runtime, &provider)?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(refused_option)?;
    let builder = builder.with_intra_threads(threads).map_err(refused_option)?;
    // A spinning thread would occupy a core that other work needs, for example the sliding window.
    builder.with_intra_op_spinning(false).map_err(refused_option)
}

fn commit(mut builder: SessionBuilder, graph: &[u8], device: Device) -> Result<Session, Error> {
    builder.commit_from_memory(graph).map_err(|e| match device {
        Device::Auto | Device::Cpu => refused(plain(e.message())),
        _ => {
            let reason = format!("the model cannot run on it: {}", plain(e.message()));
            ErrorKind::Device { device, reason }.into()
        }
    })
}

fn refused_option(error: ort::Error<SessionBuilder>) -> Error {
    refused(plain(error.message()))
}

fn refused(message: &str) -> Error {
    ErrorKind::Graph { engine: Engine::Ort, message: message.to_owned() }.into()
}

fn failed(message: impl Into<String>) -> PredictorError {
    PredictorError { engine: "ort", message: message.into() }
}

/// Runs one input.
fn run(session: &Mutex<Session>, input: &Tensor) -> Result<Tensor, PredictorError> {
    // A view, not a copy.
    let image =
        TensorRef::from_array_view((input.shape(), input.data())).map_err(|e| failed(plain(e.message())))?;
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    let outputs = session.run(ort::inputs![INPUT => image]).map_err(|e| failed(plain(e.message())))?;
    let logits = outputs.get(OUTPUT).ok_or_else(|| failed(format!("it returned no `{OUTPUT}`")))?;
    let (shape, values) = logits.try_extract_tensor::<f32>().map_err(|e| failed(plain(e.message())))?;
    let shape = shape.iter().map(|edge| usize::try_from(*edge)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| failed("it returned a negative shape"))?;
    Tensor::new(shape, values.to_vec()).map_err(|e| failed(e.to_string()))
}

impl Predictor for OrtPredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        match &self.session {
            SessionKind::Plain(session) => run(session, &input),
            SessionKind::Bound(bound) => {
                let mut outputs = bound.logits(&[input])?;
                outputs.pop().ok_or_else(|| failed("it returned no output"))
            }
        }
    }

    fn batch(&self) -> usize {
        match &self.session {
            SessionKind::Plain(_) => 1,
            SessionKind::Bound(bound) => bound.batch(),
        }
    }

    fn logits_batch(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, PredictorError> {
        match &self.session {
            SessionKind::Plain(session) => inputs.iter().map(|input| run(session, input)).collect(),
            SessionKind::Bound(bound) => bound.logits(&inputs),
        }
    }
}
