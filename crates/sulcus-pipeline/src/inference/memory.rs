//! Estimates how much memory a prediction needs.

use sulcus_model::{ModelSpec, Normalisation, Tiling};
use sulcus_volume::{Geometry, Reorientation};

use super::chunks::ChunkSize;
use super::resample_back::source_region;
use super::settings::{InferenceSettings, ScanOwnership};
use super::tile_grid::TileGrid;
use crate::preprocess::GridTransform;
use crate::{Outputs, PipelineError};

const BYTES_PER_VALUE: u64 = size_of::<f32>() as u64;

/// The properties of the models that determine the memory.
pub(super) struct MemoryModel<'a> {
    /// One entry per network grid: the specification of each window group on it.
    pub(super) grids: Vec<Vec<&'a ModelSpec>>,
    /// Preprocessed copies of the scan per network grid.
    pub(super) preprocessed_copies: Vec<usize>,
    pub(super) settings: &'a InferenceSettings,
    /// Tiles that are cut, predicted or waiting at the same time.
    pub(super) tiles_in_flight: usize,
    /// The memory of the process with the engine loaded, of the running engine, and of the caller's data.
    pub(super) base_bytes: u64,
}

impl MemoryModel<'_> {
    /// The largest chunks that keep the limit.
    pub(super) fn largest_chunks(
        &self,
        geometry: &Geometry,
        limit: Option<u64>,
    ) -> Result<ChunkSize, PipelineError> {
        let Some(limit) = limit else { return Ok(ChunkSize::WHOLE) };
        let [_, ny, nz] = geometry.shape();
        let rows = self.max_rows(geometry)?.max(ny);
        let slice_choices = if self.grids.len() > 1 { divisions(nz) } else { vec![usize::MAX] };
        for slices in &slice_choices {
            for rows in divisions(rows) {
                let chunks = ChunkSize { slices: *slices, rows };
                if self.peak_bytes(geometry, chunks)? <= limit {
                    return Ok(chunks);
                }
            }
        }
        Err(PipelineError::MemoryLimit { limit, required: self.min_bytes(geometry)? })
    }

    /// The memory for the smallest chunks.
    pub(super) fn min_bytes(&self, geometry: &Geometry) -> Result<u64, PipelineError> {
        let slices = if self.grids.len() > 1 { 1 } else { usize::MAX };
        self.peak_bytes(geometry, ChunkSize { slices, rows: 1 })
    }

    fn max_rows(&self, geometry: &Geometry) -> Result<usize, PipelineError> {
        let mut max = 1;
        for spec in self.grids.iter().filter_map(|grid| grid.first()) {
            max = max.max(GridTransform::checked(spec, geometry)?.reoriented_shape[1]);
        }
        Ok(max)
    }

    /// The peak memory between the first step of preprocessing and the writing of the mask.
    pub(super) fn peak_bytes(&self, geometry: &Geometry, chunks: ChunkSize) -> Result<u64, PipelineError> {
        let voxels = geometry.voxels() as u64;
        let spec = self.grids.iter().flatten().next().ok_or_else(PipelineError::no_model)?;
        let (classes, channels) = (spec.classes() as u64, spec.channels.len() as u64);
        let scan = BYTES_PER_VALUE * channels * voxels;
        let probabilities = match self.settings.outputs {
            Outputs::Labels => 0,
            Outputs::LabelsAndProbabilities => BYTES_PER_VALUE * classes * voxels,
        };
        let mask = size_of::<sulcus_volume::Label>() as u64 * voxels + probabilities;
        let several_grids = self.grids.len() > 1;
        let slab_slices = if several_grids { chunks.slices.min(geometry.shape()[2]) } else { 0 } as u64;
        let [nx, ny, _] = geometry.shape();
        let slab = BYTES_PER_VALUE * classes * slab_slices * (nx * ny) as u64;
        // After prediction: the bytes of the mask before and after compression, and the component labels of
        // postprocessing.
        let mut peak = mask + 2 * voxels + spec.postprocessing.iter().map(|_| 5 * voxels).max().unwrap_or(0);
        for (grid, copies) in self.grids.iter().zip(&self.preprocessed_copies) {
            let Some(first) = grid.first() else { continue };
            let transform = GridTransform::checked(first, geometry)?;
            let resampled_voxels = transform.resampled_shape.iter().product::<usize>() as u64;
            let preprocessed = BYTES_PER_VALUE * channels * resampled_voxels * *copies as u64;
            let keeps_scan = self.settings.scan == ScanOwnership::Borrowed || several_grids || *copies > 1;
            let preprocessing = scan + preprocessed + preprocessing_bytes(first, &transform);
            let predicting = if keeps_scan { scan } else { 0 }
                + preprocessed
                + mask
                + self.window_bytes(grid, &transform, geometry, chunks)?;
            peak = peak
                .max(if several_grids { mask + slab + preprocessing } else { preprocessing })
                .max(predicting + slab);
        }
        Ok(peak + self.base_bytes)
    }

    /// The planes that later tiles still overlap, those that are being resampled, and the tiles in the queue.
    fn window_bytes(
        &self,
        grid: &[&ModelSpec],
        transform: &GridTransform,
        geometry: &Geometry,
        chunks: ChunkSize,
    ) -> Result<u64, PipelineError> {
        let [nx, ny, _] = geometry.shape();
        let slices = chunks.slice_ranges(geometry).next().unwrap_or(0..geometry.shape()[2]);
        let mut max = 0;
        for region in chunks.reoriented_regions(transform, geometry, [0..nx, 0..ny, slices]) {
            let source = source_region(transform, &region);
            let source_plane = (source[0].len() * source[1].len()) as u64;
            let target_plane = (region[0].len() * region[1].len()) as u64;
            let mut bytes = 0;
            for spec in grid {
                let tiles = TileGrid::new(spec, transform.resampled_shape, self.settings.window.step_of(spec)?);
                let (classes, tile) = (spec.classes() as u64, tiles.tile_voxels() as u64);
                let open_planes = tiles.tile()[0].min(source[2].len()) as u64;
                let weights = u64::from(tiles.weights().is_some());
                bytes += BYTES_PER_VALUE * open_planes * source_plane * (classes + weights);
                // Logits of a tile, their mean or mirrored copy, and a copy inside the engine.
                bytes += BYTES_PER_VALUE
                    * tile
                    * (classes * 2 + (classes + spec.channels.len() as u64) * self.tiles_in_flight as u64);
            }
            // A complete plane, the two planes between which one plane of the scan lies, that plane, and its labels.
            let classes = grid.first().map_or(0, |spec| spec.classes() as u64);
            max = max.max(bytes + BYTES_PER_VALUE * classes * (2 * source_plane + 4 * target_plane));
        }
        Ok(max)
    }
}

/// The temporary memory of preprocessing, besides the scan and its preprocessed form.
fn preprocessing_bytes(spec: &ModelSpec, transform: &GridTransform) -> u64 {
    let reoriented = transform.reoriented_shape.iter().product::<usize>() as u64;
    let sorts_values = spec.channels.iter().any(|c| matches!(c.normalisation, Normalisation::Percentile { .. }));
    let resampling = if transform.resampled_shape == transform.reoriented_shape {
        0
    } else {
        // Axis by axis: source and result of the largest step.
        let step = |axes: usize| -> u64 {
            let edge = |axis: usize| {
                if axis <= axes { transform.resampled_shape[axis] } else { transform.reoriented_shape[axis] }
            };
            (0..3).map(|axis| edge(axis) as u64).product()
        };
        2 * (0..3).map(step).max().unwrap_or(reoriented).max(reoriented)
    };
    let nonzero = spec.channels.iter().any(|c| c.normalisation == Normalisation::ZScoreNonzero);
    // The values that are counted, and two flags per voxel.
    BYTES_PER_VALUE * (resampling + if sorts_values || nonzero { reoriented } else { 0 })
        + if nonzero { 2 * reoriented } else { 0 }
}

/// The memory of an engine while it predicts one tile, estimated from the network.
///
/// The peak occurs at the finest resolution: in the decoder, where the skip connection, the upsampled map, both
/// concatenated and the output of a convolution exist at the same time, or in the encoder with the input, output and
/// intermediate map of a block; the skip connections of all other resolutions exist too.
pub(super) fn engine_workspace_bytes(spec: &ModelSpec, geometry: &Geometry) -> u64 {
    /// Engines keep freed blocks, which do not always fit the next request. Measured: with this factor the process of
    /// ONNX Runtime stayed below 2 GB on 512×512×512 voxels with a network of base 16 and patches of 96³. Other networks
    /// were not measured.
    const ARENA_OVERHEAD: f64 = 1.6;
    let network = &spec.network;
    let edges: Vec<usize> = match spec.tiling {
        Tiling::Patch => spec.patch.clone(),
        Tiling::Whole => {
            let reorientation =
                Reorientation::between(geometry.orientation(), spec.orientation.orientation_for(geometry));
            let [x, y, z] = reorientation.shape(geometry.shape());
            let padded = [z, y, x].into_iter().skip(3 - spec.padding_multiple.len()).zip(&spec.padding_multiple);
            padded.map(|(edge, multiple)| edge.next_multiple_of((*multiple).max(1))).collect()
        }
    };
    let mut downsampling = vec![1; edges.len()];
    let mut feature_maps = Vec::new();
    for stage in &network.stages {
        downsampling.iter_mut().zip(&stage.stride).for_each(|(d, s)| *d *= s);
        let voxels: usize = edges.iter().zip(&downsampling).map(|(edge, d)| edge.div_ceil(*d)).product();
        feature_maps.push((stage.channels * voxels) as u64 * BYTES_PER_VALUE);
    }
    let all: u64 = feature_maps.iter().sum();
    let peak = feature_maps.iter().map(|map| all + 4 * map).max().unwrap_or(0);
    (peak as f64 * ARENA_OVERHEAD) as u64
}

/// The whole, a half, a third, … down to one.
fn divisions(whole: usize) -> Vec<usize> {
    let mut lengths: Vec<usize> = (1..=whole).map(|n| whole.div_ceil(n)).collect();
    lengths.dedup();
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisions_decrease_to_one() {
        assert_eq!(divisions(12), [12, 6, 4, 3, 2, 1]);
        assert_eq!(divisions(1), [1]);
    }
}
