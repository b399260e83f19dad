use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::mirror::{flip_axes, flips};
use crate::window::{TileGrid, Region, WindowOptions, zeros};
use crate::{TileQueue, ModelSpec, PipelineError, Preprocessed, Tensor};

/// Whom a walk asks, and about what.
#[derive(Clone, Copy)]
pub(crate) struct WindowSource<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) prepared: &'a Preprocessed,
    /// Numbers of the networks that are averaged tile by tile.
    pub(crate) members: &'a [usize],
    pub(crate) stream_id: usize,
}

/// Moves the window over a region of a prepared scan and gives the blended logits plane by plane.
///
/// Tiles are asked and blended z outermost, so a plane is finished once the window has passed it. What is held are the
/// planes that tiles still touch, as many as a tile is thick, and no more. Each voxel gets the same additions in the same
/// order whatever the region is, so that a scan that is walked over in parts gets the same logits to the last bit.
pub(crate) struct SlidingWindow<'a> {
    source: WindowSource<'a>,
    plan: TileGrid,
    region: Region,
    flips: Vec<[bool; 3]>,
    tiles: Vec<[usize; 3]>,
    /// The tile whose turned forms are being asked: its number and its values.
    cut: Option<(usize, Vec<f32>)>,
    /// Requests that were sent and those whose answers came: one a tile, mirroring and member.
    sent: usize,
    answered: usize,
    /// Tiles that were blended.
    blended: usize,
    /// Planes from `next` on.
    open: VecDeque<Plane>,
    next: usize,
}

/// A plane that tiles are added to.
struct Plane {
    /// `[K, y, x]` of the region.
    sum: Vec<f32>,
    /// `[y, x]`; empty where tiles don't overlap.
    weight: Vec<f32>,
}

impl<'a> SlidingWindow<'a> {
    pub(crate) fn new(
        source: WindowSource<'a>,
        plan: TileGrid,
        region: Region,
        options: &WindowOptions,
    ) -> Result<Self, PipelineError> {
        if source.members.is_empty() {
            return Err(PipelineError::no_model());
        }
        let flips = if options.mirror { flips(source.spec) } else { vec![[false; 3]] };
        let (tiles, next) = (plan.starts(&region), region[0].start);
        Ok(Self {
            source,
            plan,
            region,
            flips,
            tiles,
            cut: None,
            sent: 0,
            answered: 0,
            blended: 0,
            open: VecDeque::new(),
            next,
        })
    }

    /// The next plane of the region, `[K, y, x]`. `tick` is told of each tile that was blended.
    pub(crate) fn next_plane(
        &mut self,
        answers: &mut dyn TileQueue,
        tick: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<f32>, PipelineError> {
        while let Some(start) = self.tiles.get(self.blended).copied().filter(|start| start[0] <= self.next) {
            let answer = self.answer(answers)?;
            self.blend(&answer, start)?;
            self.blended += 1;
            if tick().is_break() {
                return Err(PipelineError::Cancelled);
            }
        }
        // So that the engine has work while this plane is looked at.
        self.send(answers)?;
        let Some(Plane { mut sum, weight }) = self.open.pop_front() else {
            return Err(PipelineError::no_model());
        };
        self.next += 1;
        if !weight.is_empty() {
            for channel in sum.chunks_exact_mut(weight.len()) {
                channel.iter_mut().zip(&weight).for_each(|(v, w)| *v /= w);
            }
        }
        Ok(sum)
    }

    /// Sends as many requests as the engines like to have before them.
    fn send(&mut self, answers: &mut dyn TileQueue) -> Result<(), PipelineError> {
        let WindowSource { spec, prepared, members, stream_id } = self.source;
        let each = self.flips.len() * members.len();
        while self.sent < self.answered + answers.ahead().max(1) {
            let (number, request) = (self.sent / each, self.sent % each);
            let Some(start) = self.tiles.get(number) else { break };
            self.sent += 1;
            let (flip, member) = (self.flips[request / members.len()], members[request % members.len()]);
            let input = match self.cut.take() {
                Some((of, values)) if of == number => values,
                _ => self.plan.cut(prepared, *start),
            };
            let turned = if request + 1 == each && flip == [false; 3] {
                // The usual case, without a copy.
                input
            } else {
                let turned = flip_axes(&input, prepared.channels(), self.plan.tile(), flip);
                self.cut = Some((number, input));
                turned
            };
            answers.ask(stream_id, member, self.plan.tensor(spec, prepared.channels(), turned)?)?;
        }
        Ok(())
    }

    fn request(&mut self, answers: &mut dyn TileQueue) -> Result<Vec<f32>, PipelineError> {
        self.send(answers)?;
        let answer = answers.answer(self.source.stream_id)?;
        self.answered += 1;
        self.checked(answer)
    }

    /// What the members answer to the oldest tile, averaged.
    fn answer(&mut self, answers: &mut dyn TileQueue) -> Result<Vec<f32>, PipelineError> {
        let (classes, members) = (self.source.spec.classes(), self.source.members.len());
        if let ([[false, false, false]], 1) = (self.flips.as_slice(), members) {
            return self.request(answers);
        }
        let share = 1.0 / (self.flips.len() * members) as f32;
        let mut mean = vec![0.0_f32; classes * self.plan.tile_voxels()];
        for flip in self.flips.clone() {
            for _ in 0..members {
                let values = flip_axes(&self.request(answers)?, classes, self.plan.tile(), flip);
                mean.iter_mut().zip(&values).for_each(|(a, v)| *a += v * share);
            }
        }
        Ok(mean)
    }

    fn checked(&self, answer: Tensor) -> Result<Vec<f32>, PipelineError> {
        let spec = self.source.spec;
        let space = &self.plan.tile()[3 - spec.network.dimensions.count()..];
        let expected = [&[1, spec.classes()], space].concat();
        let (found, values) = answer.into_parts();
        if found != expected {
            return Err(PipelineError::AnswerShape { expected, found });
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Err(PipelineError::AnswerNotFinite);
        }
        Ok(values)
    }

    /// Adds a tile to the planes that it touches.
    fn blend(&mut self, answer: &[f32], start: [usize; 3]) -> Result<(), PipelineError> {
        let [tz, ty, tx] = self.plan.tile();
        let [rz, ry, rx] = self.region.clone();
        let [height, width] = [ry.len(), rx.len()];
        // What of the tile lies in the region, from where in both.
        let z = start[0].max(rz.start)..(start[0] + tz).min(rz.end);
        let y = start[1].max(ry.start)..(start[1] + ty).min(ry.end);
        let x = start[2].max(rx.start)..(start[2] + tx).min(rx.end);
        let weights = self.plan.weights();
        while self.next + self.open.len() < z.end {
            let sum = zeros((height * width).checked_mul(self.source.spec.classes()))?;
            let weight = if weights.is_some() { zeros(Some(height * width))? } else { Vec::new() };
            self.open.push_back(Plane { sum, weight });
        }
        for z in z {
            let Some(plane) = self.open.get_mut(z - self.next) else { continue };
            let dz = z - start[0];
            for y in y.clone() {
                let dy = y - start[1];
                let (row, from) =
                    ((y - ry.start) * width + x.start - rx.start, (dz * ty + dy) * tx + x.start - start[2]);
                let channels = plane.sum.chunks_exact_mut(height * width).zip(answer.chunks_exact(tz * ty * tx));
                let Some([wz, wy, wx]) = weights else {
                    for (sum, tile) in channels {
                        sum[row..row + x.len()].copy_from_slice(&tile[from..from + x.len()]);
                    }
                    continue;
                };
                let w = wz[dz] * wy[dy];
                let wx = &wx[x.start - start[2]..x.end - start[2]];
                for (sum, tile) in channels {
                    let values = tile[from..from + x.len()].iter().zip(wx);
                    sum[row..row + x.len()].iter_mut().zip(values).for_each(|(s, (v, x))| *s += v * x * w);
                }
                plane.weight[row..row + x.len()].iter_mut().zip(wx).for_each(|(s, x)| *s += x * w);
            }
        }
        Ok(())
    }
}
