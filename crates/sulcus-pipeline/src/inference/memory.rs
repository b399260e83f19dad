//! How much memory a prediction takes, and into which pieces it is cut to keep a limit.

use sulcus_volume::Geometry;

use crate::prepare::GridTransform;
use crate::restore::source_region;
use crate::stream::{blocks, parts};
use crate::window::{TileGrid, WindowOptions};
use crate::{ModelSpec, Normalisation, Outputs, PipelineError, SpacingRule};

/// Bytes of a value.
const FLOAT: u64 = 4;

/// What of a scan is worked on at a time. Smaller pieces take less memory, and more time: a tile that touches several
/// pieces is asked for each. The mask is the same to the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize {
    /// Slices of the scan, for models of different grids, which meet there.
    pub slices: usize,
    /// Rows of a plane of the turned grid.
    pub rows: usize,
}

impl ChunkSize {
    /// The scan in one piece.
    pub const WHOLE: Self = Self { slices: usize::MAX, rows: usize::MAX };
}

/// What the memory of a prediction depends on.
#[derive(Debug, Clone)]
pub struct MemoryModel<'a> {
    /// The models by prepared grid, and of each grid by window: one specification a [`WeightedGroup`](crate::Share).
    pub grids: Vec<Vec<&'a ModelSpec>>,
    /// Different preparations of the scan on each grid.
    pub preparations: Vec<usize>,
    /// How the scan is walked over.
    pub options: WindowOptions,
    /// What is wanted.
    pub outputs: Outputs,
    /// Whether the scan itself stays in memory while it is predicted.
    pub holds_scan: bool,
    /// Tiles that are cut, answered or waiting at the same time.
    pub tiles_in_flight: usize,
    /// Bytes that the process holds with the engine ready, and those that the engine works in.
    pub engine_bytes: u64,
}

impl MemoryModel<'_> {
    /// The largest pieces that keep the limit.
    ///
    /// # Errors
    /// [`PipelineError::MemoryLimit`] where the smallest ones don't; otherwise as
    /// [`count_tiles`](crate::count_tiles).
    pub fn pieces(&self, geometry: &Geometry, limit: Option<u64>) -> Result<ChunkSize, PipelineError> {
        let Some(limit) = limit else { return Ok(ChunkSize::WHOLE) };
        let [_, ny, nz] = geometry.shape();
        let rows = self.most_rows(geometry)?;
        let by_slices = if self.grids.len() > 1 { divisions(nz) } else { vec![usize::MAX] };
        for slices in &by_slices {
            for rows in divisions(rows.max(ny)) {
                let pieces = ChunkSize { slices: *slices, rows };
                if self.peak_bytes(geometry, pieces)? <= limit {
                    return Ok(pieces);
                }
            }
        }
        Err(PipelineError::MemoryLimit { limit, least: self.least_bytes(geometry)? })
    }

    /// The memory that the smallest pieces take.
    ///
    /// # Errors
    /// As [`count_tiles`](crate::count_tiles).
    pub fn least_bytes(&self, geometry: &Geometry) -> Result<u64, PipelineError> {
        let slices = if self.grids.len() > 1 { 1 } else { usize::MAX };
        self.peak_bytes(geometry, ChunkSize { slices, rows: 1 })
    }

    fn most_rows(&self, geometry: &Geometry) -> Result<usize, PipelineError> {
        let mut most = 1;
        for spec in self.grids.iter().filter_map(|grid| grid.first()) {
            most = most.max(GridTransform::checked(spec, geometry)?.turned_shape[1]);
        }
        Ok(most)
    }

    /// The most memory that is held at a time, from the first step of preparing to the mask's writing.
    ///
    /// # Errors
    /// As [`count_tiles`](crate::count_tiles).
    pub fn peak_bytes(&self, geometry: &Geometry, pieces: ChunkSize) -> Result<u64, PipelineError> {
        let voxels = geometry.voxels() as u64;
        let spec = self.grids.iter().flatten().next().ok_or_else(PipelineError::no_model)?;
        let (classes, channels) = (spec.classes() as u64, spec.channels.len() as u64);
        let scan = FLOAT * channels * voxels;
        let probabilities = match self.outputs {
            Outputs::Labels => 0,
            Outputs::LabelsAndProbabilities => FLOAT * classes * voxels,
        };
        let mask = size_of::<sulcus_volume::Label>() as u64 * voxels + probabilities;
        let several = self.grids.len() > 1;
        let slices = if several { pieces.slices.min(geometry.shape()[2]) } else { 0 } as u64;
        let [nx, ny, _] = geometry.shape();
        let block = FLOAT * classes * slices * (nx * ny) as u64;
        // Decided numbers, and the file's bytes before and after compression.
        let mut peak = mask + 2 * voxels + spec.postprocessing.iter().map(|_| 5 * voxels).max().unwrap_or(0);
        for (grid, preparations) in self.grids.iter().zip(&self.preparations) {
            let Some(first) = grid.first() else { continue };
            let path = GridTransform::checked(first, geometry)?;
            let prepared = FLOAT * channels * path.prepared_shape.iter().product::<usize>() as u64;
            let held = prepared * *preparations as u64;
            let keeps_scan = self.holds_scan || several || *preparations > 1;
            let preparing = scan + held + preparing_bytes(first, &path);
            let context = if keeps_scan { scan } else { 0 }
                + held
                + mask
                + self.walk_bytes(grid, &path, geometry, pieces)?;
            peak = peak.max(if several { mask + block + preparing } else { preparing }).max(context + block);
        }
        Ok(peak + self.engine_bytes)
    }

    /// The planes that tiles still touch, those that are being brought back, and the tiles on their way.
    fn walk_bytes(
        &self,
        grid: &[&ModelSpec],
        path: &GridTransform,
        geometry: &Geometry,
        pieces: ChunkSize,
    ) -> Result<u64, PipelineError> {
        let [nx, ny, _] = geometry.shape();
        let slices = blocks(geometry, pieces.slices).next().unwrap_or(0..geometry.shape()[2]);
        let mut most = 0;
        for part in parts(path, geometry, [0..nx, 0..ny, slices], pieces.rows) {
            let source = source_region(path, &part);
            let plane = (source[0].len() * source[1].len()) as u64;
            let back = (part[0].len() * part[1].len()) as u64;
            let mut bytes = 0;
            for spec in grid {
                let plan = TileGrid::new(spec, path.prepared_shape, self.options.step_of(spec)?);
                let (classes, tile) = (spec.classes() as u64, plan.tile_voxels() as u64);
                let thick = plan.tile()[0].min(source[2].len()) as u64;
                let weights = u64::from(plan.weights().is_some());
                bytes += FLOAT * thick * plane * (classes + weights);
                // An answer, what it is averaged into or turned, and a copy inside the engine.
                bytes += FLOAT
                    * tile
                    * (classes * 2 + (classes + spec.channels.len() as u64) * self.tiles_in_flight as u64);
            }
            // A finished plane, the two between which one of the scan's lies, that one, and its labels.
            let classes = grid.first().map_or(0, |spec| spec.classes() as u64);
            most = most.max(bytes + FLOAT * classes * (2 * plane + 4 * back));
        }
        Ok(most)
    }
}

/// What is held for a while beside the scan and its prepared form.
fn preparing_bytes(spec: &ModelSpec, path: &GridTransform) -> u64 {
    let turned = path.turned_shape.iter().product::<usize>() as u64;
    let sorted = spec.channels.iter().any(|c| matches!(c.normalisation, Normalisation::Percentile { .. }));
    let resampled = match spec.spacing {
        SpacingRule::Native => 0,
        // Axis by axis: the largest step, from and to.
        SpacingRule::Resample { .. } => {
            2 * (0..3)
                .map(|axes| {
                    (0..3)
                        .map(|a| if a <= axes { path.prepared_shape[a] } else { path.turned_shape[a] } as u64)
                        .product()
                })
                .max()
                .unwrap_or(turned)
                .max(turned)
        }
    };
    // The values that count, and two flags a voxel.
    let nonzero = spec.channels.iter().any(|c| c.normalisation == Normalisation::ZScoreNonzero);
    FLOAT * (resampled + if sorted || nonzero { turned } else { 0 }) + if nonzero { 2 * turned } else { 0 }
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
    fn pieces_get_smaller_one_by_one() {
        assert_eq!(divisions(12), [12, 6, 4, 3, 2, 1]);
        assert_eq!(divisions(1), [1]);
    }
}
