//! Executes a plan: preprocesses the scan, moves the sliding windows over it, and chooses the labels plane by plane.

use std::ops::{ControlFlow, Range};

use sulcus_model::ModelSpec;

use super::chunks::ChunkSize;
use super::decide::to_probabilities;
use super::exact;
use super::label_accumulator::{LabelAccumulator, LogitSlab};
use super::logits::Logits;
use super::plan::{Average, GridGroup, InferencePlan};
use super::resample_back::{ReorientedPlane, resample_region, resamplings, source_region};
use super::settings::{ModelInput, Numerics, ScanInput};
use super::sliding_window::{SlidingWindow, WindowSource};
use super::stage_seconds::{StageSeconds, timed};
use super::tile_grid::TileGrid;
use super::tile_queue::TileQueue;
use super::{Progress, WindowOptions};
use crate::preprocess::{InverseTransform, Preprocessed, preprocess_owned, preprocess_with_mask};
use crate::{Outputs, PipelineError, Prediction};

/// The result of [`execute`].
#[derive(Debug)]
pub struct Execution {
    /// Mask and probabilities on the scan's grid.
    pub prediction: Prediction,
    /// Number of predicted tiles.
    pub tiles: usize,
    /// The duration of each stage.
    pub seconds: StageSeconds,
}

/// Models that see the same preprocessed scan through the same sliding window.
#[derive(Debug, Clone)]
pub struct WeightedGroup<'a> {
    /// Their common window and classes.
    pub spec: &'a ModelSpec,
    /// The preprocessed scan.
    pub preprocessed: &'a Preprocessed,
    /// Their indices in the [`TileQueue`]; they are averaged tile by tile.
    pub networks: Vec<usize>,
    /// The factor of their mean in the average of all models.
    pub weight: f32,
}

/// Inputs of [`InverseTransform::stream`] besides models and scan.
pub struct InferenceContext<'a> {
    /// Tile step and mirroring.
    pub options: WindowOptions,
    /// How much of the scan is processed at a time.
    pub chunks: ChunkSize,
    /// The networks.
    pub queue: &'a mut dyn TileQueue,
    /// Called after each tile; a break ends the prediction with [`PipelineError::Cancelled`].
    pub on_tile: &'a mut dyn FnMut() -> ControlFlow<()>,
}

/// Predicts a scan by a plan. `models` are in the order in which they were planned, `combined` is the
/// specification by which labels are chosen, `queue` runs the networks.
///
/// If all models share one network grid, only the planes that later tiles still overlap are kept. If grids differ, logits
/// are averaged on the scan's own grid, in slabs of as many slices as the plan says.
///
/// # Errors
/// If the scan does not fit the models, the mask of a previous network is missing, a network fails or returns another shape or NaN, or
/// the observer asks to stop.
pub fn execute(
    plan: &InferencePlan,
    models: &[ModelInput<'_>],
    combined: &ModelSpec,
    scan: ScanInput<'_>,
    queue: &mut dyn TileQueue,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Execution, PipelineError> {
    let geometry = *scan.image().geometry();
    let mut progress = Progress { done: 0, total: plan.tiles };
    let mut on_tile = || {
        progress.done += 1;
        observer(progress)
    };
    let mut seconds = StageSeconds::default();
    if plan.numerics == Numerics::Nnunet {
        let prediction = exact::run(plan, models, combined, scan, queue, &mut on_tile, &mut seconds)?;
        return Ok(Execution { prediction, tiles: progress.done, seconds });
    }
    let mut context = InferenceContext { options: plan.window, chunks: plan.chunks, queue, on_tile: &mut on_tile };
    let mut accumulator = LabelAccumulator::new(combined, &geometry, plan.outputs)?;
    if let [grid] = plan.grids.as_slice() {
        let (preprocessed, inverse) = timed(&mut seconds.preprocess, || preprocess_grid(grid, models, scan))?;
        let groups = weighted_groups(grid, models, &preprocessed)?;
        timed(&mut seconds.infer, || inverse.stream(&groups, &mut context, &mut accumulator))?;
    } else {
        for slices in plan.chunks.slice_ranges(&geometry) {
            let mut slab = LogitSlab::new(&geometry, combined.classes(), slices)?;
            for grid in &plan.grids {
                let borrowed = ScanInput::Borrowed(scan.image());
                let (preprocessed, inverse) =
                    timed(&mut seconds.preprocess, || preprocess_grid(grid, models, borrowed))?;
                let groups = weighted_groups(grid, models, &preprocessed)?;
                timed(&mut seconds.infer, || match plan.average {
                    Average::Logits => inverse.stream_into(&groups, &mut context, &mut slab),
                    Average::Probabilities => {
                        let weight = 1.0 / plan.grids.len() as f32;
                        inverse.stream_probabilities(combined, weight, &groups, &mut context, &mut slab)
                    }
                })?;
            }
            accumulator.add_slab(match plan.average {
                Average::Logits => slab,
                Average::Probabilities => slab.into_logits(combined),
            });
        }
        drop(scan);
    }
    let prediction = timed(&mut seconds.postprocess, || accumulator.finish())?;
    Ok(Execution { prediction, tiles: progress.done, seconds })
}

/// The scan for each preprocessing group of a grid, and the inverse transform, which they share.
fn preprocess_grid(
    grid: &GridGroup,
    models: &[ModelInput<'_>],
    scan: ScanInput<'_>,
) -> Result<(Vec<Preprocessed>, InverseTransform), PipelineError> {
    let first = |model: &usize| models.get(*model).copied();
    let of_group: Vec<ModelInput<'_>> = grid
        .preprocessings
        .iter()
        .filter_map(|group| group.windows.first()?.models.first().and_then(first))
        .collect();
    let (last, others) = of_group.split_last().ok_or_else(PipelineError::no_model)?;
    let mut preprocessed = Vec::new();
    for model in others {
        preprocessed.push(preprocess_with_mask(model.spec, scan.image(), model.mask)?.0);
    }
    let (of_last, inverse) = match scan {
        ScanInput::Owned(image) if last.mask.is_none() => preprocess_owned(last.spec, image)?,
        scan => preprocess_with_mask(last.spec, scan.image(), last.mask)?,
    };
    preprocessed.push(of_last);
    Ok((preprocessed, inverse))
}

fn weighted_groups<'a>(
    grid: &GridGroup,
    models: &[ModelInput<'a>],
    preprocessed: &'a [Preprocessed],
) -> Result<Vec<WeightedGroup<'a>>, PipelineError> {
    let mut groups = Vec::new();
    for (group, preprocessed) in grid.preprocessings.iter().zip(preprocessed) {
        for window in &group.windows {
            let first = window.models.first().and_then(|first| models.get(*first));
            let spec = first.ok_or_else(PipelineError::no_model)?.spec;
            let (networks, weight) = (window.models.clone(), window.weight);
            groups.push(WeightedGroup { spec, preprocessed, networks, weight });
        }
    }
    Ok(groups)
}

impl InverseTransform {
    /// Predicts the scan and chooses the labels of each plane as soon as it is complete: logits are resampled linearly to
    /// the scan's voxel size, the label of each voxel is chosen, and the labels are reoriented to the scan. All groups
    /// share this network grid.
    ///
    /// # Errors
    /// If a network fails or returns another shape or NaN, a group's scan has another grid, the tile step is not in (0,
    /// 1], or the caller asks to stop.
    pub fn stream(
        &self,
        groups: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        accumulator: &mut LabelAccumulator<'_>,
    ) -> Result<(), PipelineError> {
        let whole = self.geometry.shape().map(|n| 0..n);
        self.stream_region(groups, context, whole, &mut |plane| {
            accumulator.add_plane(&self.transform.reorientation, plane);
        })
    }

    /// As [`InverseTransform::stream`] for the slices of a slab: the logits are added to the slab, and no labels are
    /// chosen.
    ///
    /// # Errors
    /// As [`InverseTransform::stream`].
    pub fn stream_into(
        &self,
        groups: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        slab: &mut LogitSlab,
    ) -> Result<(), PipelineError> {
        self.stream_slab(groups, context, slab, |_| ())
    }

    /// As [`InverseTransform::stream_into`], but adds probabilities with a weight.
    fn stream_probabilities(
        &self,
        spec: &ModelSpec,
        weight: f32,
        groups: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        slab: &mut LogitSlab,
    ) -> Result<(), PipelineError> {
        self.stream_slab(groups, context, slab, |plane| {
            let voxels = plane.y.len() * plane.x.len();
            to_probabilities(spec, &mut plane.values, voxels);
            plane.values.iter_mut().for_each(|p| *p *= weight);
        })
    }

    /// Changes each plane of logits, and adds it to the slab.
    fn stream_slab(
        &self,
        groups: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        slab: &mut LogitSlab,
        change: impl Fn(&mut ReorientedPlane),
    ) -> Result<(), PipelineError> {
        let [nx, ny, _] = self.geometry.shape();
        let region = [0..nx, 0..ny, slab.slices.clone()];
        self.stream_region(groups, context, region, &mut |mut plane| {
            change(&mut plane);
            slab.add(&self.transform.reorientation, &plane);
        })
    }

    /// `of_scan` is x, y, z.
    fn stream_region(
        &self,
        groups: &[WeightedGroup<'_>],
        context: &mut InferenceContext<'_>,
        of_scan: [Range<usize>; 3],
        sink: &mut dyn FnMut(ReorientedPlane),
    ) -> Result<(), PipelineError> {
        if self.crop.is_some() {
            // Planes have the grid of the cropped box; the accumulator has the scan's.
            return Err(PipelineError::CroppedStream);
        }
        let classes = groups.first().ok_or_else(PipelineError::no_model)?.spec.classes();
        let along = resamplings(&self.transform);
        for region in context.chunks.reoriented_regions(&self.transform, &self.geometry, of_scan) {
            let [x, y, z] = source_region(&along, &region);
            let mut windows = Vec::new();
            for (stream_id, group) in groups.iter().enumerate() {
                let WeightedGroup { spec, preprocessed, networks, weight } = group;
                if (preprocessed.shape(), spec.classes()) != (self.transform.resampled_shape, classes) {
                    return Err(PipelineError::Ensemble(format!(
                        "one gives {classes} classes on a grid of {:?} voxels, another one {} on {:?}",
                        self.transform.resampled_shape,
                        spec.classes(),
                        preprocessed.shape()
                    )));
                }
                let grid = TileGrid::new(spec, preprocessed.shape(), context.options.step_of(spec)?);
                let source = WindowSource { spec, preprocessed, networks, stream_id };
                let region = [z.clone(), y.clone(), x.clone()];
                windows.push((SlidingWindow::new(source, grid, region, &context.options)?, *weight));
            }
            let mut next = || weighted_plane(&mut windows, context.queue, context.on_tile);
            resample_region(&self.transform, classes, &region, &mut next, sink)?;
        }
        Ok(())
    }

    /// Applies the transform to logits of the whole grid: resamples them linearly to the scan's voxel size, chooses the
    /// labels, reorients and postprocesses them, and inserts them where the scan was cropped.
    ///
    /// # Errors
    /// If the logits have another grid than the preprocessed scan of this transform.
    pub fn finish(self, spec: &ModelSpec, logits: Logits, outputs: Outputs) -> Result<Prediction, PipelineError> {
        let Self { geometry, transform, crop } = self;
        if logits.shape() != transform.resampled_shape || logits.classes() != spec.classes() {
            return Err(PipelineError::AnswerShape {
                expected: [vec![spec.classes()], transform.resampled_shape.to_vec()].concat(),
                found: [vec![logits.classes()], logits.shape().to_vec()].concat(),
            });
        }
        let mut accumulator = LabelAccumulator::new(spec, &geometry, outputs)?;
        let whole = transform.reoriented_shape.map(|n| 0..n);
        let [x, y, mut z] = source_region(&resamplings(&transform), &whole);
        let mut next = || Ok(logits.plane(z.next().unwrap_or_default(), &y, &x));
        resample_region(&transform, spec.classes(), &whole, &mut next, &mut |plane| {
            accumulator.add_plane(&transform.reorientation, plane);
        })?;
        let prediction = accumulator.finish()?;
        match crop {
            Some(crop) => crop.restore(spec, prediction),
            None => Ok(prediction),
        }
    }
}

/// The next plane of each window, summed with their weights.
fn weighted_plane(
    windows: &mut [(SlidingWindow<'_>, f32)],
    queue: &mut dyn TileQueue,
    on_tile: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<f32>, PipelineError> {
    let mut sum: Option<Vec<f32>> = None;
    for (window, weight) in windows {
        let mut plane = window.next_plane(queue, on_tile)?;
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
