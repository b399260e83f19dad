//! Networks that run one after the other: before each model that uses a mask, the network that makes the mask.

use std::ops::ControlFlow;

use sulcus_model::ModelSpec;
use sulcus_pipeline::{
    ChunkSize, EngineMemory, Execution, InferencePlan, InferenceSettings, ModelInput, Outputs, PlannedModel,
    Prediction, Progress, ScanInput, ScanOwnership, StageSeconds, execute, plan_inference, workspace_bytes,
};
use sulcus_volume::{Geometry, Label, LabelMap};

use crate::Error;
use crate::engine::{SessionPool, SharedPredictor, with_tile_queue};
use crate::loaded::{Model, Sessions};

/// Models that are averaged, how they predict a scan, and what is predicted before.
pub(crate) struct Stage<'a> {
    models: Vec<&'a Model>,
    pub(crate) plan: InferencePlan,
    /// The previous network of each model, if it has one.
    previous: Vec<Option<Stage<'a>>>,
}

/// The result of [`Stage::run`].
pub(crate) struct StageResult {
    pub(crate) prediction: Prediction,
    pub(crate) seconds: StageSeconds,
    /// The part of the time during which the engine computed.
    pub(crate) engine_secs: f64,
}

/// Counts the tiles of all networks.
pub(crate) struct TileCounter<'a> {
    progress: Progress,
    /// An estimate of the tiles after those of the stage that runs.
    later: usize,
    observer: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl<'a> TileCounter<'a> {
    pub(crate) fn new(observer: &'a mut dyn FnMut(Progress) -> ControlFlow<()>) -> Self {
        Self { progress: Progress { done: 0, total: 0 }, later: 0, observer }
    }

    /// Sets how many tiles follow after the next stage.
    pub(crate) fn expect_later(&mut self, tiles: usize) {
        self.later = tiles;
    }

    /// A stage with this many tiles begins.
    pub(crate) fn begin(&mut self, tiles: usize) {
        self.progress.total = self.progress.done + tiles + self.later;
    }

    fn count(&mut self) -> ControlFlow<()> {
        self.progress.done += 1;
        (self.observer)(self.progress)
    }
}

/// The settings for models after their previous networks, and for these networks: the scan stays, masks are added, and engines keep their
/// workspace.
fn settings_of(
    models: &[&Model],
    geometry: &Geometry,
    settings: &InferenceSettings,
) -> (InferenceSettings, InferenceSettings) {
    let masks = models.iter().filter(|model| model.previous.is_some()).count() as u64;
    let bytes = masks.saturating_mul(size_of::<Label>() as u64).saturating_mul(geometry.voxels() as u64);
    let mut last = *settings;
    last.reserved_bytes = last.reserved_bytes.saturating_add(bytes);
    let mut previous = last;
    (previous.scan, previous.outputs) = (ScanOwnership::Borrowed, Outputs::Labels);
    if last.engine_memory == EngineMemory::Process {
        let networks = models.iter().flat_map(|model| model.chain().skip(1));
        let workspaces = networks.map(|network| workspace_bytes(&network.planned(geometry), geometry));
        last.reserved_bytes = workspaces.fold(last.reserved_bytes, u64::saturating_add);
    }
    (last, previous)
}

/// What [`for_each_stage`] calls.
pub(crate) type StageCheck<'c> = dyn FnMut(&[PlannedModel<'_>], &InferenceSettings) -> Result<(), Error> + 'c;

/// Calls `check` for models and for the networks before them, with the settings that each has.
///
/// # Errors
/// Those of `check`.
pub(crate) fn for_each_stage(
    models: &[&Model],
    geometry: &Geometry,
    settings: &InferenceSettings,
    check: &mut StageCheck<'_>,
) -> Result<(), Error> {
    let (last, of_previous) = settings_of(models, geometry, settings);
    for network in models.iter().filter_map(|model| model.previous.as_deref()) {
        for_each_stage(&[network], geometry, &of_previous, check)?;
    }
    let planned: Vec<PlannedModel<'_>> = models.iter().map(|model| model.planned(geometry)).collect();
    check(&planned, &last)
}

impl<'a> Stage<'a> {
    /// # Errors
    /// As [`plan_inference`].
    pub(crate) fn plan(
        models: Vec<&'a Model>,
        geometry: &Geometry,
        settings: &InferenceSettings,
    ) -> Result<Self, Error> {
        let (last, of_previous) = settings_of(&models, geometry, settings);
        let previous = |model: &&'a Model| {
            let network = model.previous.as_deref();
            network.map(|network| Self::plan(vec![network], geometry, &of_previous)).transpose()
        };
        let previous = models.iter().map(previous).collect::<Result<_, Error>>()?;
        let planned: Vec<PlannedModel<'_>> = models.iter().map(|model| model.planned(geometry)).collect();
        let plan = plan_inference(&planned, geometry, &last)?;
        tracing::debug!("plan: {plan}");
        Ok(Self { models, plan, previous })
    }

    fn stages_before(&self) -> impl Iterator<Item = &Self> {
        self.previous.iter().flatten()
    }

    /// Number of all tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.stages_before().map(Self::tiles).sum::<usize>() + self.plan.tiles
    }

    /// The estimated peak of the process's memory, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.stages_before().map(Self::peak_bytes).max().unwrap_or(0).max(self.plan.peak_bytes)
    }

    /// Frees the memory of sessions that the plan does not use. `is_limited` says whether there is a memory limit.
    pub(crate) fn release_sessions(&self, is_limited: bool) {
        self.stages_before().for_each(|stage| stage.release_sessions(is_limited));
        let is_chunked = self.plan.chunks != ChunkSize::WHOLE;
        if self.plan.sessions == 1 && (is_limited || is_chunked) {
            self.models.iter().filter_map(|model| model.session_pool.as_ref()).for_each(SessionPool::release);
        }
    }

    /// Predicts a scan. `combined` is the specification by which labels are chosen.
    ///
    /// # Errors
    /// As [`execute`].
    pub(crate) fn run(
        &self,
        combined: &ModelSpec,
        scan: ScanInput<'_>,
        counter: &mut TileCounter<'_>,
    ) -> Result<StageResult, Error> {
        let mut seconds = StageSeconds::default();
        let mut secs_of_engine = 0.0;
        let mut masks: Vec<Option<LabelMap>> = Vec::with_capacity(self.models.len());
        for stage in &self.previous {
            let mut mask = None;
            if let Some(stage) = stage
                && let Some(network) = stage.models.first()
            {
                let found = stage.run(&network.spec, ScanInput::Borrowed(scan.image()), counter)?;
                add(&mut seconds, &found.seconds);
                secs_of_engine += found.engine_secs;
                mask = Some(found.prediction.labels);
            }
            masks.push(mask);
        }
        let pairs = self.models.iter().zip(&masks);
        let inputs: Vec<ModelInput<'_>> =
            pairs.map(|(model, mask)| ModelInput { spec: &model.spec, mask: mask.as_ref() }).collect();
        let sessions: Vec<Sessions<'_>> =
            self.models.iter().map(|model| model.sessions(self.plan.sessions)).collect::<Result<_, _>>()?;
        let predictors: Vec<&dyn SharedPredictor> = sessions.iter().map(Sessions::predictor).collect();
        let (execution, engine_secs) = with_tile_queue(&predictors, self.plan.concurrent_calls, |queue| {
            execute(&self.plan, &inputs, combined, scan, queue, &mut |_| counter.count())
        })?;
        let Execution { prediction, seconds: of_last, .. } = execution;
        add(&mut seconds, &of_last);
        Ok(StageResult { prediction, seconds, engine_secs: secs_of_engine + engine_secs })
    }
}

pub(crate) fn add(sum: &mut StageSeconds, more: &StageSeconds) {
    sum.preprocess += more.preprocess;
    sum.infer += more.infer;
    sum.postprocess += more.postprocess;
}
