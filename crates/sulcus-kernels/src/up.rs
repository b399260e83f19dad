//! Transposed convolution whose kernel is as large as its step: each voxel becomes a block of its own.
//!
//! y[n, o, d·sd + a, h·sh + b, w·sw + c] = Σᵢ x[n, i, d, h, w] · weight[i, o, a, b, c] + bias[o]
//!
//! Every (o, a, b) is a row of a matrix product whose columns are output voxels along the width: a column's weights are those
//! of its parity c, so a register of weights is one pair broadcast, the input is spread over both parities, and rows of
//! the result are runs of `y` as they lie in memory. The same rows of `dy` give both gradients.

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::vector::{Kernel, Simd, pair, sum, vectorised};

/// Registers across a tile.
const ACROSS: usize = 3;
/// Output columns that one task should have at least.
const TASK_COLUMNS: usize = 512;
/// Panels whose two sides stay in the second cache while the weight's gradient is taken.
const BLOCK_PANELS: usize = 24;
/// Rows of a weight gradient's tile, either way.
const SIDE: usize = 4;
/// Partial weight gradients that are held at once.
const PARTIALS: usize = 32;

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
        let in_group = tasks.len().div_ceil(PARTIALS);
        let partials: Vec<Partial> = tasks
            .par_chunks_mut(in_group)
            .map(|tasks| {
                let mut partial = Partial { weight: vec![0.0; weights], bias: vec![0.0; self.outputs] };
                vectorised(Backward { layer: self, tasks, x, dy, packed: &packed, partial: &mut partial });
                partial
            })
            .collect();
        gradients.weight.par_chunks_mut(4096).enumerate().for_each(|(chunk, weight)| {
            for (i, weight) in weight.iter_mut().enumerate() {
                let of_all = partials.iter().map(|partial| f64::from(partial.weight[chunk * 4096 + i]));
                *weight = of_all.sum::<f64>() as f32;
            }
        });
        for (output, bias) in gradients.bias.iter_mut().enumerate() {
            *bias = partials.iter().map(|partial| partial.bias[output]).sum::<f64>() as f32;
        }
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

/// Columns `at..at + len` of a panel lie in memory from `to` on.
struct Run {
    at: usize,
    len: usize,
    to: usize,
}

struct Partial {
    weight: Vec<f32>,
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
fn pack(rows: usize, depth: usize, value: impl Fn(usize, usize) -> u64) -> Vec<u64> {
    let height = if vectorised(Wide) { 8 } else { 4 };
    let mut packed = vec![0; rows.next_multiple_of(height) * depth];
    for (tile, packed) in packed.chunks_exact_mut(height * depth).enumerate() {
        for (k, packed) in packed.chunks_exact_mut(height).enumerate() {
            for (row, packed) in (tile * height..rows).zip(packed) {
                *packed = value(row, k);
            }
        }
    }
    packed
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
        if S::WIDE { self.tiles::<S, 8>(simd) } else { self.tiles::<S, 4>(simd) }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const HEIGHT: usize>(mut self, simd: S) {
        let layer = self.layer;
        let [sd, sh, sw] = layer.stride;
        let width = ACROSS * S::LANES;
        let columns = self.piece.depths * layer.plane() * sw;
        let first = self.piece.start * layer.plane();
        let mut panel = vec![0.0; layer.inputs * width];
        let mut out = vec![0.0; HEIGHT * width];
        let mut runs = Vec::new();
        for start in (0..columns).step_by(width) {
            let count = width.min(columns - start);
            for (input, row) in panel.chunks_exact_mut(width).enumerate() {
                let from = input * layer.voxels() + first + start / sw;
                spread(&self.x[from..from + count / sw], sw, row);
            }
            layer.runs(start, count, &mut runs);
            let (chunks, _) = simd.chunks(&panel);
            for (at, weights) in self.packed.chunks_exact(HEIGHT * layer.inputs).enumerate() {
                let rows = at * HEIGHT..layer.rows().min((at + 1) * HEIGHT);
                let mut sums = [[simd.splat(0.0); ACROSS]; HEIGHT];
                for (sums, row) in sums.iter_mut().zip(rows.clone()) {
                    *sums = [simd.splat(self.bias[row / (sd * sh)]); ACROSS];
                }
                let sums = tile(simd, weights, chunks, sums);
                let (out_chunks, _) = simd.chunks_mut(&mut out);
                for (sum, chunk) in sums.as_flattened().iter().zip(out_chunks) {
                    simd.store(*sum, chunk);
                }
                for (row, out) in rows.zip(out.chunks_exact(width)) {
                    let y = &mut self.y[row / (sd * sh)][layer.shift(row)..];
                    for run in &runs {
                        y[run.to..run.to + run.len].copy_from_slice(&out[run.at..run.at + run.len]);
                    }
                }
            }
        }
    }
}

struct Backward<'a, 'x> {
    layer: &'a UpConvolution,
    tasks: &'a mut [(Piece, Vec<&'x mut [f32]>)],
    x: &'a [f32],
    dy: &'a [f32],
    packed: &'a [u64],
    partial: &'a mut Partial,
}

impl Kernel for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::WIDE { self.blocks::<S, 8>(simd) } else { self.blocks::<S, 4>(simd) }
    }
}

impl Backward<'_, '_> {
    #[inline(always)]
    fn blocks<S: Simd, const HEIGHT: usize>(mut self, simd: S) {
        let layer = self.layer;
        let sw = layer.stride[2];
        let width = ACROSS * S::LANES;
        let inputs = layer.inputs.next_multiple_of(SIDE) * width;
        let rows = layer.rows().next_multiple_of(SIDE) * width;
        let mut x_panels = vec![0.0; BLOCK_PANELS * inputs];
        let mut dy_panels = vec![0.0; BLOCK_PANELS * rows];
        let mut out = vec![0.0; HEIGHT * width];
        let mut runs = Vec::new();
        for task in 0..self.tasks.len() {
            let piece = self.tasks[task].0;
            let columns = piece.depths * layer.plane() * sw;
            let first = piece.start * layer.plane();
            for block in (0..columns).step_by(BLOCK_PANELS * width) {
                let mut panels = 0;
                for start in (block..columns.min(block + BLOCK_PANELS * width)).step_by(width) {
                    let count = width.min(columns - start);
                    let x_panel = &mut x_panels[panels * inputs..(panels + 1) * inputs];
                    for (input, row) in x_panel.chunks_exact_mut(width).take(layer.inputs).enumerate() {
                        let from = (piece.case * layer.inputs + input) * layer.voxels() + first + start / sw;
                        spread(&self.x[from..from + count / sw], sw, row);
                        row[count..].fill(0.0);
                    }
                    layer.runs(start, count, &mut runs);
                    let dy_panel = &mut dy_panels[panels * rows..(panels + 1) * rows];
                    self.gather(simd, piece, &runs, count, dy_panel);
                    let dx = &mut self.tasks[task].1;
                    let (chunks, _) = simd.chunks(dy_panel);
                    for (at, weights) in self.packed.chunks_exact(HEIGHT * layer.rows()).enumerate() {
                        let sums = tile(simd, weights, chunks, [[simd.splat(0.0); ACROSS]; HEIGHT]);
                        let (out_chunks, _) = simd.chunks_mut(&mut out);
                        for (sum, chunk) in sums.as_flattened().iter().zip(out_chunks) {
                            simd.store(*sum, chunk);
                        }
                        for (dx, out) in dx.iter_mut().skip(at * HEIGHT).zip(out.chunks_exact(width)) {
                            fold(out, sw, &mut dx[start / sw..(start + count) / sw]);
                        }
                    }
                    panels += 1;
                }
                let (x, dy) = (&x_panels[..panels * inputs], &dy_panels[..panels * rows]);
                weight_tiles(simd, layer, x, dy, panels, &mut self.partial.weight);
            }
        }
    }

    /// A panel of the rows of `dy`, and their sums for the bias.
    #[inline(always)]
    fn gather<S: Simd>(&mut self, simd: S, piece: Piece, runs: &[Run], count: usize, panel: &mut [f32]) {
        let layer = self.layer;
        let of_output = layer.stride[0] * layer.stride[1];
        let voxels = layer.voxels() * layer.fold();
        let first = piece.start * layer.plane() * layer.fold();
        let width = ACROSS * S::LANES;
        for (row, panel) in panel.chunks_exact_mut(width).take(layer.rows()).enumerate() {
            let output = row / of_output;
            let dy = &self.dy[(piece.case * layer.outputs + output) * voxels + first + layer.shift(row)..];
            for run in runs {
                panel[run.at..run.at + run.len].copy_from_slice(&dy[run.to..run.to + run.len]);
            }
            panel[count..].fill(0.0);
            self.partial.bias[output] += sum(simd, panel);
        }
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
fn weight_tiles<S: Simd>(
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
    for input in (0..layer.inputs).step_by(SIDE) {
        for row in (0..layer.rows()).step_by(SIDE) {
            let mut sums = [[simd.splat(0.0); SIDE]; SIDE];
            for (x, dy) in x.chunks_exact(x_step).zip(dy.chunks_exact(dy_step)) {
                let (x, dy) = (&x[input * ACROSS..][..SIDE * ACROSS], &dy[row * ACROSS..][..SIDE * ACROSS]);
                for v in 0..ACROSS {
                    let xs: [S::Vector; SIDE] = std::array::from_fn(|i| simd.load(&x[i * ACROSS + v]));
                    let dys: [S::Vector; SIDE] = std::array::from_fn(|i| simd.load(&dy[i * ACROSS + v]));
                    for i in 0..SIDE {
                        for o in 0..SIDE {
                            sums[i][o] = simd.fma(xs[i], dys[o], sums[i][o]);
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
