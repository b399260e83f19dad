//! The backward pass: gradients with respect to the input, the weight and the bias.

use std::cell::Cell;

use rayon::prelude::*;

use super::tile::{
    TILE_REGISTERS, multiply_tile, pack_weights, panels_per_block, repeat_voxels, return_panel_buffer, store_tile,
    take_panel_buffer, tile_height,
};
use super::{ContiguousRun, ConvTranspose, ConvTransposeGradients, Slab};
use crate::simd::{Kernel, Simd, copy, dispatch};

/// The panels of the weight gradient have a multiple of this many inputs, which the tiles of every instruction set divide.
pub(super) const INPUT_MULTIPLE: usize = 8;
/// They have a multiple of this many rows, likewise.
pub(super) const ROW_MULTIPLE: usize = 6;
/// The number of partial weight gradients lies between these two; within them, all partials together have at most
/// [`MAX_PARTIAL_VALUES`] values.
const PARTIALS: [usize; 2] = [8, 32];
const MAX_PARTIAL_VALUES: usize = 1 << 20;
/// The number of weights per task of the final summation.
const WEIGHTS_PER_TASK: usize = 4096;

thread_local! {
    /// The partial weight gradients of the last call, so that a step does not request the same pages from the system again.
    static PARTIAL_WEIGHTS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The weight and bias gradients of a group of slabs.
struct Partial<'a> {
    weight: &'a mut [f32],
    bias: Vec<f64>,
}

/// Runs the backward pass; the lengths of all slices have been checked.
pub(super) fn run(
    layer: &ConvTranspose,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    gradients: ConvTransposeGradients<'_>,
) {
    let weights = weight.len();
    let packed = pack_weights(layer.inputs, layer.rows(), |input, row| layer.weight_pair(weight, input, row));
    let slab_depth = layer.slab_depth();
    let slabs = layer.grid[0].div_ceil(slab_depth);
    let mut tasks: Vec<(Slab, Vec<&mut [f32]>)> =
        layer.slabs().into_iter().map(|slab| (slab, Vec::with_capacity(layer.inputs))).collect();
    for (plane, dx) in gradients.input.chunks_exact_mut(layer.voxels()).enumerate() {
        let first = plane / layer.inputs * slabs;
        for ((_, task), dx) in tasks[first..].iter_mut().zip(dx.chunks_mut(slab_depth * layer.plane())) {
            task.push(dx);
        }
    }
    let groups = (MAX_PARTIAL_VALUES / weights).clamp(PARTIALS[0], PARTIALS[1]).min(tasks.len());
    let tasks_per_group = tasks.len().div_ceil(groups);
    let mut partial_weights = PARTIAL_WEIGHTS.take();
    partial_weights.resize(partial_weights.len().max(groups * weights), 0.0);
    let partials: Vec<Partial<'_>> = tasks
        .par_chunks_mut(tasks_per_group)
        .zip(partial_weights.par_chunks_exact_mut(weights))
        .map(|(tasks, weight)| {
            weight.fill(0.0);
            let mut partial = Partial { weight, bias: vec![0.0; layer.outputs] };
            dispatch(Backward { layer, tasks, x, dy, packed: &packed, partial: &mut partial });
            partial
        })
        .collect();
    gradients.weight.par_chunks_mut(WEIGHTS_PER_TASK).enumerate().for_each(|(task, weight)| {
        let mut sums = [0.0; WEIGHTS_PER_TASK];
        for partial in &partials {
            for (sum, part) in sums.iter_mut().zip(&partial.weight[task * WEIGHTS_PER_TASK..]) {
                *sum += f64::from(*part);
            }
        }
        for (weight, sum) in weight.iter_mut().zip(sums) {
            *weight = sum as f32;
        }
    });
    for (output, bias) in gradients.bias.iter_mut().enumerate() {
        *bias = partials.iter().map(|partial| partial.bias[output]).sum::<f64>() as f32;
    }
    drop(partials);
    PARTIAL_WEIGHTS.set(partial_weights);
}

/// The backward pass of a group of slabs.
struct Backward<'a, 'x, 'p> {
    layer: &'a ConvTranspose,
    tasks: &'a mut [(Slab, Vec<&'x mut [f32]>)],
    x: &'a [f32],
    dy: &'a [f32],
    packed: &'a [u64],
    partial: &'a mut Partial<'p>,
}

impl Kernel for Backward<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let layer = self.layer;
        let width = TILE_REGISTERS * S::LANES;
        let [inputs, rows] = layer.padded_inputs_and_rows();
        let max_planes = self.tasks.iter().map(|(slab, _)| slab.planes).max().unwrap_or(0);
        let columns = max_planes * layer.plane() * layer.stride[2];
        let block_len = panels_per_block(inputs + rows, width).min(columns.div_ceil(width)) * width;
        let len = (inputs + rows + tile_height::<S>()) * block_len;
        let mut panels = take_panel_buffer(len);
        let scratch = &mut panels[..len];
        if S::HAS_32_REGISTERS {
            self.blocks::<S, 8, 3>(simd, scratch)
        } else {
            self.blocks::<S, 4, 2>(simd, scratch)
        }
        return_panel_buffer(panels);
    }
}

impl Backward<'_, '_, '_> {
    /// A tile of the input gradient has `HEIGHT` inputs by [`TILE_REGISTERS`] registers, a tile of the weight gradient `HEIGHT`
    /// inputs by `ROWS` rows.
    #[inline(always)]
    fn blocks<S: Simd, const HEIGHT: usize, const ROWS: usize>(mut self, simd: S, scratch: &mut [f32]) {
        let layer = self.layer;
        let sw = layer.stride[2];
        let width = TILE_REGISTERS * S::LANES;
        let [inputs, rows] = layer.padded_inputs_and_rows();
        let block_len = scratch.len() / (inputs + rows + HEIGHT);
        let (x_panels, rest) = scratch.split_at_mut(inputs * block_len);
        let (dy_panels, out) = rest.split_at_mut(rows * block_len);
        let mut runs = vec![Vec::new(); block_len / width];
        for task in 0..self.tasks.len() {
            let slab = self.tasks[task].0;
            let columns = slab.planes * layer.plane() * sw;
            let first = slab.start * layer.plane();
            for block in (0..columns).step_by(block_len) {
                let count = block_len.min(columns - block);
                let panels = count.div_ceil(width);
                let x_panels = &mut x_panels[..panels * inputs * width];
                let dy_panels = &mut dy_panels[..panels * rows * width];
                for input in 0..layer.inputs {
                    let from = (slab.sample * layer.inputs + input) * layer.voxels() + first + block / sw;
                    let x = &self.x[from..from + count / sw];
                    for (x, panel) in x.chunks(width / sw).zip(x_panels.chunks_exact_mut(inputs * width)) {
                        let row = &mut panel[input * width..][..width];
                        repeat_voxels(x, sw, row);
                        zero_columns_from(row, x.len() * sw);
                    }
                }
                for (panel, runs) in runs.iter_mut().take(panels).enumerate() {
                    layer.find_runs(block + panel * width, width.min(count - panel * width), runs);
                }
                self.gather_rows(simd, slab, &runs[..panels], dy_panels);
                let dx = &mut self.tasks[task].1;
                for (at, weights) in self.packed.chunks_exact(HEIGHT * layer.rows()).enumerate() {
                    for (panel, values) in dy_panels.chunks_exact(rows * width).enumerate() {
                        let sums = multiply_tile(
                            simd,
                            weights,
                            simd.chunks(values).0,
                            [[simd.splat(0.0); TILE_REGISTERS]; HEIGHT],
                        );
                        store_tile(simd, &sums, out, panel, block_len);
                    }
                    for (dx, out) in dx.iter_mut().skip(at * HEIGHT).zip(out.chunks_exact(block_len)) {
                        sum_parities(out, sw, &mut dx[block / sw..(block + count) / sw]);
                    }
                }
                accumulate_weights::<S, HEIGHT, ROWS>(
                    simd,
                    layer,
                    x_panels,
                    dy_panels,
                    panels,
                    self.partial.weight,
                );
            }
        }
    }

    /// Fills the panels with the rows of `dy` and adds their sums to the bias gradient.
    #[inline(always)]
    fn gather_rows<S: Simd>(&mut self, simd: S, slab: Slab, runs: &[Vec<ContiguousRun>], panels: &mut [f32]) {
        let layer = self.layer;
        let of_output = layer.stride[0] * layer.stride[1];
        let voxels = layer.voxels() * layer.upsampling_factor();
        let first = slab.start * layer.plane() * layer.upsampling_factor();
        let width = TILE_REGISTERS * S::LANES;
        let panel_len = panels.len() / runs.len();
        for row in 0..layer.rows() {
            let output = row / of_output;
            let dy = &self.dy[(slab.sample * layer.outputs + output) * voxels + first + layer.row_offset(row)..];
            let mut sums = [simd.splat(0.0); TILE_REGISTERS];
            for (runs, panel) in runs.iter().zip(panels.chunks_exact_mut(panel_len)) {
                let panel = &mut panel[row * width..][..width];
                let mut end = 0;
                for run in runs {
                    end = run.at + run.len;
                    copy(simd, &dy[run.to..run.to + run.len], &mut panel[run.at..end]);
                }
                zero_columns_from(panel, end);
                for (sum, chunk) in sums.iter_mut().zip(simd.chunks(panel).0) {
                    *sum = simd.add(*sum, simd.load(chunk));
                }
            }
            self.partial.bias[output] += simd.sum(simd.add(simd.add(sums[0], sums[1]), sums[2]));
        }
    }
}

/// Sets the columns of a panel's row from `from` on to zero.
#[inline(always)]
fn zero_columns_from(row: &mut [f32], from: usize) {
    if from < row.len() {
        row[from..].fill(0.0);
    }
}

/// Adds the columns of both parities to one value per voxel.
#[inline(always)]
fn sum_parities(columns: &[f32], step: usize, voxels: &mut [f32]) {
    if step == 2 {
        let (pairs, _) = columns.as_chunks::<2>();
        for (to, [even, odd]) in voxels.iter_mut().zip(pairs) {
            *to = even + odd;
        }
    } else {
        for (to, from) in voxels.iter_mut().zip(columns) {
            *to = *from;
        }
    }
}

/// Adds Σ x · dy over the columns of a block to the weight gradient, for each input, row and parity.
#[inline(always)]
fn accumulate_weights<S: Simd, const INPUTS: usize, const ROWS: usize>(
    simd: S,
    layer: &ConvTranspose,
    x: &[f32],
    dy: &[f32],
    panels: usize,
    weight: &mut [f32],
) {
    let sw = layer.stride[2];
    let (x, _) = simd.chunks(x);
    let (dy, _) = simd.chunks(dy);
    let (x_step, dy_step) = (x.len() / panels, dy.len() / panels);
    for input in (0..layer.inputs).step_by(INPUTS) {
        for row in (0..layer.rows()).step_by(ROWS) {
            let mut sums = [[simd.splat(0.0); ROWS]; INPUTS];
            for (x, dy) in x.chunks_exact(x_step).zip(dy.chunks_exact(dy_step)) {
                let (x, dy) = (
                    &x[input * TILE_REGISTERS..][..INPUTS * TILE_REGISTERS],
                    &dy[row * TILE_REGISTERS..][..ROWS * TILE_REGISTERS],
                );
                for v in 0..TILE_REGISTERS {
                    let dys: [S::Vector; ROWS] = std::array::from_fn(|i| simd.load(&dy[i * TILE_REGISTERS + v]));
                    for i in 0..INPUTS {
                        let x = simd.load(&x[i * TILE_REGISTERS + v]);
                        for o in 0..ROWS {
                            sums[i][o] = simd.fma(x, dys[o], sums[i][o]);
                        }
                    }
                }
            }
            for (input, sums) in (input..layer.inputs).zip(sums) {
                for (row, sum) in (row..layer.rows()).zip(sums) {
                    let [even, odd] = simd.sum_pairs(sum);
                    let at = (input * layer.rows() + row) * sw;
                    if sw == 2 {
                        weight[at] += even;
                        weight[at + 1] += odd;
                    } else {
                        weight[at] += even + odd;
                    }
                }
            }
        }
    }
}
