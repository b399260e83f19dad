use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ort::memory::AllocationDevice;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::ort_bound::Bound;
use super::ort_device::{Provider, plain, register};
use super::ort_kept::KeptGraph;
use super::{Engine, INPUT, OUTPUT, OnnxRuntime, all_threads};
use crate::{Arithmetic, Device, RuntimeError};

/// How ONNX Runtime runs a model.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OrtOptions {
    /// Where; [`Device::Auto`] is the processor here: choosing is the [`Segmenter`](crate::Segmenter)'s.
    pub device: Device,
    /// Threads for one operation; all that the process may use for `None`.
    pub threads: Option<usize>,
    /// The numbers that it computes in.
    pub arithmetic: Arithmetic,
    /// Tiles that a GPU is given at a time, 1 for `None`; processors take one by one.
    pub batch: Option<usize>,
    /// Where optimised graphs, and what TensorRT compiles, are kept from one run to the next; the folder must exist.
    pub cache_folder: Option<PathBuf>,
}

/// A model in ONNX Runtime. Calls from several threads take turns.
#[derive(Debug)]
pub struct OrtPredictor {
    session: Sessions,
}

#[derive(Debug)]
enum Sessions {
    /// Input and output are the caller's memory.
    Plain(Mutex<Session>),
    Bound(Bound),
}

impl OrtPredictor {
    /// Loads a graph from the bytes of its file.
    ///
    /// `threads` works on one operation; `None` means all that the process may use. [`Device::Auto`] is the
    /// processor here: choosing is the [`Segmenter`](crate::Segmenter)'s.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the device cannot be had, [`RuntimeError::Graph`] when ONNX Runtime refuses
    /// the graph or its input and output are not ours.
    pub fn new(
        runtime: &OnnxRuntime,
        model: &[u8],
        device: Device,
        threads: Option<usize>,
    ) -> Result<Self, RuntimeError> {
        Self::with_options(runtime, model, &OrtOptions { device, threads, ..OrtOptions::default() })
    }

    /// As [`OrtPredictor::new`], with all that can be chosen.
    ///
    /// # Errors
    /// As [`OrtPredictor::new`].
    pub fn with_options(runtime: &OnnxRuntime, model: &[u8], options: &OrtOptions) -> Result<Self, RuntimeError> {
        let session = session(runtime, model, options)?;
        let session = match gpu(options.device) {
            Some(number) => {
                let id = i32::try_from(number).unwrap_or_default();
                let batch = options.batch.unwrap_or(1);
                let bound = Bound::new(session, AllocationDevice::CUDA_PINNED, id, batch);
                Sessions::Bound(bound.map_err(|message| refused(&message))?)
            }
            None => Sessions::Plain(Mutex::new(session)),
        };
        Ok(Self { session })
    }

    /// On the processor by the road that tiles take to a GPU, with buffers in ordinary memory: for tests of that road.
    ///
    /// # Errors
    /// As [`OrtPredictor::new`].
    #[doc(hidden)]
    pub fn bound_on_processor(runtime: &OnnxRuntime, model: &[u8], batch: usize) -> Result<Self, RuntimeError> {
        let session = session(runtime, model, &OrtOptions::default())?;
        let bound = Bound::new(session, AllocationDevice::CPU, 0, batch).map_err(|message| refused(&message))?;
        Ok(Self { session: Sessions::Bound(bound) })
    }
}

fn gpu(device: Device) -> Option<u32> {
    match device {
        Device::Cuda(number) | Device::TensorRt(number) => Some(number),
        Device::Auto | Device::Cpu | Device::OpenVino | Device::Vulkan(_) => None,
    }
}

fn session(runtime: &OnnxRuntime, model: &[u8], options: &OrtOptions) -> Result<Session, RuntimeError> {
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
            return Err(refused(&format!("expected the {kind} `{expected}` alone, found {names:?}")));
        }
    }
    Ok(session)
}

/// A session of the optimised graph that is on disk, or one of the model, whose optimised graph is then on disk. Without
/// room for it the session is made all the same.
fn kept_session(
    runtime: &OnnxRuntime,
    model: &[u8],
    options: &OrtOptions,
    kept: &KeptGraph<'_>,
) -> Result<Session, RuntimeError> {
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

/// What all sessions have in common.
fn session_builder(runtime: &OnnxRuntime, options: &OrtOptions) -> Result<SessionBuilder, RuntimeError> {
    let threads = options.threads.unwrap_or_else(all_threads);
    let builder = Session::builder(runtime.environment()).map_err(|e| refused(plain(e.message())))?;
    let provider = Provider {
        device: options.device,
        threads,
        arithmetic: options.arithmetic,
        cache_folder: options.cache_folder.as_deref(),
    };
    let builder = register(builder, runtime, &provider)?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(refused_option)?;
    let builder = builder.with_intra_threads(threads).map_err(refused_option)?;
    // A spinning thread takes a core from whoever else needs it, the window's own code first.
    builder.with_intra_op_spinning(false).map_err(refused_option)
}

fn commit(mut builder: SessionBuilder, graph: &[u8], device: Device) -> Result<Session, RuntimeError> {
    builder.commit_from_memory(graph).map_err(|e| match device {
        Device::Auto | Device::Cpu => refused(plain(e.message())),
        _ => {
            RuntimeError::Device { device, reason: format!("the model cannot run on it: {}", plain(e.message())) }
        }
    })
}

fn refused_option(error: ort::Error<SessionBuilder>) -> RuntimeError {
    refused(plain(error.message()))
}

fn refused(message: &str) -> RuntimeError {
    RuntimeError::Graph { engine: Engine::Ort, message: message.to_owned() }
}

fn failed(message: impl Into<String>) -> PredictorError {
    PredictorError { engine: "ort", message: message.into() }
}

/// One answer, from and into the caller's memory.
fn ask(session: &Mutex<Session>, input: &Tensor) -> Result<Tensor, PredictorError> {
    // A view: ONNX Runtime reads our memory.
    let image =
        TensorRef::from_array_view((input.shape(), input.data())).map_err(|e| failed(plain(e.message())))?;
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    let outputs = session.run(ort::inputs![INPUT => image]).map_err(|e| failed(plain(e.message())))?;
    let logits = outputs.get(OUTPUT).ok_or_else(|| failed(format!("it gave no `{OUTPUT}`")))?;
    let (shape, values) = logits.try_extract_tensor::<f32>().map_err(|e| failed(plain(e.message())))?;
    let shape = shape.iter().map(|edge| usize::try_from(*edge)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| failed("it gave a negative shape"))?;
    Tensor::new(shape, values.to_vec()).map_err(|e| failed(e.to_string()))
}

impl Predictor for OrtPredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        match &self.session {
            Sessions::Plain(session) => ask(session, &input),
            Sessions::Bound(bound) => {
                let mut answers = bound.logits(&[input])?;
                answers.pop().ok_or_else(|| failed("it gave no answer"))
            }
        }
    }

    fn batch(&self) -> usize {
        match &self.session {
            Sessions::Plain(_) => 1,
            Sessions::Bound(bound) => bound.batch(),
        }
    }

    fn logits_batch(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, PredictorError> {
        match &self.session {
            Sessions::Plain(session) => inputs.iter().map(|input| ask(session, input)).collect(),
            Sessions::Bound(bound) => bound.logits(&inputs),
        }
    }
}
