//! Decides how models predict a scan: which of them share work, in which chunks, with how many sessions.

use std::fmt;

use sulcus_model::{CoarseAxis, CropRule, ModelSpec, NnunetResampling, NnunetSpacing, SpacingRule};
use sulcus_volume::{Geometry, Spacing};

use super::chunks::{ChunkSize, count_tiles_in_chunks};
use super::exact::configurations::check;
use super::exact::memory::peak_bytes as exact_peak_bytes;
use super::memory::{MemoryModel, workspace_bytes};
use super::settings::{EngineMemory, InferenceSettings, Numerics, PlannedModel};
use super::{WindowOptions, tiles_in_flight};
use crate::{Outputs, PipelineError, Resampling};

/// How a scan is predicted. Made by [`plan_inference`], executed by [`execute`](super::execute).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InferencePlan {
    /// The models, grouped by network grid. The outputs of different grids are averaged on the scan's own grid.
    pub grids: Vec<GridGroup>,
    /// What is averaged there.
    pub average: Average,
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
    /// How they are computed.
    pub numerics: Numerics,
    /// The shape x, y, z of the scan from which the caller has cut the image, if it has.
    pub cropped_from: Option<[usize; 3]>,
}

/// What of models with different network grids is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Average {
    /// Logits.
    #[default]
    Logits,
    /// The probabilities of configurations of nnU-Net, each with the same weight. The logits of the folds of one are averaged first.
    Probabilities,
}

impl Average {
    fn of(models: &[PlannedModel<'_>]) -> Self {
        let Some((first, others)) = models.split_first() else { return Self::Logits };
        let all_of_nnunet = models.iter().all(|model| model.spec.nnunet.is_some());
        let one_configuration = others.iter().all(|other| same_configuration(first.spec, other.spec));
        if all_of_nnunet && !one_configuration { Self::Probabilities } else { Self::Logits }
    }
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
    if settings.numerics == Numerics::Nnunet {
        return plan_exact(models, geometry, settings);
    }
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
    let planner = Planner { models, geometry, settings, grids: group(models) };
    match settings.numerics {
        Numerics::Float32 => planner.memory(1)?.min_bytes(),
        Numerics::Nnunet => planner.exact_bytes(&models.iter().map(|model| model.spec).collect::<Vec<_>>(), 1),
    }
}

/// nnU-Net's computation keeps the whole volume of logits, and predicts each tile with each network file.
fn plan_exact(
    models: &[PlannedModel<'_>],
    geometry: &Geometry,
    settings: &InferenceSettings,
) -> Result<InferencePlan, PipelineError> {
    let specs: Vec<&ModelSpec> = models.iter().map(|model| model.spec).collect();
    check(&specs)?;
    let planner = Planner { models, geometry, settings, grids: group(models) };
    let fits = |required: u64| settings.memory_limit.is_none_or(|limit| required <= limit);
    let max_sessions = models.iter().map(|model| model.max_sessions).min().unwrap_or(1).max(1);
    let mut sessions = 1;
    let mut required = planner.exact_bytes(&specs, sessions)?;
    if max_sessions > 1 && planner.exact_bytes(&specs, max_sessions).is_ok_and(fits) {
        sessions = max_sessions;
        required = planner.exact_bytes(&specs, sessions)?;
    }
    if let Some(limit) = settings.memory_limit.filter(|_| !fits(required)) {
        let resampling = Resampling::enlarging(specs.iter().copied(), geometry).map(Box::new);
        return Err(PipelineError::MemoryLimit { limit, required, resampling });
    }
    let tiles = |spec: &&ModelSpec| count_tiles_in_chunks(spec, geometry, &settings.window, ChunkSize::WHOLE);
    let tiles = specs.iter().map(tiles).sum::<Result<usize, _>>()?;
    let plan = planner.finish(sessions, ChunkSize::WHOLE)?;
    Ok(InferencePlan { tiles, peak_bytes: required, ..plan })
}

/// Checks a scan before its voxels are read: whether they can be read, and then segmented, within `settings.memory_limit`.
/// `read_bytes` is the memory that reading needs; the geometry is unknown where the header cannot be read.
///
/// A small scan with large voxels can need far more memory when it is resampled. What a model that crops scans needs is not in the
/// header, so only reading counts for it.
///
/// # Errors
/// [`PipelineError::MemoryLimit`] with the memory that is needed, or [`PipelineError::GridTooLarge`].
pub fn check_memory(
    models: &[PlannedModel<'_>],
    geometry: Option<&Geometry>,
    read_bytes: u64,
    settings: &InferenceSettings,
) -> Result<(), PipelineError> {
    // All models of an ensemble have the same rule.
    let crops = models.iter().any(|model| model.spec.crop != CropRule::Whole);
    let whole = geometry.filter(|_| !crops);
    let to_segment = whole.map_or(Ok(0), |geometry| min_memory_bytes(models, geometry, settings))?;
    let to_read = settings.loaded_bytes.saturating_add(read_bytes);
    match settings.memory_limit {
        Some(limit) if to_segment.max(to_read) > limit => {
            // Reading alone may exceed the limit.
            let resampled = whole.filter(|_| to_segment > to_read);
            let specs = || models.iter().map(|model| model.spec);
            let resampling = resampled.and_then(|geometry| Resampling::enlarging(specs(), geometry)).map(Box::new);
            Err(PipelineError::MemoryLimit { limit, required: to_segment.max(to_read), resampling })
        }
        _ => Ok(()),
    }
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

    fn exact_bytes(&self, specs: &[&ModelSpec], sessions: usize) -> Result<u64, PipelineError> {
        let Self { geometry, settings, .. } = self;
        let batch = self.models.iter().map(|model| model.batch).max().unwrap_or(1);
        let in_flight = tiles_in_flight(batch, settings.engine_threads.max(sessions));
        Ok(self.base_bytes(sessions).saturating_add(exact_peak_bytes(specs, geometry, settings, in_flight)?))
    }

    /// The memory of the process with the engine loaded, of the running engine, and of the caller's data.
    fn base_bytes(&self, sessions: usize) -> u64 {
        let mut base_bytes = self.settings.loaded_bytes.saturating_add(self.settings.reserved_bytes);
        for model in self.models {
            // An engine keeps its workspace, so the workspace of the first session is counted too.
            let more = if sessions > 1 && model.max_sessions > 1 { model.max_sessions as u64 } else { 0 };
            let workspace = match self.settings.engine_memory {
                EngineMemory::Process => workspace_bytes(model, self.geometry),
                EngineMemory::Device => 0,
            };
            // A further session has the weights as in the file, and in the layout of the engine's kernels.
            let kernels = 3 * model.file_bytes * more;
            base_bytes = base_bytes.saturating_add(workspace.saturating_mul(1 + more)).saturating_add(kernels);
        }
        base_bytes
    }

    fn memory(&self, sessions: usize) -> Result<MemoryModel<'a>, PipelineError> {
        let batch = self.models.iter().map(|model| model.batch).max().unwrap_or(1);
        let calls = self.settings.engine_threads.max(sessions);
        let grids = self.grids.iter().map(|grid| (self.specs(grid), grid.preprocessings.len()));
        MemoryModel::new(
            self.geometry,
            grids,
            self.settings,
            tiles_in_flight(batch, calls),
            self.base_bytes(sessions),
        )
    }

    fn finish(self, sessions: usize, chunks: ChunkSize) -> Result<InferencePlan, PipelineError> {
        let tiles = self.tiles(chunks)?;
        let peak_bytes = self.memory(sessions)?.peak_bytes(chunks)?;
        let concurrent_calls = if sessions > 1 { sessions } else { self.settings.engine_threads.max(1) };
        let InferenceSettings { window, outputs, numerics, cropped_from, .. } = *self.settings;
        Ok(InferencePlan {
            average: Average::of(self.models),
            grids: self.grids,
            chunks,
            sessions,
            concurrent_calls,
            tiles,
            peak_bytes,
            window,
            outputs,
            numerics,
            cropped_from,
        })
    }
}

/// Groups models by their common properties. Groups, and the models in them, keep the order in which the models were
/// given.
fn group(models: &[PlannedModel<'_>]) -> Vec<GridGroup> {
    let all: Vec<usize> = (0..models.len()).collect();
    let window = |group: Vec<usize>, averaged: usize| {
        let weight = if group.len() == averaged { 1.0 } else { group.len() as f32 / averaged as f32 };
        WindowGroup { models: group, weight }
    };
    let preprocessing = |group: Vec<usize>, averaged: usize| {
        let windows = partition(models, &group, same_window).into_iter();
        PreprocessingGroup { windows: windows.map(|group| window(group, averaged)).collect() }
    };
    let average = Average::of(models);
    let grid = |group: Vec<usize>| {
        let averaged = match average {
            Average::Logits => models.len(),
            Average::Probabilities => group.len(),
        };
        let preprocessings = partition(models, &group, same_preprocessing).into_iter();
        GridGroup { preprocessings: preprocessings.map(|group| preprocessing(group, averaged)).collect() }
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

/// What determines the network's grid for a scan, and how logits are resampled from it.
#[derive(PartialEq)]
enum GridRule {
    Native,
    Resample(Spacing, CoarseAxis, f64),
    Nnunet([Option<f64>; 3], NnunetResampling),
}

/// The interpolation of the image is not part of it.
fn grid_rule(spec: &ModelSpec) -> GridRule {
    match spec.spacing {
        SpacingRule::Native => GridRule::Native,
        SpacingRule::Resample { mm, coarse_axis, tolerance, .. } => GridRule::Resample(mm, coarse_axis, tolerance),
        SpacingRule::Nnunet(NnunetSpacing { mm, logits, .. }) => GridRule::Nnunet(mm, logits),
    }
}

fn same_grid(a: &ModelSpec, b: &ModelSpec) -> bool {
    (a.orientation, a.assumed_mm) == (b.orientation, b.assumed_mm)
        && grid_rule(a) == grid_rule(b)
        && same_configuration(a, b)
}

/// Whether models are folds of one configuration of nnU-Net, if both come from it.
fn same_configuration(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.nnunet.as_ref().zip(b.nnunet.as_ref()).is_none_or(|(a, b)| a.has_configuration_of(b))
}

fn same_preprocessing(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.spacing == b.spacing && a.channels == b.channels && a.previous == b.previous
}

fn same_window(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.network.dimensions == b.network.dimensions
        && (&a.patch, a.tiling, a.tile_step) == (&b.patch, b.tiling, b.tile_step)
        && (&a.mirror_axes, &a.padding_multiple) == (&b.mirror_axes, &b.padding_multiple)
}
