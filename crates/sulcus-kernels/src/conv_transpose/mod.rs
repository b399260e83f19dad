//! Transposed convolution whose kernel size equals its stride, so that each voxel becomes a block of its own.
//!
//! `y[n, o, d·sd + a, h·sh + b, w·sw + c] = Σᵢ x[n, i, d, h, w] · weight[i, o, a, b, c] + bias[o]`
//!
//! This is a matrix product. Its rows are the triples (o, a, b), its columns the output positions along d, h, w and c. Since
//! c = column modulo sw, the weights of a row differ only between even and odd columns: a register of weights is one
//! broadcast pair, every input is repeated for both parities, and a row of the product is a sequence of contiguous runs of
//! `y`. The backward pass gathers the same rows from `dy` and uses them for the gradients of the input and of the weights.

mod backward;
mod forward;
mod tile;

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::simd::{dispatch, pack_pair};
use forward::Forward;
use tile::pack_weights;

/// A task has at least this many output columns, if there are as many.
const MIN_TASK_COLUMNS: usize = 512;

/// A transposed convolution whose kernel size equals its stride (no overlap): U-Net's learned upsampling. PyTorch and ONNX
/// call the operator `ConvTranspose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose {
    batch: usize,
    inputs: usize,
    outputs: usize,
    /// Depth, height and width of the input.
    grid: [usize; 3],
    stride: [usize; 3],
}

/// The outputs of [`ConvTranspose::backward`]; all are overwritten.
#[derive(Debug)]
pub struct ConvTransposeGradients<'a> {
    /// `[batch, inputs, depth, height, width]`
    pub input: &'a mut [f32],
    /// `[inputs, outputs, sd, sh, sw]`
    pub weight: &'a mut [f32],
    /// `[outputs]`
    pub bias: &'a mut [f32],
}

impl ConvTranspose {
    /// A layer from `inputs` to `outputs` channels that multiplies each axis of `grid` (depth, height, width) by `stride`,
    /// which is also the kernel size.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for a stride other than 1 or 2 or an empty tensor.
    pub fn new(
        batch: usize,
        [inputs, outputs]: [usize; 2],
        grid: [usize; 3],
        stride: [usize; 3],
    ) -> Result<Self, KernelError> {
        if stride.iter().any(|step| !(1..=2).contains(step)) {
            return Err(KernelError::Shape(format!(
                "transposed convolution of stride {stride:?}: each has to be 1 or 2"
            )));
        }
        let voxels = product("transposed convolution", &[batch, 8, grid[0], grid[1], grid[2]])?;
        if product("transposed convolution", &[voxels, inputs.max(1), outputs.max(1)])? == 0
            || inputs * outputs == 0
        {
            return Err(KernelError::Shape(format!(
                "transposed convolution of {batch} × {inputs} grids of {grid:?} to {outputs}"
            )));
        }
        // A 2-D layer is computed as a 3-D layer of height 1: the rows take the place of the planes.
        let [grid, stride] = match (grid, stride) {
            ([1, height, width], [1, sh, sw]) => [[height, 1, width], [sh, 1, sw]],
            as_given => [as_given.0, as_given.1],
        };
        Ok(Self { batch, inputs, outputs, grid, stride })
    }

    /// Computes `y`.
    ///
    /// # Shapes
    /// - `x`: `[batch, inputs, depth, height, width]`
    /// - `weight`: `[inputs, outputs, sd, sh, sw]`
    /// - `bias`: `[outputs]`
    /// - `y`: `[batch, outputs, depth·sd, height·sh, width·sw]`, overwritten
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        check_length("x", x.len(), self.batch * self.inputs * self.voxels())?;
        check_length("weight", weight.len(), self.inputs * self.rows() * self.stride[2])?;
        check_length("bias", bias.len(), self.outputs)?;
        check_length("y", y.len(), self.batch * self.outputs * self.voxels() * self.upsampling_factor())?;
        let packed = pack_weights(self.rows(), self.inputs, |row, input| self.weight_pair(weight, input, row));
        let slab_depth = self.slab_depth();
        let mut tasks: Vec<Vec<&mut [f32]>> =
            self.slabs().iter().map(|_| Vec::with_capacity(self.outputs)).collect();
        let slabs = self.grid[0].div_ceil(slab_depth);
        for (plane, y) in y.chunks_exact_mut(self.voxels() * self.upsampling_factor()).enumerate() {
            let first = plane / self.outputs * slabs;
            for (task, y) in
                tasks[first..].iter_mut().zip(y.chunks_mut(slab_depth * self.plane() * self.upsampling_factor()))
            {
                task.push(y);
            }
        }
        self.slabs().into_par_iter().zip(tasks).for_each(|(slab, y)| {
            let x = &x[slab.sample * self.inputs * self.voxels()..];
            dispatch(Forward { layer: self, slab, x, packed: &packed, bias, y });
        });
        Ok(())
    }

    /// Computes the gradients with respect to the input, the weight and the bias.
    ///
    /// # Shapes
    /// `x`, `weight` and the gradients as in [`ConvTranspose::forward`]; `dy` has the shape of `y`.
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    pub fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        dy: &[f32],
        gradients: ConvTransposeGradients<'_>,
    ) -> Result<(), KernelError> {
        let weights = self.inputs * self.rows() * self.stride[2];
        check_length("x", x.len(), self.batch * self.inputs * self.voxels())?;
        check_length("weight", weight.len(), weights)?;
        check_length("dy", dy.len(), self.batch * self.outputs * self.voxels() * self.upsampling_factor())?;
        check_length("the input's gradient", gradients.input.len(), x.len())?;
        check_length("the weight's gradient", gradients.weight.len(), weights)?;
        check_length("the bias's gradient", gradients.bias.len(), self.outputs)?;
        backward::run(self, x, weight, dy, gradients);
        Ok(())
    }

    /// The number of voxels of an input channel.
    fn voxels(&self) -> usize {
        self.grid.iter().product()
    }

    /// The number of voxels of one plane of an input channel.
    fn plane(&self) -> usize {
        self.grid[1] * self.grid[2]
    }

    /// The number of output voxels per input voxel.
    fn upsampling_factor(&self) -> usize {
        self.stride.iter().product()
    }

    /// The number of rows (o, a, b) of the product.
    fn rows(&self) -> usize {
        self.outputs * self.stride[0] * self.stride[1]
    }

    /// The numbers of inputs and rows in the panels of the weight gradient, padded to whole tiles. The sums of the padding are
    /// never read.
    fn padded_inputs_and_rows(&self) -> [usize; 2] {
        [
            self.inputs.next_multiple_of(backward::INPUT_MULTIPLE),
            self.rows().next_multiple_of(backward::ROW_MULTIPLE),
        ]
    }

    /// The weights of a row for even and odd columns.
    fn weight_pair(&self, weight: &[f32], input: usize, row: usize) -> u64 {
        let at = (input * self.rows() + row) * self.stride[2];
        pack_pair(weight[at], weight[at + self.stride[2] - 1])
    }

    /// The number of input planes per task.
    fn slab_depth(&self) -> usize {
        MIN_TASK_COLUMNS.div_ceil(self.plane() * self.stride[2]).min(self.grid[0])
    }

    /// The slabs of all samples. The partition depends on the shape alone, so that results do not depend on the machine.
    fn slabs(&self) -> Vec<Slab> {
        let slab_depth = self.slab_depth();
        let of_sample = |sample| {
            (0..self.grid[0]).step_by(slab_depth).map(move |start| Slab {
                sample,
                start,
                planes: slab_depth.min(self.grid[0] - start),
            })
        };
        (0..self.batch).flat_map(of_sample).collect()
    }

    /// Finds the contiguous runs that columns `start..start + count` of a slab occupy in the slab of an output channel, for
    /// a = b = 0.
    fn find_runs(&self, start: usize, count: usize, runs: &mut Vec<ContiguousRun>) {
        let width = self.grid[2] * self.stride[2];
        runs.clear();
        let mut at = 0;
        while at < count {
            let (row, w) = ((start + at) / width, (start + at) % width);
            let (d, h) = (row / self.grid[1], row % self.grid[1]);
            let len = (width - w).min(count - at);
            let to = (d * self.stride[0] * self.grid[1] * self.stride[1] + h * self.stride[1]) * width + w;
            runs.push(ContiguousRun { at, len, to });
            at += len;
        }
    }

    /// The offset in an output channel of a row's (a, b) from a = b = 0.
    fn row_offset(&self, row: usize) -> usize {
        let [sd, sh, sw] = self.stride;
        let (a, b) = (row / sh % sd, row % sh);
        (a * self.grid[1] * sh + b) * self.grid[2] * sw
    }
}

/// Planes `start..start + planes` of one sample.
#[derive(Clone, Copy)]
struct Slab {
    sample: usize,
    start: usize,
    planes: usize,
}

/// Columns `at..at + len` are contiguous in memory from offset `to` on.
#[derive(Clone)]
struct ContiguousRun {
    at: usize,
    len: usize,
    to: usize,
}
