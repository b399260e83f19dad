use std::ops::ControlFlow;
use std::path::Path;

use sulcus_model::{Dimensions, GoldenCase, ModelSpec, OutputActivation};
use sulcus_pipeline::{Outputs, PipelineError, Predictor, Tensor, WindowOptions, predict_logits, preprocess};
use sulcus_volume::{Geometry, Image, Label, LabelMap, OrientationSource, RasFromVoxel};

use crate::TrainError;
use crate::dataset::Scan;
use crate::manifest::write_atomically;

/// Their file in a run's folder.
pub(crate) const FILE: &str = "checkpoints/samples.json";
/// Pieces of scans that are kept with a run: real input for the parity check and the golden case, so that a run can be
/// exported where its data set is not.
pub(crate) const KEPT: usize = 24;
/// Longest edge of a kept slice; a golden case travels in every model file.
const LONGEST_EDGE: usize = 96;
/// Longest edge of a kept block.
const LONGEST_BLOCK_EDGE: usize = 32;

/// A piece of a scan around its foreground, on the model's orientation: of the slice with most of it, or a block. Its
/// labels are the reference's.
pub(crate) fn sample_of(
    spec: &ModelSpec,
    scan: &Scan,
    ignore: Option<Label>,
) -> Result<GoldenCase, PipelineError> {
    let image = scan.image.reoriented(spec.orientation);
    let known = scan.labels.map(|label| if Some(*label) == ignore { 0 } else { *label });
    let labels = known.reoriented(spec.orientation);
    let [nx, ny, nz] = image.geometry().shape();
    let area = nx * ny;
    let held = |z: usize| {
        let plane = labels.data().get(z * area..(z + 1) * area).unwrap_or_default();
        plane.iter().enumerate().filter(|(_, l)| **l != 0).map(move |(i, _)| [i % nx, i / nx, z])
    };
    let (points, longest): (Vec<[usize; 3]>, usize) = match spec.network.dimensions {
        Dimensions::Two => {
            let fullest = (0..nz).max_by_key(|z| held(*z).count()).unwrap_or_default();
            (held(fullest).collect(), LONGEST_EDGE)
        }
        Dimensions::Three => ((0..nz).flat_map(held).collect(), LONGEST_BLOCK_EDGE),
    };
    let range = |edge: usize, axis: usize, longest: usize| {
        let centre = points.iter().map(|p| p[axis]).sum::<usize>().checked_div(points.len()).unwrap_or(edge / 2);
        let length = edge.min(longest);
        let start = centre.saturating_sub(length / 2).min(edge - length);
        start..start + length
    };
    let (xs, ys) = (range(nx, 0, longest), range(ny, 1, longest));
    let zs = range(nz, 2, if spec.network.dimensions == Dimensions::Two { 1 } else { longest });
    let mut offsets = Vec::with_capacity(xs.len() * ys.len() * zs.len());
    for z in zs.clone() {
        for y in ys.clone() {
            offsets.extend(xs.clone().map(|x| (z * ny + y) * nx + x));
        }
    }
    let map = RasFromVoxel::aligned(spec.orientation, image.geometry().spacing());
    let geometry = Geometry::new([xs.len(), ys.len(), zs.len()], map, OrientationSource::Sform)?;
    let channels = (0..image.channels()).map(|c| image.channel(c));
    let values = channels
        .flat_map(|values| offsets.iter().map(move |o| values.get(*o).copied().unwrap_or_default()))
        .collect();
    let mask = offsets.iter().map(|o| labels.data().get(*o).copied().unwrap_or_default()).collect();
    Ok(GoldenCase::new(&Image::new(geometry, image.channels(), values)?, &LabelMap::new(geometry, mask)?))
}

pub(crate) fn write(file: &Path, samples: &[GoldenCase]) -> Result<(), TrainError> {
    let json = serde_json::to_vec(samples)
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.to_path_buf() })?;
    write_atomically(file, &json)
}

pub(crate) fn read(file: &Path) -> Result<Vec<GoldenCase>, TrainError> {
    let failed = |what: String| TrainError::File { what, file: file.to_path_buf() };
    let text =
        std::fs::read_to_string(file).map_err(|e| failed(format!("the run's samples cannot be read: {e}")))?;
    serde_json::from_str(&text).map_err(|e| failed(format!("the run's samples are broken: {e}")))
}

/// Real network inputs: whole samples padded to the network's multiple. Every third has a batch of two, so that a
/// graph whose batch axis is not dynamic shows it; samples of different sizes do the same for the spatial axes.
///
/// # Shapes
/// Each `[N, C, (D,) H, W]`.
pub(crate) fn inputs(spec: &ModelSpec, samples: &[GoldenCase], n: usize) -> Result<Vec<Tensor>, PipelineError> {
    let mut inputs = Vec::with_capacity(n);
    for (index, sample) in samples.iter().enumerate().cycle().take(n.min(samples.len())) {
        let (prepared, _) = preprocess(spec, &sample.image(spec.orientation)?)?;
        let [nx, ny, nz] = prepared.shape();
        let multiple = match *spec.padding_multiple.as_slice() {
            [d, h, w] => [d, h, w],
            [h, w] => [1, h, w],
            _ => [1; 3],
        };
        let padded = |length: usize, axis: usize| length.next_multiple_of(multiple[axis].max(1));
        let (d, h, w) = (padded(nz, 0), padded(ny, 1), padded(nx, 2));
        let mut values = vec![0.0; prepared.channels() * d * h * w];
        for (volume, out) in prepared.data().chunks_exact(nx * ny * nz).zip(values.chunks_exact_mut(d * h * w)) {
            for (plane, out) in volume.chunks_exact(nx * ny).zip(out.chunks_exact_mut(h * w)) {
                for (row, out) in plane.chunks_exact(nx).zip(out.chunks_exact_mut(w)) {
                    out[..nx].copy_from_slice(row);
                }
            }
        }
        let batch = if index % 3 == 0 { 2 } else { 1 };
        let shape = match spec.network.dimensions {
            Dimensions::Two => vec![batch, prepared.channels(), h, w],
            Dimensions::Three => vec![batch, prepared.channels(), d, h, w],
        };
        inputs.push(Tensor::new(shape, values.repeat(batch))?);
    }
    Ok(inputs)
}

/// The sample whose least certain voxel is the most certain: engines differ in the last digits, and a mask that
/// hangs on them would not hash alike everywhere. Answers without foreground prove little and come last.
pub(crate) fn golden_case(
    spec: &ModelSpec,
    samples: &[GoldenCase],
    predictor: &dyn Predictor,
) -> Result<Option<GoldenCase>, PipelineError> {
    let mut best: Option<((bool, f32), GoldenCase)> = None;
    for sample in samples {
        let image = sample.image(spec.orientation)?;
        let (prepared, restore) = preprocess(spec, &image)?;
        let go = &mut |_| ControlFlow::Continue(());
        let logits = predict_logits(spec, &prepared, &[predictor], &WindowOptions::default(), go)?;
        let margin = least_margin(spec.activation, logits.data(), logits.classes());
        let labels = restore.finish(spec, logits, Outputs::Labels)?.labels;
        let golden = GoldenCase::new(&image, &labels);
        let rank = (golden.foreground_voxels > 0, margin);
        if best.as_ref().is_none_or(|(b, _)| rank > *b) {
            best = Some((rank, golden));
        }
    }
    Ok(best.map(|(_, golden)| golden))
}

/// The smallest distance between a voxel's greatest and second greatest logit, or of any logit from 0 where each decides
/// by itself.
///
/// # Shapes
/// `logits` `[K, voxels]`.
fn least_margin(output: OutputActivation, logits: &[f32], classes: usize) -> f32 {
    if output != OutputActivation::Softmax {
        return logits.iter().map(|v| v.abs()).fold(f32::INFINITY, f32::min);
    }
    let voxels = (logits.len() / classes.max(1)).max(1);
    let margin = |i: usize| {
        let values = logits.iter().skip(i).step_by(voxels);
        let (first, second) = values.fold((f32::NEG_INFINITY, f32::NEG_INFINITY), |(first, second), v| {
            if *v > first { (*v, first) } else { (first, second.max(*v)) }
        });
        first - second
    };
    (0..voxels).map(margin).fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use sulcus_model::OutputActivation;

    #[test]
    fn the_margin_is_between_the_two_greatest() {
        // Two voxels, three classes: (1, 5, 2) and (0, -1, 7).
        assert_eq!(super::least_margin(OutputActivation::Softmax, &[1.0, 0.0, 5.0, -1.0, 2.0, 7.0], 3), 3.0);
        assert_eq!(super::least_margin(OutputActivation::Sigmoid, &[-0.5, 2.0], 1), 0.5);
    }
}
