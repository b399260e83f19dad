//! Several models that answer as one: which of them may, and how their logits come together.
//!
//! Members may have networks, patches, orientations, voxel sizes and normalisations of their own, as a 2-D and a 3-D
//! model of the same data have. They must mean the same by their input channels and by their logits.

use std::ops::ControlFlow;

use sulcus_pipeline::{
    LogitSlab, CoarseAxis, CropRule, LabelAccumulator, MemoryModel, ModelSpec, OutputActivation, Outputs, ChunkSize, PipelineError, Postprocess,
    Preprocessed, Progress, InverseTransform, Prediction, WeightedGroup, SpacingRule, InferenceContext, WindowOptions, count_tiles_in_chunks, prepare,
    preprocess_owned,
};
use sulcus_volume::{Geometry, Image, Spacing};

use crate::clock::Stopwatch;
use crate::engine::{tiles_in_flight, with_tile_queue};
use crate::session_pool::{LEAST_TILES, SessionPool};
use crate::memory::{loaded_again_bytes, workspace_bytes};
use crate::segmenter::{Model, Sessions, SharedPredictor};
use crate::{RuntimeError, Seconds};

/// What the members of an ensemble must mean alike, each with its name in messages and its value in words.
fn meaning(spec: &ModelSpec) -> [(&'static str, String); 5] {
    // Taken apart whole, so that a new field has to be put on one side or the other.
    let ModelSpec {
        channels,
        labels,
        regions,
        activation,
        // Outside of what they look at there is background, which the others would contradict.
        crop,
        // These lead to the logits, and each member goes its own way.
        network: _,
        orientation: _,
        spacing: _,
        patch: _,
        tiling: _,
        tile_step: _,
        mirror_axes: _,
        padding_multiple: _,
        // Of this, what all have in common is done; see `common_postprocessing`.
        postprocessing: _,
        // These say where a model comes from.
        format_version: _,
        name: _,
        training: _,
        // Members may be exported in different numbers; how their graphs compute is theirs.
        precision: _,
        golden_case: _,
    } = spec;
    let channels: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let labels: Vec<String> = labels.entries().iter().map(|l| format!("{} {}", l.value, l.name)).collect();
    let activation = match activation {
        OutputActivation::Softmax => "softmax",
        OutputActivation::Sigmoid => "sigmoid",
        OutputActivation::Regions => "regions",
    };
    let crop = match crop {
        CropRule::Whole => "whole scans",
        CropRule::Nonzero => "the box of what is not zero",
    };
    // Logits are averaged channel by channel, so that the order counts too.
    let regions: Vec<String> =
        regions.iter().map(|r| format!("{} {:?} written as {}", r.name, r.values, r.writes)).collect();
    [
        ("channels", format!("{} ({})", channels.len(), channels.join(", "))),
        ("labels", labels.join(", ")),
        ("regions", regions.join(", ")),
        ("activation", activation.to_owned()),
        ("crop", crop.to_owned()),
    ]
}

/// Checks that a member means the same as the first one; the names are for the message.
pub(crate) fn check_member(first: (&str, &ModelSpec), other: (&str, &ModelSpec)) -> Result<(), RuntimeError> {
    for ((field, expected), (_, found)) in meaning(first.1).into_iter().zip(meaning(other.1)) {
        if expected != found {
            return Err(RuntimeError::Ensemble {
                field,
                first: first.0.to_owned(),
                expected,
                other: other.0.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

/// The steps that every member asks for, in the first one's order. A step that was chosen for one model's mistakes
/// may take away what the others find, so it needs all of them.
pub(crate) fn common_postprocessing(specs: &[&ModelSpec]) -> Vec<Postprocess> {
    let Some((first, others)) = specs.split_first() else { return Vec::new() };
    let in_all = |step: &&Postprocess| others.iter().all(|spec| spec.postprocessing.contains(step));
    first.postprocessing.iter().filter(in_all).cloned().collect()
}

/// The voxel size that scans are brought to, and how along a coarse axis: the way there and the way back of logits.
fn target(spec: &ModelSpec) -> Option<(Spacing, CoarseAxis)> {
    match spec.spacing {
        SpacingRule::Native => None,
        SpacingRule::Resample { mm, coarse_axis, .. } => Some((mm, coarse_axis)),
    }
}

/// Their prepared grids are the same, so logits are averaged there.
fn same_grid(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.orientation == b.orientation && target(a) == target(b)
}

/// Their prepared scans are the same, so one is made for both.
fn same_preparation(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.spacing == b.spacing && a.channels == b.channels
}

/// Their tiles are the same, so logits are averaged tile by tile, without a second volume of them.
fn same_window(a: &ModelSpec, b: &ModelSpec) -> bool {
    a.network.dimensions == b.network.dimensions
        && (&a.patch, a.tiling, a.tile_step) == (&b.patch, b.tiling, b.tile_step)
        && (&a.mirror_axes, &a.padding_multiple) == (&b.mirror_axes, &b.padding_multiple)
}

/// Numbers of models.
type Group = Vec<usize>;

/// Members that are alike come together; the groups and their members keep the order in which they were given.
fn partition(models: &[Model], group: &[usize], alike: fn(&ModelSpec, &ModelSpec) -> bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for member in group {
        let same = |g: &&mut Group| g.first().is_some_and(|f| alike(&models[*f].spec, &models[*member].spec));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(*member),
            None => groups.push(vec![*member]),
        }
    }
    groups
}

/// Who is asked together: grids, of each its preparations, of each those that share their tiles.
struct Grouping(Vec<Vec<Vec<Group>>>);

impl Grouping {
    fn of(models: &[Model]) -> Self {
        let all: Vec<usize> = (0..models.len()).collect();
        let windows = |group: &Group| partition(models, group, same_window);
        let preparations =
            |grid: &Group| partition(models, grid, same_preparation).iter().map(windows).collect::<Vec<_>>();
        Self(partition(models, &all, same_grid).iter().map(preparations).collect())
    }
}

/// A scan that is only looked at, or one that may be used up.
pub(crate) enum Scan<'a> {
    Borrowed(&'a Image),
    Owned(Image),
}

impl Scan<'_> {
    pub(crate) fn image(&self) -> &Image {
        match self {
            Self::Borrowed(image) => image,
            Self::Owned(image) => image,
        }
    }
}

/// What an ensemble answers to one scan, and what it took.
pub(crate) struct Answer {
    pub(crate) prediction: Prediction,
    pub(crate) tiles: usize,
    pub(crate) seconds: Seconds,
}

/// How scans go through all members.
pub(crate) struct InferenceRun<'a> {
    pub(crate) models: &'a [Model],
    pub(crate) window: WindowOptions,
    /// Threads that ask the engine at the same time, where models have no sessions for more.
    pub(crate) workers: usize,
    /// Whether what the engine works in is memory of this process, not a GPU's.
    pub(crate) works_in_process: bool,
    pub(crate) outputs: Outputs,
    /// What the process may hold, and what it held before the first scan.
    pub(crate) limit: Option<u64>,
    pub(crate) loaded_bytes: u64,
}

/// Whom a scan's tiles are given to.
struct Asked<'a> {
    sessions: Vec<Sessions<'a>>,
    workers: usize,
}

/// A grid's scans, prepared, with the way back.
struct Ready {
    prepared: Vec<Preprocessed>,
    restore: InverseTransform,
}

impl InferenceRun<'_> {
    /// What a scan of this geometry takes, with as many sessions in use.
    fn demand(&self, grouping: &Grouping, geometry: &Geometry, holds_scan: bool, session_pool: usize) -> MemoryModel<'_> {
        // What an engine has worked in it keeps, so the first session counts beside the others.
        let mut engine_bytes = self.loaded_bytes;
        for model in self.models {
            let more = model.session_pool.as_ref().filter(|_| session_pool > 1).map_or(0, SessionPool::count);
            let workspace = if self.works_in_process { workspace_bytes(&model.spec, geometry) } else { 0 };
            engine_bytes += workspace * (1 + more as u64) + loaded_again_bytes(model.bytes) * more as u64;
        }
        let batch = self.models.iter().map(|model| model.predictor.batch()).max().unwrap_or(1);
        MemoryModel {
            grids: grouping.0.iter().map(|grid| self.specs(grid)).collect(),
            preparations: grouping.0.iter().map(Vec::len).collect(),
            options: self.window,
            outputs: self.outputs,
            holds_scan,
            tiles_in_flight: tiles_in_flight(batch, self.workers.max(session_pool)),
            engine_bytes,
        }
    }

    /// Sessions that every model has.
    fn session_pool(&self) -> usize {
        self.models.iter().map(|model| model.session_pool.as_ref().map_or(1, SessionPool::count)).min().unwrap_or(1)
    }

    /// How many sessions a scan is given, and the pieces that it is worked on in: several where the models have them, the
    /// tiles are enough, and the limit leaves room for it beside the scan in one piece.
    fn choose(
        &self,
        grouping: &Grouping,
        geometry: &Geometry,
        holds_scan: bool,
    ) -> Result<(usize, ChunkSize), RuntimeError> {
        let session_pool = self.session_pool();
        if session_pool > 1 && self.tiles(grouping, geometry, ChunkSize::WHOLE)? >= LEAST_TILES * session_pool {
            let takes = self.demand(grouping, geometry, holds_scan, session_pool).peak_bytes(geometry, ChunkSize::WHOLE)?;
            if self.limit.is_none_or(|limit| takes <= limit) {
                return Ok((session_pool, ChunkSize::WHOLE));
            }
        }
        if self.limit.is_some() {
            self.models.iter().filter_map(|model| model.session_pool.as_ref()).for_each(SessionPool::release);
        }
        Ok((1, self.demand(grouping, geometry, holds_scan, 1).pieces(geometry, self.limit)?))
    }

    fn tiles(&self, grouping: &Grouping, geometry: &Geometry, pieces: ChunkSize) -> Result<usize, RuntimeError> {
        let specs = grouping.0.iter().flat_map(|grid| self.specs(grid));
        specs.map(|spec| Ok(count_tiles_in_chunks(spec, geometry, &self.window, pieces)?)).sum()
    }

    fn specs(&self, grid: &[Vec<Group>]) -> Vec<&ModelSpec> {
        let firsts = grid.iter().flatten().filter_map(|group| group.first());
        firsts.filter_map(|first| self.models.get(*first)).map(|model| &model.spec).collect()
    }

    /// The least memory that a scan of this geometry can be predicted in.
    pub(crate) fn least_bytes(&self, geometry: &Geometry, holds_scan: bool) -> Result<u64, RuntimeError> {
        Ok(self.demand(&Grouping::of(self.models), geometry, holds_scan, 1).least_bytes(geometry)?)
    }

    /// Asks all members and decides by `spec`, which all of them agree with.
    ///
    /// Of members with one prepared grid the planes that tiles still touch are held, and no volume of logits. Where grids
    /// differ the logits meet on the scan's own: on all of it, or as many slices at a time as the limit allows.
    pub(crate) fn walk(
        &self,
        spec: &ModelSpec,
        scan: Scan<'_>,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, RuntimeError> {
        let grouping = Grouping::of(self.models);
        let geometry = *scan.image().geometry();
        let (session_pool, pieces) = self.choose(&grouping, &geometry, matches!(scan, Scan::Borrowed(_)))?;
        let engine = self.engine(session_pool)?;
        let mut progress = Progress { done: 0, total: self.tiles(&grouping, &geometry, pieces)? };
        let mut tick = || {
            progress.done += 1;
            observer(progress)
        };
        let mut seconds = Seconds::default();
        let mut decision = LabelAccumulator::new(spec, &geometry, self.outputs)?;
        if let [grid] = grouping.0.as_slice() {
            let ready = self.prepare(grid, scan, &mut seconds)?;
            self.ask(grid, &ready, (&engine, pieces), &mut tick, &mut seconds, |restore, shares, walking| {
                restore.stream(shares, walking, &mut decision)
            })?;
        } else {
            for slices in LogitSlab::ranges(&geometry, pieces) {
                let mut block = LogitSlab::new(&geometry, spec.classes(), slices)?;
                for grid in &grouping.0 {
                    let ready = self.prepare(grid, Scan::Borrowed(scan.image()), &mut seconds)?;
                    self.ask(
                        grid,
                        &ready,
                        (&engine, pieces),
                        &mut tick,
                        &mut seconds,
                        |restore, shares, walking| restore.stream_into(shares, walking, &mut block),
                    )?;
                }
                decision.block(block);
            }
            drop(scan);
        }
        let watch = Stopwatch::start();
        let prediction = decision.finish()?;
        seconds.postprocess += watch.elapsed_secs();
        Ok(Answer { prediction, tiles: progress.done, seconds })
    }

    /// The models' predictors, or as many sessions of each.
    fn engine(&self, session_pool: usize) -> Result<Asked<'_>, RuntimeError> {
        let sessions = self.models.iter().map(|model| model.sessions(session_pool)).collect::<Result<_, _>>()?;
        Ok(Asked { sessions, workers: if session_pool > 1 { session_pool } else { self.workers } })
    }

    /// The scan as each preparation of a grid takes it.
    fn prepare(&self, grid: &[Vec<Group>], scan: Scan<'_>, seconds: &mut Seconds) -> Result<Ready, RuntimeError> {
        let watch = Stopwatch::start();
        let specs: Vec<&ModelSpec> = grid
            .iter()
            .filter_map(|preparation| self.specs(std::slice::from_ref(preparation)).first().copied())
            .collect();
        let (last, others) = specs.split_last().ok_or(RuntimeError::NoModel)?;
        let mut prepared = Vec::new();
        for spec in others {
            prepared.push(prepare(spec, scan.image())?.0);
        }
        let (of_last, restore) = match scan {
            Scan::Borrowed(image) => prepare(last, image)?,
            Scan::Owned(image) => preprocess_owned(last, image)?,
        };
        prepared.push(of_last);
        seconds.preprocess += watch.elapsed_secs();
        Ok(Ready { prepared, restore })
    }

    /// Asks the members of a grid and hands their planes to `stream`.
    fn ask(
        &self,
        grid: &[Vec<Group>],
        ready: &Ready,
        (asked, pieces): (&Asked<'_>, ChunkSize),
        tick: &mut dyn FnMut() -> ControlFlow<()>,
        seconds: &mut Seconds,
        stream: impl FnOnce(&InverseTransform, &[WeightedGroup<'_>], &mut InferenceContext<'_>) -> Result<(), PipelineError>,
    ) -> Result<(), RuntimeError> {
        let watch = Stopwatch::start();
        let mut shares = Vec::new();
        for (groups, prepared) in grid.iter().zip(&ready.prepared) {
            for group in groups {
                let first =
                    group.first().and_then(|first| self.models.get(*first)).ok_or(RuntimeError::NoModel)?;
                let weight = if group.len() == self.models.len() {
                    1.0
                } else {
                    group.len() as f32 / self.models.len() as f32
                };
                shares.push(WeightedGroup { spec: &first.spec, prepared, networks: group.clone(), weight });
            }
        }
        let predictors: Vec<&dyn SharedPredictor> = asked.sessions.iter().map(Sessions::predictor).collect();
        let ((), engine) = with_tile_queue(&predictors, asked.workers, |answers| {
            let mut walking = InferenceContext { options: self.window, pieces, answers, tick };
            stream(&ready.restore, &shares, &mut walking)
        })?;
        seconds.infer += watch.elapsed_secs();
        seconds.engine += engine;
        Ok(())
    }
}
