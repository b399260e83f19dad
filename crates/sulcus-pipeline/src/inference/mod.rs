use std::ops::ControlFlow;

use sulcus_volume::Geometry;

use crate::prepare::GridTransform;
use crate::{ModelSpec, PipelineError, Predictor, Preprocessed};

mod answers;
mod logits;
mod mirror;
mod plan;
mod walk;

pub use answers::{TileQueue, SyncTileQueue};
pub use logits::Logits;
pub(crate) use plan::{TileGrid, Region};
pub(crate) use walk::{WindowSource, SlidingWindow};

/// How a volume is walked over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WindowOptions {
    /// Share of a tile by which the window advances; the model's own when absent.
    pub step: Option<f64>,
    /// Also predict mirrored along the axes that the model was trained with mirrored, and all combinations of them, and
    /// average.
    pub mirror: bool,
}

impl WindowOptions {
    pub(crate) fn step_of(&self, spec: &ModelSpec) -> Result<f64, PipelineError> {
        let step = self.step.unwrap_or(spec.tile_step);
        if step > 0.0 && step <= 1.0 {
            Ok(step)
        } else {
            Err(PipelineError::Spec(format!("the window step must lie in (0, 1], found {step}")))
        }
    }
}

/// How far a prediction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tiles done.
    pub done: usize,
    /// Tiles in all.
    pub total: usize,
}

/// Tiles that [`predict_logits`] will cut a scan of this geometry into, before it is prepared.
///
/// # Errors
/// When the step is not in (0, 1], or the prepared grid would be larger than any that can be worked on.
pub fn count_tiles(
    spec: &ModelSpec,
    geometry: &Geometry,
    options: &WindowOptions,
) -> Result<usize, PipelineError> {
    let path = GridTransform::checked(spec, geometry)?;
    Ok(TileGrid::new(spec, path.prepared_shape, options.step_of(spec)?).tiles())
}

/// Asks the predictors tile by tile and averages their logits, the whole grid's at once. A mask alone needs far less
/// memory: [`InverseTransform::stream`](crate::Restore::stream) decides plane by plane.
///
/// # Errors
/// When a predictor fails or answers with another shape or with NaN, the step is not in (0, 1], or the observer
/// asks to stop.
pub fn predict_logits(
    spec: &ModelSpec,
    prepared: &Preprocessed,
    predictors: &[&dyn Predictor],
    options: &WindowOptions,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Logits, PipelineError> {
    let [nx, ny, nz] = prepared.shape();
    let (classes, voxels) = (spec.classes(), nx * ny * nz);
    let members: Vec<usize> = (0..predictors.len()).collect();
    let plan = TileGrid::new(spec, prepared.shape(), options.step_of(spec)?);
    let (total, region) = (plan.tiles(), plan.whole());
    let mut walk = SlidingWindow::new(WindowSource { spec, prepared, members: &members, stream_id: 0 }, plan, region, options)?;
    let mut sum = zeros(classes.checked_mul(voxels))?;
    let mut answers = SyncTileQueue::new(predictors);
    let mut tick = ticker(total, observer);
    for z in 0..nz {
        let plane = walk.next_plane(&mut answers, &mut tick)?;
        for (volume, plane) in sum.chunks_exact_mut(voxels).zip(plane.chunks_exact(nx * ny)) {
            volume[z * nx * ny..(z + 1) * nx * ny].copy_from_slice(plane);
        }
    }
    Ok(Logits::new(prepared.shape(), classes, sum, total))
}

/// Counts tiles for an observer that wants to know how far it is.
fn ticker(total: usize, observer: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> impl FnMut() -> ControlFlow<()> {
    let mut done = 0;
    move || {
        done += 1;
        observer(Progress { done, total })
    }
}

/// Memory for the whole grid's logits: too much for this machine is an error of the case, not the end of the program.
pub(crate) fn zeros(length: Option<usize>) -> Result<Vec<f32>, PipelineError> {
    let length = length.ok_or(PipelineError::Memory { values: usize::MAX })?;
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| PipelineError::Memory { values: length })?;
    values.resize(length, 0.0);
    Ok(values)
}
