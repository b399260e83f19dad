use std::collections::VecDeque;
use std::ops::ControlFlow;

use sulcus_model::ModelSpec;

use super::decide::mean_of_networks;
use super::mirror::{flip_axes, flips};
use super::tile_grid::{TileGrid, ZyxRanges};
use super::tile_queue::TileQueue;
use super::{WindowOptions, zeros};
use crate::{PipelineError, Preprocessed, Tensor};

/// The input of a window, and the networks that predict its tiles.
#[derive(Clone, Copy)]
pub(super) struct WindowSource<'a> {
    pub(super) spec: &'a ModelSpec,
    pub(super) preprocessed: &'a Preprocessed,
    /// Indices of the networks whose logits are averaged tile by tile.
    pub(super) networks: &'a [usize],
    pub(super) stream_id: usize,
}

/// Moves a window over a region of a preprocessed scan and returns the weighted mean of the logits plane by plane.
///
/// Tiles are predicted and added with z outermost, so a plane is complete once the window has passed it. Only the planes
/// that later tiles still overlap are kept, at most as many as a tile has. Every voxel gets the same additions in the
/// same order for every region, so that a scan that is processed in chunks gets the same logits to the last bit.
pub(super) struct SlidingWindow<'a> {
    source: WindowSource<'a>,
    grid: TileGrid,
    region: ZyxRanges,
    flips: Vec<[bool; 3]>,
    tiles: Vec<[usize; 3]>,
    /// The index and the values of the tile whose mirrored copies are being submitted.
    current: Option<(usize, Vec<f32>)>,
    /// Requests submitted and received: one per tile, mirroring and network.
    submitted: usize,
    received: usize,
    /// Number of tiles that were added.
    blended: usize,
    /// Incomplete planes, from `next_z` on.
    open_planes: VecDeque<Plane>,
    next_z: usize,
}

/// A plane that tiles are added to.
struct Plane {
    /// `[K, y, x]` of the region.
    sum: Vec<f32>,
    /// `[y, x]`; empty when tiles do not overlap.
    weight: Vec<f32>,
}

impl<'a> SlidingWindow<'a> {
    pub(super) fn new(
        source: WindowSource<'a>,
        grid: TileGrid,
        region: ZyxRanges,
        options: &WindowOptions,
    ) -> Result<Self, PipelineError> {
        if source.networks.is_empty() {
            return Err(PipelineError::no_model());
        }
        let flips = if options.mirror { flips(source.spec) } else { vec![[false; 3]] };
        let (tiles, next_z) = (grid.starts(&region), region[0].start);
        Ok(Self {
            source,
            grid,
            region,
            flips,
            tiles,
            current: None,
            submitted: 0,
            received: 0,
            blended: 0,
            open_planes: VecDeque::new(),
            next_z,
        })
    }

    /// The next plane of the region, `[K, y, x]`. `on_tile` is called after each added tile.
    pub(super) fn next_plane(
        &mut self,
        queue: &mut dyn TileQueue,
        on_tile: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<f32>, PipelineError> {
        while let Some(start) = self.tiles.get(self.blended).copied().filter(|start| start[0] <= self.next_z) {
            let logits = self.tile_logits(queue)?;
            self.blend(&logits, start)?;
            self.blended += 1;
            if on_tile().is_break() {
                return Err(PipelineError::Cancelled);
            }
        }
        // Keeps the engine busy while the caller processes this plane.
        self.fill_queue(queue)?;
        let Some(Plane { mut sum, weight }) = self.open_planes.pop_front() else {
            return Err(PipelineError::no_model());
        };
        self.next_z += 1;
        if !weight.is_empty() {
            for channel in sum.chunks_exact_mut(weight.len()) {
                channel.iter_mut().zip(&weight).for_each(|(v, w)| *v /= w);
            }
        }
        Ok(sum)
    }

    /// Submits tiles up to the depth of the queue.
    fn fill_queue(&mut self, queue: &mut dyn TileQueue) -> Result<(), PipelineError> {
        let WindowSource { spec, preprocessed, networks, stream_id } = self.source;
        let requests_per_tile = self.flips.len() * networks.len();
        while self.submitted < self.received + queue.depth().max(1) {
            let (index, request) = (self.submitted / requests_per_tile, self.submitted % requests_per_tile);
            let Some(start) = self.tiles.get(index) else { break };
            self.submitted += 1;
            let (flip, network) = (self.flips[request / networks.len()], networks[request % networks.len()]);
            let values = match self.current.take() {
                Some((of, values)) if of == index => values,
                _ => self.grid.cut(preprocessed, *start),
            };
            let flipped = if request + 1 == requests_per_tile && flip == [false; 3] {
                // The usual case, which needs no copy.
                values
            } else {
                let flipped = flip_axes(&values, preprocessed.channels(), self.grid.tile(), flip);
                self.current = Some((index, values));
                flipped
            };
            queue.submit(stream_id, network, self.grid.tensor(spec, preprocessed.channels(), flipped)?)?;
        }
        Ok(())
    }

    fn receive(&mut self, queue: &mut dyn TileQueue) -> Result<Vec<f32>, PipelineError> {
        self.fill_queue(queue)?;
        let logits = queue.receive(self.source.stream_id)?;
        self.received += 1;
        Ok(mean_of_networks(self.source.spec, checked_answer(self.source.spec, &self.grid, logits)?))
    }

    /// The logits of the next tile, averaged over networks and mirrorings.
    fn tile_logits(&mut self, queue: &mut dyn TileQueue) -> Result<Vec<f32>, PipelineError> {
        let (classes, networks) = (self.source.spec.classes(), self.source.networks.len());
        if let ([[false, false, false]], 1) = (self.flips.as_slice(), networks) {
            return self.receive(queue);
        }
        let weight = 1.0 / (self.flips.len() * networks) as f32;
        let mut mean = vec![0.0_f32; classes * self.grid.tile_voxels()];
        for flip in self.flips.clone() {
            for _ in 0..networks {
                let values = flip_axes(&self.receive(queue)?, classes, self.grid.tile(), flip);
                mean.iter_mut().zip(&values).for_each(|(a, v)| *a += v * weight);
            }
        }
        Ok(mean)
    }

    /// Adds a tile to the planes that it touches.
    fn blend(&mut self, logits: &[f32], start: [usize; 3]) -> Result<(), PipelineError> {
        let [tz, ty, tx] = self.grid.tile();
        let [rz, ry, rx] = self.region.clone();
        let [height, width] = [ry.len(), rx.len()];
        // The part of the tile inside the region.
        let z = start[0].max(rz.start)..(start[0] + tz).min(rz.end);
        let y = start[1].max(ry.start)..(start[1] + ty).min(ry.end);
        let x = start[2].max(rx.start)..(start[2] + tx).min(rx.end);
        let (weights, before) = (self.grid.weights(), self.grid.before());
        // The columns of the tile.
        let columns = x.start - start[2] + before[2]..x.end - start[2] + before[2];
        while self.next_z + self.open_planes.len() < z.end {
            let sum = zeros((height * width).checked_mul(self.source.spec.classes()))?;
            let weight = if weights.is_some() { zeros(Some(height * width))? } else { Vec::new() };
            self.open_planes.push_back(Plane { sum, weight });
        }
        for z in z {
            let Some(plane) = self.open_planes.get_mut(z - self.next_z) else { continue };
            let dz = z - start[0] + before[0];
            for y in y.clone() {
                let dy = y - start[1] + before[1];
                let row = (y - ry.start) * width + x.start - rx.start;
                let tile_row = (dz * ty + dy) * tx + columns.start;
                let channels = plane.sum.chunks_exact_mut(height * width).zip(logits.chunks_exact(tz * ty * tx));
                let Some([wz, wy, wx]) = weights else {
                    for (sum, tile) in channels {
                        sum[row..row + x.len()].copy_from_slice(&tile[tile_row..tile_row + x.len()]);
                    }
                    continue;
                };
                let w = wz[dz] * wy[dy];
                let wx = &wx[columns.clone()];
                for (sum, tile) in channels {
                    let values = tile[tile_row..tile_row + x.len()].iter().zip(wx);
                    sum[row..row + x.len()].iter_mut().zip(values).for_each(|(s, (v, x))| *s += v * x * w);
                }
                plane.weight[row..row + x.len()].iter_mut().zip(wx).for_each(|(s, x)| *s += x * w);
            }
        }
        Ok(())
    }
}

/// The logits of a tile, `[networks · K, z, y, x]`, after a check of their shape and that they are finite.
pub(super) fn checked_answer(
    spec: &ModelSpec,
    grid: &TileGrid,
    logits: Tensor,
) -> Result<Vec<f32>, PipelineError> {
    let spatial = &grid.tile()[3 - spec.network.dimensions.count()..];
    let expected = [&[1, spec.networks * spec.classes()], spatial].concat();
    let (found, values) = logits.into_parts();
    if found != expected {
        return Err(PipelineError::AnswerShape { expected, found });
    }
    if !values.iter().all(|v| v.is_finite()) {
        return Err(PipelineError::AnswerNotFinite);
    }
    Ok(values)
}
