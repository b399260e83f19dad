use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use sulcus_pipeline::{Predictor, PredictorError, Tensor};
use tract_onnx::prelude::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue, IntoTensor,
    TractResult, TypedRunnableModel, tvec,
};

use super::graph::{INPUT, OUTPUT};
use crate::{Engine, Error, ErrorKind};

type TractPlan = Arc<TypedRunnableModel>;

/// Number of plans that are kept, one per input shape. A volume needs one (whole slices, or equal tiles); more are useful
/// for callers that alternate between volumes.
const MAX_PLANS: usize = 4;

/// A model in tract, the embedded pure-Rust engine.
///
/// tract is fastest on fixed shapes, so the graph is planned again for each input shape; the last few plans are kept.
pub struct TractPredictor {
    graph: InferenceModel,
    /// The most recently used one is last.
    plans: Mutex<Vec<(Vec<usize>, TractPlan)>>,
    executor: Executor,
}

impl fmt::Debug for TractPredictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TractPredictor").finish_non_exhaustive()
    }
}

impl TractPredictor {
    /// Loads a graph from the bytes of its file and plans it for inputs of `shape`, so that an operation that tract does not support fails
    /// here and not in the middle of a volume.
    ///
    /// # Shapes
    /// `shape` is `[N, C, (D,) H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] if tract refuses the graph, or its input and output do not have the names `image` and
    /// `logits`.
    pub fn new(model: &[u8], shape: &[usize], threads: Option<usize>) -> Result<Self, Error> {
        let refused = |message: String| ErrorKind::Graph { engine: Engine::Tract, message };
        let graph = guarded(|| read(model)).map_err(&refused)?;
        let executor = executor(threads).map_err(&refused)?;
        let predictor = Self { graph, plans: Mutex::new(Vec::new()), executor };
        predictor.plan(shape).map_err(refused)?;
        Ok(predictor)
    }

    /// The plan for a shape, from the cache or new.
    fn plan(&self, shape: &[usize]) -> Result<TractPlan, String> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = plans.iter().position(|(s, _)| s == shape) {
            let known = plans.remove(at);
            let plan = Arc::clone(&known.1);
            plans.push(known);
            return Ok(plan);
        }
        let fact = InferenceFact::dt_shape(f32::datum_type(), shape);
        let plan = guarded(|| self.graph.clone().with_input_fact(0, fact)?.into_optimized()?.into_runnable())?;
        if plans.len() == MAX_PLANS {
            plans.remove(0);
        }
        plans.push((shape.to_vec(), Arc::clone(&plan)));
        Ok(plan)
    }
}

/// tract panics on some graphs; a foreign file must cause an error instead.
fn guarded<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| format!("{e:#}")),
        Err(_) => Err("the graph contains something that it cannot handle".into()),
    }
}

fn read(mut model: &[u8]) -> TractResult<InferenceModel> {
    let mut graph = tract_onnx::onnx().model_for_read(&mut model)?;
    graph.select_inputs_by_name([INPUT])?;
    graph.select_outputs_by_name([OUTPUT])?;
    Ok(graph)
}

#[cfg(not(target_family = "wasm"))]
fn executor(threads: Option<usize>) -> Result<Executor, String> {
    let threads = threads.unwrap_or_else(super::graph::all_threads);
    if threads <= 1 {
        return Ok(Executor::SingleThread);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|n| format!("sulcus-tract-{n}"))
        .build()
        .map_err(|e| format!("its {threads} threads could not be started: {e}"))?;
    Ok(Executor::MultiThread(Arc::new(pool)))
}

#[cfg(target_family = "wasm")]
fn executor(_: Option<usize>) -> Result<Executor, String> {
    Ok(Executor::SingleThread)
}

impl Predictor for TractPredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let failed = |message: String| PredictorError { engine: "tract", message };
        let plan = self.plan(input.shape()).map_err(failed)?;
        let answer = guarded(|| {
            let image = tract_onnx::prelude::Tensor::from_shape(input.shape(), input.data())?;
            let outputs = multithread_tract_scope(self.executor.clone(), || plan.run(tvec!(image.into_tvalue())))?;
            let logits = outputs.into_iter().next().map(|value| value.into_tensor());
            logits.map(|t| t.into_plain_array::<f32>()).transpose()
        });
        let logits = answer.map_err(failed)?.ok_or_else(|| failed(format!("it returned no `{OUTPUT}`")))?;
        let shape = logits.shape().to_vec();
        // tract's outputs are row-major; the iterator covers any other layout.
        let values = if logits.is_standard_layout() {
            logits.into_raw_vec_and_offset().0
        } else {
            logits.iter().copied().collect()
        };
        Tensor::new(shape, values).map_err(|e| failed(e.to_string()))
    }
}
