//! The sum behind the convolution and its gradient by the input: outputs over positions, terms over channels and taps.

use super::pack::{Padded, WeightStrides, pack_channels, pack_input, pack_weights};
use super::shape::{ConvShape, Parts};
use super::store::scatter;
use super::tile::{MOST_POSITIONS, Segment, TileFn, TileSize, TileWork, largest_tile, tile_fn};
use crate::scratch::{LINE, Scratch, SharedMut};
use crate::simd::Instructions;
use rayon::prelude::*;
use std::ops::Range;

/// Floats of the input that a block of rows should read at most, so that they stay in the second cache.
const BLOCK_FLOATS: usize = 96 << 10;

/// Pieces of work that a call is cut into at least, where it is large enough.
const PIECES: usize = 24;

/// Floats of weights up to which a piece of work packs its own input.
const OWN_WEIGHT_FLOATS: usize = 64 << 10;

/// Floats of input that such a piece holds at a time.
const OWN_INPUT_FLOATS: usize = 64 << 10;

/// Such pieces for each thread: how the work is cut has no say in the result.
const PIECES_PER_THREAD: usize = 4;

/// One axis of a sum.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    /// Outputs along the axis.
    count: usize,
    /// From one output's input to the next one's, in padded elements; along W always 1, because phases lie apart.
    in_step: usize,
    /// The first output written.
    out_first: usize,
    /// From one output written to the next.
    out_step: usize,
    /// Kernel elements that take part, each with its padded offset from the output's input.
    taps: Vec<(usize, usize)>,
}

/// The outputs that share their taps.
struct Sum {
    axes: [Axis; 3],
    /// Taps of a row that are summed together.
    taps: usize,
    /// `[panel][row of taps][channel][tap][16]`.
    weights: Scratch,
    rows: Vec<TapRow>,
}

/// A row of taps.
struct TapRow {
    /// Padded offsets from an output's input along D and H.
    reach: [usize; 2],
    /// Where its first tap lies in a padded row, in floats.
    column: usize,
    /// Where its weights lie in a panel, in floats.
    weights: usize,
}

/// A convolution, or the gradient by its input, that is ready to run.
pub(super) struct Correlation {
    padded: Padded,
    channels: usize,
    outputs: usize,
    /// The output's D, H and W.
    out_size: [usize; 3],
    /// What the sums start from, `[panel][16]`.
    start: Vec<f32>,
    sums: Vec<Sum>,
}

impl Correlation {
    /// The convolution itself.
    pub(super) fn forward(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let output = shape.output_size();
        let axes = std::array::from_fn(|axis| Axis {
            count: output[axis],
            in_step: if axis == 2 { 1 } else { shape.stride[axis] },
            out_first: 0,
            out_step: 1,
            taps: (0..shape.kernel[axis]).map(|tap| (tap, tap)).collect(),
        });
        let strides = WeightStrides { lane: shape.inputs * shape.taps(), channel: shape.taps() };
        let mut start = vec![0.0; shape.outputs.next_multiple_of(LINE)];
        if let Some(bias) = bias {
            start[..shape.outputs].copy_from_slice(bias);
        }
        let mut correlation = Self {
            padded: Padded::forward(shape),
            channels: shape.inputs,
            outputs: shape.outputs,
            out_size: output,
            start,
            sums: Vec::new(),
        };
        correlation.push(shape, axes, weight, strides);
        correlation
    }

    /// The gradient by the input: one sum for each phase of the stride, since inputs that are a stride apart see the same taps.
    pub(super) fn input_gradient(shape: &ConvShape, weight: &[f32]) -> Self {
        let output = shape.output_size();
        let phases: [Vec<Axis>; 3] = std::array::from_fn(|axis| gradient_phases(shape, axis));
        let lead = shape.kernel.map(|edge| edge / 2);
        let extent = std::array::from_fn(|axis| {
            let reach = phases[axis].iter().map(|phase| {
                let furthest = phase.taps.iter().map(|&(_, offset)| offset).max().unwrap_or(0);
                phase.count + furthest
            });
            reach.max().unwrap_or(0).max(lead[axis] + output[axis])
        });
        let mut correlation = Self {
            padded: Padded::plain(shape.outputs, output, lead, extent),
            channels: shape.outputs,
            outputs: shape.inputs,
            out_size: shape.size,
            start: vec![0.0; shape.inputs.next_multiple_of(LINE)],
            sums: Vec::new(),
        };
        let strides = WeightStrides { lane: shape.taps(), channel: shape.inputs * shape.taps() };
        for d in &phases[0] {
            for h in &phases[1] {
                for w in &phases[2] {
                    correlation.push(shape, [d.clone(), h.clone(), w.clone()], weight, strides);
                }
            }
        }
        correlation
    }

    fn push(&mut self, shape: &ConvShape, axes: [Axis; 3], weight: &[f32], strides: WeightStrides) {
        let [d, h, w] = &axes;
        // Three neighbouring taps share their inputs; others, and those that lie in different phases, are rows of one.
        let place = |&(_, offset): &(usize, usize)| self.padded.offset([0, 0, offset]);
        let neighbours = w.taps.len() == 3 && w.taps.is_sorted_by(|a, b| place(b) == place(a) + 1);
        let taps = if neighbours { 3 } else { 1 };
        let (mut kernel, mut rows) = (Vec::new(), Vec::new());
        for &(kd, d) in &d.taps {
            for &(kh, h) in &h.taps {
                for group in w.taps.chunks(taps) {
                    let Some(&(_, first)) = group.first() else { continue };
                    let column = self.padded.offset([0, 0, first]);
                    rows.push(TapRow { reach: [d, h], column, weights: kernel.len() * self.channels * LINE });
                    kernel.extend(group.iter().map(|(kw, _)| (kd * shape.kernel[1] + kh) * shape.kernel[2] + kw));
                }
            }
        }
        let weights = pack_weights(weight, strides, self.outputs, self.channels, &kernel, taps);
        self.sums.push(Sum { axes, taps, weights, rows });
    }

    /// Runs the sums over a batch. The lengths of `x` and `y` are those of their parts.
    pub(super) fn run(
        &self,
        instructions: Instructions,
        batch: usize,
        x: &[&[f32]],
        x_parts: &Parts,
        y: &mut [&mut [f32]],
        y_parts: &Parts,
    ) {
        let y: Vec<SharedMut> = y.iter_mut().map(|part| SharedMut::new(part)).collect();
        let job = Job { correlation: self, instructions, y: &y, y_parts };
        if let [sum] = &self.sums[..]
            && let Some(blocks) = job.own_blocks(sum, batch)
        {
            blocks.into_par_iter().for_each(|block| job.run_packing(&block, x, x_parts));
            return;
        }
        let at_once = self.padded.samples_at_once(batch);
        for first in (0..batch).step_by(at_once) {
            let samples = at_once.min(batch - first);
            let input = pack_input(&self.padded, x, x_parts, first, samples);
            let input = input.floats();
            let blocks: Vec<Block> =
                self.sums.iter().flat_map(|sum| job.blocks(sum, first..first + samples)).collect();
            blocks.into_par_iter().for_each(|block| {
                let floats = &input[(block.sample - first) * self.padded.sample()..];
                let view = View { floats, planes: self.padded.planes_and_rows()[0], rows: [0, 0] };
                for d in block.planes[0]..block.planes[1] {
                    job.run_plane(&block, block.panels.clone(), d, &view);
                }
            });
        }
    }

    /// Where an output lies in its channel.
    fn out_offset(&self, axes: &[Axis; 3], at: [usize; 3]) -> usize {
        let [d, h, w] = std::array::from_fn(|axis| axes[axis].out_first + at[axis] * axes[axis].out_step);
        (d * self.out_size[1] + h) * self.out_size[2] + w
    }
}

/// A batch on its way.
struct Job<'a> {
    correlation: &'a Correlation,
    instructions: Instructions,
    y: &'a [SharedMut],
    y_parts: &'a Parts,
}

/// A part of a padded sample.
struct View<'a> {
    floats: &'a [f32],
    /// Planes held; plane `d` lies at `d` modulo their number.
    planes: usize,
    /// The first padded row held, and how many are (0 stands for all).
    rows: [usize; 2],
}

impl Job<'_> {
    /// Cuts a sum into pieces of work over an input that is packed already: outputs outermost, because their weights may fill a
    /// cache.
    fn blocks<'s>(&self, sum: &'s Sum, samples: Range<usize>) -> Vec<Block<'s>> {
        let [depth, height, width] = [0, 1, 2].map(|axis| sum.axes[axis].count);
        if depth * height * width == 0 {
            return Vec::new();
        }
        let padded = &self.correlation.padded;
        let panels = self.correlation.outputs.div_ceil(LINE);
        let size = largest_tile(self.instructions, width, panels, sum.taps);
        let row_floats = padded.row() * sum.axes[0].taps.len().max(1) * sum.axes[1].in_step;
        let mut rows = (BLOCK_FLOATS / row_floats).max(size.rows * 2).next_multiple_of(size.rows).min(height);
        // A map of one plane has only its rows to share out.
        let groups = samples.len() * panels.div_ceil(size.panels) * self.correlation.sums.len();
        while groups * depth * height.div_ceil(rows) < PIECES && rows > size.rows {
            rows = (rows / 2).next_multiple_of(size.rows);
        }
        let wanted = PIECES.div_ceil(groups * height.div_ceil(rows)).clamp(1, depth);
        let planes = depth.div_ceil(wanted);
        let mut blocks = Vec::new();
        for panel in (0..panels).step_by(size.panels) {
            for sample in samples.clone() {
                for plane in (0..depth).step_by(planes) {
                    for row in (0..height).step_by(rows) {
                        blocks.push(Block {
                            sum,
                            sample,
                            panels: panel..panels.min(panel + size.panels),
                            planes: [plane, depth.min(plane + planes)],
                            rows: [row, height.min(row + rows)],
                        });
                    }
                }
            }
        }
        blocks
    }

    /// Cuts a sum into pieces of work that each pack their own input, a few planes at a time, so that it never leaves the
    /// second cache. None where the weights would not stay there beside it.
    fn own_blocks<'s>(&self, sum: &'s Sum, batch: usize) -> Option<Vec<Block<'s>>> {
        let [depth, height, width] = [0, 1, 2].map(|axis| sum.axes[axis].count);
        let padded = &self.correlation.padded;
        if padded.is_identity() || sum.weights.len() > OWN_WEIGHT_FLOATS || depth * height * width == 0 {
            return None;
        }
        let [planes, halo] = sum.window();
        let held = OWN_INPUT_FLOATS / (planes * padded.row());
        // Rows at a block's edge are packed twice.
        let most = (held + 1).checked_sub(halo)? / sum.axes[1].in_step;
        if most < height.min(4 * halo) {
            return None;
        }
        let wanted = PIECES_PER_THREAD * rayon::current_num_threads();
        let mut row_blocks = height.div_ceil(most);
        while batch * row_blocks < wanted && height.div_ceil(row_blocks + 1) * sum.axes[1].in_step >= 4 * halo {
            row_blocks += 1;
        }
        let rows = height.div_ceil(row_blocks);
        let plane_blocks = wanted.div_ceil(batch * row_blocks).clamp(1, depth);
        let planes = depth.div_ceil(plane_blocks);
        let mut blocks = Vec::new();
        for sample in 0..batch {
            for row in (0..height).step_by(rows) {
                for plane in (0..depth).step_by(planes) {
                    blocks.push(Block {
                        sum,
                        sample,
                        panels: 0..self.correlation.outputs.div_ceil(LINE),
                        planes: [plane, depth.min(plane + planes)],
                        rows: [row, height.min(row + rows)],
                    });
                }
            }
        }
        Some(blocks)
    }

    /// Runs a block over an input that it packs itself, plane by plane.
    fn run_packing(&self, block: &Block, x: &[&[f32]], x_parts: &Parts) {
        let padded = &self.correlation.padded;
        let [depth, height, width] = &block.sum.axes;
        let [planes, halo] = block.sum.window();
        let first_row = block.rows[0] * height.in_step;
        let rows = (block.rows[1] - block.rows[0] - 1) * height.in_step + halo;
        let plane_floats = rows * padded.row();
        let mut ring = Scratch::take(planes * plane_floats);
        let panels = largest_tile(self.instructions, width.count, block.panels.len(), block.sum.taps).panels;
        let mut packed = block.planes[0] * depth.in_step;
        for d in block.planes[0]..block.planes[1] {
            packed = packed.max(d * depth.in_step);
            while packed < d * depth.in_step + planes {
                // Planes of zeros are never read.
                if !padded.is_zero(0, packed) {
                    let target = &mut ring[packed % planes * plane_floats..][..plane_floats];
                    pack_channels(padded, x, x_parts, block.sample, [packed, first_row], target);
                }
                packed += 1;
            }
            let view = View { floats: &ring, planes, rows: [first_row, rows] };
            for panel in block.panels.clone().step_by(panels) {
                self.run_plane(block, panel..block.panels.end.min(panel + panels), d, &view);
            }
        }
    }

    /// Where the channels of some panels lie in the output.
    fn targets(&self, sample: usize, panels: &Range<usize>) -> Vec<SharedMut> {
        let plane: usize = self.correlation.out_size.iter().product();
        let channels = panels.start * LINE..self.correlation.outputs.min(panels.end * LINE);
        channels
            .map(|channel| {
                let (part, local, part_channels) = self.y_parts.locate(channel);
                self.y[part].offset((sample * part_channels + local) * plane)
            })
            .collect()
    }

    /// Some outputs for a block's rows of one plane.
    fn run_plane(&self, block: &Block, panels: Range<usize>, d: usize, view: &View) {
        let Correlation { padded, channels, .. } = self.correlation;
        let sum = block.sum;
        let [depth, height, width] = &sum.axes;
        let size = largest_tile(self.instructions, width.count, panels.len(), sum.taps);
        let panel_step = sum.rows.len() * sum.taps * channels * LINE;
        let weights = &sum.weights[panels.start * panel_step..];
        let start = &self.correlation.start[panels.start * LINE..];
        let targets = self.targets(block.sample, &panels);
        let held_rows = if view.rows[1] == 0 { padded.planes_and_rows()[1] } else { view.rows[1] };
        let plane_floats = held_rows * padded.row();
        let mut segments = Vec::with_capacity(sum.rows.len());
        let mut sums = Sums([0.0; MOST_POSITIONS * LINE]);
        let rest = width.count % size.columns;
        // The tiles by the logarithm of their rows: those of full length, and the rest of a row.
        let tiles: [[Option<TileFn>; 2]; 3] = [1, 2, 4].map(|rows| {
            [size.columns, rest].map(|columns| tile_fn(self.instructions, TileSize { rows, columns, ..size }))
        });
        let mut h = block.rows[0];
        while h < block.rows[1] {
            let rows = size.rows.min(1 << (block.rows[1] - h).ilog2());
            let tiles = tiles[rows.ilog2() as usize];
            // Rows of taps that meet nothing but padding are left out.
            let meets = |row: &&TapRow| {
                let line = |h: usize| h * height.in_step + row.reach[1];
                !padded.is_zero(0, d * depth.in_step + row.reach[0])
                    && (h..h + rows).any(|h| !padded.is_zero(1, line(h)))
            };
            segments.clear();
            segments.extend(sum.rows.iter().filter(meets).map(|row| {
                let plane = (d * depth.in_step + row.reach[0]) % view.planes;
                let input = plane * plane_floats + row.reach[1] * padded.row() + row.column;
                Segment { input, weights: row.weights }
            }));
            for w in (0..width.count).step_by(size.columns) {
                let columns = size.columns.min(width.count - w);
                // `every_tile_exists` in the tests: there is one for each size that `largest_tile` leads to.
                let Some(tile) = tiles[usize::from(columns < size.columns)] else { continue };
                let at = (h * height.in_step - view.rows[0]) * padded.row() + w;
                let work = TileWork {
                    segments: &segments,
                    channels: *channels,
                    channel_step: padded.channel(),
                    input: view.floats[at..].as_ptr(),
                    row_step: padded.row() * height.in_step,
                    weights: weights.as_ptr(),
                    panel_step,
                    start: start.as_ptr(),
                    sums: sums.0.as_mut_ptr(),
                };
                #[expect(unsafe_code, reason = "the tile reads and writes through pointers")]
                // SAFETY: `tile_fn` gave a tile of the instructions that were detected. The view holds every row and plane that a
                // tap of these outputs meets, and a padded row reaches as far as the last output's last tap; `weights` and
                // `start` hold a whole panel for each that the tile has, and `sums` the most positions that any tile has.
                unsafe {
                    tile(&work);
                }
                for (panel, targets) in targets.chunks(LINE).enumerate() {
                    for row in 0..rows {
                        let sums = &sums.0[(panel * rows + row) * columns * LINE..][..columns * LINE];
                        let out = self.correlation.out_offset(&sum.axes, [d, h + row, w]);
                        #[expect(unsafe_code, reason = "several threads write one tensor")]
                        // SAFETY: `targets` are channels of the output, `out` is within one, and every element belongs to one
                        // block of one sum.
                        unsafe {
                            scatter(self.instructions, sums, targets, out, width.out_step);
                        }
                    }
                }
            }
            h += rows;
        }
    }
}

impl Sum {
    /// How many padded planes and rows one output reads.
    fn window(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.axes[axis].taps.iter().map(|&(_, offset)| offset + 1).max().unwrap_or(1))
    }
}

/// A tile's sums, aligned to cache lines.
#[repr(align(64))]
struct Sums([f32; MOST_POSITIONS * LINE]);

/// One piece of work: some outputs for some rows of some planes.
struct Block<'a> {
    sum: &'a Sum,
    sample: usize,
    /// Panels of sixteen outputs.
    panels: Range<usize>,
    planes: [usize; 2],
    rows: [usize; 2],
}

/// The gradient's outputs along one axis, by their phase.
///
/// With padding `p` and stride `s`, input `x` meets output `o` at tap `k = x + p - s·o`. For `x = s·q + r` that is
/// `o = q + (r + p - k) / s` for those taps that make the division exact.
fn gradient_phases(shape: &ConvShape, axis: usize) -> Vec<Axis> {
    let (size, kernel, stride) = (shape.size[axis], shape.kernel[axis], shape.stride[axis]);
    let lead = kernel / 2;
    (0..stride.min(size))
        .map(|first| {
            let least = (first + lead) % stride;
            // The padded layout has `lead` zeros in front, at least as many as the last tap reaches back.
            let mut taps: Vec<_> = (least..kernel)
                .step_by(stride)
                .map(|tap| (tap, (first + lead + stride * lead - tap) / stride))
                .collect();
            taps.reverse();
            let count = (size - first).div_ceil(stride);
            Axis { count, in_step: 1, out_first: first, out_step: stride, taps }
        })
        .collect()
}
