use std::ops::ControlFlow;

use sulcus_volume::Geometry;

use crate::prepare::Path;
use crate::{ModelSpec, PipelineError, Predictor, Prepared, Tensor, Tiling};

/// How a volume is walked over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WindowOptions {
    /// Share of a tile by which the window advances; the model's own when absent.
    pub step: Option<f64>,
    /// Also predict mirrored along the axes that the model was trained with mirrored, and all combinations of them, and
    /// average.
    pub mirror: bool,
}

impl WindowOptions {
    fn step_of(&self, spec: &ModelSpec) -> Result<f64, PipelineError> {
        let step = self.step.unwrap_or(spec.overlap);
        if step > 0.0 && step <= 1.0 {
            Ok(step)
        } else {
            Err(PipelineError::Spec(format!("the window step must lie in (0, 1], found {step}")))
        }
    }
}

/// How far a prediction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tiles done.
    pub done: usize,
    /// Tiles in all.
    pub total: usize,
}

/// A network's answer on a whole grid, the prepared one or the scan's own, before softmax or sigmoid.
///
/// # Shapes
/// `data` is `[K, z, y, x]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    shape: [usize; 3],
    classes: usize,
    data: Vec<f32>,
    tiles: usize,
}

impl Logits {
    pub(crate) fn new(shape: [usize; 3], classes: usize, data: Vec<f32>, tiles: usize) -> Self {
        Self { shape, classes, data, tiles }
    }

    /// Voxels along x, y, z of the grid.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Channels of the network's answer.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The values, `[K, z, y, x]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Tiles that were predicted; mirrored ones, and further models that share the tile, are not counted again.
    pub fn tiles(&self) -> usize {
        self.tiles
    }

    /// Multiplies every value.
    #[must_use]
    pub fn scaled(mut self, factor: f32) -> Self {
        self.data.iter_mut().for_each(|v| *v *= factor);
        self
    }

    /// Adds another answer on the same grid, voxel by voxel and class by class; the tiles add up.
    ///
    /// # Errors
    /// When the other one lies on another grid or has another number of classes.
    pub fn add(&mut self, other: &Self) -> Result<(), PipelineError> {
        if (self.shape, self.classes) != (other.shape, other.classes) {
            return Err(PipelineError::Ensemble(format!(
                "one answers with {} classes on a grid of {:?} voxels, another one with {} on {:?}",
                self.classes, self.shape, other.classes, other.shape
            )));
        }
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
        self.tiles += other.tiles;
        Ok(())
    }

    pub(crate) fn into_data(self) -> Vec<f32> {
        self.data
    }
}

/// Tiles that [`predict_logits`] will cut a scan of this geometry into, before it is prepared.
///
/// # Errors
/// When the step is not in (0, 1], or the prepared grid would be larger than any that can be worked on.
pub fn count_tiles(
    spec: &ModelSpec,
    geometry: &Geometry,
    options: &WindowOptions,
) -> Result<usize, PipelineError> {
    let path = Path::checked(spec, geometry)?;
    Ok(Plan::new(spec, path.prepared_shape, options.step_of(spec)?).tiles())
}

/// Asks the predictors tile by tile and averages their logits.
///
/// # Errors
/// When a predictor fails or answers with another shape or with NaN, the step is not in (0, 1], or the observer
/// asks to stop.
pub fn predict_logits(
    spec: &ModelSpec,
    prepared: &Prepared,
    predictors: &[&dyn Predictor],
    options: &WindowOptions,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Logits, PipelineError> {
    let step = options.step_of(spec)?;
    if predictors.is_empty() {
        return Err(PipelineError::Ensemble("there is no model".into()));
    }
    let plan = Plan::new(spec, prepared.shape(), step);
    let [nx, ny, nz] = prepared.shape();
    let (classes, voxels) = (spec.classes(), nx * ny * nz);
    let mut sum = zeros(classes.checked_mul(voxels))?;
    let mut weight_sum = if plan.weights.is_some() { zeros(Some(voxels))? } else { Vec::new() };
    let flips = if options.mirror { flips(spec) } else { vec![[false; 3]] };
    let share = 1.0 / (flips.len() * predictors.len()) as f32;
    let total = plan.tiles();
    for (done, start) in plan.starts().enumerate() {
        let input = plan.cut(prepared, start);
        let answer = match (flips.as_slice(), predictors) {
            // The usual case, without copies: they would take a tenth of a fast engine's time.
            ([[false, false, false]], [predictor]) => {
                ask(*predictor, plan.tensor(spec, prepared.channels(), input)?, classes)?
            }
            _ => {
                let mut mean = vec![0.0_f32; classes * plan.tile_voxels()];
                for flip in &flips {
                    for predictor in predictors {
                        let turned = flip_axes(&input, prepared.channels(), plan.tile, *flip);
                        let values = ask(*predictor, plan.tensor(spec, prepared.channels(), turned)?, classes)?;
                        let values = flip_axes(&values, classes, plan.tile, *flip);
                        mean.iter_mut().zip(&values).for_each(|(a, v)| *a += v * share);
                    }
                }
                mean
            }
        };
        plan.blend(&answer, start, classes, &mut sum, &mut weight_sum);
        if observer(Progress { done: done + 1, total }).is_break() {
            return Err(PipelineError::Cancelled);
        }
    }
    if !weight_sum.is_empty() {
        for plane in sum.chunks_exact_mut(voxels) {
            plane.iter_mut().zip(&weight_sum).for_each(|(v, w)| *v /= w);
        }
    }
    Ok(Logits { shape: prepared.shape(), classes, data: sum, tiles: total })
}

/// Memory for the whole grid's logits: too much for this machine is an error of the case, not the end of the program.
fn zeros(length: Option<usize>) -> Result<Vec<f32>, PipelineError> {
    let length = length.ok_or(PipelineError::Memory { values: usize::MAX })?;
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| PipelineError::Memory { values: length })?;
    values.resize(length, 0.0);
    Ok(values)
}

fn ask(predictor: &dyn Predictor, input: Tensor, classes: usize) -> Result<Vec<f32>, PipelineError> {
    let mut expected = input.shape().to_vec();
    if let Some(channels) = expected.get_mut(1) {
        *channels = classes;
    }
    let (found, values) = predictor.logits(input)?.into_parts();
    if found != expected {
        return Err(PipelineError::AnswerShape { expected, found });
    }
    if !values.iter().all(|v| v.is_finite()) {
        return Err(PipelineError::AnswerNotFinite);
    }
    Ok(values)
}

/// Where tiles lie; all triples are z, y, x here, the order of the tensor's axes. A 2-D network's tiles are one
/// slice thick.
struct Plan {
    shape: [usize; 3],
    tile: [usize; 3],
    starts: [Vec<usize>; 3],
    /// Absent when tiles don't overlap.
    weights: Option<[Vec<f32>; 3]>,
}

impl Plan {
    fn new(spec: &ModelSpec, [nx, ny, nz]: [usize; 3], step: f64) -> Self {
        let shape = [nz, ny, nx];
        let missing = 3 - spec.network.dimensions.count();
        let along = |values: &[usize], axis: usize| axis.checked_sub(missing).and_then(|a| values.get(a)).copied();
        let tile: [usize; 3] = std::array::from_fn(|axis| match spec.tiling {
            Tiling::Patch => along(&spec.patch, axis).unwrap_or(1),
            Tiling::Whole => {
                along(&spec.padding_multiple, axis).map_or(1, |m| shape[axis].next_multiple_of(m.max(1)))
            }
        });
        let starts: [Vec<usize>; 3] = std::array::from_fn(|axis| tile_starts(shape[axis], tile[axis], step));
        let overlapping = (missing..3).any(|axis| starts[axis].len() > 1);
        let weights = overlapping.then(|| std::array::from_fn(|axis| gaussian(tile[axis])));
        Self { shape, tile, starts, weights }
    }

    fn tiles(&self) -> usize {
        self.starts.iter().map(Vec::len).product()
    }

    fn tile_voxels(&self) -> usize {
        self.tile.iter().product()
    }

    fn starts(&self) -> impl Iterator<Item = [usize; 3]> {
        let [zs, ys, xs] = &self.starts;
        zs.iter().flat_map(move |z| ys.iter().flat_map(move |y| xs.iter().map(move |x| [*z, *y, *x])))
    }

    fn tensor(&self, spec: &ModelSpec, channels: usize, data: Vec<f32>) -> Result<Tensor, PipelineError> {
        let space = &self.tile[3 - spec.network.dimensions.count()..];
        Tensor::new([&[1, channels], space].concat(), data)
    }

    /// How much of the tile at `start` lies inside the volume, z, y, x.
    fn inside(&self, start: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|a| self.tile[a].min(self.shape[a] - start[a]))
    }

    /// Offsets in the volume and in the tile, and the length, of each row that both share.
    fn rows(&self, start: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
        let [dz, dy, dx] = self.inside(start);
        let ([_, ny, nx], [_, ty, tx]) = (self.shape, self.tile);
        (0..dz).flat_map(move |z| {
            (0..dy).map(move |y| (((start[0] + z) * ny + start[1] + y) * nx + start[2], (z * ty + y) * tx, dx))
        })
    }

    /// `[C, z, y, x]` values of a tile; outside the volume 0.
    fn cut(&self, prepared: &Prepared, start: [usize; 3]) -> Vec<f32> {
        let (voxels, tile) = (self.shape.iter().product::<usize>(), self.tile_voxels());
        let mut out = vec![0.0; prepared.channels() * tile];
        for (plane, out) in prepared.data().chunks_exact(voxels).zip(out.chunks_exact_mut(tile)) {
            for (from, to, length) in self.rows(start) {
                out[to..to + length].copy_from_slice(&plane[from..from + length]);
            }
        }
        out
    }

    fn blend(&self, answer: &[f32], start: [usize; 3], classes: usize, sum: &mut [f32], weight_sum: &mut [f32]) {
        let (voxels, tile) = (sum.len() / classes, self.tile_voxels());
        let Some([wz, wy, wx]) = &self.weights else {
            for (plane, sum) in answer.chunks_exact(tile).zip(sum.chunks_exact_mut(voxels)) {
                for (to, from, length) in self.rows(start) {
                    sum[to..to + length].copy_from_slice(&plane[from..from + length]);
                }
            }
            return;
        };
        let [_, ty, tx] = self.tile;
        let weight_of_row = |from: usize| wz[from / (ty * tx)] * wy[from / tx % ty];
        for (plane, sum) in answer.chunks_exact(tile).zip(sum.chunks_exact_mut(voxels)) {
            for (to, from, length) in self.rows(start) {
                let w = weight_of_row(from);
                let values = plane[from..from + length].iter().zip(wx);
                sum[to..to + length].iter_mut().zip(values).for_each(|(s, (v, x))| *s += v * x * w);
            }
        }
        for (to, from, length) in self.rows(start) {
            let w = weight_of_row(from);
            weight_sum[to..to + length].iter_mut().zip(wx).for_each(|(s, x)| *s += x * w);
        }
    }
}

/// nnU-Net's window: `ceil((image − tile) / (step · tile)) + 1` tiles, evenly spaced from edge to edge.
fn tile_starts(image: usize, tile: usize, step: f64) -> Vec<usize> {
    let Some(room) = image.checked_sub(tile).filter(|r| *r > 0) else {
        return vec![0];
    };
    // However small the step, a window can start at each voxel once and no more.
    let count = ((room as f64 / (step * tile as f64)).ceil() as usize).clamp(1, room) + 1;
    let distance = room as f64 / (count - 1) as f64;
    let mut starts: Vec<usize> = (0..count).map(|i| (i as f64 * distance).round() as usize).collect();
    starts.dedup();
    starts
}

/// Weights along one axis: σ an eighth of the tile, so that a tile's centre counts and its border hardly does.
fn gaussian(tile: usize) -> Vec<f32> {
    /// A voxel that only one tile's corner covers must still have a weight, the product of three of these.
    const LEAST: f64 = 1e-4;
    let (centre, sigma) = ((tile as f64 - 1.0) / 2.0, tile as f64 / 8.0);
    (0..tile).map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp().max(LEAST) as f32).collect()
}

/// Which axes (z, y, x) to mirror, one entry a prediction: every combination of the model's mirror axes.
fn flips(spec: &ModelSpec) -> Vec<[bool; 3]> {
    let missing = 3 - spec.network.dimensions.count();
    let combinations = 1_usize << spec.mirror_axes.len();
    let flip = |bits: usize| {
        let mut flip = [false; 3];
        for (bit, axis) in spec.mirror_axes.iter().enumerate() {
            flip[axis + missing] = bits >> bit & 1 == 1;
        }
        flip
    };
    (0..combinations).map(flip).collect()
}

/// Mirrors each channel of `[C, z, y, x]` values.
fn flip_axes(values: &[f32], channels: usize, [tz, ty, tx]: [usize; 3], flip: [bool; 3]) -> Vec<f32> {
    if flip == [false; 3] {
        return values.to_vec();
    }
    let pick = |i: usize, n: usize, flipped: bool| if flipped { n - 1 - i } else { i };
    let mut out = Vec::with_capacity(values.len());
    for c in 0..channels {
        for z in 0..tz {
            for y in 0..ty {
                let row = ((c * tz + pick(z, tz, flip[0])) * ty + pick(y, ty, flip[1])) * tx;
                let row = &values[row..row + tx];
                if flip[2] {
                    out.extend(row.iter().rev());
                } else {
                    out.extend_from_slice(row);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_nnunets_rule() {
        assert_eq!(tile_starts(110, 64, 0.5), [0, 23, 46]);
        assert_eq!(tile_starts(64, 64, 0.5), [0]);
        assert_eq!(tile_starts(30, 64, 0.5), [0]);
        assert_eq!(tile_starts(128, 64, 1.0), [0, 64]);
        assert_eq!(tile_starts(65, 64, 0.1), [0, 1]);
        assert_eq!(tile_starts(70, 64, 1e-20), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn mirroring_twice_changes_nothing() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|i| i as f32).collect();
        for bits in 0..8_usize {
            let flip = std::array::from_fn(|axis| bits >> axis & 1 == 1);
            let once = flip_axes(&values, 2, [3, 4, 5], flip);
            assert_eq!(once == values, flip == [false; 3]);
            assert_eq!(flip_axes(&once, 2, [3, 4, 5], flip), values);
        }
    }
}
