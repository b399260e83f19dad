//! Where the tensors of a program are in memory, for one size of its input.

use std::ops::Range;

use crate::error::EngineError;
use crate::program::{Program, Step, StepKind, StoredTensor, TensorId, View};

/// Tensors begin at multiples of this many words of 32 bits: a cache line.
pub(crate) const ALIGNMENT: usize = 16;

/// Where a tensor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The input of the caller.
    Input,
    /// The output of the caller.
    Output,
    /// A range of the arena, in words of 32 bits.
    Arena(Range<usize>),
}

/// The sizes and places of all tensors for one sample of a given size.
#[derive(Debug, Clone)]
pub(crate) struct MemoryPlan {
    /// D, H and W of each tensor.
    pub(crate) grids: Vec<[usize; 3]>,
    pub(crate) places: Vec<Place>,
    /// The number of words of 32 bits in the arena.
    pub(crate) arena_length: usize,
}

impl MemoryPlan {
    /// Computes the sizes of all tensors and shares memory between those that are not needed at the same time.
    ///
    /// `grid` is D, H and W of the input; D is 1 for a 2-D network.
    pub(crate) fn new(program: &Program, grid: [usize; 3]) -> Result<Self, EngineError> {
        let grids = grids(program, grid)?;
        let lengths = lengths(program, &grids)?;
        let lifetimes = lifetimes(program);
        let mut places = vec![Place::Input; program.tensors.len()];
        let mut order: Vec<usize> = (1..places.len())
            .filter(|tensor| lifetimes.get(*tensor).is_some_and(Option::is_some))
            .filter(|tensor| *tensor != program.output.0)
            .collect();
        // The largest tensors first; with equal sizes in the order of their computation.
        order.sort_by_key(|tensor| std::cmp::Reverse(lengths.get(*tensor).copied().unwrap_or_default()));
        let mut placed: Vec<(Lifetime, Range<usize>)> = Vec::new();
        let mut arena_length = 0;
        for tensor in order {
            let (Some(Some(lifetime)), Some(length)) = (lifetimes.get(tensor), lengths.get(tensor)) else {
                continue;
            };
            let length = length.next_multiple_of(ALIGNMENT);
            let mut taken: Vec<&Range<usize>> = placed
                .iter()
                .filter(|(other, _)| other.first <= lifetime.last && lifetime.first <= other.last)
                .map(|(_, range)| range)
                .collect();
            taken.sort_by_key(|range| range.start);
            let mut start = 0;
            for range in taken {
                if range.start >= start + length {
                    break;
                }
                start = start.max(range.end);
            }
            let range = start..start + length;
            arena_length = arena_length.max(range.end);
            placed.push((*lifetime, range.clone()));
            if let (Some(place), Some(length)) = (places.get_mut(tensor), lengths.get(tensor)) {
                *place = Place::Arena(start..start + length);
            }
        }
        if let Some(place) = places.get_mut(program.output.0) {
            *place = Place::Output;
        }
        Ok(Self { grids, places, arena_length })
    }

    /// The memory for one sample: the arena, and the largest copy of an input that a step packs.
    pub(crate) fn bytes(&self, program: &Program) -> u64 {
        let packed = |step: &Step| {
            let grid = step.inputs.first().map(|view| self.grid(view.tensor)).unwrap_or_default();
            let bytes = match &step.kind {
                StepKind::Conv(conv) => conv.packed_input_bytes(1, grid),
                StepKind::ConvTranspose(conv) => conv.packed_input_bytes(1, grid),
                _ => Ok(0),
            };
            // A shape that the kernel refuses allocates nothing.
            bytes.unwrap_or(0) as u64
        };
        let packed = program.steps.iter().map(packed).max().unwrap_or(0);
        self.arena_length as u64 * size_of::<f32>() as u64 + packed
    }

    pub(crate) fn grid(&self, tensor: TensorId) -> [usize; 3] {
        self.grids.get(tensor.0).copied().unwrap_or([0; 3])
    }

    pub(crate) fn place(&self, tensor: TensorId) -> Place {
        self.places.get(tensor.0).cloned().unwrap_or(Place::Input)
    }
}

/// The first and the last step during which a tensor has to be kept.
#[derive(Debug, Clone, Copy)]
struct Lifetime {
    first: usize,
    last: usize,
}

fn lifetimes(program: &Program) -> Vec<Option<Lifetime>> {
    let mut lifetimes: Vec<Option<Lifetime>> = vec![None; program.tensors.len()];
    for (index, step) in program.steps.iter().enumerate() {
        if let Some(lifetime) = lifetimes.get_mut(step.output.0) {
            *lifetime = Some(Lifetime { first: index, last: index });
        }
        for view in step.reads() {
            if let Some(Some(lifetime)) = lifetimes.get_mut(view.tensor.0) {
                lifetime.last = index;
            }
        }
    }
    lifetimes
}

fn grids(program: &Program, input: [usize; 3]) -> Result<Vec<[usize; 3]>, EngineError> {
    let mut grids = vec![[0; 3]; program.tensors.len()];
    if let Some(grid) = grids.first_mut() {
        *grid = input;
    }
    for step in &program.steps {
        let of = |view: &View| grids.get(view.tensor.0).copied().unwrap_or([0; 3]);
        let first = step.inputs.first().map_or([0; 3], of);
        if let Some(other) = step.inputs.get(1).map(of)
            && other != first
        {
            return Err(size_error(step, input, format!("its inputs have the sizes {first:?} and {other:?}")));
        }
        let residual = step.residual.as_ref().map(of);
        let grid = output_grid(&step.kind, first)
            .ok_or_else(|| size_error(step, input, format!("its input has the size {first:?}")))?;
        if let Some(other) = residual
            && other != grid
        {
            return Err(size_error(step, input, format!("the sizes {grid:?} and {other:?} cannot be added")));
        }
        if let Some(output) = grids.get_mut(step.output.0) {
            *output = grid;
        }
    }
    Ok(grids)
}

fn output_grid(kind: &StepKind, input: [usize; 3]) -> Option<[usize; 3]> {
    let multiplied = |factor: &[usize; 3]| {
        let mut grid = input;
        for (edge, factor) in grid.iter_mut().zip(factor) {
            *edge = edge.checked_mul(*factor)?;
        }
        Some(grid)
    };
    let grid = match kind {
        StepKind::Conv(conv) => {
            let stride = conv.kernel().stride;
            std::array::from_fn(|axis| input[axis].div_ceil(stride[axis]))
        }
        StepKind::ConvTranspose(conv) => multiplied(&conv.stride())?,
        StepKind::Resize { factor, .. } => multiplied(factor)?,
        StepKind::Pool { window, .. } => std::array::from_fn(|axis| input[axis] / window[axis]),
        StepKind::Store
        | StepKind::Normalize { .. }
        | StepKind::Concat
        | StepKind::Sigmoid
        | StepKind::Softmax
        | StepKind::Quantize(_) => input,
    };
    grid.iter().all(|edge| *edge > 0).then_some(grid)
}

/// The number of words of 32 bits of each tensor. The sum of all is less than a fourth of the address space, so that sizes computed from them do
/// not overflow.
fn lengths(program: &Program, grids: &[[usize; 3]]) -> Result<Vec<usize>, EngineError> {
    let mut total = 0_usize;
    let mut lengths = Vec::with_capacity(grids.len());
    for (StoredTensor { channels, storage }, [d, h, w]) in program.tensors.iter().zip(grids) {
        let values = [*d, *h, *w].into_iter().try_fold(*channels, usize::checked_mul);
        let length = values.map(|values| values.div_ceil(size_of::<f32>() / storage.bytes()));
        let length = length.filter(|length| *length <= usize::MAX / 64);
        let sum =
            length.and_then(|length| total.checked_add(length + ALIGNMENT)).filter(|sum| *sum <= usize::MAX / 32);
        let (Some(length), Some(sum)) = (length, sum) else {
            let bytes =
                (*channels as u64).saturating_mul(*d as u64).saturating_mul(*h as u64).saturating_mul(*w as u64);
            return Err(EngineError::Memory { bytes: bytes.saturating_mul(4) });
        };
        total = sum;
        lengths.push(length);
    }
    Ok(lengths)
}

fn size_error(step: &Step, input: [usize; 3], reason: String) -> EngineError {
    EngineError::Size { node: step.name.clone(), operator: step.operator, input: input.to_vec(), reason }
}
