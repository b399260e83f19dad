//! Transposed convolution whose kernel is as large as its step: each voxel becomes a block of its own.
//!
//! y[n, o, d·sd + a, h·sh + b, w·sw + c] = Σᵢ x[n, i, d, h, w] · weight[i, o, a, b, c] + bias[o]
//!
//! Every (o, a, b) is a row of a matrix product whose columns are output voxels along the width: a column's weights are those
//! of its parity c, so a register of weights is one pair broadcast, the input is spread over both parities, and rows of
//! the result are runs of `y` as they lie in memory. The same rows of `dy` give both gradients.

use std::cell::Cell;

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::vector::{Kernel, Simd, copy, pair, vectorised};

/// Registers across a tile.
const ACROSS: usize = 3;
/// Output columns that one task should have at least.
const TASK_COLUMNS: usize = 512;
/// Panels that are worked on together at most, so that rows are read and written in long runs.
const BLOCK_PANELS: usize = 24;
/// Bytes of the panels of one block: what a core's second cache has room for.
const BLOCK_BYTES: usize = 640 << 10;
/// Inputs of a weight gradient's tile: a multiple of every tile's.
const INPUT_MULTIPLE: usize = 8;
/// Rows of it, likewise.
const ROW_MULTIPLE: usize = 6;
/// Partial weight gradients that are held at once: no fewer, no more, and between the two no more values than this.
const PARTIALS: [usize; 2] = [8, 32];
const PARTIAL_VALUES: usize = 1 << 20;
/// Weights that are packed or added up at a time.
const SHARE: usize = 4096;

thread_local! {
    /// What was used last, so that a step does not ask the system for the same pages again and again.
    static PANELS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static PARTIAL_WEIGHTS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// At least `len` values that hold anything, to be given back to [`PANELS`]. No closure takes them, as one would be compiled
/// without the kernel's instructions.
fn panels_of_thread(len: usize) -> Vec<f32> {
    let mut values = PANELS.take();
    values.resize(values.len().max(len), 0.0);
    values
}

/// A transposed convolution without overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpConvolution {
    batch: usize,
    inputs: usize,
    outputs: usize,
    /// Depth, height, width.
    grid: [usize; 3],
    stride: [usize; 3],
}

/// Where [`UpConvolution::backward`] writes; each is overwritten.
#[derive(Debug)]
pub struct UpGradients<'a> {
    /// `[batch, inputs, depth, height, width]`
    pub input: &'a mut [f32],
    /// `[inputs, outputs, sd, sh, sw]`
    pub weight: &'a mut [f32],
    /// `[outputs]`
    pub bias: &'a mut [f32],
}

impl UpConvolution {
    /// From `inputs` to `outputs` channels, each axis of `grid` (depth, height, width) times `stride`, which is also the
    /// kernel's size.
    ///
    /// # Errors
    /// A stride other than 1 or 2, or an empty tensor.
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
        // One plane with a step of 1 along the depth lies in memory as rows that are planes.
        let [grid, stride] = match (grid, stride) {
            ([1, height, width], [1, sh, sw]) => [[height, 1, width], [sh, 1, sw]],
            as_given => [as_given.0, as_given.1],
        };
        Ok(Self { batch, inputs, outputs, grid, stride })
    }

    /// y
    ///
    /// # Shapes
    /// `x` `[batch, inputs, grid]`, `weight` `[inputs, outputs, sd, sh, sw]`, `bias` `[outputs]`, `y`
    /// `[batch, outputs, grid · stride]`, overwritten.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        check_length("x", x.len(), self.batch * self.inputs * self.voxels())?;
        check_length("weight", weight.len(), self.inputs * self.rows() * self.stride[2])?;
        check_length("bias", bias.len(), self.outputs)?;
        check_length("y", y.len(), self.batch * self.outputs * self.voxels() * self.fold())?;
        let packed = pack(self.rows(), self.inputs, |row, input| self.pair(weight, input, row));
        let slab = self.slab();
        let mut tasks: Vec<Vec<&mut [f32]>> =
            self.pieces().iter().map(|_| Vec::with_capacity(self.outputs)).collect();
        let slabs = self.grid[0].div_ceil(slab);
        for (plane, y) in y.chunks_exact_mut(self.voxels() * self.fold()).enumerate() {
            let first = plane / self.outputs * slabs;
            for (task, y) in tasks[first..].iter_mut().zip(y.chunks_mut(slab * self.plane() * self.fold())) {
                task.push(y);
            }
        }
        self.pieces().into_par_iter().zip(tasks).for_each(|(piece, y)| {
            let x = &x[piece.case * self.inputs * self.voxels()..];
            vectorised(Forward { layer: self, piece, x, packed: &packed, bias, y });
        });
        Ok(())
    }

    /// The gradients of the input, the weight and the bias.
    ///
    /// # Shapes
    /// As [`UpConvolution::forward`] and [`UpGradients`] say; `dy` as `y`.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    pub fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        dy: &[f32],
        gradients: UpGradients<'_>,
    ) -> Result<(), KernelError> {
        let weights = self.inputs * self.rows() * self.stride[2];
        check_length("x", x.len(), self.batch * self.inputs * self.voxels())?;
        check_length("weight", weight.len(), weights)?;
        check_length("dy", dy.len(), self.batch * self.outputs * self.voxels() * self.fold())?;
        check_length("the input's gradient", gradients.input.len(), x.len())?;
        check_length("the weight's gradient", gradients.weight.len(), weights)?;
        check_length("the bias's gradient", gradients.bias.len(), self.outputs)?;
        let packed = pack(self.inputs, self.rows(), |input, row| self.pair(weight, input, row));
        let slab = self.slab();
        let slabs = self.grid[0].div_ceil(slab);
        let mut tasks: Vec<(Piece, Vec<&mut [f32]>)> =
            self.pieces().into_iter().map(|piece| (piece, Vec::with_capacity(self.inputs))).collect();
        for (plane, dx) in gradients.input.chunks_exact_mut(self.voxels()).enumerate() {
            let first = plane / self.inputs * slabs;
            for ((_, task), dx) in tasks[first..].iter_mut().zip(dx.chunks_mut(slab * self.plane())) {
                task.push(dx);
            }
        }
        let groups = (PARTIAL_VALUES / weights).clamp(PARTIALS[0], PARTIALS[1]).min(tasks.len());
        let in_group = tasks.len().div_ceil(groups);
        let mut partial_weights = PARTIAL_WEIGHTS.take();
        partial_weights.resize(partial_weights.len().max(groups * weights), 0.0);
        let partials: Vec<Partial<'_>> = tasks
            .par_chunks_mut(in_group)
            .zip(partial_weights.par_chunks_exact_mut(weights))
            .map(|(tasks, weight)| {
                weight.fill(0.0);
                let mut partial = Partial { weight, bias: vec![0.0; self.outputs] };
                vectorised(Backward { layer: self, tasks, x, dy, packed: &packed, partial: &mut partial });
                partial
            })
            .collect();
        gradients.weight.par_chunks_mut(SHARE).enumerate().for_each(|(share, weight)| {
            let mut sums = [0.0; SHARE];
            for partial in &partials {
                for (sum, part) in sums.iter_mut().zip(&partial.weight[share * SHARE..]) {
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
        Ok(())
    }

    /// Voxels of a channel of the input.
    fn voxels(&self) -> usize {
        self.grid.iter().product()
    }

    /// Voxels of one depth of it.
    fn plane(&self) -> usize {
        self.grid[1] * self.grid[2]
    }

    /// Voxels that one becomes.
    fn fold(&self) -> usize {
        self.stride.iter().product()
    }

    /// Rows (o, a, b) of the product.
    fn rows(&self) -> usize {
        self.outputs * self.stride[0] * self.stride[1]
    }

    /// Inputs and rows of the panels of the weight's gradient. What the last ones hold ends in sums that nobody reads.
    fn padded(&self) -> [usize; 2] {
        [self.inputs.next_multiple_of(INPUT_MULTIPLE), self.rows().next_multiple_of(ROW_MULTIPLE)]
    }

    /// A row's weights for even and odd columns.
    fn pair(&self, weight: &[f32], input: usize, row: usize) -> u64 {
        let at = (input * self.rows() + row) * self.stride[2];
        pair(weight[at], weight[at + self.stride[2] - 1])
    }

    /// Depths of the input that one task has.
    fn slab(&self) -> usize {
        TASK_COLUMNS.div_ceil(self.plane() * self.stride[2]).min(self.grid[0])
    }

    /// Slabs of all cases: a partition that the shape alone decides.
    fn pieces(&self) -> Vec<Piece> {
        let slab = self.slab();
        let of_case = |case| {
            (0..self.grid[0]).step_by(slab).map(move |start| Piece {
                case,
                start,
                depths: slab.min(self.grid[0] - start),
            })
        };
        (0..self.batch).flat_map(of_case).collect()
    }

    /// Where columns `start..start + count` of a slab lie in a slab of the output's channel, for a = b = 0.
    fn runs(&self, start: usize, count: usize, runs: &mut Vec<Run>) {
        let width = self.grid[2] * self.stride[2];
        runs.clear();
        let mut at = 0;
        while at < count {
            let (row, w) = ((start + at) / width, (start + at) % width);
            let (d, h) = (row / self.grid[1], row % self.grid[1]);
            let len = (width - w).min(count - at);
            let to = (d * self.stride[0] * self.grid[1] * self.stride[1] + h * self.stride[1]) * width + w;
            runs.push(Run { at, len, to });
            at += len;
        }
    }

    /// How far a row's (a, b) lies from a = b = 0.
    fn shift(&self, row: usize) -> usize {
        let [sd, sh, sw] = self.stride;
        let (a, b) = (row / sh % sd, row % sh);
        (a * self.grid[1] * sh + b) * self.grid[2] * sw
    }
}

/// Depths `start..start + depths` of one case.
#[derive(Clone, Copy)]
struct Piece {
    case: usize,
    start: usize,
    depths: usize,
}

/// Columns `at..at + len` lie in memory from `to` on.
#[derive(Clone)]
struct Run {
    at: usize,
    len: usize,
    to: usize,
}

/// What some tasks found together.
struct Partial<'a> {
    weight: &'a mut [f32],
    bias: Vec<f64>,
}

/// Whether tiles are 8 rows high rather than 4.
struct Wide;

impl Kernel for Wide {
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        S::WIDE
    }
}

/// Pairs of weights in the order in which tiles read them: `[rows / height, depth, height]`.
fn pack(rows: usize, depth: usize, value: impl Fn(usize, usize) -> u64 + Sync) -> Vec<u64> {
    let height = if vectorised(Wide) { 8 } else { 4 };
    let mut packed = vec![0; rows.next_multiple_of(height) * depth];
    packed.par_chunks_exact_mut(height * depth).enumerate().for_each(|(tile, packed)| {
        for (k, packed) in packed.chunks_exact_mut(height).enumerate() {
            for (row, packed) in (tile * height..rows).zip(packed) {
                *packed = value(row, k);
            }
        }
    });
    packed
}

/// How many panels of some rows are worked on together.
fn panels_of_block(rows: usize, width: usize) -> usize {
    (BLOCK_BYTES / (rows * width * size_of::<f32>())).clamp(2, BLOCK_PANELS)
}

/// Σₖ weights[k] · panel[k]: HEIGHT rows by [`ACROSS`] registers.
#[inline(always)]
fn tile<S: Simd, const HEIGHT: usize>(
    simd: S,
    weights: &[u64],
    panel: &[S::Chunk],
    mut sums: [[S::Vector; ACROSS]; HEIGHT],
) -> [[S::Vector; ACROSS]; HEIGHT] {
    let (weights, _) = weights.as_chunks::<HEIGHT>();
    let (panel, _) = panel.as_chunks::<ACROSS>();
    for (weights, chunks) in weights.iter().zip(panel) {
        let across: [S::Vector; ACROSS] = std::array::from_fn(|v| simd.load(&chunks[v]));
        for row in 0..HEIGHT {
            let weight = simd.splat_pair(weights[row]);
            for v in 0..ACROSS {
                sums[row][v] = simd.fma(weight, across[v], sums[row][v]);
            }
        }
    }
    sums
}

/// Voxels spread over the columns of a panel's row.
#[inline(always)]
fn spread(x: &[f32], step: usize, row: &mut [f32]) {
    if step == 2 {
        let (pairs, _) = row.as_chunks_mut::<2>();
        for (to, &from) in pairs.iter_mut().zip(x) {
            *to = [from; 2];
        }
    } else {
        for (to, &from) in row.iter_mut().zip(x) {
            *to = from;
        }
    }
}

struct Forward<'a> {
    layer: &'a UpConvolution,
    piece: Piece,
    /// From the piece's case on.
    x: &'a [f32],
    packed: &'a [u64],
    bias: &'a [f32],
    /// The piece's part of each output channel.
    y: Vec<&'a mut [f32]>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = ACROSS * S::LANES;
        let columns = self.piece.depths * self.layer.plane() * self.layer.stride[2];
        let block_len = panels_of_block(self.layer.inputs, width).min(columns.div_ceil(width)) * width;
        let height = if S::WIDE { 8 } else { 4 };
        let len = (self.layer.inputs + height) * block_len;
        let mut panels = panels_of_thread(len);
        let scratch = &mut panels[..len];
        if S::WIDE {
            self.tiles::<S, 8>(simd, scratch)
        } else {
            self.tiles::<S, 4>(simd, scratch)
        }
        PANELS.set(panels);
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const HEIGHT: usize>(mut self, simd: S, scratch: &mut [f32]) {
        let layer = self.layer;
        let [sd, sh, sw] = layer.stride;
        let width = ACROSS * S::LANES;
        let columns = self.piece.depths * layer.plane() * sw;
        let first = self.piece.start * layer.plane();
        let panel_len = layer.inputs * width;
        let block_len = scratch.len() / (layer.inputs + HEIGHT);
        let (panels, out) = scratch.split_at_mut(layer.inputs * block_len);
        let mut runs = Vec::new();
        for block in (0..columns).step_by(block_len) {
            let count = block_len.min(columns - block);
            for input in 0..layer.inputs {
                let from = input * layer.voxels() + first + block / sw;
                let x = &self.x[from..from + count / sw];
                for (x, panel) in x.chunks(width / sw).zip(panels.chunks_exact_mut(panel_len)) {
                    spread(x, sw, &mut panel[input * width..][..x.len() * sw]);
                }
            }
            layer.runs(block, count, &mut runs);
            for (at, weights) in self.packed.chunks_exact(HEIGHT * layer.inputs).enumerate() {
                let rows = at * HEIGHT..layer.rows().min((at + 1) * HEIGHT);
                let mut bias = [[simd.splat(0.0); ACROSS]; HEIGHT];
                for (bias, row) in bias.iter_mut().zip(rows.clone()) {
                    *bias = [simd.splat(self.bias[row / (sd * sh)]); ACROSS];
                }
                for (panel, values) in panels.chunks_exact(panel_len).take(count.div_ceil(width)).enumerate() {
                    let sums = tile(simd, weights, simd.chunks(values).0, bias);
                    keep(simd, &sums, out, panel, block_len);
                }
                for (row, out) in rows.zip(out.chunks_exact(block_len)) {
                    let y = &mut self.y[row / (sd * sh)][layer.shift(row)..];
                    for run in &runs {
                        copy(simd, &out[run.at..run.at + run.len], &mut y[run.to..run.to + run.len]);
                    }
                }
            }
        }
    }
}

/// Writes a tile below a panel's columns: `out` is `[HEIGHT, block_len]`.
#[inline(always)]
fn keep<S: Simd, const HEIGHT: usize>(
    simd: S,
    sums: &[[S::Vector; ACROSS]; HEIGHT],
    out: &mut [f32],
    panel: usize,
    block_len: usize,
) {
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(block_len)) {
        let (chunks, _) = simd.chunks_mut(&mut out[panel * ACROSS * S::LANES..][..ACROSS * S::LANES]);
        for (&sum, chunk) in sums.iter().zip(chunks) {
            simd.store(sum, chunk);
        }
    }
}

struct Backward<'a, 'x, 'p> {
    layer: &'a UpConvolution,
    tasks: &'a mut [(Piece, Vec<&'x mut [f32]>)],
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
        let width = ACROSS * S::LANES;
        let [inputs, rows] = layer.padded();
        let most = self.tasks.iter().map(|(piece, _)| piece.depths).max().unwrap_or(0);
        let columns = most * layer.plane() * layer.stride[2];
        let block_len = panels_of_block(inputs + rows, width).min(columns.div_ceil(width)) * width;
        let height = if S::WIDE { 8 } else { 4 };
        let len = (inputs + rows + height) * block_len;
        let mut panels = panels_of_thread(len);
        let scratch = &mut panels[..len];
        if S::WIDE {
            self.blocks::<S, 8, 3>(simd, scratch)
        } else {
            self.blocks::<S, 4, 2>(simd, scratch)
        }
        PANELS.set(panels);
    }
}

impl Backward<'_, '_, '_> {
    /// `HEIGHT` inputs by [`ACROSS`] registers are a tile of the input's gradient, `HEIGHT` inputs by `ROWS` rows one of the
    /// weight's.
    #[inline(always)]
    fn blocks<S: Simd, const HEIGHT: usize, const ROWS: usize>(mut self, simd: S, scratch: &mut [f32]) {
        let layer = self.layer;
        let sw = layer.stride[2];
        let width = ACROSS * S::LANES;
        let [inputs, rows] = layer.padded();
        let block_len = scratch.len() / (inputs + rows + HEIGHT);
        let (x_panels, rest) = scratch.split_at_mut(inputs * block_len);
        let (dy_panels, out) = rest.split_at_mut(rows * block_len);
        let mut runs = vec![Vec::new(); block_len / width];
        for task in 0..self.tasks.len() {
            let piece = self.tasks[task].0;
            let columns = piece.depths * layer.plane() * sw;
            let first = piece.start * layer.plane();
            for block in (0..columns).step_by(block_len) {
                let count = block_len.min(columns - block);
                let panels = count.div_ceil(width);
                let x_panels = &mut x_panels[..panels * inputs * width];
                let dy_panels = &mut dy_panels[..panels * rows * width];
                for input in 0..layer.inputs {
                    let from = (piece.case * layer.inputs + input) * layer.voxels() + first + block / sw;
                    let x = &self.x[from..from + count / sw];
                    for (x, panel) in x.chunks(width / sw).zip(x_panels.chunks_exact_mut(inputs * width)) {
                        let row = &mut panel[input * width..][..width];
                        spread(x, sw, row);
                        clear_rest(row, x.len() * sw);
                    }
                }
                for (panel, runs) in runs.iter_mut().take(panels).enumerate() {
                    layer.runs(block + panel * width, width.min(count - panel * width), runs);
                }
                self.gather(simd, piece, &runs[..panels], dy_panels);
                let dx = &mut self.tasks[task].1;
                for (at, weights) in self.packed.chunks_exact(HEIGHT * layer.rows()).enumerate() {
                    for (panel, values) in dy_panels.chunks_exact(rows * width).enumerate() {
                        let sums = tile(simd, weights, simd.chunks(values).0, [[simd.splat(0.0); ACROSS]; HEIGHT]);
                        keep(simd, &sums, out, panel, block_len);
                    }
                    for (dx, out) in dx.iter_mut().skip(at * HEIGHT).zip(out.chunks_exact(block_len)) {
                        fold(out, sw, &mut dx[block / sw..(block + count) / sw]);
                    }
                }
                weight_tiles::<S, HEIGHT, ROWS>(simd, layer, x_panels, dy_panels, panels, self.partial.weight);
            }
        }
    }

    /// The panels of the rows of `dy`, and their sums for the bias.
    #[inline(always)]
    fn gather<S: Simd>(&mut self, simd: S, piece: Piece, runs: &[Vec<Run>], panels: &mut [f32]) {
        let layer = self.layer;
        let of_output = layer.stride[0] * layer.stride[1];
        let voxels = layer.voxels() * layer.fold();
        let first = piece.start * layer.plane() * layer.fold();
        let width = ACROSS * S::LANES;
        let panel_len = panels.len() / runs.len();
        for row in 0..layer.rows() {
            let output = row / of_output;
            let dy = &self.dy[(piece.case * layer.outputs + output) * voxels + first + layer.shift(row)..];
            let mut sums = [simd.splat(0.0); ACROSS];
            for (runs, panel) in runs.iter().zip(panels.chunks_exact_mut(panel_len)) {
                let panel = &mut panel[row * width..][..width];
                let mut end = 0;
                for run in runs {
                    end = run.at + run.len;
                    copy(simd, &dy[run.to..run.to + run.len], &mut panel[run.at..end]);
                }
                clear_rest(panel, end);
                for (sum, chunk) in sums.iter_mut().zip(simd.chunks(panel).0) {
                    *sum = simd.add(*sum, simd.load(chunk));
                }
            }
            self.partial.bias[output] += simd.sum(simd.add(simd.add(sums[0], sums[1]), sums[2]));
        }
    }
}

/// Zeroes what a panel's last columns don't fill.
#[inline(always)]
fn clear_rest(row: &mut [f32], from: usize) {
    if from < row.len() {
        row[from..].fill(0.0);
    }
}

/// Columns of both parities added up to voxels.
#[inline(always)]
fn fold(columns: &[f32], step: usize, voxels: &mut [f32]) {
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

/// Adds Σ x · dy over the columns of a block, per input, row and parity.
#[inline(always)]
fn weight_tiles<S: Simd, const INPUTS: usize, const ROWS: usize>(
    simd: S,
    layer: &UpConvolution,
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
                let (x, dy) = (&x[input * ACROSS..][..INPUTS * ACROSS], &dy[row * ACROSS..][..ROWS * ACROSS]);
                for v in 0..ACROSS {
                    let dys: [S::Vector; ROWS] = std::array::from_fn(|i| simd.load(&dy[i * ACROSS + v]));
                    for i in 0..INPUTS {
                        let x = simd.load(&x[i * ACROSS + v]);
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
