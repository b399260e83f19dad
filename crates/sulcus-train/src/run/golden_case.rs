//! Chooses a model's golden case: a small input whose mask is the same in every correct engine.
//!
//! Engines sum in different orders, so that their logits differ in the last digits. A voxel whose two largest logits are
//! almost equal may then get another label on another machine. A golden case therefore has a minimum margin at every voxel
//! of the scan's own grid, where labels are decided.

use std::ops::{ControlFlow, Range};

use sulcus_model::{GoldenCase, ModelSpec, OutputActivation};
use sulcus_pipeline::{Outputs, PipelineError, Predictor, WindowOptions, predict_logits, preprocess_with_mask};
use sulcus_volume::{Image, LabelMap, RasFromVoxel};

/// Minimum margin between the two largest logits of every voxel. Rounding changes a logit by about 1e-5, in channels that are
/// almost constant by up to 1e-3 (`RoundingTolerance` in sulcus-pipeline), and a margin by twice that.
const MIN_MARGIN: f32 = 3e-3;
const GOOD_MARGIN: f32 = 1e-2;
/// If no whole sample has the margin, blocks with these fractions of the sample's edges are tried: fewer voxels have fewer
/// near ties.
const SHARES: [f64; 6] = [0.75, 0.5, 0.375, 0.25, 0.1875, 0.125];
/// The minimum edge of a block, unless its sample is smaller.
const MIN_EDGE: usize = 4;
/// How many blocks of each size are predicted.
const BLOCKS_PER_SIZE: usize = 6;

/// The golden case of a model: a whole sample, else the largest block of one, whose prediction has the minimum margin at
/// every voxel. Cases without predicted foreground are used last. If logits are almost equal everywhere, as after a training
/// that learnt nothing, the case with the largest margin is used.
///
/// # Errors
/// When a sample cannot be prepared, or the predictor fails.
pub fn golden_case(
    spec: &ModelSpec,
    samples: &[GoldenCase],
    predictor: &dyn Predictor,
) -> Result<Option<GoldenCase>, PipelineError> {
    golden_case_in_turn(spec, samples, &[predictor])
}

/// As [`golden_case`], for a model with a [previous network](ModelSpec::previous). The first predictor is that of the model, the next one
/// that of its previous network, and so on; each has the minimum margin.
///
/// # Errors
/// As [`golden_case`], and when a predictor is missing.
pub fn golden_case_in_turn(
    spec: &ModelSpec,
    samples: &[GoldenCase],
    predictors: &[&dyn Predictor],
) -> Result<Option<GoldenCase>, PipelineError> {
    let mut whole = Vec::new();
    for sample in samples {
        let prediction = Prediction::of(spec, sample.image(spec.orientation.nominal())?, predictors)?;
        if prediction.foreground > 0 && prediction.margin >= GOOD_MARGIN {
            return Ok(Some(prediction.golden()));
        }
        whole.push(prediction);
    }
    let needs_foreground = whole.iter().any(|prediction| prediction.foreground > 0);
    let is_enough = |prediction: &&Prediction| {
        prediction.margin >= MIN_MARGIN && (prediction.foreground > 0 || !needs_foreground)
    };
    if let Some(prediction) = largest_margin(whole.iter().filter(is_enough)) {
        return Ok(Some(prediction.golden()));
    }
    let mut blocks = Vec::new();
    for share in SHARES {
        let found = whole.iter().filter_map(|prediction| prediction.clearest_block(share, needs_foreground));
        let mut found: Vec<Block<'_>> = found.collect();
        found.sort_by_key(|block| block.near_ties);
        for block in found.into_iter().take(BLOCKS_PER_SIZE) {
            blocks.push(Prediction::of(spec, cut(&block.of.image, &block.ranges)?, predictors)?);
        }
        if let Some(prediction) = largest_margin(blocks.iter().filter(is_enough)) {
            return Ok(Some(prediction.golden()));
        }
    }
    let all = || whole.iter().chain(&blocks);
    let clear = largest_margin(all().filter(|prediction| prediction.margin >= MIN_MARGIN));
    Ok(clear.or_else(|| largest_margin(all())).map(Prediction::golden))
}

fn largest_margin<'a>(predictions: impl Iterator<Item = &'a Prediction>) -> Option<&'a Prediction> {
    predictions.max_by(|a, b| a.margin.total_cmp(&b.margin))
}

/// A part of an image, at the same position in the patient.
///
/// # Errors
/// When a range is empty or reaches beyond the image.
pub(crate) fn cut(image: &Image, ranges: &[Range<usize>; 3]) -> Result<Image, PipelineError> {
    let geometry = image.geometry();
    let first = geometry.ras_from_voxel().apply(ranges.each_ref().map(|range| range.start as f64)).0;
    let mut rows = geometry.ras_from_voxel().rows();
    rows.iter_mut().zip(first).for_each(|(row, origin)| row[3] = origin);
    let part = geometry.with_grid(ranges.each_ref().map(Range::len), RasFromVoxel::new(rows)?)?;
    let offsets: Vec<usize> = offsets(geometry.shape(), ranges).collect();
    let mut values = Vec::with_capacity(offsets.len() * image.channels());
    for channel in 0..image.channels() {
        let channel = image.channel(channel);
        values.extend(offsets.iter().filter_map(|offset| channel.get(*offset)));
    }
    Ok(Image::new(part, image.channels(), values)?)
}

/// The offsets of a block's voxels in a volume of this shape, first axis fastest.
fn offsets([nx, ny, _]: [usize; 3], [xs, ys, zs]: &[Range<usize>; 3]) -> impl Iterator<Item = usize> {
    let row = move |z: usize| ys.clone().map(move |y| (z * ny + y) * nx);
    zs.clone().flat_map(row).flat_map(move |row| xs.clone().map(move |x| row + x))
}

/// A model's prediction for an image.
struct Prediction {
    image: Image,
    labels: LabelMap,
    foreground: usize,
    /// The margin of each voxel.
    margins: Vec<f32>,
    /// The smallest margin.
    margin: f32,
}

/// Orders blocks: by near ties, then by foreground, descending.
type Rank = (usize, std::cmp::Reverse<usize>);

/// A part of an image.
struct Block<'a> {
    of: &'a Prediction,
    ranges: [Range<usize>; 3],
    near_ties: usize,
}

impl Prediction {
    fn of(spec: &ModelSpec, image: Image, predictors: &[&dyn Predictor]) -> Result<Self, PipelineError> {
        let (labels, margins) = labels_and_margins(spec, &image, predictors)?;
        let margin = margins.iter().copied().fold(f32::INFINITY, f32::min);
        let foreground = labels.data().iter().filter(|label| **label != 0).count();
        Ok(Self { image, labels, foreground, margins, margin })
    }

    fn golden(&self) -> GoldenCase {
        GoldenCase::new(&self.image, &self.labels)
    }

    /// The block with this fraction of each edge that has the fewest near ties, and among those the most foreground. Cut out
    /// alone, its prediction differs slightly, so that it must be predicted again.
    fn clearest_block(&self, share: f64, needs_foreground: bool) -> Option<Block<'_>> {
        let shape = self.image.geometry().shape();
        let edges = shape.map(|edge| ((edge as f64 * share).round() as usize).max(MIN_EDGE).min(edge));
        if edges == shape {
            return None;
        }
        let starts = |axis: usize| {
            let last = shape[axis] - edges[axis];
            (0..=last).step_by((edges[axis] / 4).max(1)).map(move |start| start..start + edges[axis])
        };
        let mut best: Option<(Rank, [Range<usize>; 3])> = None;
        for z in starts(2) {
            for y in starts(1) {
                for x in starts(0) {
                    let ranges = [x, y.clone(), z.clone()];
                    let (near_ties, foreground) = self.count(&ranges);
                    let rank = (near_ties, std::cmp::Reverse(foreground));
                    let is_better = best.as_ref().is_none_or(|(best, _)| rank < *best);
                    if is_better && (foreground > 0 || !needs_foreground) {
                        best = Some((rank, ranges));
                    }
                }
            }
        }
        best.map(|((near_ties, _), ranges)| Block { of: self, ranges, near_ties })
    }

    /// The number of near ties and of foreground voxels in a block.
    fn count(&self, ranges: &[Range<usize>; 3]) -> (usize, usize) {
        let (mut near_ties, mut foreground) = (0, 0);
        for offset in offsets(self.image.geometry().shape(), ranges) {
            near_ties += usize::from(self.margins.get(offset).is_some_and(|margin| *margin < MIN_MARGIN));
            foreground += usize::from(self.labels.data().get(offset).is_some_and(|label| *label != 0));
        }
        (near_ties, foreground)
    }
}

/// The mask of a model, and the margin of each voxel: the smallest of the model and its previous networks.
fn labels_and_margins(
    spec: &ModelSpec,
    image: &Image,
    predictors: &[&dyn Predictor],
) -> Result<(LabelMap, Vec<f32>), PipelineError> {
    let missing = || PipelineError::Ensemble(format!("there is no predictor for `{}`", spec.network.name));
    let (predictor, others) = predictors.split_first().ok_or_else(missing)?;
    let before = match &spec.previous {
        None => None,
        Some(previous) => Some(labels_and_margins(&previous.spec, image, others)?),
    };
    let (prepared, restore) = preprocess_with_mask(spec, image, before.as_ref().map(|(labels, _)| labels))?;
    let go = &mut |_| ControlFlow::Continue(());
    let logits = predict_logits(spec, &prepared, &[*predictor], &WindowOptions::default(), go)?;
    let restored = restore.finish(spec, logits, Outputs::LabelsAndProbabilities)?;
    let voxels = image.geometry().voxels();
    let probabilities = restored.probabilities.as_ref().map(Image::data).unwrap_or_default();
    let mut margins = margins(spec.activation, probabilities, voxels);
    let before = before.iter().flat_map(|(_, margins)| margins);
    margins.iter_mut().zip(before).for_each(|(margin, before)| *margin = margin.min(*before));
    Ok((restored.labels, margins))
}

/// The margin of each voxel: the difference between its largest and second largest logit, or the smallest distance of a logit
/// from 0 if each logit is decided on its own. It is computed from probabilities: the difference of their logarithms equals
/// that of the logits.
///
/// # Shapes
/// `probabilities` `[K, voxels]`.
fn margins(output: OutputActivation, probabilities: &[f32], voxels: usize) -> Vec<f32> {
    let margin =
        |voxel: usize| {
            let of_voxel = probabilities.iter().skip(voxel).step_by(voxels.max(1)).copied();
            match output {
                OutputActivation::Softmax => {
                    let (first, second) = of_voxel.fold((0.0_f32, 0.0_f32), |(first, second), p| {
                        if p > first { (p, first) } else { (first, second.max(p)) }
                    });
                    first.ln() - second.ln()
                }
                OutputActivation::Sigmoid | OutputActivation::Regions => {
                    of_voxel.map(|p| (p.ln() - (1.0 - p).ln()).abs()).fold(f32::INFINITY, f32::min)
                }
            }
        };
    (0..voxels).map(margin).collect()
}

#[cfg(test)]
mod tests {
    use sulcus_model::Normalisation;
    use sulcus_pipeline::{PredictorError, Tensor};
    use sulcus_plan::preset;
    use sulcus_testing::test_spec;
    use sulcus_volume::{Geometry, Orientation, OrientationSource, Spacing};

    use super::*;

    /// A model of one structure whose logits are the scan's values.
    fn spec() -> ModelSpec {
        let spec = test_spec(2)
            .network(preset("unet2d-lite").unwrap())
            .normalisation(Normalisation::Ct { clip: [-1e3, 1e3], mean: 0.0, sd: 1.0 })
            .sigmoid()
            .build();
        spec.check().unwrap();
        spec
    }

    /// Predictions with its input and an error that changes its sign from voxel to voxel.
    struct Values {
        error: f32,
    }

    impl Predictor for Values {
        fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
            let (shape, mut values) = input.into_parts();
            for (i, value) in values.iter_mut().enumerate() {
                *value += if i % 2 == 0 { self.error } else { -self.error };
            }
            Ok(Tensor::new(shape, values).unwrap())
        }
    }

    fn sample(value: impl Fn([usize; 2]) -> f32) -> GoldenCase {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let geometry = Geometry::new([64, 48, 1], map, OrientationSource::Sform).unwrap();
        let values = (0..64 * 48).map(|i| value([i % 64, i / 64])).collect();
        let labels = LabelMap::new(geometry, vec![0; 64 * 48]).unwrap();
        GoldenCase::new(&Image::new(geometry, 1, values).unwrap(), &labels)
    }

    /// The tolerated error of an export.
    const ERROR: f32 = 1e-4;

    fn holds_in_another_engine(golden: &GoldenCase) -> bool {
        let image = golden.image(Orientation::RAS).unwrap();
        let found = Prediction::of(&spec(), image, &[&Values { error: ERROR }]).unwrap();
        golden.check(&found.labels).is_ok()
    }

    #[test]
    fn sample_without_near_ties_is_used_whole() {
        let tied = sample(|[x, y]| if (x + y) % 5 == 0 { 1e-5 } else { -1.0 });
        let clear = sample(|[x, _]| if x < 30 { 1.0 } else { -1.0 });
        let golden = golden_case(&spec(), &[tied, clear], &Values { error: 0.0 }).unwrap().unwrap();
        assert_eq!((golden.shape, golden.foreground_voxels), ([64, 48, 1], 30 * 48));
        assert!(holds_in_another_engine(&golden));
    }

    #[test]
    fn block_without_near_ties_gives_the_same_mask_in_another_engine() {
        // Near ties along a line, and structure and background on both sides of it.
        let tied = sample(|[x, y]| match (x, (x + y) % 7) {
            (20, _) => 1e-5 * (y as f32 - 23.5),
            (_, 0..3) => 1.0,
            _ => -1.0,
        });
        assert!(!holds_in_another_engine(&{
            let image = tied.image(Orientation::RAS).unwrap();
            Prediction::of(&spec(), image, &[&Values { error: 0.0 }]).unwrap().golden()
        }));
        let golden = golden_case(&spec(), &[tied], &Values { error: 0.0 }).unwrap().unwrap();
        assert_eq!(golden.shape, [32, 24, 1], "the largest block that keeps clear of the line");
        assert!(golden.foreground_voxels > 0);
        assert!(holds_in_another_engine(&golden));
    }

    #[test]
    fn untrained_network_gets_a_golden_case() {
        let flat = sample(|[x, _]| if x == 3 { 2e-6 } else { 1e-6 });
        assert!(golden_case(&spec(), &[flat], &Values { error: 0.0 }).unwrap().is_some());
        assert_eq!(golden_case(&spec(), &[], &Values { error: 0.0 }).unwrap(), None);
    }

    #[test]
    fn margin_is_between_the_two_largest_logits() {
        // Two voxels, three classes of probabilities that are e to the power of (1, 5, 2) and (0, -1, 7), unscaled.
        let e = |power: f32| power.exp();
        let found = margins(OutputActivation::Softmax, &[e(1.0), e(0.0), e(5.0), e(-1.0), e(2.0), e(7.0)], 2);
        assert!((found[0] - 3.0).abs() < 1e-5 && (found[1] - 7.0).abs() < 1e-5, "{found:?}");
        let p = |logit: f32| 1.0 / (1.0 + (-logit).exp());
        // Two voxels, two regions.
        let found = margins(OutputActivation::Regions, &[p(-0.5), p(2.0), p(4.0), p(0.25)], 2);
        assert!((found[0] - 0.5).abs() < 1e-5 && (found[1] - 0.25).abs() < 1e-5, "{found:?}");
        assert_eq!(margins(OutputActivation::Softmax, &[1.0, 0.0], 1), [f32::INFINITY]);
    }
}
