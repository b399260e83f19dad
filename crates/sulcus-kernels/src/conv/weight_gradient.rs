//! The gradient by the weights: for each pair of channels and each tap, a sum over all positions.

use super::correlate::term_offsets;
use super::pack::{Padded, pack_gradient, pack_input};
use super::shape::{ConvShape, Parts};
use super::weight_tile::{MOST_ROWS, WeightFn, WeightWork, largest_weight_tile, weight_fn};
use crate::scratch::{LINE, Scratch, SharedMut};
use crate::simd::Instructions;
use rayon::prelude::*;

/// Floats of input and output gradient that a block of positions should hold at most, so that they stay in the second cache.
const BLOCK_FLOATS: usize = 96 << 10;

/// Floats that the groups' sums may take together.
const SUMS_FLOATS: usize = 1 << 20;

/// Pieces of work that a call is cut into. A constant: the cut decides how sums are rounded.
const PIECES: usize = 16;

/// A box of positions of one sample.
#[derive(Debug, Clone, Copy)]
struct Block {
    sample: usize,
    planes: [usize; 2],
    rows: [usize; 2],
}

/// What all pieces of a call share.
struct Job<'a> {
    shape: &'a ConvShape,
    padded: Padded,
    /// `[terms]`.
    offsets: Vec<u32>,
    instructions: Instructions,
    /// Panels, neighbouring taps and rows of a tile.
    tile: (usize, usize, usize),
}

/// Fills `dw`, `[O, I, kd, kh, kw]`.
pub(super) fn run(
    instructions: Instructions,
    shape: &ConvShape,
    x: &[&[f32]],
    parts: &Parts,
    dy: &[f32],
    dw: &mut [f32],
) {
    let padded = Padded::forward(shape);
    let [kd, kh, kw] = shape.kernel;
    let mut taps = Vec::new();
    for d in 0..kd {
        for h in 0..kh {
            taps.extend((0..kw).map(|w| padded.offset([d, h, w])));
        }
    }
    let panels = shape.outputs.div_ceil(LINE);
    // Three taps of a row are neighbours unless a stride sends them to different phases.
    let neighbours = if kw == 3 && shape.stride[2] == 1 { 3 } else { 1 };
    let offsets = term_offsets(&padded, shape.inputs, &taps);
    let tile = largest_weight_tile(instructions, neighbours, panels);
    let job = Job { shape, padded, offsets, instructions, tile };

    let terms = job.offsets.len();
    let group_floats = panels * terms * LINE;
    let samples_at_once = job.padded.samples_at_once(shape.inputs, shape.batch);
    let blocks = job.blocks(samples_at_once);
    let groups = (SUMS_FLOATS / group_floats).clamp(1, PIECES).min(blocks.len());
    let steps = job.tile_steps();
    let shares = PIECES.div_ceil(groups).min(steps);
    let mut sums = Scratch::take(groups * group_floats);
    sums.par_chunks_mut(1 << 14).for_each(|sums| sums.fill(0.0));
    let shared = SharedMut::new(&mut sums);
    let output_plane = shape.output_plane();
    for first in (0..shape.batch).step_by(samples_at_once) {
        let samples = samples_at_once.min(shape.batch - first);
        let input = pack_input(&job.padded, x, parts, shape.inputs, first, samples);
        let gradient = pack_gradient(dy, shape.outputs, output_plane, first, samples);
        (0..groups * shares).into_par_iter().for_each(|piece| {
            let (group, share) = (piece / shares, piece % shares);
            let own = &blocks[blocks.len() * group / groups..blocks.len() * (group + 1) / groups];
            for block in own.iter().filter(|block| block.sample < samples) {
                let steps = steps * share / shares..steps * (share + 1) / shares;
                job.block(*block, steps, input.floats(), &gradient, shared.offset(group * group_floats));
            }
        });
    }
    reduce(&sums, groups, shape.outputs, terms, dw);
}

impl Job<'_> {
    /// The blocks of positions, in a fixed order.
    fn blocks(&self, samples: usize) -> Vec<Block> {
        let [depth, height, width] = self.shape.output_size();
        let [sd, sh, _] = self.shape.stride;
        let panels = self.shape.outputs.div_ceil(LINE);
        let row = self.padded.row() * self.shape.inputs * self.shape.kernel[0] * sh + width * panels * LINE;
        let rows = (BLOCK_FLOATS / row).clamp(1, height);
        let rows = height.div_ceil(height.div_ceil(rows));
        let plane = self.padded.plane() * self.shape.inputs * sd + height * width * panels * LINE;
        let planes = if rows < height { 1 } else { (BLOCK_FLOATS / plane).clamp(1, depth) };
        let mut blocks = Vec::new();
        for sample in 0..samples {
            for d in (0..depth).step_by(planes) {
                for h in (0..height).step_by(rows) {
                    let planes = [d, depth.min(d + planes)];
                    blocks.push(Block { sample, planes, rows: [h, height.min(h + rows)] });
                }
            }
        }
        blocks
    }

    /// Tiles that cover all weights.
    fn tile_steps(&self) -> usize {
        let (panels, taps, rows) = self.tile;
        self.shape.outputs.div_ceil(LINE).div_ceil(panels) * (self.offsets.len() / taps).div_ceil(rows)
    }

    /// Adds a block of positions to the sums of some of the weights.
    fn block(
        &self,
        block: Block,
        steps: std::ops::Range<usize>,
        input: &[f32],
        gradient: &[f32],
        sums: SharedMut,
    ) {
        let (tile_panels, taps, tile_rows) = self.tile;
        let terms = self.offsets.len();
        let (rows, panels) = (terms / taps, self.shape.outputs.div_ceil(LINE));
        let row_steps = rows.div_ceil(tile_rows);
        let [_, height, width] = self.shape.output_size();
        let [sd, sh, _] = self.shape.stride;
        let plane = self.shape.output_plane();
        let [d, h] = [block.planes[0], block.rows[0]];
        let input = &input[block.sample * self.shape.inputs * self.padded.channel()..];
        let at = self.padded.offset([d * sd, h * sh, 0]);
        for step in steps {
            let panel = step / row_steps * tile_panels;
            let row = step % row_steps * tile_rows;
            let count = tile_rows.min(rows - row);
            let used = tile_panels.min(panels - panel);
            let Some(tile): Option<WeightFn> = weight_fn(self.instructions, used, taps, count) else { continue };
            let mut inputs = [input.as_ptr(); MOST_ROWS];
            for (pointer, row) in inputs.iter_mut().zip(row..row + count) {
                *pointer = input[at + self.offsets[row * taps] as usize..].as_ptr();
            }
            let line = (block.sample * panels + panel) * plane + (d * height + h) * width;
            let work = WeightWork {
                inputs,
                gradient: gradient[line * LINE..].as_ptr(),
                gradient_panel: plane * LINE,
                planes: block.planes[1] - block.planes[0],
                lines: block.rows[1] - block.rows[0],
                width,
                input_plane: self.padded.plane() * sd,
                input_line: self.padded.row() * sh,
                gradient_plane: height * width * LINE,
                sums: sums.offset((panel * terms + row * taps) * LINE).pointer(),
                sums_panel: terms * LINE,
            };
            #[expect(unsafe_code, reason = "the tile reads and writes through pointers")]
            // SAFETY: `weight_fn` gave a tile of the instructions that were detected. The padded layout reaches as far as the
            // last output's last tap, the gradient holds every position of every panel, and these weights' sums of this group
            // belong to this piece of work alone.
            unsafe {
                tile(&work);
            }
        }
    }
}

/// Adds the groups in their order and puts the outputs back outermost.
fn reduce(sums: &[f32], groups: usize, outputs: usize, terms: usize, dw: &mut [f32]) {
    /// Terms of one piece of work.
    const TERMS: usize = 64;
    let panels = outputs.div_ceil(LINE);
    let pieces = terms.div_ceil(TERMS);
    let dw = SharedMut::new(dw);
    (0..panels * pieces).into_par_iter().for_each(|index| {
        let (panel, piece) = (index / pieces, index % pieces);
        let used = (outputs - panel * LINE).min(LINE);
        for term in piece * TERMS..terms.min((piece + 1) * TERMS) {
            let mut total = [0.0f32; LINE];
            for group in 0..groups {
                let from = ((group * panels + panel) * terms + term) * LINE;
                for (total, sum) in total.iter_mut().zip(&sums[from..from + LINE]) {
                    *total += sum;
                }
            }
            for (lane, total) in total[..used].iter().enumerate() {
                #[expect(unsafe_code, reason = "several threads write one tensor")]
                // SAFETY: the weight exists, because `lane < used` and `term < terms`, and no other piece has both.
                unsafe {
                    dw.offset((panel * LINE + lane) * terms + term).pointer().write(*total);
                }
            }
        }
    });
}

/// Fills `db`, `[O]`: the output gradient summed over samples and positions.
pub(super) fn bias(shape: &ConvShape, dy: &[f32], db: &mut [f32]) {
    let plane = shape.output_plane();
    db.par_iter_mut().enumerate().for_each(|(channel, db)| {
        let samples = (0..shape.batch).map(|sample| &dy[(sample * shape.outputs + channel) * plane..][..plane]);
        // Short runs in single precision, their totals in double: a plane may hold millions of values.
        let runs = samples.flat_map(|sample| sample.chunks(1024)).map(|run| {
            let mut lanes = [0.0f32; LINE];
            let (whole, rest) = run.as_chunks::<LINE>();
            for values in whole {
                for (lane, value) in lanes.iter_mut().zip(values) {
                    *lane += value;
                }
            }
            f64::from(lanes.iter().sum::<f32>() + rest.iter().sum::<f32>())
        });
        *db = runs.sum::<f64>() as f32;
    });
}
