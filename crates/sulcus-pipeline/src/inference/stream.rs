//! From tiles to a mask without ever holding a volume of logits.

use std::ops::{ControlFlow, Range};

use sulcus_volume::{Geometry, Image, Label, LabelMap, Reorientation};

use crate::decide::{labels_of, to_probabilities};
use crate::memory::ChunkSize;
use crate::prepare::GridTransform;
use crate::restore::{ReorientedPlane, resample_region, source_region};
use crate::window::{WindowSource, TileGrid, Region, SlidingWindow, WindowOptions, zeros};
use crate::{TileQueue, ModelSpec, Outputs, PipelineError, Preprocessed, InverseTransform, Prediction, postprocess};

/// Models that look at the same prepared scan through the same window, and their part in an average.
#[derive(Debug, Clone)]
pub struct WeightedGroup<'a> {
    /// What they have in common: window and classes.
    pub spec: &'a ModelSpec,
    /// The scan as they take it.
    pub prepared: &'a Preprocessed,
    /// Their numbers among the [`TileQueue`]; they are averaged tile by tile.
    pub networks: Vec<usize>,
    /// By what their logits are multiplied before they are added to those of other shares.
    pub weight: f32,
}

/// How a prediction is asked for.
pub struct InferenceContext<'a> {
    /// The window.
    pub options: WindowOptions,
    /// What is held at a time.
    pub pieces: ChunkSize,
    /// The networks.
    pub answers: &'a mut dyn TileQueue,
    /// Is told of each tile that is done; a break ends the prediction with [`PipelineError::Cancelled`].
    pub tick: &'a mut dyn FnMut() -> ControlFlow<()>,
}

impl InverseTransform {
    /// Predicts, brings each plane back as soon as it is finished, and decides on it: resampled linearly to the scan's
    /// voxel size, each voxel decided, turned to the scan's orientation. The shares have this prepared grid in common.
    ///
    /// # Errors
    /// When a network fails or answers with another shape or with NaN, a share's scan lies on another grid, the window's
    /// step is not in (0, 1], or the caller asks to stop.
    pub fn stream(
        &self,
        shares: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        decision: &mut LabelAccumulator<'_>,
    ) -> Result<(), PipelineError> {
        let whole = self.geometry.shape().map(|n| 0..n);
        self.walk(shares, context, whole, &mut |plane| decision.plane(&self.path.turn, plane))
    }

    /// As [`InverseTransform::stream`] for some slices of the scan, and without deciding: the logits are added to those of other
    /// prepared grids.
    ///
    /// # Errors
    /// As [`InverseTransform::stream`].
    pub fn stream_into(
        &self,
        shares: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        block: &mut LogitSlab,
    ) -> Result<(), PipelineError> {
        let [nx, ny, _] = self.geometry.shape();
        let part = [0..nx, 0..ny, block.slices.clone()];
        self.walk(shares, context, part, &mut |plane| block.add(&self.path.turn, &plane))
    }

    fn walk(
        &self,
        shares: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        of_scan: [Range<usize>; 3],
        sink: &mut dyn FnMut(ReorientedPlane),
    ) -> Result<(), PipelineError> {
        if !self.is_of_whole_scan() {
            // The decision's grid is the scan's: planes of a part would land in the wrong place.
            return Err(PipelineError::Spec(
                "it looks at a part of the scan: cut that out (`Crop`) before it is predicted plane by plane"
                    .into(),
            ));
        }
        let classes = shares.first().ok_or_else(PipelineError::no_model)?.spec.classes();
        for part in parts(&self.path, &self.geometry, of_scan, context.pieces.rows) {
            let [x, y, z] = source_region(&self.path, &part);
            let mut walks = Vec::new();
            for (stream_id, share) in shares.iter().enumerate() {
                let WeightedGroup { spec, prepared, networks, weight } = share;
                if (prepared.shape(), spec.classes()) != (self.path.prepared_shape, classes) {
                    return Err(PipelineError::Ensemble(format!(
                        "one answers with {classes} classes on a grid of {:?} voxels, another one with {} on {:?}",
                        self.path.prepared_shape,
                        spec.classes(),
                        prepared.shape()
                    )));
                }
                let plan = TileGrid::new(spec, prepared.shape(), context.options.step_of(spec)?);
                let source = WindowSource { spec, prepared, members: networks, stream_id };
                let region = [z.clone(), y.clone(), x.clone()];
                walks.push((SlidingWindow::new(source, plan, region, &context.options)?, *weight));
            }
            let mut next = || mean_plane(&mut walks, context.answers, context.tick);
            resample_region(&self.path, classes, &part, &mut next, sink)?;
        }
        Ok(())
    }
}

/// The next plane of walks over one grid, each with its weight.
fn mean_plane(
    walks: &mut [(SlidingWindow<'_>, f32)],
    answers: &mut dyn TileQueue,
    tick: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<f32>, PipelineError> {
    let mut sum: Option<Vec<f32>> = None;
    for (walk, weight) in walks {
        let mut plane = walk.next_plane(answers, tick)?;
        if *weight != 1.0 {
            plane.iter_mut().for_each(|v| *v *= *weight);
        }
        match &mut sum {
            None => sum = Some(plane),
            Some(sum) => sum.iter_mut().zip(&plane).for_each(|(a, b)| *a += b),
        }
    }
    sum.ok_or_else(PipelineError::no_model)
}

/// The pieces that a part of the scan (x, y, z) is worked on in: parts of the turned grid with so many rows.
pub(crate) fn parts(
    path: &GridTransform,
    geometry: &Geometry,
    of_scan: [Range<usize>; 3],
    rows: usize,
) -> impl Iterator<Item = [Range<usize>; 3]> + use<> {
    let [x, y, z] = path.turn.part(geometry.shape(), of_scan);
    let rows = rows.max(1);
    let end = y.end;
    y.step_by(rows).map(move |start| [x.clone(), start..start.saturating_add(rows).min(end), z.clone()])
}

/// The ranges of a scan's slices that models of different grids are averaged on, one after the other.
pub(crate) fn blocks(geometry: &Geometry, slices: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (end, slices) = (geometry.shape()[2], slices.max(1));
    (0..end).step_by(slices).map(move |start| start..start.saturating_add(slices).min(end))
}

/// Tiles that [`InverseTransform::stream`] will cut a scan of this geometry into when it is worked on in these pieces; those that
/// touch several pieces count, and are asked, for each. With `blocks`, of [`InverseTransform::stream_into`] for all blocks.
///
/// # Errors
/// When the step is not in (0, 1], or the prepared grid would be larger than any that can be worked on.
pub fn count_tiles_in_chunks(
    spec: &ModelSpec,
    geometry: &Geometry,
    options: &WindowOptions,
    pieces: ChunkSize,
) -> Result<usize, PipelineError> {
    let path = GridTransform::checked(spec, geometry)?;
    let plan = TileGrid::new(spec, path.prepared_shape, options.step_of(spec)?);
    let [nx, ny, _] = geometry.shape();
    let of_block = |slices: Range<usize>| -> usize {
        let tiles = |part: [Range<usize>; 3]| {
            let [x, y, z] = source_region(&path, &part);
            let region: Region = [z, y, x];
            plan.starts(&region).len()
        };
        parts(&path, geometry, [0..nx, 0..ny, slices], pieces.rows).map(tiles).sum()
    };
    Ok(blocks(geometry, pieces.slices).map(of_block).sum())
}

/// Logits on some slices of the scan's own grid, where those of models that prepare a scan differently are added.
#[derive(Debug)]
pub struct LogitSlab {
    shape: [usize; 3],
    slices: Range<usize>,
    /// `[K, slices, y, x]`.
    values: Vec<f32>,
}

impl LogitSlab {
    /// The blocks of a scan, of so many slices each.
    pub fn ranges(geometry: &Geometry, pieces: ChunkSize) -> Vec<Range<usize>> {
        blocks(geometry, pieces.slices).collect()
    }

    /// Zeros for these slices.
    ///
    /// # Errors
    /// When there is not that much memory.
    pub fn new(geometry: &Geometry, classes: usize, slices: Range<usize>) -> Result<Self, PipelineError> {
        let [nx, ny, _] = geometry.shape();
        let values = zeros((nx * ny * slices.len()).checked_mul(classes))?;
        Ok(Self { shape: geometry.shape(), slices, values })
    }

    fn slice_voxels(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    fn add(&mut self, turn: &Reorientation, plane: &ReorientedPlane) {
        let ReorientedPlane { z, y, x, values } = plane;
        let skip = self.slices.start * self.slice_voxels();
        let voxels = self.slices.len() * self.slice_voxels();
        for (to, from) in self.values.chunks_exact_mut(voxels).zip(values.chunks_exact(x.len() * y.len())) {
            turn.put_back(from, self.shape, (*z, y.clone(), x.clone()), to, skip, |sum, v| *sum += v);
        }
    }
}

/// A mask that is decided piece by piece, with probabilities where they are wanted.
pub struct LabelAccumulator<'a> {
    spec: &'a ModelSpec,
    geometry: Geometry,
    labels: Vec<Label>,
    /// `[K, z, y, x]`.
    probabilities: Option<Vec<f32>>,
}

impl<'a> LabelAccumulator<'a> {
    /// Nothing is decided yet.
    ///
    /// # Errors
    /// When there is not that much memory.
    pub fn new(spec: &'a ModelSpec, geometry: &Geometry, outputs: Outputs) -> Result<Self, PipelineError> {
        let voxels = geometry.voxels();
        let mut labels = Vec::new();
        labels.try_reserve_exact(voxels).map_err(|_| PipelineError::Memory { values: voxels.div_ceil(2) })?;
        labels.resize(voxels, 0);
        let probabilities = match outputs {
            Outputs::Labels => None,
            Outputs::LabelsAndProbabilities => Some(zeros(voxels.checked_mul(spec.classes()))?),
        };
        Ok(Self { spec, geometry: *geometry, labels, probabilities })
    }

    pub(crate) fn plane(&mut self, turn: &Reorientation, plane: ReorientedPlane) {
        let ReorientedPlane { z, y, x, mut values } = plane;
        let (shape, n) = (self.geometry.shape(), y.len() * x.len());
        let labels = labels_of(self.spec, &values, n);
        turn.put_back(&labels, shape, (z, y.clone(), x.clone()), &mut self.labels, 0, |to, label| *to = label);
        if let Some(probabilities) = &mut self.probabilities {
            to_probabilities(self.spec, &mut values, n);
            for (to, from) in probabilities.chunks_exact_mut(self.geometry.voxels()).zip(values.chunks_exact(n)) {
                turn.put_back(from, shape, (z, y.clone(), x.clone()), to, 0, |to, v| *to = v);
            }
        }
    }

    /// Decides on the slices of a block.
    pub fn block(&mut self, block: LogitSlab) {
        let orientation = self.geometry.orientation();
        let stay = Reorientation::between(orientation, orientation);
        let [nx, ny, _] = self.geometry.shape();
        let voxels = block.slices.len() * nx * ny;
        for (i, z) in block.slices.clone().enumerate() {
            let plane = i * nx * ny..(i + 1) * nx * ny;
            let of = |channel: &[f32]| channel.get(plane.clone()).unwrap_or_default().to_vec();
            let values = block.values.chunks_exact(voxels).flat_map(of).collect();
            self.plane(&stay, ReorientedPlane { z, y: 0..ny, x: 0..nx, values });
        }
    }

    /// The mask, postprocessed.
    ///
    /// # Errors
    /// Never for a scan that was read: its grid stays as it is.
    pub fn finish(self) -> Result<Prediction, PipelineError> {
        let Self { spec, geometry, labels, probabilities } = self;
        // On the scan's own grid, as it is chosen: which of two equal components comes first depends on the grid.
        let labels = postprocess(&spec.postprocessing, LabelMap::new(geometry, labels)?)?;
        let probabilities = probabilities.map(|data| Image::new(geometry, spec.classes(), data)).transpose()?;
        Ok(Prediction { labels, probabilities })
    }
}
