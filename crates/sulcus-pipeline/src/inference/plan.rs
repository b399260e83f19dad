//! Decides how models predict a scan: which of them share work, in which chunks, with how many sessions.

use std::fmt;

use sulcus_model::{CoarseAxis, ModelSpec, SpacingRule};
use sulcus_volume::{Geometry, Spacing};

use super::chunks::{ChunkSize, count_tiles_in_chunks};
use super::memory::{MemoryModel, engine_workspace_bytes};
use super::settings::{EngineMemory, InferenceSettings, PlannedModel};
use super::{WindowOptions, tiles_in_flight};
use crate::{Outputs, PipelineError};

/// How a scan is predicted. Made by [`plan_inference`], executed by [`execute`](super::execute).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InferencePlan {
    /// The models, grouped by network grid. The logits of different grids are averaged on the scan's own grid.
    pub grids: Vec<GridGroup>,
    /// How much of the scan is processed at a time.
    pub chunks: ChunkSize,
    /// Sessions of each model.
    pub sessions: usize,
    /// Number of calls of the engine at the same time.
    pub concurrent_calls: usize,
    /// Number of all tiles. A tile that models share counts once, a tile that touches several chunks counts for each of
    /// them.
    pub tiles: usize,
    /// The estimated peak of the process's memory, in bytes.
    pub peak_bytes: u64,
    /// Tile step and mirroring.
    pub window: WindowOptions,
    /// The results to compute.
    pub outputs: Outputs,
}

/// Models with the same network grid: their logits are averaged there.
#[derive(Debug, Clone, PartialEq)]
pub struct GridGroup {
    /// Their preprocessing groups.
    pub preprocessings: Vec<PreprocessingGroup>,
}

/// Models that see the same preprocessed scan.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessingGroup {
    /// Their window groups.
    pub windows: Vec<WindowGroup>,
}

/// Models with the same tiles: their logits are averaged tile by tile.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowGroup {
    /// Indices of the models.
    pub models: Vec<usize>,
    /// The factor of their mean in the average of all models.
    pub weight: f32,
}

impl GridGroup {
    /// Its window groups.
    pub fn windows(&self) -> impl Iterator<Item = &WindowGroup> {
        self.preprocessings.iter().flat_map(|preprocessing| &preprocessing.windows)
    }
}

impl fmt::Display for InferencePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows: usize = self.grids.iter().map(|grid| grid.windows().count()).sum();
        write!(
            f,
            "{} tiles on {} grid(s) and {windows} window(s), {} session(s), {} call(s) at a time, about {:.0} MB",
            self.tiles,
            self.grids.len(),
            self.sessions,
            self.concurrent_calls,
            self.peak_bytes as f64 / 1e6
        )
    }
}

/// Plans the prediction of a scan of this geometry.
///
/// Several sessions are used if every model has them, there are enough tiles, and the memory limit leaves room for them
/// and the whole scan. Otherwise one session is used, with the largest chunks that keep the limit.
///
/// # Errors
/// When there is no model, the tile step is not in (0, 1], a network's grid would be larger than any that can be processed, or
/// even the smallest chunks exceed the memory limit.
pub fn plan_inference(
    models: &[PlannedModel<'_>],
    geometry: &Geometry,
    settings: &InferenceSettings,
) -> Result<InferencePlan, PipelineError> {
    /// With fewer tiles per session, starting a second session takes longer than it saves.
    const MIN_TILES_PER_SESSION: usize = 2;
    let planner = Planner { models, geometry, settings, grids: group(models) };
    let max_sessions = models.iter().map(|model| model.max_sessions).min().unwrap_or(1).max(1);
    if max_sessions > 1 && planner.tiles(ChunkSize::WHOLE)? >= MIN_TILES_PER_SESSION * max_sessions {
        let peak = planner.memory(max_sessions)?.peak_bytes(ChunkSize::WHOLE)?;
        if settings.memory_limit.is_none_or(|limit| peak <= limit) {
            return planner.finish(max_sessions, ChunkSize::WHOLE);
        }
    }
    let chunks = planner.memory(1)?.largest_chunks(settings.memory_limit)?;
    planner.finish(1, chunks)
}

/// The minimum memory of the whole process, in bytes, in which a scan of this geometry can be predicted.
///
/// # Errors
/// As [`plan_inference`], except for the memory limit, which is ignored.
pub fn min_memory_bytes(
    models: &[PlannedModel<'_>],
    geometry: &Geometry,
    settings: &InferenceSettings,
) -> Result<u64, PipelineError> {
    Planner { models, geometry, settings, grids: group(models) }.memory(1)?.min_bytes()
}

struct Planner<'a> {
    models: &'a [PlannedModel<'a>],
    geometry: &'a Geometry,
    settings: &'a InferenceSettings,
    grids: Vec<GridGroup>,
}

impl<'a> Planner<'a> {
    /// The specifications of a grid's window groups.
    fn specs(&self, grid: &GridGroup) -> Vec<&'a ModelSpec> {
        let first = |window: &WindowGroup| window.models.first().and_then(|first| self.models.get(*first));
        grid.windows().filter_map(first).map(|model| model.spec).collect()
    }

    fn tiles(&self, chunks: ChunkSize) -> Result<usize, PipelineError> {
        let specs = self.grids.iter().flat_map(|grid| self.specs(grid));
        specs.map(|spec| count_tiles_in_chunks(spec, self.geometry, &self.settings.window, chunks)).sum()
    }

    fn memory(&self, sessions: usize) -> Result<MemoryModel<'a>, PipelineError> {
        let mut base_bytes = self.settings.loaded_bytes.saturating_add(self.settings.reserved_bytes);
        for model in self.models {
            // An engine keeps its workspace, so the workspace of the first session is counted too.
            let more = if sessions > 1 && model.max_sessions > 1 { model.max_sessions as u64 } else { 0 };
            let workspace = match self.settings.engine_memory {
                EngineMemory::Process => {
                    model.workspace_bytes.unwrap_or_else(|| engine_workspace_bytes(model.spec, self.geometry))
                }
                EngineMemory::Device => 0,
            };
            // A further session has the weights as in the file, and in the layout of the engine's kernels.
            let kernels = 3 * model.file_bytes * more;
            base_bytes = base_bytes.saturating_add(workspace.saturating_mul(1 + more)).saturating_add(kernels);
        }
        let batch = self.models.iter().map(|model| model.batch).max().unwrap_or(1);
        let calls = self.settings.engine_threads.max(sessions);
        let grids = self.grids.iter().map(|grid| (self.specs(grid), grid.preprocessings.len()));
        MemoryModel::new(self.geometry, grids, self.settings, tiles_in_flight(batch, calls), base_bytes)
    }

    fn finish(self, sessions: usize, chunks: ChunkSize) -> Result<InferencePlan, PipelineError> {
        let tiles = self.tiles(chunks)?;
        let peak_bytes = self.memory(sessions)?.peak_bytes(chunks)?;
        let concurrent_calls = if sessions > 1 { sessions } else { self.settings.engine_threads.max(1) };
        let InferenceSettings { window, outputs, .. } = *self.settings;
        Ok(InferencePlan {
            grids: self.grids,
            chunks,
            sessions,
            concurrent_calls,
            tiles,
            peak_bytes,
            window,
            outputs,
        })
    }
}

/// Groups models by their common properties. Groups, and the models in them, keep the order in which the models were
/// given.
fn group(models: &[PlannedModel<'_>]) -> Vec<GridGroup> {
    let all: Vec<usize> = (0..models.len()).collect();
    let window = |group: Vec<usize>| {
        let weight = if group.len() == models.len() { 1.0 } else { group.len() as f32 / models.len() as f32 };
        WindowGroup { models: group, weight }
    };
    let preprocessing = |group: Vec<usize>| PreprocessingGroup {
        windows: partition(models, &group, same_window).into_iter().map(window).collect(),
    };
    let grid = |group: Vec<usize>| GridGroup {
        preprocessings: partition(models, &group, same_preprocessing).into_iter().map(preprocessing).collect(),
    };
    partition(models, &all, same_grid).into_iter().map(grid).collect()
}

fn partition(
    models: &[PlannedModel<'_>],
    members: &[usize],
    alike: fn(&ModelSpec, &ModelSpec) -> bool,
) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for member in members {
        let same = |g: &&mut Vec<usize>| g.first().is_some_and(|f| alike(models[*f].spec, models[*member].spec));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(*member),
            None => groups.push(vec![*member]),
        }
    }
    groups
}

/// What determines the network's grid for a scan; the interpolation of the image does not.
fn grid_rule(spec: &ModelSpec) -> Option<(Spacing, CoarseAxis, f64)> {
    match spec.spacing {
        SpacingRule::Native => None,
        SpacingRule::Resample { mm, coarse_axis, tolerance, .. } => Some((mm, coarse_axis, tolerance)),
    }
}

fn same_grid(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.orientation == b.orientation && grid_rule(a) == grid_rule(b)
}

fn same_preprocessing(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.spacing == b.spacing && a.channels == b.channels
}

fn same_window(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.network.dimensions == b.network.dimensions
        && (&a.patch, a.tiling, a.tile_step) == (&b.patch, b.tiling, b.tile_step)
        && (&a.mirror_axes, &a.padding_multiple) == (&b.mirror_axes, &b.padding_multiple)
}
