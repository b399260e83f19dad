//! The engine.

use std::sync::{Mutex, PoisonError};

use crate::arithmetic::Arithmetic;
use crate::error::EngineError;
use crate::execute::{StepInfo, Workspace};
use crate::memory_plan::MemoryPlan;
use crate::program::{Program, TensorId};
use crate::read::read_network;
use crate::schedule::schedule;

/// The number of workspaces that are kept between calls, all for the size of the last call.
const MAX_WORKSPACES: usize = 4;

/// How an [`Engine`] runs.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// The number of threads of one call. Without a number, calls use the thread pool of rayon that they are made in, which by default
    /// has a thread per core. Without support for threads (WebAssembly) a call computes everything on its own thread.
    pub threads: Option<usize>,
    /// The arithmetic of networks in single or half precision. Networks in 8-bit integers are always computed as their files state.
    pub arithmetic: Arithmetic,
}

impl EngineOptions {
    /// Uses a thread pool of its own with this many threads; zero counts as one.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Computes in this precision.
    #[must_use]
    pub fn with_arithmetic(mut self, arithmetic: Arithmetic) -> Self {
        self.arithmetic = arithmetic;
        self
    }
}

/// A network that is ready to run.
///
/// It can be shared between threads. Calls at the same time share its thread pool, and each needs a workspace of its own.
#[derive(Debug)]
pub struct Engine {
    program: Program,
    pool: Option<rayon::ThreadPool>,
    workspaces: Mutex<Vec<([usize; 3], Workspace)>>,
}

impl Engine {
    /// Reads the graph of an ONNX file.
    ///
    /// # Errors
    /// [`EngineError::Model`] for bytes that are not a readable file, [`EngineError::Graph`] and [`EngineError::Node`] for a graph that is
    /// not supported, [`EngineError::Arithmetic`] if the processor lacks the instructions, [`EngineError::Threads`] if the threads cannot
    /// be started.
    pub fn new(model: &[u8], options: &EngineOptions) -> Result<Self, EngineError> {
        if !options.arithmetic.is_supported() {
            return Err(EngineError::Arithmetic);
        }
        let program = schedule(read_network(model)?, options.arithmetic)?;
        let pool = options.threads.map(thread_pool).transpose()?.flatten();
        Ok(Self { program, pool, workspaces: Mutex::new(Vec::new()) })
    }

    /// The name of the input in the graph.
    pub fn input_name(&self) -> &str {
        &self.program.names[0]
    }

    /// The name of the output in the graph.
    pub fn output_name(&self) -> &str {
        &self.program.names[1]
    }

    /// The number of channels of the input.
    pub fn input_channels(&self) -> usize {
        self.program.channels_of(TensorId(0))
    }

    /// The number of channels of the output.
    pub fn output_channels(&self) -> usize {
        self.program.channels_of(self.program.output)
    }

    /// The shape of the output for an input of a shape.
    ///
    /// # Shapes
    /// `input` is `[N, C, (D,) H, W]`, the result `[N, K, (D′,) H′, W′]`.
    ///
    /// # Errors
    /// [`EngineError::InputShape`], [`EngineError::Size`] or [`EngineError::Memory`] for a shape that the network cannot be run on.
    pub fn output_shape(&self, input: &[usize]) -> Result<Vec<usize>, EngineError> {
        let (batch, grid) = self.grid(input)?;
        let plan = MemoryPlan::new(&self.program, grid)?;
        Ok(self.shape_of_output(batch, &plan))
    }

    /// The memory that a call needs for the intermediate values of an input of this shape, in bytes: what [`Engine::run`] allocates the
    /// first time, without the small buffers of the kernels, at most a few MiB per thread. Nothing is allocated here.
    ///
    /// # Errors
    /// As [`Engine::output_shape`].
    pub fn workspace_bytes(&self, input: &[usize]) -> Result<u64, EngineError> {
        let (_, grid) = self.grid(input)?;
        Ok(MemoryPlan::new(&self.program, grid)?.bytes(&self.program))
    }

    /// Runs the network.
    ///
    /// # Shapes
    /// `shape` and `input` are `[N, C, (D,) H, W]`, `output` `[N, K, (D′,) H′, W′]`, row-major; the last is [`Engine::output_shape`].
    ///
    /// # Errors
    /// As [`Engine::output_shape`]; [`EngineError::Length`] for slices of another length than their shape, [`EngineError::Memory`] if the
    /// system does not provide the memory.
    pub fn run(&self, shape: &[usize], input: &[f32], output: &mut [f32]) -> Result<(), EngineError> {
        let (batch, grid) = self.grid(shape)?;
        check_length("input", shape, input.len())?;
        let mut workspace = self.take_workspace(grid)?;
        let result = check_length("output", &self.shape_of_output(batch, &workspace.plan), output.len())
            .and_then(|()| self.run_samples(batch, input, output, &mut workspace));
        self.return_workspace(grid, workspace);
        result
    }

    fn run_samples(
        &self,
        batch: usize,
        input: &[f32],
        output: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), EngineError> {
        let (per_input, per_output) = (input.len() / batch.max(1), output.len() / batch.max(1));
        let samples = input.chunks_exact(per_input.max(1)).zip(output.chunks_exact_mut(per_output.max(1)));
        self.install(|| {
            for (input, output) in samples {
                workspace.run(&self.program, input, output, &mut |_| {})?;
            }
            Ok(())
        })
    }

    /// As [`Engine::run`] on one sample; calls `after` after every step, to measure where the time goes.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_observed(
        &self,
        shape: &[usize],
        input: &[f32],
        output: &mut [f32],
        after: &mut (dyn FnMut(StepInfo<'_>) + Send),
    ) -> Result<(), EngineError> {
        let (_, grid) = self.grid(shape)?;
        check_length("input", shape, input.len())?;
        let mut workspace = self.take_workspace(grid)?;
        let result = check_length("output", &self.shape_of_output(1, &workspace.plan), output.len())
            .and_then(|()| self.install(|| workspace.run(&self.program, input, output, after)));
        self.return_workspace(grid, workspace);
        result
    }

    fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The batch size and D, H, W of an input.
    fn grid(&self, input: &[usize]) -> Result<(usize, [usize; 3]), EngineError> {
        let found = match (self.program.spatial_axes, input) {
            (2, [n, c, h, w]) => Some((*n, *c, [1, *h, *w])),
            (3, [n, c, d, h, w]) => Some((*n, *c, [*d, *h, *w])),
            _ => None,
        };
        match found {
            Some((batch, channels, grid))
                if channels == self.input_channels() && batch > 0 && grid.iter().all(|edge| *edge > 0) =>
            {
                Ok((batch, grid))
            }
            _ => {
                let axes = if self.program.spatial_axes == 2 { "H, W" } else { "D, H, W" };
                let expected = format!("[N, {}, {axes}]", self.input_channels());
                Err(EngineError::InputShape { expected, found: input.to_vec() })
            }
        }
    }

    fn shape_of_output(&self, batch: usize, plan: &MemoryPlan) -> Vec<usize> {
        let grid = plan.grid(self.program.output);
        let skipped = 3 - self.program.spatial_axes.min(3);
        [batch, self.output_channels()].into_iter().chain(grid.into_iter().skip(skipped)).collect()
    }

    /// Frees the workspaces that are kept for later calls.
    pub fn release(&self) {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take_workspace(&self, grid: [usize; 3]) -> Result<Workspace, EngineError> {
        {
            let mut kept = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = kept.iter().position(|(size, _)| *size == grid) {
                return Ok(kept.swap_remove(at).1);
            }
            // The memory of other sizes is freed before more is requested.
            kept.clear();
        }
        Workspace::new(&self.program, MemoryPlan::new(&self.program, grid)?)
    }

    fn return_workspace(&self, grid: [usize; 3], workspace: Workspace) {
        let mut kept = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_WORKSPACES && kept.iter().all(|(size, _)| *size == grid) {
            kept.push((grid, workspace));
        }
    }
}

fn check_length(what: &'static str, shape: &[usize], found: usize) -> Result<(), EngineError> {
    let expected =
        shape.iter().try_fold(1_usize, |product, edge| product.checked_mul(*edge)).unwrap_or(usize::MAX);
    if expected == found { Ok(()) } else { Err(EngineError::Length { what, expected, found }) }
}

#[cfg(not(target_family = "wasm"))]
fn thread_pool(threads: usize) -> Result<Option<rayon::ThreadPool>, EngineError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("sulcus-engine-{number}"))
        .build()
        .map(Some)
        .map_err(|e| EngineError::Threads { threads, reason: e.to_string() })
}

#[cfg(target_family = "wasm")]
fn thread_pool(_: usize) -> Result<Option<rayon::ThreadPool>, EngineError> {
    Ok(None)
}
