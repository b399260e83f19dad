use std::ops::Range;

use crate::{PipelineError, Preprocessed, Tensor};
use sulcus_model::{ModelSpec, Tiling};

/// A part of a grid: ranges along z, y, x.
pub(super) type ZyxRanges = [Range<usize>; 3];

/// The positions of the sliding window's tiles. All triples are z, y, x, the order of the tensor's axes. Tiles of a 2-D network
/// are one slice thick.
pub(super) struct TileGrid {
    shape: [usize; 3],
    tile: [usize; 3],
    starts: [Vec<usize>; 3],
    /// The voxels of a tile before the first one of the grid, along axes where the grid is shorter than the tile.
    before: [usize; 3],
    /// Weights of a tile along z, y, x; `None` if tiles do not overlap.
    weights: Option<[Vec<f32>; 3]>,
}

impl TileGrid {
    pub(super) fn new(spec: &ModelSpec, [nx, ny, nz]: [usize; 3], step: f64) -> Self {
        let shape = [nz, ny, nx];
        let missing = 3 - spec.network.dimensions.count();
        let along = |values: &[usize], axis: usize| axis.checked_sub(missing).and_then(|a| values.get(a)).copied();
        let tile: [usize; 3] = std::array::from_fn(|axis| match spec.tiling {
            Tiling::Patch | Tiling::CentredPatch => along(&spec.patch, axis).unwrap_or(1),
            Tiling::Whole => {
                along(&spec.padding_multiple, axis).map_or(1, |m| shape[axis].next_multiple_of(m.max(1)))
            }
        });
        let starts: [Vec<usize>; 3] = std::array::from_fn(|axis| tile_starts(shape[axis], tile[axis], step));
        let overlapping = (missing..3).any(|axis| starts[axis].len() > 1);
        let is_centred = spec.tiling == Tiling::CentredPatch;
        let centre_and_floor = |tile: usize| match is_centred {
            true => ((tile / 2) as f64, 0.0),
            false => ((tile as f64 - 1.0) / 2.0, MIN_WEIGHT),
        };
        let weights = overlapping.then(|| {
            tile.map(|tile| {
                let (centre, floor) = centre_and_floor(tile);
                gaussian(tile, centre, floor)
            })
        });
        let before = std::array::from_fn(|axis| match is_centred {
            true => tile[axis].saturating_sub(shape[axis]) / 2,
            false => 0,
        });
        Self { shape, tile, starts, before, weights }
    }

    pub(super) fn tiles(&self) -> usize {
        self.starts.iter().map(Vec::len).product()
    }

    pub(super) fn tile_voxels(&self) -> usize {
        self.tile.iter().product()
    }

    /// The number of tiles that touch a region.
    pub(super) fn count(&self, region: &ZyxRanges) -> usize {
        (0..3).map(|axis| self.touching(axis, region).len()).product()
    }

    /// The starts of the tiles that touch a region, z outermost: the order in which they are predicted and added.
    pub(super) fn starts(&self, region: &ZyxRanges) -> Vec<[usize; 3]> {
        let along = |axis: usize| self.touching(axis, region).iter().copied();
        along(0).flat_map(|z| along(1).flat_map(move |y| along(2).map(move |x| [z, y, x]))).collect()
    }

    /// The starts along an axis of the tiles that touch a region.
    fn touching(&self, axis: usize, region: &ZyxRanges) -> &[usize] {
        let (tile, starts, Range { start, end }) = (self.tile[axis], &self.starts[axis], region[axis].clone());
        let first = starts.partition_point(|at| at + tile <= start);
        let last = starts.partition_point(|at| *at < end);
        starts.get(first..last).unwrap_or_default()
    }

    /// Voxels of a tile along z, y, x.
    pub(super) fn tile(&self) -> [usize; 3] {
        self.tile
    }

    /// The voxels of a tile before the first one of the grid, along z, y, x; 0 where the grid is as long as a tile or longer.
    pub(super) fn before(&self) -> [usize; 3] {
        self.before
    }

    /// The region that covers the whole grid.
    pub(super) fn whole(&self) -> ZyxRanges {
        self.shape.map(|edge| 0..edge)
    }

    /// The weights of a tile's voxels along z, y, x; `None` if tiles do not overlap.
    pub(super) fn weights(&self) -> Option<&[Vec<f32>; 3]> {
        self.weights.as_ref()
    }

    pub(super) fn tensor(
        &self,
        spec: &ModelSpec,
        channels: usize,
        data: Vec<f32>,
    ) -> Result<Tensor, PipelineError> {
        let space = &self.tile[3 - spec.network.dimensions.count()..];
        Tensor::new([&[1, channels], space].concat(), data)
    }

    /// The extent of the tile at `start` that lies inside the volume, z, y, x.
    fn inside(&self, start: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|a| self.tile[a].min(self.shape[a] - start[a]))
    }

    /// The offset in the volume, the offset in the tile and the length of each row that both share.
    pub(super) fn rows(&self, start: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
        let [dz, dy, dx] = self.inside(start);
        let ([_, ny, nx], [_, ty, tx], [bz, by, bx]) = (self.shape, self.tile, self.before);
        (0..dz).flat_map(move |z| {
            (0..dy).map(move |y| {
                let in_volume = ((start[0] + z) * ny + start[1] + y) * nx + start[2];
                (in_volume, ((z + bz) * ty + y + by) * tx + bx, dx)
            })
        })
    }

    /// `[C, z, y, x]` values of a tile; 0 outside the volume.
    pub(super) fn cut(&self, prepared: &Preprocessed, start: [usize; 3]) -> Vec<f32> {
        let (voxels, tile) = (self.shape.iter().product::<usize>(), self.tile_voxels());
        let mut out = vec![0.0; prepared.channels() * tile];
        for (plane, out) in prepared.data().chunks_exact(voxels).zip(out.chunks_exact_mut(tile)) {
            for (from, to, length) in self.rows(start) {
                out[to..to + length].copy_from_slice(&plane[from..from + length]);
            }
        }
        out
    }
}

/// nnU-Net's window: `ceil((image − tile) / (step · tile)) + 1` tiles, evenly spaced from edge to edge.
pub(super) fn tile_starts(image: usize, tile: usize, step: f64) -> Vec<usize> {
    let Some(room) = image.checked_sub(tile).filter(|r| *r > 0) else {
        return vec![0];
    };
    // However small the step is, at most one tile starts at each voxel.
    let count = ((room as f64 / (step * tile as f64)).ceil() as usize).clamp(1, room) + 1;
    let distance = room as f64 / (count - 1) as f64;
    // NumPy, and therefore nnU-Net, rounds halves to even.
    let mut starts: Vec<usize> = (0..count).map(|i| (i as f64 * distance).round_ties_even() as usize).collect();
    starts.dedup();
    starts
}

/// A voxel that is covered only by the corner of one tile still needs a positive weight, the product of three of these.
const MIN_WEIGHT: f64 = 1e-4;

/// Gaussian weights along one axis with σ = tile / 8 (nnU-Net): the centre of a tile has the greatest weight.
fn gaussian(tile: usize, centre: f64, floor: f64) -> Vec<f32> {
    let sigma = tile as f64 / 8.0;
    (0..tile).map(|i| (-0.5 * ((i as f64 - centre) / sigma).powi(2)).exp().max(floor) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_starts_equal_nnunets() {
        assert_eq!(tile_starts(110, 64, 0.5), [0, 23, 46]);
        assert_eq!(tile_starts(189, 96, 0.5), [0, 46, 93]);
        assert_eq!(tile_starts(191, 96, 0.5), [0, 48, 95]);
        assert_eq!(tile_starts(64, 64, 0.5), [0]);
        assert_eq!(tile_starts(30, 64, 0.5), [0]);
        assert_eq!(tile_starts(128, 64, 1.0), [0, 64]);
        assert_eq!(tile_starts(65, 64, 0.1), [0, 1]);
        assert_eq!(tile_starts(70, 64, 1e-20), [0, 1, 2, 3, 4, 5, 6]);
    }
}
