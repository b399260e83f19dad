//! nnU-Net's sliding window, which sums logits in half precision.

use std::ops::ControlFlow;

use sulcus_model::ModelSpec;

use super::sum::pairwise_sum;
use crate::inference::mirror::flip_axes;
use crate::inference::sliding_window::checked_answer;
use crate::inference::tile_grid::TileGrid;
use crate::inference::tile_queue::TileQueue;
use crate::nnunet::{F16, reserved};
use crate::{PipelineError, Preprocessed};

/// The logits of the networks of one configuration on the network's grid, averaged over its folds, `[K, z, y, x]`.
///
/// Each network file has a window of its own, and files that hold several networks one sum for each: nnU-Net averages folds after the
/// window.
pub(super) fn logits(
    spec: &ModelSpec,
    specs: &[&ModelSpec],
    networks: &[usize],
    preprocessed: &Preprocessed,
    (step, mirror): (f64, bool),
    queue: &mut dyn TileQueue,
    on_tile: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<F16>, PipelineError> {
    let grid = TileGrid::new(spec, preprocessed.shape(), step);
    let gaussian = gaussian(grid.tile(), 3 - spec.network.dimensions.count())?;
    let mut sum: Option<Vec<F16>> = None;
    let mut folds = 0;
    for network in networks {
        let spec = specs.get(*network).copied().ok_or_else(PipelineError::no_model)?;
        let window = Window { spec, grid: &grid, gaussian: &gaussian, preprocessed, network: *network, mirror };
        let mut found = window.run(queue, on_tile)?;
        let fold_length = (found.len() / spec.networks.max(1)).max(1);
        folds += spec.networks;
        let (mut total, others) = match sum.take() {
            Some(sum) => (sum, found),
            None => {
                let others = found.split_off(fold_length);
                (found, others)
            }
        };
        for fold in others.chunks_exact(fold_length) {
            total.iter_mut().zip(fold).for_each(|(s, v)| *s = F16::from_f32(s.to_f32() + v.to_f32()));
        }
        sum = Some(total);
    }
    let mut mean = sum.ok_or_else(PipelineError::no_model)?;
    if folds > 1 {
        mean.iter_mut().for_each(|v| *v = F16::from_f32(v.to_f32() / folds as f32));
    }
    Ok(mean)
}

/// The window of one network file.
struct Window<'a> {
    spec: &'a ModelSpec,
    grid: &'a TileGrid,
    gaussian: &'a [F16],
    preprocessed: &'a Preprocessed,
    network: usize,
    mirror: bool,
}

impl Window<'_> {
    /// The weighted means of the logits of each network in the file, `[networks · K, z, y, x]`.
    fn run(
        &self,
        queue: &mut dyn TileQueue,
        on_tile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<F16>, PipelineError> {
        let channels = self.spec.networks * self.spec.classes();
        let voxels: usize = self.preprocessed.shape().iter().product();
        let mut sums = zeros(channels.checked_mul(voxels).ok_or(PipelineError::Memory { values: usize::MAX })?)?;
        let mut weights = zeros(voxels)?;
        let starts = self.grid.starts(&self.grid.whole());
        let flips = if self.mirror { flips(self.spec) } else { vec![[false; 3]] };
        let (mut submitted, requests) = (0, starts.len() * flips.len());
        for (tile, start) in starts.iter().enumerate() {
            let mut prediction = Vec::new();
            for flip in &flips {
                let received = tile * flips.len() + flips.iter().position(|f| f == flip).unwrap_or_default();
                while submitted < requests && submitted < received + queue.depth().max(1) {
                    self.submit(starts[submitted / flips.len()], flips[submitted % flips.len()], queue)?;
                    submitted += 1;
                }
                let logits = checked_answer(self.spec, self.grid, queue.receive(0)?)?;
                let logits = flip_axes(&logits, channels, self.grid.tile(), *flip);
                if prediction.is_empty() {
                    prediction = logits;
                } else {
                    prediction.iter_mut().zip(&logits).for_each(|(sum, v)| *sum += v);
                }
            }
            if flips.len() > 1 {
                prediction.iter_mut().for_each(|v| *v /= flips.len() as f32);
            }
            self.add(&prediction, *start, &mut sums, &mut weights);
            if on_tile().is_break() {
                return Err(PipelineError::Cancelled);
            }
        }
        for channel in sums.chunks_exact_mut(voxels.max(1)) {
            channel.iter_mut().zip(&weights).for_each(|(v, w)| *v = F16::from_f32(v.to_f32() / w.to_f32()));
        }
        if sums.iter().all(|v| v.is_finite()) { Ok(sums) } else { Err(PipelineError::HalfPrecisionRange) }
    }

    fn submit(&self, start: [usize; 3], flip: [bool; 3], queue: &mut dyn TileQueue) -> Result<(), PipelineError> {
        let channels = self.preprocessed.channels();
        let values = flip_axes(&self.grid.cut(self.preprocessed, start), channels, self.grid.tile(), flip);
        queue.submit(0, self.network, self.grid.tensor(self.spec, channels, values)?)
    }

    /// Adds a tile's logits with their weights; both sums are rounded to half precision at every addition.
    fn add(&self, prediction: &[f32], start: [usize; 3], sums: &mut [F16], weights: &mut [F16]) {
        let (voxels, tile_voxels) = (weights.len(), self.grid.tile_voxels());
        for (in_volume, in_tile, length) in self.grid.rows(start) {
            let gaussian = &self.gaussian[in_tile..in_tile + length];
            let factors: Vec<f32> = gaussian.iter().map(|g| g.to_f32()).collect();
            for (sums, logits) in sums.chunks_exact_mut(voxels).zip(prediction.chunks_exact(tile_voxels)) {
                let logits = &logits[in_tile..in_tile + length];
                for ((sum, v), factor) in sums[in_volume..in_volume + length].iter_mut().zip(logits).zip(&factors)
                {
                    *sum = F16::from_f32(sum.to_f32() + v * factor);
                }
            }
            for (sum, factor) in weights[in_volume..in_volume + length].iter_mut().zip(&factors) {
                *sum = F16::from_f32(sum.to_f32() + factor);
            }
        }
    }
}

fn zeros(length: usize) -> Result<Vec<F16>, PipelineError> {
    let mut values = reserved(length)?;
    values.resize(length, F16::ZERO);
    Ok(values)
}

/// The axes (z, y, x) to mirror, one entry per prediction: none, then every combination in the order of Python's
/// `itertools.combinations`, shorter ones first.
fn flips(spec: &ModelSpec) -> Vec<[bool; 3]> {
    let missing = 3 - spec.network.dimensions.count();
    let mut combinations: Vec<Vec<usize>> = (0..1_usize << spec.mirror_axes.len())
        .map(|bits| (0..spec.mirror_axes.len()).filter(|bit| bits >> bit & 1 == 1).collect())
        .collect();
    combinations.sort_by_key(|combination| (combination.len(), combination.clone()));
    let flip = |combination: &Vec<usize>| {
        let mut flip = [false; 3];
        combination
            .iter()
            .filter_map(|index| spec.mirror_axes.get(*index))
            .for_each(|axis| flip[axis + missing] = true);
        flip
    };
    combinations.iter().map(flip).collect()
}

/// nnU-Net's weights of a tile: an impulse at `tile / 2`, filtered with σ = tile / 8, scaled to a maximum of 10 and rounded to half
/// precision, where 0 is replaced by the smallest other value. Tiles of slices have `missing` axes fewer.
///
/// # Shapes
/// `[z, y, x]`.
pub(super) fn gaussian(tile: [usize; 3], missing: usize) -> Result<Vec<F16>, PipelineError> {
    const MAXIMUM: f64 = 10.0;
    let lines: Vec<Vec<f64>> =
        tile.iter().enumerate().map(|(axis, n)| filtered_impulse(*n, axis < missing)).collect();
    let mut map: Vec<f64> = reserved(tile.iter().product())?;
    for z in &lines[0] {
        for y in &lines[1] {
            // SciPy filters one axis after the other: the impulse is multiplied by the weights of the first axis, then of the next.
            map.extend(lines[2].iter().map(|x| z * y * x));
        }
    }
    let scale = map.iter().copied().fold(0.0, f64::max) / MAXIMUM;
    // PyTorch rounds to single precision on the way to half.
    let mut weights: Vec<F16> = map.iter().map(|v| F16::from_f32((v / scale) as f32)).collect();
    let positive = |w: &F16| w.to_f32() > 0.0;
    let smallest = weights.iter().copied().filter(positive).min_by(|a, b| a.to_f32().total_cmp(&b.to_f32()));
    if let Some(smallest) = smallest {
        weights.iter_mut().filter(|w| !positive(w)).for_each(|w| *w = smallest);
    }
    Ok(weights)
}

/// One axis of SciPy's `gaussian_filter` (truncated at 4σ, zero outside) of a unit impulse at `n / 2`.
fn filtered_impulse(n: usize, is_missing: bool) -> Vec<f64> {
    const TRUNCATE: f64 = 4.0;
    if is_missing {
        return vec![1.0; n];
    }
    let sigma = n as f64 / 8.0;
    let radius = (TRUNCATE * sigma + 0.5) as usize;
    let phi = |distance: f64| (-0.5 / (sigma * sigma) * (distance * distance)).exp();
    let kernel: Vec<f64> = (0..=2 * radius).map(|i| phi(i as f64 - radius as f64)).collect();
    let sum = pairwise_sum(&kernel);
    (0..n).map(|i| i.abs_diff(n / 2)).map(|d| if d > radius { 0.0 } else { kernel[radius + d] / sum }).collect()
}
