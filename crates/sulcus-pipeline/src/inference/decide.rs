use sulcus_model::{ModelSpec, OutputActivation};
use sulcus_volume::Label;

use super::Logits;

/// The label of each voxel of a grid, without postprocessing.
///
/// # Shapes
/// `logits` `[K, z, y, x]` → `[z, y, x]`.
pub fn decide(spec: &ModelSpec, logits: &Logits) -> Vec<Label> {
    labels_of(spec, logits.data(), logits.shape().iter().product())
}

/// The label of each voxel. Any subset of the voxels, such as a slab, can be processed separately.
///
/// # Shapes
/// `values` `[K, voxels]`, logits; if logits are equal, the first class is chosen, as in numpy's argmax.
pub(crate) fn labels_of(spec: &ModelSpec, values: &[f32], voxels: usize) -> Vec<Label> {
    let mut labels = vec![0; voxels];
    let entries = spec.labels.entries();
    match spec.activation {
        OutputActivation::Sigmoid => {
            let value = entries.first().map_or(0, |e| e.value);
            labels.iter_mut().zip(values).filter(|(_, logit)| **logit > 0.0).for_each(|(l, _)| *l = value);
        }
        OutputActivation::Softmax => {
            let mut planes = values.chunks_exact(voxels);
            let mut best = planes.next().unwrap_or_default().to_vec();
            for (plane, entry) in planes.zip(entries) {
                for ((label, best), logit) in labels.iter_mut().zip(&mut best).zip(plane) {
                    if *logit > *best {
                        (*label, *best) = (entry.value, *logit);
                    }
                }
            }
        }
        // nnU-Net's rule: regions are written in order, later ones over earlier ones.
        OutputActivation::Regions => {
            for (plane, region) in values.chunks_exact(voxels).zip(&spec.regions) {
                labels
                    .iter_mut()
                    .zip(plane)
                    .filter(|(_, logit)| **logit > 0.0)
                    .for_each(|(l, _)| *l = region.writes);
            }
        }
    }
    labels
}

/// The mean logits of the networks of a file.
///
/// # Shapes
/// `values` `[networks · K, voxels]` → `[K, voxels]`.
pub(crate) fn mean_of_networks(spec: &ModelSpec, mut values: Vec<f32>) -> Vec<f32> {
    if spec.networks <= 1 {
        return values;
    }
    let length = values.len() / spec.networks;
    let (mean, others) = values.split_at_mut(length);
    for other in others.chunks_exact(length.max(1)) {
        mean.iter_mut().zip(other).for_each(|(sum, v)| *sum += v);
    }
    mean.iter_mut().for_each(|sum| *sum /= spec.networks as f32);
    values.truncate(length);
    values
}

/// Replaces logits by probabilities.
///
/// # Shapes
/// `values` `[K, voxels]`.
pub(super) fn to_probabilities(spec: &ModelSpec, values: &mut [f32], voxels: usize) {
    match spec.activation {
        OutputActivation::Sigmoid | OutputActivation::Regions => {
            values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
        }
        OutputActivation::Softmax => {
            let classes = values.len() / voxels;
            for voxel in 0..voxels {
                let at = |k: usize| k * voxels + voxel;
                let max = (0..classes).map(|k| values[at(k)]).fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = (0..classes).map(|k| (values[at(k)] - max).exp()).sum();
                (0..classes).for_each(|k| values[at(k)] = (values[at(k)] - max).exp() / sum);
            }
        }
    }
}
