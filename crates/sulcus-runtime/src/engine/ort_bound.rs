//! Batches of tiles in memory that the GPU reads and writes directly.

use std::sync::{Mutex, PoisonError};

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor as OrtTensor;
use sulcus_pipeline::{PredictorError, Tensor};

use super::graph::{INPUT, OUTPUT};
use super::ort_device::plain;

/// A session whose input and output are bound.
///
/// Every calling thread has its own buffers. It fills them and copies them to the GPU while another thread's batch is computed; only
/// the computation is serialised.
///
/// Unverified on a GPU; with buffers in ordinary memory it is tested on the processor.
#[derive(Debug)]
pub(super) struct Bound {
    session: Mutex<Session>,
    /// Buffers that are not in use.
    buffers: Mutex<Vec<Buffers>>,
    /// The memory for the buffers: pinned memory for CUDA.
    memory: AllocationDevice<'static>,
    device_id: i32,
    /// Tiles per batch. The last batch of a scan is padded, so that the GPU sees one shape.
    batch: usize,
    classes: usize,
}

/// The buffers of one batch.
struct Buffers {
    /// The shape of a batch.
    shape: Vec<usize>,
    binding: IoBinding,
    input: OrtTensor<f32>,
    output: OrtTensor<f32>,
}

impl std::fmt::Debug for Buffers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffers").field("shape", &self.shape).finish_non_exhaustive()
    }
}

fn failed(message: impl Into<String>) -> PredictorError {
    PredictorError { engine: "ort", message: message.into() }
}

fn ort(error: ort::Error) -> PredictorError {
    failed(plain(error.message()))
}

impl Bound {
    /// `memory` and `device_id` define the memory of the buffers.
    ///
    /// # Errors
    /// A message, when the graph does not state its number of classes.
    pub(super) fn new(
        session: Session,
        memory: AllocationDevice<'static>,
        device_id: i32,
        batch: usize,
    ) -> Result<Self, String> {
        let output = session.outputs().first().and_then(|o| o.dtype().tensor_shape());
        let classes = output.and_then(|shape| shape.get(1)).and_then(|k| usize::try_from(*k).ok());
        let classes = classes.filter(|k| *k > 0).ok_or("its output does not say how many classes it has")?;
        let buffers = Mutex::new(Vec::new());
        Ok(Self { session: Mutex::new(session), buffers, memory, device_id, batch: batch.max(1), classes })
    }

    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// # Shapes
    /// Each `[1, C, (D,) H, W]`, all the same.
    pub(super) fn logits(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, PredictorError> {
        let mut answers = Vec::with_capacity(inputs.len());
        for batch in inputs.chunks(self.batch) {
            answers.extend(self.one_batch(batch)?);
        }
        Ok(answers)
    }

    fn one_batch(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, PredictorError> {
        let Some(first) = inputs.first() else { return Ok(Vec::new()) };
        if first.shape().first() != Some(&1) || inputs.iter().any(|input| input.shape() != first.shape()) {
            return Err(failed(format!("expected tiles of one shape, [1, …], found {:?}", first.shape())));
        }
        let mut buffers = self.take(first.shape())?;
        {
            let (_, values) = buffers.input.extract_tensor_mut();
            let mut rest = values;
            for input in inputs {
                let (tile, others) = rest
                    .split_at_mut_checked(input.data().len())
                    .ok_or_else(|| failed("its input buffer is too small"))?;
                tile.copy_from_slice(input.data());
                rest = others;
            }
            rest.fill(0.0);
        }
        // Queues the copy to the GPU.
        buffers.binding.bind_input(INPUT, &buffers.input).map_err(ort)?;
        buffers.binding.synchronize_inputs().map_err(ort)?;
        {
            let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            session.run_binding(&buffers.binding).map_err(ort)?;
        }
        buffers.binding.synchronize_outputs().map_err(ort)?;
        let (_, values) = buffers.output.extract_tensor();
        let shape: Vec<usize> = [&[1, self.classes], first.shape().get(2..).unwrap_or_default()].concat();
        let tile = shape.iter().product::<usize>().max(1);
        let of = |values: &[f32]| Tensor::new(shape.clone(), values.to_vec()).map_err(|e| failed(e.to_string()));
        let answers: Vec<Tensor> =
            values.chunks_exact(tile).take(inputs.len()).map(of).collect::<Result<_, _>>()?;
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        Ok(answers)
    }

    /// Buffers for tiles of this shape. Buffers of other shapes, from earlier scans, are dropped.
    fn take(&self, tile: &[usize]) -> Result<Buffers, PredictorError> {
        let mut shape = tile.to_vec();
        if let Some(n) = shape.first_mut() {
            *n = self.batch;
        }
        let mut free = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain(|buffers| buffers.shape == shape);
        if let Some(buffers) = free.pop() {
            return Ok(buffers);
        }
        drop(free);
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let space = shape.get(2..).unwrap_or_default();
        let buffer = |kind: MemoryType, shape: Vec<usize>| {
            let memory = MemoryInfo::new(self.memory.clone(), self.device_id, AllocatorType::Device, kind)?;
            OrtTensor::<f32>::new(&Allocator::new(&session, memory)?, shape)
        };
        let input = buffer(MemoryType::CPUInput, shape.clone()).map_err(ort)?;
        let answer = [&[self.batch, self.classes], space].concat();
        let mut output = buffer(MemoryType::CPUOutput, answer).map_err(ort)?;
        let mut binding = session.create_binding().map_err(ort)?;
        binding.bind_output(OUTPUT, &mut output).map_err(ort)?;
        Ok(Buffers { shape, binding, input, output })
    }
}
