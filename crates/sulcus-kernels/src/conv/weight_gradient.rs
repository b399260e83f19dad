//! The gradient by the weights: for each pair of channels and each tap, a sum over all positions.

use super::pack::{Padded, pack_channels, pack_gradient, pack_input};
use super::shape::{ConvShape, Parts};
use super::store::interleave;
use super::weight_tile::{WeightTileSize, WeightWork, largest_weight_tile, weight_fn};
use crate::scratch::{LINE, Scratch, SharedMut};
use crate::simd::Instructions;
use rayon::prelude::*;

/// Floats of input and output gradient that a block of positions should hold at most, so that they stay in the second cache.
const BLOCK_FLOATS: usize = 96 << 10;

/// Floats of weights up to which a block packs what it reads.
const OWN_WEIGHT_FLOATS: usize = 64 << 10;

/// Floats of input and output gradient that such a block holds at a time.
const OWN_FLOATS: usize = 80 << 10;

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
    instructions: Instructions,
    /// The size of a tile.
    size: WeightTileSize,
    /// Rows of taps: their padded offsets along D and H, and where they begin in a padded row.
    rows: Vec<([usize; 2], usize)>,
}

/// What one block reads.
struct Region<'a> {
    /// Packed input; the padded plane `d` lies at `d` modulo `planes`, and the first row held is `first_row`.
    input: &'a [f32],
    planes: usize,
    plane_floats: usize,
    first_row: usize,
    /// Packed output gradient `[panel][positions][16]`, and the position that it begins with.
    gradient: &'a [f32],
    positions: usize,
    first_position: usize,
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
    let panels = shape.outputs.div_ceil(LINE);
    // Three taps of a row are neighbours, unless a stride sends them to different phases.
    let taps = if kw == 3 && shape.stride[2] == 1 { 3 } else { 1 };
    let size = largest_weight_tile(instructions, taps, panels);
    let mut rows = Vec::new();
    for d in 0..kd {
        for h in 0..kh {
            rows.extend((0..kw).step_by(taps).map(|w| ([d, h], padded.offset([0, 0, w]))));
        }
    }
    let job = Job { shape, padded, instructions, size, rows };

    let terms = shape.taps() * shape.inputs;
    let group_floats = panels * terms * LINE;
    let steps = job.tile_steps();
    let most_groups = (SUMS_FLOATS / group_floats).clamp(1, PIECES);
    let own_blocks = if group_floats > OWN_WEIGHT_FLOATS { None } else { job.own_blocks() };
    let samples_at_once = job.padded.samples_at_once(shape.batch);
    let blocks = own_blocks.as_ref().map_or_else(|| job.blocks(samples_at_once), Vec::clone);
    let groups = most_groups.min(blocks.len());
    let group_blocks = |group: usize| &blocks[blocks.len() * group / groups..blocks.len() * (group + 1) / groups];
    let mut sums = Scratch::take(groups * group_floats);
    sums.par_chunks_mut(1 << 14).for_each(|sums| sums.fill(0.0));
    let shared = SharedMut::new(&mut sums);
    if own_blocks.is_some() {
        (0..groups).into_par_iter().for_each(|group| {
            for block in group_blocks(group) {
                job.run_packing(*block, x, parts, dy, shared.offset(group * group_floats));
            }
        });
        reduce(&sums, groups, shape, taps, dw);
        return;
    }
    let shares = PIECES.div_ceil(groups).min(steps);
    let positions = shape.output_plane();
    for first in (0..shape.batch).step_by(samples_at_once) {
        let samples = samples_at_once.min(shape.batch - first);
        let input = pack_input(&job.padded, x, parts, first, samples);
        let gradient = pack_gradient(instructions, dy, shape.outputs, positions, first, samples);
        (0..groups * shares).into_par_iter().for_each(|piece| {
            let (group, share) = (piece / shares, piece % shares);
            for block in group_blocks(group).iter().filter(|block| block.sample < samples) {
                let region = Region {
                    input: &input.floats()[block.sample * job.padded.sample()..],
                    planes: job.padded.planes_and_rows()[0],
                    plane_floats: job.padded.plane(),
                    first_row: 0,
                    gradient: &gradient[block.sample * panels * positions * LINE..],
                    positions,
                    first_position: 0,
                };
                let steps = steps * share / shares..steps * (share + 1) / shares;
                job.block(*block, steps, &region, shared.offset(group * group_floats));
            }
        });
    }
    reduce(&sums, groups, shape, taps, dw);
}

impl Job<'_> {
    /// The blocks of positions, in a fixed order.
    fn blocks(&self, samples: usize) -> Vec<Block> {
        let [depth, height, width] = self.shape.output_size();
        let [sd, sh, _] = self.shape.stride;
        let panels = self.shape.outputs.div_ceil(LINE);
        let row = self.padded.row() * self.shape.kernel[0] * sh + width * panels * LINE;
        let rows = (BLOCK_FLOATS / row).clamp(1, height);
        let rows = height.div_ceil(height.div_ceil(rows));
        let plane = self.padded.plane() * sd + height * width * panels * LINE;
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

    /// Tiles that cover the channels of one row of taps.
    fn channel_steps(&self) -> usize {
        self.shape.inputs.div_ceil(self.size.rows)
    }

    /// Tiles that cover all weights.
    fn tile_steps(&self) -> usize {
        self.shape.outputs.div_ceil(LINE).div_ceil(self.size.panels) * self.rows.len() * self.channel_steps()
    }

    /// Blocks that each pack what they read, a plane at a time, so that it never leaves the second cache. None where a few rows
    /// are too much for that.
    fn own_blocks(&self) -> Option<Vec<Block>> {
        let [depth, height, width] = self.shape.output_size();
        let [planes, halo, _] = self.shape.kernel;
        let stride = self.shape.stride[1];
        let panels = self.shape.outputs.div_ceil(LINE);
        let row = planes * self.padded.row() * stride + width * panels * LINE;
        let most = OWN_FLOATS.checked_sub(planes * self.padded.row() * (halo - 1))? / row;
        if self.padded.is_identity() || most < height.min(2 * halo) {
            return None;
        }
        let mut row_blocks = height.div_ceil(most);
        while self.shape.batch * row_blocks < PIECES && height.div_ceil(row_blocks + 1) * stride >= 4 * halo {
            row_blocks += 1;
        }
        let rows = height.div_ceil(row_blocks);
        let planes = depth.div_ceil(PIECES.div_ceil(self.shape.batch * row_blocks).clamp(1, depth));
        let mut blocks = Vec::new();
        for sample in 0..self.shape.batch {
            for h in (0..height).step_by(rows) {
                for d in (0..depth).step_by(planes) {
                    let planes = [d, depth.min(d + planes)];
                    blocks.push(Block { sample, planes, rows: [h, height.min(h + rows)] });
                }
            }
        }
        Some(blocks)
    }

    /// Adds a block that packs what it reads.
    fn run_packing(&self, block: Block, x: &[&[f32]], parts: &Parts, dy: &[f32], sums: SharedMut) {
        let ([planes, halo, _], [sd, sh, _]) = (self.shape.kernel, self.shape.stride);
        let [_, height, width] = self.shape.output_size();
        let outputs = self.shape.outputs;
        let plane = self.shape.output_plane();
        let positions = (block.rows[1] - block.rows[0]) * width;
        let first_row = block.rows[0] * sh;
        let plane_floats = ((block.rows[1] - block.rows[0] - 1) * sh + halo) * self.padded.row();
        let mut ring = Scratch::take(planes * plane_floats);
        let mut gradient = Scratch::take(outputs.div_ceil(LINE) * positions * LINE);
        let mut packed = block.planes[0] * sd;
        for d in block.planes[0]..block.planes[1] {
            packed = packed.max(d * sd);
            while packed < d * sd + planes {
                // Planes of zeros are never read.
                if !self.padded.is_zero(0, packed) {
                    let target = &mut ring[packed % planes * plane_floats..][..plane_floats];
                    pack_channels(&self.padded, x, parts, block.sample, [packed, first_row], target);
                }
                packed += 1;
            }
            let first_position = (d * height + block.rows[0]) * width;
            for (panel, target) in gradient.chunks_exact_mut(positions * LINE).enumerate() {
                let source = &dy[(block.sample * outputs + panel * LINE) * plane + first_position..];
                interleave(self.instructions, source, plane, LINE.min(outputs - panel * LINE), target);
            }
            let (input, gradient) = (&ring[..], &gradient[..]);
            let region = Region { input, planes, plane_floats, first_row, gradient, positions, first_position };
            self.block(Block { planes: [d, d + 1], ..block }, 0..self.tile_steps(), &region, sums);
        }
    }

    /// Adds a block of positions to the sums of some of the weights.
    fn block(&self, block: Block, steps: std::ops::Range<usize>, region: &Region, sums: SharedMut) {
        let WeightTileSize { panels: tile_panels, taps, rows: tile_rows } = self.size;
        let inputs = self.shape.inputs;
        let terms = self.shape.taps() * inputs;
        let panels = self.shape.outputs.div_ceil(LINE);
        let [_, height, width] = self.shape.output_size();
        let [sd, sh, _] = self.shape.stride;
        for step in steps {
            let (step, channel) = (step / self.channel_steps(), step % self.channel_steps() * tile_rows);
            let (panel, row) = (step / self.rows.len() * tile_panels, step % self.rows.len());
            let ([kd, kh], column) = self.rows[row];
            // Positions whose inputs are padding are left out.
            let [d, d_end] = self.inside(0, block.planes, kd, sd);
            let [h, h_end] = self.inside(1, block.rows, kh, sh);
            if d == d_end || h == h_end {
                continue;
            }
            let size = WeightTileSize {
                panels: tile_panels.min(panels - panel),
                taps,
                rows: tile_rows.min(inputs - channel),
            };
            // `every_tile_exists` in the tests: there is one for each size up to the largest.
            let Some(tile) = weight_fn(self.instructions, size) else { continue };
            let plane = (d * sd + kd) % region.planes * region.plane_floats;
            let line = (h * sh + kh - region.first_row) * self.padded.row();
            let at = plane + line + column + channel * self.padded.channel();
            let position = (d * height + h) * width - region.first_position;
            let work = WeightWork {
                input: region.input[at..].as_ptr(),
                row_step: self.padded.channel(),
                gradient: region.gradient[(panel * region.positions + position) * LINE..].as_ptr(),
                gradient_panel: region.positions * LINE,
                planes: d_end - d,
                lines: h_end - h,
                width,
                input_plane: region.plane_floats * sd,
                input_line: self.padded.row() * sh,
                gradient_plane: height * width * LINE,
                sums: sums.offset((panel * terms + (row * inputs + channel) * taps) * LINE).pointer(),
                sums_panel: terms * LINE,
            };
            #[expect(unsafe_code, reason = "the tile reads and writes through pointers")]
            // SAFETY: `weight_fn` gave a tile of the instructions that were detected. The padded layout reaches as far as the last output's last tap, the gradient holds every position of
            // every panel, and these weights' sums of this group belong to this piece of work alone.
            unsafe {
                tile(&work);
            }
        }
    }

    /// The part of a range of positions whose inputs at this tap are no padding.
    fn inside(&self, axis: usize, [mut from, mut to]: [usize; 2], tap: usize, stride: usize) -> [usize; 2] {
        while from < to && self.padded.is_zero(axis, from * stride + tap) {
            from += 1;
        }
        while from < to && self.padded.is_zero(axis, (to - 1) * stride + tap) {
            to -= 1;
        }
        [from, to]
    }
}

/// Adds the groups in their order, `[panel][row of taps][input][tap][16]`, and puts the outputs back outermost.
fn reduce(sums: &[f32], groups: usize, shape: &ConvShape, row: usize, dw: &mut [f32]) {
    let (panels, inputs, taps) = (shape.outputs.div_ceil(LINE), shape.inputs, shape.taps());
    let group_floats = panels * inputs * taps * LINE;
    let dw = SharedMut::new(dw);
    (0..panels * inputs).into_par_iter().with_min_len(8).for_each(|index| {
        let (panel, input) = (index / inputs, index % inputs);
        let used = (shape.outputs - panel * LINE).min(LINE);
        for tap in 0..taps {
            let at = panel * inputs * taps + (tap / row * inputs + input) * row + tap % row;
            let mut total = [0.0f32; LINE];
            for group in 0..groups {
                let from = group * group_floats + at * LINE;
                for (total, sum) in total.iter_mut().zip(&sums[from..from + LINE]) {
                    *total += sum;
                }
            }
            for (lane, total) in total[..used].iter().enumerate() {
                #[expect(unsafe_code, reason = "several threads write one tensor")]
                // SAFETY: the weight exists, because `lane < used`, and no other piece has its panel and input.
                unsafe {
                    dw.offset(((panel * LINE + lane) * inputs + input) * taps + tap).pointer().write(*total);
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
