//! Runs the steps of a program.

use std::ops::Range;

use sulcus_kernels::inference::{
    InputTransform, LayerInput, LayerOutput, Pooling, Values, ValuesMut, apply_transform, instance_norm_transform,
    pool,
};
use sulcus_kernels::{KernelError, Norm, NormScope, NormShape};

use crate::error::EngineError;
use crate::layer::PoolKind;
use crate::memory_plan::{ALIGNMENT, MemoryPlan, Place};
use crate::pointwise;
use crate::program::{Normalization, Program, Step, StepKind, Storage, TensorId, View};

/// The largest number of tensors that a step reads: two inputs and a residual.
const MAX_READS: usize = 3;

/// A step that [`Engine::run_observed`](crate::Engine::run_observed) has computed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StepInfo<'a> {
    /// The name of its node.
    pub node: &'a str,
    /// The operator of its node.
    pub operator: &'static str,
    /// D, H and W of its output.
    pub grid: [usize; 3],
    /// The number of multiplications of a convolution, each with an addition; 0 for other steps.
    pub multiply_adds: u64,
}

/// The memory for one sample of one size.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) plan: MemoryPlan,
    arena: Vec<f32>,
    /// Where the first cache line of the arena begins.
    start: usize,
    channels: ChannelValues,
}

/// Values per channel.
#[derive(Debug)]
struct ChannelValues {
    /// The factors and summands of each normalisation.
    transforms: Vec<[Vec<f32>; 2]>,
    /// The mean and the variance of the tensor that was computed last.
    mean: Vec<f32>,
    variance: Vec<f32>,
}

impl ChannelValues {
    fn new(program: &Program) -> Self {
        let transform = |normalization: &Normalization| match normalization {
            Normalization::Instance { scale, .. } => [vec![0.0; scale.len()], vec![0.0; scale.len()]],
            Normalization::Fixed { scale, shift } => [scale.clone(), shift.clone()],
        };
        let largest = program.tensors.iter().map(|tensor| tensor.channels).max().unwrap_or_default();
        Self {
            transforms: program.norms.iter().map(transform).collect(),
            mean: vec![0.0; largest],
            variance: vec![0.0; largest],
        }
    }
}

impl Workspace {
    /// Requests the memory of a plan from the system.
    pub(crate) fn new(program: &Program, plan: MemoryPlan) -> Result<Self, EngineError> {
        let length = plan.arena_length + ALIGNMENT;
        let mut arena = Vec::new();
        arena.try_reserve_exact(length).map_err(|_| EngineError::Memory { bytes: 4 * length as u64 })?;
        arena.resize(length, 0.0);
        let start = arena.as_ptr().align_offset(size_of::<f32>() * ALIGNMENT).min(ALIGNMENT);
        Ok(Self { plan, arena, start, channels: ChannelValues::new(program) })
    }

    /// Runs the program on one sample: `input` `[C, D, H, W]`, `output` `[K, D′, H′, W′]`.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        input: &[f32],
        output: &mut [f32],
        after: &mut (dyn FnMut(StepInfo<'_>) + Send),
    ) -> Result<(), EngineError> {
        for step in &program.steps {
            self.step(program, step, input, output).map_err(|source| EngineError::Kernel {
                node: step.name.clone(),
                operator: step.operator,
                source,
            })?;
            let grid = self.plan.grid(step.output);
            let multiply_adds =
                step.multiply_adds_per_voxel() * grid.iter().map(|edge| *edge as u64).product::<u64>();
            after(StepInfo { node: &step.name, operator: step.operator, grid, multiply_adds });
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
        let Self { plan, arena, start, channels } = self;
        let arena = arena.get_mut(*start..).unwrap_or_default();
        let mut places: [Place; MAX_READS] = [Place::Input, Place::Input, Place::Input];
        for (place, view) in places.iter_mut().zip(step.reads()) {
            *place = plan.place(view.tensor);
        }
        let call = StepCall { program, step, plan };
        match plan.place(step.output) {
            Place::Arena(to) => {
                // A tensor that is read twice is borrowed once.
                let range = |index: usize| match &places[index] {
                    Place::Arena(range) if !places[..index].contains(&places[index]) => range.clone(),
                    _ => 0..0,
                };
                let ranges = [to, range(0), range(1), range(2)];
                let Ok([y, a, b, c]) = arena.get_disjoint_mut(ranges) else { return Err(overlap()) };
                let borrowed: [&[f32]; MAX_READS] = [a, b, c];
                let output: &[f32] = output;
                let slice = |place: &Place| match place {
                    Place::Input => input,
                    Place::Output => output,
                    Place::Arena(_) => places
                        .iter()
                        .position(|other| other == place)
                        .and_then(|index| borrowed.get(index).copied())
                        .unwrap_or_default(),
                };
                call.run(places.each_ref().map(slice), channels, y)
            }
            Place::Output => {
                let arena: &[f32] = arena;
                let slice = |place: &Place| match place {
                    Place::Arena(range) => arena.get(Range::clone(range)).unwrap_or_default(),
                    _ => input,
                };
                call.run(places.each_ref().map(slice), channels, output)
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
    /// `read` are the tensors of [`Step::reads`].
    fn run(
        &self,
        read: [&[f32]; MAX_READS],
        values: &mut ChannelValues,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let step = self.step;
        let Some(view) = step.inputs.first() else { return Err(overlap()) };
        let grid = self.plan.grid(view.tensor);
        let channels = self.program.channels_of(view.tensor);
        let [a, b, _] = read;
        match &step.kind {
            StepKind::Conv(_) | StepKind::ConvTranspose(_) => {
                self.convolve(grid, read, values, y)?;
                if step.moments { self.normalize(values) } else { Ok(()) }
            }
            StepKind::Pool { kind, window } => {
                let pooling = match kind {
                    PoolKind::Max => Pooling::Max,
                    PoolKind::Average => Pooling::Average,
                };
                let x = self.input(a, view, &values.transforms);
                pool(pooling, [1, channels], grid, *window, &x, self.output(y))
            }
            StepKind::Store => {
                let shape = [1, channels, grid.iter().product()];
                let residual = step.residual.as_ref().map(|view| self.input(b, view, &values.transforms));
                let x = self.input(a, view, &values.transforms);
                apply_transform(shape, &x, residual.as_ref(), step.slope, self.output(y))
            }
            StepKind::Normalize { scale, shift, epsilon } => {
                let voxels = grid.iter().product();
                let shape = NormShape { batch: 1, channels, voxels, scope: NormScope::Instance };
                Norm::new(shape, scale, shift, 1.0)?.forward_train(a, None, *epsilon, y).map(|_| ())
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

    fn convolve(
        &self,
        grid: [usize; 3],
        read: [&[f32]; MAX_READS],
        values: &mut ChannelValues,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let step = self.step;
        let ChannelValues { transforms, mean, variance } = values;
        let mut inputs = step.inputs.iter().zip(read).map(|(view, tensor)| self.input(tensor, view, transforms));
        let (Some(first), second) = (inputs.next(), inputs.next()) else { return Err(overlap()) };
        let both = [first, second.unwrap_or(first)];
        let inputs = both.get(..step.inputs.len()).unwrap_or_default();
        let channels = self.program.channels_of(step.output);
        let residual = step.residual.as_ref().zip(read.get(step.inputs.len()));
        let mut output = LayerOutput::new(self.output(y));
        output.residual = residual.map(|(view, tensor)| self.input(tensor, view, transforms));
        output.slope = step.slope;
        if step.moments
            && let (Some(mean), Some(variance)) = (mean.get_mut(..channels), variance.get_mut(..channels))
        {
            output = output.with_moments(mean, variance);
        }
        match &step.kind {
            StepKind::Conv(conv) => conv.forward(1, grid, inputs, output),
            StepKind::ConvTranspose(conv) => conv.forward(1, grid, inputs, output),
            _ => Err(overlap()),
        }
    }

    /// Computes the transforms of the normalisations of the output from its statistics.
    fn normalize(&self, values: &mut ChannelValues) -> Result<(), KernelError> {
        let ChannelValues { transforms, mean, variance } = values;
        for (normalization, transform) in self.program.norms.iter().zip(transforms) {
            let Normalization::Instance { tensor, scale, shift, epsilon, quantization } = normalization else {
                continue;
            };
            if *tensor != self.step.output {
                continue;
            }
            let channels = scale.len();
            let moments = [mean.get(..channels).unwrap_or_default(), variance.get(..channels).unwrap_or_default()];
            let [factors, summands] = transform;
            instance_norm_transform(moments, [scale, shift], *epsilon, [factors, summands])?;
            // The statistics are those of the values, and what is read are their integers.
            if let Some(quantization) = quantization {
                let zero = f32::from(quantization.zero_point);
                for (factor, summand) in factors.iter_mut().zip(summands) {
                    *factor *= quantization.scale;
                    *summand -= zero * *factor;
                }
            }
        }
        Ok(())
    }

    /// The number of values of a tensor.
    fn length(&self, tensor: TensorId) -> usize {
        self.program.channels_of(tensor) * self.plan.grid(tensor).iter().product::<usize>()
    }

    /// A tensor as a view reads it.
    fn input<'a>(&self, words: &'a [f32], view: &View, transforms: &'a [[Vec<f32>; 2]]) -> LayerInput<'a> {
        let length = self.length(view.tensor);
        let values = match self.program.storage_of(view.tensor) {
            Storage::F32 => Values::F32(words),
            Storage::Bf16 => Values::Bf16(bytemuck::cast_slice(words).get(..length).unwrap_or_default()),
            Storage::U8(_) => Values::U8(bytemuck::cast_slice(words).get(..length).unwrap_or_default()),
        };
        let transform = view.norm.and_then(|norm| transforms.get(norm.0));
        let transform = transform.map(|[scale, shift]| InputTransform { scale, shift, slope: view.slope });
        LayerInput { values, transform }
    }

    /// The output of the step in its storage.
    fn output<'a>(&self, words: &'a mut [f32]) -> ValuesMut<'a> {
        let length = self.length(self.step.output);
        match self.program.storage_of(self.step.output) {
            Storage::F32 => ValuesMut::F32(words),
            Storage::Bf16 => {
                ValuesMut::Bf16(bytemuck::cast_slice_mut(words).get_mut(..length).unwrap_or_default())
            }
            Storage::U8(quantization) => {
                let values = bytemuck::cast_slice_mut(words).get_mut(..length).unwrap_or_default();
                ValuesMut::U8 { values, quantization }
            }
        }
    }
}
