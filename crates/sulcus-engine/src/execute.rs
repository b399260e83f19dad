//! Runs the steps of a program.

use std::ops::Range;

use rayon::prelude::*;
use sulcus_kernels::{ConvShape, ConvTranspose, KernelError, MaxPool, Norm, NormScope, NormShape, conv_forward};

use crate::error::EngineError;
use crate::layer::PoolKind;
use crate::memory_plan::{ALIGNMENT, MemoryPlan, Place};
use crate::pointwise;
use crate::program::{Normalization, Program, Step, StepKind, View};

/// The memory for one sample of one size.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) plan: MemoryPlan,
    arena: Vec<f32>,
    /// Where the first cache line of the arena begins.
    start: usize,
}

impl Workspace {
    /// Requests the memory of a plan from the system.
    pub(crate) fn new(plan: MemoryPlan) -> Result<Self, EngineError> {
        let length = plan.arena_length + ALIGNMENT;
        let mut arena = Vec::new();
        arena.try_reserve_exact(length).map_err(|_| EngineError::Memory { bytes: 4 * length as u64 })?;
        arena.resize(length, 0.0);
        let start = arena.as_ptr().align_offset(size_of::<f32>() * ALIGNMENT).min(ALIGNMENT);
        Ok(Self { plan, arena, start })
    }

    /// Runs the program on one sample: `input` `[C, D, H, W]`, `output` `[K, D′, H′, W′]`.
    pub(crate) fn run(&mut self, program: &Program, input: &[f32], output: &mut [f32]) -> Result<(), EngineError> {
        for step in &program.steps {
            self.step(program, step, input, output).map_err(|source| EngineError::Kernel {
                node: step.name.clone(),
                operator: step.operator,
                source,
            })?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        program: &Program,
        step: &Step,
        input: &[f32],
        output: &mut [f32],
    ) -> Result<(), KernelError> {
        let plan = &self.plan;
        let arena = self.arena.get_mut(self.start..).unwrap_or_default();
        let first = step.inputs.first().map_or(Place::Input, |view| plan.place(view.tensor));
        let second = step.inputs.get(1).map(|view| plan.place(view.tensor));
        let call = StepCall { program, step, plan };
        match plan.place(step.output) {
            Place::Arena(to) => {
                let range = |place: &Place| match place {
                    Place::Arena(range) => range.clone(),
                    _ => 0..0,
                };
                let a = range(&first);
                // A tensor that is read twice is borrowed once.
                let b = second.as_ref().filter(|second| **second != first).map_or(0..0, range);
                let Ok([y, a, b]) = arena.get_disjoint_mut([to, a, b]) else { return Err(overlap()) };
                let (a, b): (&[f32], &[f32]) = (a, b);
                let output: &[f32] = output;
                let slice = |place: &Place, stored| match place {
                    Place::Input => input,
                    Place::Output => output,
                    Place::Arena(_) => stored,
                };
                let a = slice(&first, a);
                let b =
                    second.as_ref().map_or(&[][..], |second| if *second == first { a } else { slice(second, b) });
                call.run(a, b, y)
            }
            Place::Output => {
                let arena: &[f32] = arena;
                let slice = |place: &Place| match place {
                    Place::Arena(range) => arena.get(Range::clone(range)).unwrap_or_default(),
                    _ => input,
                };
                call.run(slice(&first), second.as_ref().map_or(&[][..], slice), output)
            }
            Place::Input => Err(overlap()),
        }
    }
}

fn overlap() -> KernelError {
    KernelError::Shape("two tensors of one step share memory".into())
}

/// A step with what it needs to know.
struct StepCall<'a> {
    program: &'a Program,
    step: &'a Step,
    plan: &'a MemoryPlan,
}

impl StepCall<'_> {
    fn run(&self, a: &[f32], b: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        let Some(view) = self.step.inputs.first() else { return Err(overlap()) };
        let grid = self.plan.grid(view.tensor);
        let channels = self.program.channels_of(view.tensor);
        match &self.step.kind {
            StepKind::Conv(conv) => {
                let shape = ConvShape {
                    batch: 1,
                    inputs: conv.inputs,
                    outputs: conv.outputs,
                    size: grid,
                    kernel: conv.kernel,
                    stride: conv.stride,
                };
                let both = [a, b];
                let x = if self.step.inputs.len() == 1 { &both[..1] } else { &both[..] };
                conv_forward(&shape, x, &conv.weight, Some(&conv.bias), y)
            }
            StepKind::ConvTranspose(conv) => {
                let layer = ConvTranspose::new(1, [conv.inputs, conv.outputs], grid, conv.stride)?;
                layer.forward(a, &conv.weight, &conv.bias, y)
            }
            StepKind::Pool { kind: PoolKind::Max, window } => {
                let mut argmax = vec![0; y.len()];
                MaxPool::new(channels, grid, *window)?.forward(a, y, &mut argmax)
            }
            StepKind::Pool { kind: PoolKind::Average, window } => {
                pointwise::average_pool(grid, *window, a, y);
                Ok(())
            }
            StepKind::Store => self.store(*view, channels, grid.iter().product(), a, y),
            StepKind::Add => {
                y.par_chunks_mut(1 << 14).zip(a.par_chunks(1 << 14)).zip(b.par_chunks(1 << 14)).for_each(
                    |((y, a), b)| {
                        y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = a + b);
                    },
                );
                Ok(())
            }
            StepKind::Concat => {
                let (first, second) = y.split_at_mut(a.len().min(y.len()));
                first.copy_from_slice(a);
                second.copy_from_slice(b);
                Ok(())
            }
            StepKind::Resize { kind, factor } => {
                pointwise::resize(*kind, grid, *factor, a, y);
                Ok(())
            }
            StepKind::Sigmoid => {
                pointwise::sigmoid(a, y);
                Ok(())
            }
            StepKind::Softmax => {
                pointwise::softmax(channels, a, y);
                Ok(())
            }
            StepKind::Quantize(quantization) => {
                pointwise::quantize(*quantization, a, y);
                Ok(())
            }
        }
    }

    fn store(
        &self,
        view: View,
        channels: usize,
        voxels: usize,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let shape = NormShape { batch: 1, channels, voxels, scope: NormScope::Instance };
        match view.norm.and_then(|norm| self.program.norms.get(norm.0)) {
            Some(Normalization::Instance { scale, shift, epsilon, .. }) => {
                Norm::new(shape, scale, shift, view.slope)?.forward_train(x, None, *epsilon, y)?;
                Ok(())
            }
            Some(Normalization::Fixed { scale, shift }) => {
                let (mean, inv_sd) = (vec![0.0; channels], vec![1.0; channels]);
                Norm::new(shape, scale, shift, view.slope)?.forward_fixed(x, &mean, &inv_sd, None, y)
            }
            None => {
                let (zero, one) = (vec![0.0; channels], vec![1.0; channels]);
                Norm::new(shape, &one, &zero, view.slope)?.forward_fixed(x, &zero, &one, None, y)
            }
        }
    }
}
