//! Sliding-window inference: planning, tiles, weighted sums, and the inverse transform to the scan's grid.

mod chunks;
mod decide;
#[cfg(feature = "exact")]
mod exact;
#[cfg(not(feature = "exact"))]
#[path = "without_exact/mod.rs"]
mod exact;
mod execute;
mod label_accumulator;
mod logits;
mod memory;
mod mirror;
mod plan;
mod resample_back;
mod settings;
mod sliding_window;
mod stage_seconds;
mod tile_grid;
mod tile_queue;

use std::ops::ControlFlow;

use sulcus_model::{ModelSpec, SpecError};
use sulcus_volume::Geometry;

use crate::preprocess::GridTransform;
use crate::{PipelineError, Predictor, Preprocessed};

pub use chunks::{ChunkSize, count_tiles_in_chunks};
pub use decide::decide;
pub(crate) use decide::{labels_of, mean_of_networks};
pub use execute::{Execution, InferenceContext, WeightedGroup, execute};
pub use label_accumulator::{LabelAccumulator, LogitSlab};
pub use logits::Logits;
pub use memory::{tile_edges, workspace_bytes};
pub use plan::{
    Average, GridGroup, InferencePlan, PreprocessingGroup, WindowGroup, check_memory, min_memory_bytes,
    plan_inference,
};
pub use settings::{
    EngineMemory, InferenceSettings, ModelInput, Numerics, PlannedModel, ScanInput, ScanOwnership,
};
use sliding_window::{SlidingWindow, WindowSource};
pub use stage_seconds::StageSeconds;
use tile_grid::TileGrid;
pub use tile_queue::{SyncTileQueue, TileQueue};

/// Settings of the sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WindowOptions {
    /// The fraction of a tile by which the window advances, in (0, 1]. Defaults to the value in the model.
    pub step: Option<f64>,
    /// Also predicts each tile mirrored along every combination of the axes that were mirrored in training, and averages.
    pub mirror: bool,
}

impl WindowOptions {
    fn step_of(&self, spec: &ModelSpec) -> Result<f64, PipelineError> {
        let step = self.step.unwrap_or(spec.tile_step);
        if step > 0.0 && step <= 1.0 {
            Ok(step)
        } else {
            Err(SpecError::Invalid(format!("the tile step must lie in (0, 1], found {step}")).into())
        }
    }
}

/// The progress of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number of predicted tiles.
    pub done: usize,
    /// Number of all tiles.
    pub total: usize,
}

/// Number of tiles in the queue at the same time: those in the engine, and as many waiting for each network.
pub fn tiles_in_flight(batch: usize, concurrent_calls: usize) -> usize {
    (concurrent_calls.max(1) + 1) * batch.max(1)
}

/// Number of tiles into which [`predict_logits`] divides a scan of this geometry, before it is preprocessed.
///
/// # Errors
/// When the tile step is not in (0, 1], or the network's grid would be larger than any that can be processed.
pub fn count_tiles(
    spec: &ModelSpec,
    geometry: &Geometry,
    options: &WindowOptions,
) -> Result<usize, PipelineError> {
    let transform = GridTransform::checked(spec, geometry)?;
    Ok(TileGrid::new(spec, transform.resampled_shape, options.step_of(spec)?).tiles())
}

/// Predicts a preprocessed scan and returns the averaged logits of the whole grid. If only the mask is needed,
/// [`InverseTransform::stream`](crate::InverseTransform::stream) needs far less memory.
///
/// # Errors
/// If a predictor fails or returns another shape or NaN, the tile step is not in (0, 1], or the observer asks to stop.
pub fn predict_logits(
    spec: &ModelSpec,
    preprocessed: &Preprocessed,
    predictors: &[&dyn Predictor],
    options: &WindowOptions,
    observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Logits, PipelineError> {
    let [nx, ny, nz] = preprocessed.shape();
    let (classes, voxels) = (spec.classes(), nx * ny * nz);
    let networks: Vec<usize> = (0..predictors.len()).collect();
    let grid = TileGrid::new(spec, preprocessed.shape(), options.step_of(spec)?);
    let (total, region) = (grid.tiles(), grid.whole());
    let source = WindowSource { spec, preprocessed, networks: &networks, stream_id: 0 };
    let mut window = SlidingWindow::new(source, grid, region, options)?;
    let mut logits = zeros(classes.checked_mul(voxels))?;
    let mut queue = SyncTileQueue::new(predictors);
    let mut done = 0;
    let mut on_tile = || {
        done += 1;
        observer(Progress { done, total })
    };
    for z in 0..nz {
        let plane = window.next_plane(&mut queue, &mut on_tile)?;
        for (volume, plane) in logits.chunks_exact_mut(voxels).zip(plane.chunks_exact(nx * ny)) {
            volume[z * nx * ny..(z + 1) * nx * ny].copy_from_slice(plane);
        }
    }
    Ok(Logits::new(preprocessed.shape(), classes, logits, total))
}

/// Allocates values for a grid. A failed allocation is an error of the case and does not abort the process.
fn zeros(length: Option<usize>) -> Result<Vec<f32>, PipelineError> {
    let length = length.ok_or(PipelineError::Memory { values: usize::MAX })?;
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| PipelineError::Memory { values: length })?;
    values.resize(length, 0.0);
    Ok(values)
}
