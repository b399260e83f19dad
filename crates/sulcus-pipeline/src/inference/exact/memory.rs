//! Estimates the memory of a prediction that keeps the whole volume of logits.

use sulcus_model::ModelSpec;
use sulcus_volume::{Geometry, Label};

use super::configurations::configurations;
use crate::inference::settings::InferenceSettings;
use crate::inference::tile_grid::TileGrid;
use crate::nnunet::resampling_bytes;
use crate::preprocess::GridTransform;
use crate::{Outputs, PipelineError};

const SINGLE: u64 = size_of::<f32>() as u64;
const HALF: u64 = 2;

/// The peak of a prediction in bytes, besides the loaded models and the engine.
pub(in crate::inference) fn peak_bytes(
    specs: &[&ModelSpec],
    geometry: &Geometry,
    settings: &InferenceSettings,
    tiles_in_flight: usize,
) -> Result<u64, PipelineError> {
    let voxels = geometry.voxels() as u64;
    let configurations = configurations(specs);
    let mut peak = 0;
    for networks in &configurations {
        let first = networks.first().and_then(|first| specs.get(*first));
        let spec = first.copied().ok_or_else(PipelineError::no_model)?;
        let folds = networks.iter().filter_map(|network| specs.get(*network)).map(|s| s.networks as u64);
        let (several_files, folds) = (u64::from(networks.len() > 1), folds.max().unwrap_or(1));
        let (channels, classes) = (spec.channels.len() as u64, spec.classes() as u64);
        let transform = GridTransform::checked(spec, geometry)?;
        let on_grid = product(transform.resampled_shape);
        let tiles = TileGrid::new(spec, transform.resampled_shape, settings.window.step_of(spec)?);
        let scan = times([channels, voxels, SINGLE]);
        let inputs = spec.input_channels() as u64;
        let preprocessed = times([inputs, on_grid, SINGLE]);
        let copies = times([3, voxels, SINGLE]);
        let preprocessing = sum([
            scan,
            copies,
            preprocessed,
            resampling_bytes(transform.reoriented_shape, transform.resampled_shape),
        ])
        .saturating_add(transform.mask_bytes(spec));
        let kept = sum([scan, preprocessed]);
        let outputs = times([classes, folds]);
        let per_tile_voxel =
            sum([outputs.saturating_mul(3), sum([outputs, inputs]).saturating_mul(tiles_in_flight as u64)]);
        let window = sum([
            kept,
            times([sum([outputs, several_files * classes, 1]), on_grid, HALF]),
            times([tiles.tile_voxels() as u64, per_tile_voxel, SINGLE]),
        ]);
        let back = sum([
            kept,
            times([classes, on_grid, HALF]),
            times([classes, voxels, SINGLE]),
            resampling_bytes(transform.resampled_shape, transform.reoriented_shape),
        ]);
        peak = peak.max(preprocessing).max(window).max(back);
    }
    let first = specs.first().ok_or_else(PipelineError::no_model)?;
    let probabilities = match settings.outputs {
        Outputs::Labels if configurations.len() == 1 => 0,
        _ => times([first.classes() as u64, voxels, SINGLE, 3]),
    };
    let postprocessing = if first.postprocessing.is_empty() { 0 } else { 5 * voxels };
    Ok(sum([peak, probabilities, 2 * size_of::<Label>() as u64 * voxels, postprocessing]))
}

fn product(shape: [usize; 3]) -> u64 {
    shape.into_iter().fold(1, |product, n| product.saturating_mul(n as u64))
}

fn times<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}

fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}
