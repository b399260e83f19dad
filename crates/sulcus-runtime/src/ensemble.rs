//! Several models that answer as one: which of them may, and how their logits come together.
//!
//! Members may have networks, patches, orientations, voxel sizes and normalisations of their own, as a 2-D and a 3-D
//! model of the same data have. They must mean the same by their input channels and by their logits.

use std::cell::Cell;
use std::ops::ControlFlow;

use sulcus_pipeline::{
    Logits, ModelSpec, Output, Outputs, Postprocess, Predictor, PredictorError, Progress, Restore, Restored,
    SpacingRule, Tensor, WindowOptions, count_tiles, predict_logits, prepare,
};
use sulcus_volume::{Image, Spacing};

use crate::clock::Stopwatch;
use crate::segmenter::{Model, SharedPredictor};
use crate::{RuntimeError, Seconds};

/// What the members of an ensemble must mean alike, each with its name in messages and its value in words.
fn meaning(spec: &ModelSpec) -> [(&'static str, String); 3] {
    // Taken apart whole, so that a new field has to be put on one side or the other.
    let ModelSpec {
        channels,
        labels,
        activation,
        // These lead to the logits, and each member goes its own way.
        network: _,
        orientation: _,
        spacing: _,
        patch: _,
        tiling: _,
        overlap: _,
        mirror_axes: _,
        padding_multiple: _,
        // Of this, what all have in common is done; see `common_postprocessing`.
        postprocessing: _,
        // These say where a model comes from.
        format_version: _,
        name: _,
        training: _,
        golden_case: _,
    } = spec;
    let channels: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let labels: Vec<String> = labels.entries().iter().map(|l| format!("{} {}", l.value, l.name)).collect();
    let activation = match activation {
        Output::Softmax => "softmax",
        Output::Sigmoid => "sigmoid",
    };
    [
        ("channels", format!("{} ({})", channels.len(), channels.join(", "))),
        ("labels", labels.join(", ")),
        ("activation", activation.to_owned()),
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

fn target(spec: &ModelSpec) -> Option<Spacing> {
    match spec.spacing {
        SpacingRule::Native => None,
        SpacingRule::Resample { mm, .. } => Some(mm),
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
        && (&a.patch, a.tiling, a.overlap) == (&b.patch, b.tiling, b.overlap)
        && (&a.mirror_axes, &a.padding_multiple) == (&b.mirror_axes, &b.padding_multiple)
}

type Group<'a> = Vec<&'a Model>;

/// Members that are alike come together; the groups and their members keep the order in which they were given.
fn partition<'a>(models: &[&'a Model], alike: fn(&ModelSpec, &ModelSpec) -> bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for model in models {
        match groups.iter_mut().find(|g| g.first().is_some_and(|first| alike(&first.spec, &model.spec))) {
            Some(group) => group.push(model),
            None => groups.push(vec![model]),
        }
    }
    groups
}

/// What an ensemble answers to one scan, and what it took.
pub(crate) struct Answer {
    pub(crate) restored: Restored,
    pub(crate) tiles: usize,
    pub(crate) seconds: Seconds,
}

/// One scan on its way through all members.
pub(crate) struct Road<'a> {
    image: &'a Image,
    window: &'a WindowOptions,
    /// Members in all: each has the same weight.
    members: usize,
    progress: Progress,
    seconds: Seconds,
}

impl<'a> Road<'a> {
    pub(crate) fn new(image: &'a Image, window: &'a WindowOptions) -> Self {
        let progress = Progress { done: 0, total: 0 };
        Self { image, window, members: 0, progress, seconds: Seconds::default() }
    }

    /// Asks all members and decides by `spec`, which all of them agree with. Where all members have the same tiles
    /// one volume of logits is held at a time, with the same prepared grid two, otherwise three.
    pub(crate) fn walk(
        mut self,
        spec: &ModelSpec,
        models: &[Model],
        outputs: Outputs,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, RuntimeError> {
        let all: Vec<&Model> = models.iter().collect();
        self.members = all.len();
        let grids = partition(&all, same_grid);
        for group in grids.iter().flat_map(|g| partition(g, same_preparation)) {
            for first in partition(&group, same_window).iter().filter_map(|g| g.first()) {
                self.progress.total += count_tiles(&first.spec, self.image.geometry(), self.window)?;
            }
        }
        let mut mean: Option<(Restore, Logits)> = None;
        for grid in &grids {
            let (restore, logits) = self.ask_grid(grid, observer)?;
            let watch = Stopwatch::start();
            let (restore, logits) =
                if grids.len() == 1 { (restore, logits) } else { restore.onto_scan(logits)? };
            let sum = match mean.take() {
                None => logits,
                Some((_, mut sum)) => {
                    sum.add(&logits)?;
                    sum
                }
            };
            mean = Some((restore, sum));
            self.seconds.postprocess += watch.elapsed_secs();
        }
        let (restore, logits) = mean.ok_or(RuntimeError::NoModel)?;
        let tiles = logits.tiles();
        let watch = Stopwatch::start();
        let restored = restore.finish(spec, logits, outputs)?;
        self.seconds.postprocess += watch.elapsed_secs();
        Ok(Answer { restored, tiles, seconds: self.seconds })
    }

    /// The weighted sum of the logits of members with one prepared grid.
    fn ask_grid(
        &mut self,
        grid: &[&Model],
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Restore, Logits), RuntimeError> {
        let mut sum: Option<(Restore, Logits)> = None;
        for group in partition(grid, same_preparation) {
            let spec = &group.first().ok_or(RuntimeError::NoModel)?.spec;
            let watch = Stopwatch::start();
            let (prepared, restore) = prepare(spec, self.image)?;
            self.seconds.preprocess += watch.elapsed_secs();

            let watch = Stopwatch::start();
            let mut logits = sum.take().map(|(_, logits)| logits);
            for alike in partition(&group, same_window) {
                let spec = &alike.first().ok_or(RuntimeError::NoModel)?.spec;
                let engine_secs = Cell::new(0.0);
                let timed: Vec<Timed<'_>> =
                    alike.iter().map(|m| Timed { predictor: &m.predictor, secs: &engine_secs }).collect();
                let predictors: Vec<&dyn Predictor> = timed.iter().map(|t| t as &dyn Predictor).collect();
                let before = self.progress;
                let mut told = |at: Progress| observer(Progress { done: before.done + at.done, ..before });
                let found = predict_logits(spec, &prepared, &predictors, self.window, &mut told)?;
                self.progress.done += found.tiles();
                self.seconds.engine += engine_secs.get();
                let weighted = match alike.len() {
                    all if all == self.members => found,
                    some => found.scaled(some as f32 / self.members as f32),
                };
                logits = Some(match logits.take() {
                    None => weighted,
                    Some(mut sum) => {
                        sum.add(&weighted)?;
                        sum
                    }
                });
            }
            self.seconds.infer += watch.elapsed_secs();
            sum = logits.map(|logits| (restore, logits));
        }
        sum.ok_or(RuntimeError::NoModel)
    }
}

/// Adds up the time spent in a predictor.
struct Timed<'a> {
    predictor: &'a SharedPredictor,
    secs: &'a Cell<f64>,
}

impl Predictor for Timed<'_> {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let watch = Stopwatch::start();
        let answer = self.predictor.logits(input);
        self.secs.set(self.secs.get() + watch.elapsed_secs());
        answer
    }
}
