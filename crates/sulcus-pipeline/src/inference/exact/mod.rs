//! Prediction as nnU-Net v2 computes it on a processor: the same operations in the same precision and order, so that masks are equal to
//! those of its own predictor with the same networks.
//!
//! 1. `normalize`, `crate::nnunet`: single precision with NumPy's sums; splines in double precision, clipped.
//! 2. `window`: logits are weighted and summed tile by tile in half precision, for each fold separately.
//! 3. Logits are resampled to the scan's voxel size, rounded to half precision, and the greatest one decides.
//!
//! Read from the sources of nnU-Net 2.8.1, SciPy 1.17, scikit-image 0.26, NumPy 2.4 and PyTorch 2.15; `tests/peers` has the script that
//! compares with them. Folds are averaged as logits, configurations as probabilities.

pub(super) mod configurations;
pub(super) mod memory;
mod normalize;
mod sum;
#[cfg(test)]
mod tests;
mod window;

use std::ops::ControlFlow;

use sulcus_model::{GridAxes, ModelSpec, NnunetResampling, OutputActivation, SpacingRule};
use sulcus_volume::{Geometry, Image, Label, LabelMap, Orientation, Reorientation};

use self::configurations::{check, configurations};
use self::normalize::{Channel, normalize};
use super::decide::{labels_of, to_probabilities};
use super::plan::InferencePlan;
use super::settings::{ModelInput, ScanInput};
use super::stage_seconds::{StageSeconds, timed};
use super::tile_queue::TileQueue;
use crate::nnunet::{F16, resample_channel, reserved};
use crate::preprocess::{GridTransform, add_labels, check_input, inside_mask, mask_channels, needed_mask};
use crate::{Outputs, PipelineError, Prediction, Preprocessed, postprocess};

/// Predicts a scan, or the box of it that the caller has cut out.
pub(super) fn run(
    plan: &InferencePlan,
    models: &[ModelInput<'_>],
    combined: &ModelSpec,
    scan: ScanInput<'_>,
    queue: &mut dyn TileQueue,
    on_tile: &mut dyn FnMut() -> ControlFlow<()>,
    seconds: &mut StageSeconds,
) -> Result<Prediction, PipelineError> {
    let specs: Vec<&ModelSpec> = models.iter().map(|model| model.spec).collect();
    let specs = specs.as_slice();
    check(specs)?;
    let (image, geometry) = (scan.image(), *scan.image().geometry());
    let configurations = configurations(specs);
    let needs_probabilities = plan.outputs == Outputs::LabelsAndProbabilities || configurations.len() > 1;
    let mut labels: Vec<Label> = Vec::new();
    let mut probabilities: Option<Vec<f32>> = None;
    for networks in &configurations {
        let first = networks.first().and_then(|first| models.get(*first));
        let ModelInput { spec, mask } = *first.ok_or_else(PipelineError::no_model)?;
        let mask = needed_mask(spec, &geometry, mask)?;
        let transform = GridTransform::checked(spec, &geometry)?;
        let preprocessed =
            timed(&mut seconds.preprocess, || preprocess(spec, &transform, image, mask, plan.cropped_from))?;
        let logits = timed(&mut seconds.infer, || {
            let window = (plan.window.step_of(spec)?, plan.window.mirror);
            let on_grid = window::logits(spec, specs, networks, &preprocessed, window, queue, on_tile)?;
            resample_back(spec, &transform, &geometry, on_grid)
        })?;
        drop(preprocessed);
        timed(&mut seconds.infer, || -> Result<(), PipelineError> {
            if configurations.len() == 1 {
                labels = transform.reorientation.inverse().apply(&logits.labels(spec), transform.reoriented_shape);
            }
            if needs_probabilities {
                let of_configuration = logits.probabilities(spec, &transform)?;
                match &mut probabilities {
                    None => probabilities = Some(of_configuration),
                    Some(sum) => sum.iter_mut().zip(of_configuration).for_each(|(sum, p)| *sum += p),
                }
            }
            Ok(())
        })?;
    }
    if configurations.len() > 1
        && let Some(sum) = &mut probabilities
    {
        sum.iter_mut().for_each(|p| *p /= configurations.len() as f32);
        labels = labels_of_probabilities(combined, sum, geometry.voxels());
    }
    drop(scan);
    timed(&mut seconds.postprocess, || {
        let labels = postprocess(&combined.postprocessing, LabelMap::new(geometry, labels)?)?;
        let wanted = probabilities.filter(|_| plan.outputs == Outputs::LabelsAndProbabilities);
        let probabilities = wanted.map(|data| Image::new(geometry, combined.classes(), data)).transpose()?;
        Ok(Prediction { labels, probabilities })
    })
}

/// The reader's orientation: RAS for nnU-Net's readers `…WithReorient`, that of the file for the others.
fn reader_orientation(spec: &ModelSpec, geometry: &Geometry) -> Orientation {
    match spec.orientation {
        GridAxes::Anatomical(_) => Orientation::RAS,
        _ => geometry.orientation(),
    }
}

/// Transposes, normalises and resamples a scan. Memory orders are those of nnU-Net's arrays, on which NumPy's sums depend.
fn preprocess(
    spec: &ModelSpec,
    transform: &GridTransform,
    image: &Image,
    mask: Option<&LabelMap>,
    cropped_from: Option<[usize; 3]>,
) -> Result<Preprocessed, PipelineError> {
    check_input(spec, image)?;
    let geometry = image.geometry();
    let to_reader = Reorientation::between(geometry.orientation(), reader_orientation(spec, geometry));
    let zyx = |[x, y, z]: [usize; 3]| [z, y, x];
    let (shape, full) = (geometry.shape(), cropped_from.unwrap_or(geometry.shape()));
    let mut inside = inside_mask(spec, image, transform);
    let of_mask = match mask {
        Some(mask) => mask_channels(spec, transform, mask, &inside)?,
        None => Vec::new(),
    };
    mask.into_iter().for_each(|mask| add_labels(transform, mask, &mut inside));
    let (from, to) = (zyx(transform.reoriented_shape), zyx(transform.resampled_shape));
    let mut data: Vec<f32> = reserved(to.iter().product::<usize>() * spec.input_channels())?;
    for (index, of_spec) in spec.channels.iter().enumerate() {
        let mut values = transform.reorientation.apply(image.channel(index), shape);
        let stored = to_reader.apply(image.channel(index), shape);
        let channel =
            Channel { stored: &stored, shape: zyx(to_reader.shape(shape)), full: zyx(to_reader.shape(full)) };
        normalize(of_spec.normalisation, &channel, &mut values, &inside);
        drop(stored);
        match image_rule(spec).filter(|_| from != to) {
            Some(rule) => {
                let separate = transform.separate_axis_forward().map(|axis| 2 - axis);
                let values = values.into_iter().map(f64::from).collect();
                let resampled = resample_channel(&rule, values, from, to, separate)?;
                data.extend(resampled.into_iter().map(|v| v as f32));
            }
            None => data.extend_from_slice(&values),
        }
    }
    data.extend_from_slice(&of_mask);
    Preprocessed::from_parts(transform.resampled_shape, spec.input_channels(), data)
}

fn image_rule(spec: &ModelSpec) -> Option<NnunetResampling> {
    match spec.spacing {
        SpacingRule::Nnunet(rule) => Some(rule.image),
        _ => None,
    }
}

fn logits_rule(spec: &ModelSpec) -> Option<NnunetResampling> {
    match spec.spacing {
        SpacingRule::Nnunet(rule) => Some(rule.logits),
        _ => None,
    }
}

/// Logits on the reoriented scan, `[K, z, y, x]`.
struct ScanLogits {
    classes: usize,
    values: LogitValues,
}

enum LogitValues {
    Half(Vec<F16>),
    /// PyTorch's `interpolate` returns single precision.
    Single(Vec<f32>),
}

/// Resamples each class to the scan's voxel size.
fn resample_back(
    spec: &ModelSpec,
    transform: &GridTransform,
    geometry: &Geometry,
    logits: Vec<F16>,
) -> Result<ScanLogits, PipelineError> {
    let zyx = |[x, y, z]: [usize; 3]| [z, y, x];
    let (from, to, classes) = (zyx(transform.resampled_shape), zyx(transform.reoriented_shape), spec.classes());
    let Some(rule) = logits_rule(spec).filter(|_| from != to) else {
        return Ok(ScanLogits { classes, values: LogitValues::Half(logits) });
    };
    let length = geometry.voxels().saturating_mul(classes);
    let separate = transform.separate_axis_back().map(|axis| 2 - axis);
    let is_half = matches!(rule.method, sulcus_model::ResamplingMethod::Spline { .. });
    let (mut half, mut single) =
        (reserved(if is_half { length } else { 0 })?, reserved(if is_half { 0 } else { length })?);
    for class in logits.chunks_exact(from.iter().product::<usize>().max(1)) {
        let values = class.iter().map(|v| f64::from(v.to_f32())).collect();
        let resampled = resample_channel(&rule, values, from, to, separate)?;
        if is_half {
            half.extend(resampled.into_iter().map(F16::from_f64));
        } else {
            single.extend(resampled.into_iter().map(|v| v as f32));
        }
    }
    let values = if is_half { LogitValues::Half(half) } else { LogitValues::Single(single) };
    Ok(ScanLogits { classes, values })
}

impl ScanLogits {
    fn voxels(&self) -> usize {
        let length = match &self.values {
            LogitValues::Half(values) => values.len(),
            LogitValues::Single(values) => values.len(),
        };
        length / self.classes.max(1)
    }

    fn plane(&self, at: std::ops::Range<usize>) -> Vec<f32> {
        let voxels = self.voxels().max(1);
        match &self.values {
            LogitValues::Half(values) => values
                .chunks_exact(voxels)
                .flat_map(|class| class.get(at.clone()).unwrap_or_default().iter().map(|v| v.to_f32()))
                .collect(),
            LogitValues::Single(values) => values
                .chunks_exact(voxels)
                .flat_map(|class| class.get(at.clone()).unwrap_or_default().iter().copied())
                .collect(),
        }
    }

    /// `[z, y, x]` of the reoriented scan.
    fn labels(&self, spec: &ModelSpec) -> Vec<Label> {
        self.parts().flat_map(|part| labels_of_logits(spec, self.plane(part.clone()), part.len())).collect()
    }

    /// `[K, z, y, x]` of the scan.
    fn probabilities(&self, spec: &ModelSpec, transform: &GridTransform) -> Result<Vec<f32>, PipelineError> {
        let voxels = self.voxels();
        let mut reoriented: Vec<f32> = reserved(voxels.saturating_mul(self.classes))?;
        reoriented.resize(voxels * self.classes, 0.0);
        for part in self.parts() {
            let mut values = self.plane(part.clone());
            to_probabilities(spec, &mut values, part.len());
            for (to, from) in reoriented.chunks_exact_mut(voxels).zip(values.chunks_exact(part.len())) {
                to[part.clone()].copy_from_slice(from);
            }
        }
        let back = transform.reorientation.inverse();
        let mut out = reserved(reoriented.len())?;
        for class in reoriented.chunks_exact(voxels.max(1)) {
            out.extend(back.apply(class, transform.reoriented_shape));
        }
        Ok(out)
    }

    /// Ranges of voxels that are processed at a time.
    fn parts(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        const LENGTH: usize = 1 << 16;
        let end = self.voxels();
        (0..end).step_by(LENGTH).map(move |start| start..(start + LENGTH).min(end))
    }
}

/// nnU-Net's decision from logits: the greatest one, or for regions a sigmoid in single precision above ½.
fn labels_of_logits(spec: &ModelSpec, mut values: Vec<f32>, voxels: usize) -> Vec<Label> {
    if spec.activation == OutputActivation::Softmax {
        return labels_of(spec, &values, voxels);
    }
    to_probabilities(spec, &mut values, voxels);
    labels_of_probabilities(spec, &mut values, voxels)
}

/// The decision from probabilities: the greatest one, or those above ½.
fn labels_of_probabilities(spec: &ModelSpec, values: &mut [f32], voxels: usize) -> Vec<Label> {
    if spec.activation == OutputActivation::Softmax {
        return labels_of(spec, values, voxels);
    }
    // The threshold of `labels_of` is 0.
    let shifted: Vec<f32> = values.iter().map(|p| p - 0.5).collect();
    labels_of(spec, &shifted, voxels)
}
