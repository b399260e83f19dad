//! Estimates how much memory a prediction needs.

use sulcus_model::{CropRule, ModelSpec, Tiling};
use sulcus_volume::{AxisResampling, Geometry, Reorientation};

use super::chunks::ChunkSize;
use super::resample_back::{resamplings, source_region};
use super::settings::{InferenceSettings, PlannedModel, ScanOwnership};
use super::tile_grid::TileGrid;
use crate::preprocess::GridTransform;
use crate::{Outputs, PipelineError, Resampling};

const BYTES_PER_VALUE: u64 = size_of::<f32>() as u64;

/// The models of a prediction and its scan: the properties that determine the memory.
pub(super) struct MemoryModel<'a> {
    geometry: &'a Geometry,
    grids: Vec<GridMemory<'a>>,
    settings: &'a InferenceSettings,
    /// Tiles that are cut, predicted or waiting at the same time.
    tiles_in_flight: usize,
    /// The memory of the process with the engine loaded, of the running engine, and of the caller's data.
    base_bytes: u64,
}

/// A network grid.
struct GridMemory<'a> {
    /// The specification of each window group on it.
    specs: Vec<&'a ModelSpec>,
    /// Preprocessed copies of the scan.
    copies: usize,
    transform: GridTransform,
    resamplings: [AxisResampling; 3],
    /// The tiles of each window group.
    tiles: Vec<TileGrid>,
}

impl<'a> MemoryModel<'a> {
    /// `grids` are the specifications of each network grid's window groups, and how many preprocessed copies of the scan it needs.
    pub(super) fn new(
        geometry: &'a Geometry,
        grids: impl IntoIterator<Item = (Vec<&'a ModelSpec>, usize)>,
        settings: &'a InferenceSettings,
        tiles_in_flight: usize,
        base_bytes: u64,
    ) -> Result<Self, PipelineError> {
        let grid = |(specs, copies): (Vec<&'a ModelSpec>, usize)| {
            let first = specs.first().ok_or_else(PipelineError::no_model)?;
            let transform = GridTransform::checked(first, geometry)?;
            let tiles = specs
                .iter()
                .map(|spec| Ok(TileGrid::new(spec, transform.resampled_shape, settings.window.step_of(spec)?)));
            let tiles = tiles.collect::<Result<_, PipelineError>>()?;
            Ok(GridMemory { specs, copies, resamplings: resamplings(&transform), transform, tiles })
        };
        let grids = grids.into_iter().map(grid).collect::<Result<_, PipelineError>>()?;
        Ok(Self { geometry, grids, settings, tiles_in_flight, base_bytes })
    }

    /// The largest chunks that keep the limit.
    pub(super) fn largest_chunks(&self, limit: Option<u64>) -> Result<ChunkSize, PipelineError> {
        let Some(limit) = limit else { return Ok(ChunkSize::WHOLE) };
        let required = self.min_bytes()?;
        let refused = || {
            let specs = self.grids.iter().flat_map(|grid| grid.specs.iter().copied());
            let resampling = Resampling::enlarging(specs, self.geometry).map(Box::new);
            PipelineError::MemoryLimit { limit, required, resampling }
        };
        if required > limit {
            return Err(refused());
        }
        let [_, ny, nz] = self.geometry.shape();
        let rows = self.grids.iter().map(|grid| grid.transform.reoriented_shape[1]).fold(ny, usize::max);
        let slice_choices = if self.grids.len() > 1 { divisions(nz) } else { vec![usize::MAX] };
        for slices in &slice_choices {
            for rows in divisions(rows) {
                let chunks = ChunkSize { slices: *slices, rows };
                if self.peak_bytes(chunks)? <= limit {
                    return Ok(chunks);
                }
            }
        }
        Err(refused())
    }

    /// The memory for the smallest chunks.
    pub(super) fn min_bytes(&self) -> Result<u64, PipelineError> {
        let slices = if self.grids.len() > 1 { 1 } else { usize::MAX };
        self.peak_bytes(ChunkSize { slices, rows: 1 })
    }

    /// The peak memory between the first step of preprocessing and the writing of the mask.
    pub(super) fn peak_bytes(&self, chunks: ChunkSize) -> Result<u64, PipelineError> {
        let voxels = self.geometry.voxels() as u64;
        let spec = self.grids.iter().flat_map(|grid| &grid.specs).next().ok_or_else(PipelineError::no_model)?;
        let (classes, channels) = (spec.classes() as u64, spec.channels.len() as u64);
        let scan = bytes_of([channels, voxels]);
        let probabilities = match self.settings.outputs {
            Outputs::Labels => 0,
            Outputs::LabelsAndProbabilities => bytes_of([classes, voxels]),
        };
        let mask = sum([size_of::<sulcus_volume::Label>() as u64 * voxels, probabilities]);
        let several_grids = self.grids.len() > 1;
        let slab_slices = if several_grids { chunks.slices.min(self.geometry.shape()[2]) } else { 0 };
        let [nx, ny, _] = self.geometry.shape();
        let slab = bytes_of([classes, slab_slices as u64, (nx * ny) as u64]);
        // After prediction: the bytes of the mask before and after compression, and the component labels of
        // postprocessing.
        let mut peak = sum([mask, 2 * voxels, if spec.postprocessing.is_empty() { 0 } else { 5 * voxels }]);
        for grid in &self.grids {
            let resampled_voxels = grid.transform.resampled_shape.iter().product::<usize>() as u64;
            let inputs = grid.specs.iter().map(|spec| spec.input_channels() as u64).max().unwrap_or(channels);
            let preprocessed = bytes_of([inputs, resampled_voxels, grid.copies as u64]);
            let keeps_scan = self.settings.scan == ScanOwnership::Borrowed || several_grids || grid.copies > 1;
            let temporary =
                grid.specs.iter().map(|spec| grid.transform.intermediate_bytes(spec)).max().unwrap_or(0);
            // A cropped scan is copied first, and the mask of a previous network needs room for its channels.
            let takes_memory =
                |spec: &&ModelSpec| spec.crop == CropRule::Whole && spec.input_channels() == spec.channels.len();
            let in_place =
                grid.transform.in_place_bytes().filter(|_| !keeps_scan && grid.specs.iter().all(takes_memory));
            let result = in_place.unwrap_or(preprocessed);
            let preprocessing = sum([scan, result, temporary]);
            let kept = if keeps_scan { scan } else { 0 };
            peak = peak
                .max(if several_grids { sum([mask, slab, preprocessing]) } else { preprocessing })
                .max(sum([kept, preprocessed, mask, self.window_bytes(grid, chunks), slab]));
        }
        Ok(sum([peak, self.base_bytes]))
    }

    /// The planes that later tiles still overlap, those that are being resampled, and the tiles in the queue.
    fn window_bytes(&self, grid: &GridMemory<'_>, chunks: ChunkSize) -> u64 {
        let [nx, ny, nz] = self.geometry.shape();
        let slices = chunks.slice_ranges(self.geometry).next().unwrap_or(0..nz);
        let mut max = 0;
        for region in chunks.reoriented_regions(&grid.transform, self.geometry, [0..nx, 0..ny, slices]) {
            let [x, y, z] = source_region(&grid.resamplings, &region);
            let source_plane = (x.len() * y.len()) as u64;
            let target_plane = (region[0].len() * region[1].len()) as u64;
            // A complete plane, the two planes between which one plane of the scan lies, that plane, and its labels.
            let classes = grid.specs.first().map_or(0, |spec| spec.classes() as u64);
            let mut bytes = bytes_of([classes, 2 * source_plane + 4 * target_plane]);
            let region = [z, y, x];
            for (spec, tiles) in grid.specs.iter().zip(&grid.tiles) {
                let (classes, channels) = (spec.classes() as u64, spec.input_channels() as u64);
                let open_planes = tiles.tile()[0].min(region[0].len()) as u64;
                let weights = u64::from(tiles.weights().is_some());
                // Logits of a tile, their mean or mirrored copy, and a copy inside the engine.
                let outputs = classes.saturating_mul(spec.networks as u64);
                let per_voxel = outputs + classes + (outputs + channels) * self.tiles_in_flight as u64;
                bytes = sum([
                    bytes,
                    bytes_of([open_planes, source_plane, classes + weights]),
                    bytes_of([tiles.tile_voxels() as u64, per_voxel]),
                    (size_of::<[usize; 3]>() as u64).saturating_mul(tiles.count(&region) as u64),
                ]);
            }
            max = max.max(bytes);
        }
        max
    }
}

/// The bytes of as many values as the product of these numbers. Header and model determine them, so a product that does not fit is
/// more than any limit.
fn bytes_of<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(BYTES_PER_VALUE, u64::saturating_mul)
}

fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

/// The memory of an engine while it predicts one tile, estimated from the network.
///
/// The peak occurs at the finest resolution: in the decoder, where the skip connection, the upsampled map, both
/// concatenated and the output of a convolution exist at the same time, or in the encoder with the input, output and
/// intermediate map of a block; the skip connections of all other resolutions exist too.
fn engine_workspace_bytes(spec: &ModelSpec, geometry: &Geometry) -> u64 {
    /// Engines keep freed blocks, which do not always fit the next request. Measured: with this factor the process of
    /// ONNX Runtime stayed below 2 GB on 512×512×512 voxels with a network of base 16 and patches of 96³. Other networks
    /// were not measured.
    const ARENA_OVERHEAD: f64 = 1.6;
    let network = &spec.network;
    let edges = tile_edges(spec, geometry);
    let mut downsampling = vec![1; edges.len()];
    let mut feature_maps = Vec::new();
    for stage in &network.stages {
        downsampling.iter_mut().zip(&stage.stride).for_each(|(d, s)| *d *= s);
        let voxels: usize = edges.iter().zip(&downsampling).map(|(edge, d)| edge.div_ceil(*d)).product();
        feature_maps.push(bytes_of([stage.channels as u64, voxels as u64]) as f64);
    }
    let all: f64 = feature_maps.iter().sum();
    let peak = feature_maps.iter().map(|map| all + 4.0 * map).fold(0.0, f64::max);
    (peak * ARENA_OVERHEAD) as u64
}

/// The memory for the intermediate values of one call of a model's engine, in bytes; estimated from the network if it is not known.
pub fn workspace_bytes(model: &PlannedModel<'_>, geometry: &Geometry) -> u64 {
    model.workspace_bytes.unwrap_or_else(|| engine_workspace_bytes(model.spec, geometry))
}

/// The spatial edges of the tiles in which a model sees a scan of this geometry, `[(D,) H, W]`.
pub fn tile_edges(spec: &ModelSpec, geometry: &Geometry) -> Vec<usize> {
    match spec.tiling {
        Tiling::Patch | Tiling::CentredPatch => spec.patch.clone(),
        Tiling::Whole => {
            let reorientation =
                Reorientation::between(geometry.orientation(), spec.orientation.orientation_for(geometry));
            let [x, y, z] = reorientation.shape(geometry.shape());
            let padded = [z, y, x].into_iter().skip(3 - spec.padding_multiple.len()).zip(&spec.padding_multiple);
            padded.map(|(edge, multiple)| edge.next_multiple_of((*multiple).max(1))).collect()
        }
    }
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
