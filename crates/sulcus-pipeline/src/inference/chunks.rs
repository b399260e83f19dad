use std::ops::Range;

use sulcus_model::ModelSpec;
use sulcus_volume::{Geometry, Xyz};

use super::WindowOptions;
use super::resample_back::{resamplings, source_region};
use super::tile_grid::TileGrid;
use crate::PipelineError;
use crate::preprocess::GridTransform;

/// How much of a scan is processed at a time. Smaller chunks need less memory and more time, because a tile that touches several
/// chunks is predicted for each of them. The mask is the same to the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize {
    /// Slices of the scan; used if models with different network grids are averaged on the scan's own grid.
    pub slices: usize,
    /// Rows of the reoriented scan.
    pub rows: usize,
}

impl ChunkSize {
    /// The whole scan at once.
    pub const WHOLE: Self = Self { slices: usize::MAX, rows: usize::MAX };

    /// The ranges of slices that a scan is divided into.
    pub fn slice_ranges(self, geometry: &Geometry) -> impl Iterator<Item = Range<usize>> + use<> {
        let (end, slices) = (geometry.shape()[2], self.slices.max(1));
        (0..end).step_by(slices).map(move |start| start..start.saturating_add(slices).min(end))
    }

    /// The regions of the reoriented scan that a region of the scan is divided into; all x, y, z.
    pub(super) fn reoriented_regions(
        self,
        transform: &GridTransform,
        geometry: &Geometry,
        of_scan: [Range<usize>; 3],
    ) -> impl Iterator<Item = [Range<usize>; 3]> + use<> {
        let Xyz([x, y, z]) = transform.reorientation.region(Xyz(geometry.shape()), Xyz(of_scan));
        let (rows, end) = (self.rows.max(1), y.end);
        y.step_by(rows).map(move |start| [x.clone(), start..start.saturating_add(rows).min(end), z.clone()])
    }
}

/// Number of tiles of a scan of this geometry when it is processed in these chunks. A tile that touches several chunks
/// counts for each of them.
///
/// # Errors
/// When the tile step is not in (0, 1], or the network's grid would be larger than any that can be processed.
pub fn count_tiles_in_chunks(
    spec: &ModelSpec,
    geometry: &Geometry,
    options: &WindowOptions,
    chunks: ChunkSize,
) -> Result<usize, PipelineError> {
    let transform = GridTransform::checked(spec, geometry)?;
    let grid = TileGrid::new(spec, transform.resampled_shape, options.step_of(spec)?);
    let along = resamplings(&transform);
    let [nx, ny, _] = geometry.shape();
    let in_slices = |slices: Range<usize>| -> usize {
        let tiles = |region: [Range<usize>; 3]| {
            let [x, y, z] = source_region(&along, &region);
            grid.count(&[z, y, x])
        };
        chunks.reoriented_regions(&transform, geometry, [0..nx, 0..ny, slices]).map(tiles).sum()
    };
    Ok(chunks.slice_ranges(geometry).map(in_slices).sum())
}
