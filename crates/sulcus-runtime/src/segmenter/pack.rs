//! A pack segments a scan: its networks, one after the other, as the recipe says.

use std::ops::ControlFlow;

use sulcus_model::{
    CanonicalGrid, CropRule, Locate, ModelSpec, NothingFound, OutputActivation, PackSpec, Part, Recipe, SplitRule,
};
use sulcus_pipeline::{
    Crop, InferenceSettings, Outputs, PackGrid, PipelineError, Prediction, Progress, ScanInput, ScanOwnership,
    ScanWarning, Thirds, add_warnings, check_scan, count_tiles, locate, merge, workspace_bytes,
};
use sulcus_volume::{Geometry, Image, Label, LabelMap};
use web_time::Instant;

use super::Segmenter;
use super::predict::{Effort, Work};
use crate::loaded::Model;
use crate::stages::{StageCheck, TileCounter, for_each_stage};
use crate::{Engine, Error, ErrorKind, PackStep, SegmentOptions, Segmentation, VoxelBox};

/// What a pack has done so far with a scan.
struct Run<'a, 'o> {
    segmenter: &'a Segmenter,
    counter: TileCounter<'o>,
    limit: Option<u64>,
    is_limited: bool,
    steps: Vec<PackStep>,
    warnings: Vec<ScanWarning>,
    effort: Effort,
}

/// Segments a scan.
///
/// # Errors
/// As [`Segmenter::segment`], and if probabilities are asked for that the pack does not have.
pub(super) fn run(
    segmenter: &Segmenter,
    pack: &PackSpec,
    scan: ScanInput<'_>,
    options: SegmentOptions<'_>,
) -> Result<Segmentation, Error> {
    let SegmentOptions { outputs, observer, max_memory } = options;
    check_outputs(pack, outputs)?;
    let mut ignore_progress = |_: Progress| ControlFlow::Continue(());
    let observer = observer.unwrap_or(&mut ignore_progress);
    let mut run = Run {
        segmenter,
        counter: TileCounter::new(observer),
        limit: segmenter.memory_limit(max_memory),
        is_limited: segmenter.is_limited(max_memory),
        steps: Vec::new(),
        warnings: Vec::new(),
        effort: Effort::default(),
    };
    let whole = *scan.image().geometry();
    let held = match &scan {
        ScanInput::Borrowed(image) => size_of_val(image.data()) as u64,
        ScanInput::Owned(_) => 0,
    };
    let crop = match &pack.recipe.locate {
        None => None,
        Some(rule) => match run.locate(pack, rule, scan.image())? {
            None if rule.nothing_found == NothingFound::EmptyMask => return run.empty(outputs, whole),
            found => found,
        },
    };
    let part = match &crop {
        None => scan,
        Some(crop) => ScanInput::Owned(crop.image(scan.image())?),
    };
    let prediction = run.parts(pack, part, crop.is_some(), outputs, held)?;
    let prediction = match crop {
        None => prediction,
        Some(crop) => crop.restore(segmenter.spec(), prediction)?,
    };
    Ok(run.finish(prediction))
}

impl Run<'_, '_> {
    /// The box of what the rough network finds in the whole scan.
    fn locate(&mut self, pack: &PackSpec, rule: &Locate, image: &Image) -> Result<Option<Crop>, Error> {
        let start = Instant::now();
        let model = self.segmenter.network(&rule.network)?;
        self.check(&[model], image)?;
        let geometry = *image.geometry();
        let grid = rule.grid.as_ref().map(|rule| PackGrid::new(rule, &geometry, false)).transpose()?;
        // The box is unknown; it is at most the scan.
        let Recipe { grid: grid_of_parts, split, parts, .. } = &pack.recipe;
        let later = tiles_of(self.segmenter, parts, &grid_of(grid_of_parts.as_ref(), &geometry)?, *split);
        let seen = match &grid {
            None => ScanInput::Borrowed(image),
            Some(grid) => ScanInput::Owned(grid.image(image)?),
        };
        let kept = if grid.is_some() { size_of_val(image.data()) as u64 } else { 0 };
        let shape = seen.image().geometry().shape();
        let (mask, tiles) = self.predict(model, seen, Outputs::Labels, kept, later)?;
        let mask = match grid {
            None => mask.labels,
            Some(grid) => grid.labels_back(&mask.labels)?,
        };
        let found = locate(rule, &mask)?;
        self.steps.push(PackStep::Locate {
            network: rule.network.clone(),
            shape,
            tiles,
            seconds: start.elapsed().as_secs_f64(),
            found: found.as_ref().map(VoxelBox::from),
        });
        if found.is_none() {
            let mask_is_empty = rule.nothing_found == NothingFound::EmptyMask;
            let warning = ScanWarning::NothingLocated { network: rule.network.clone(), mask_is_empty };
            add_warnings(&mut self.warnings, [warning], self.segmenter.checks)?;
        }
        Ok(found)
    }

    /// Lets the parts see the scan or the box, and puts their masks together.
    fn parts(
        &mut self,
        pack: &PackSpec,
        part: ScanInput<'_>,
        is_cropped: bool,
        outputs: Outputs,
        held: u64,
    ) -> Result<Prediction, Error> {
        let recipe = &pack.recipe;
        let models: Vec<&Model> =
            recipe.parts.iter().map(|part| self.segmenter.network(&part.network)).collect::<Result<_, _>>()?;
        self.check(&models, part.image())?;
        let geometry = *part.image().geometry();
        let start = Instant::now();
        let grid = recipe.grid.as_ref().map(|rule| PackGrid::new(rule, &geometry, is_cropped)).transpose()?;
        let seen = match &grid {
            None => part,
            Some(grid) => {
                let image = grid.image(part.image())?;
                drop(part);
                ScanInput::Owned(image)
            }
        };
        let mut resampling = start.elapsed();
        let thirds = Thirds::of(recipe.split, seen.image().geometry().shape());
        let mask_bytes = |geometry: &Geometry| (geometry.voxels() * size_of::<Label>()) as u64;
        let kept = held.saturating_add(mask_bytes(&geometry)).saturating_add(mask_bytes(seen.image().geometry()));
        let prediction = match (recipe.parts.as_slice(), models.as_slice(), &thirds) {
            ([only], [model], None) if only.merge.is_none() => self.part(only, model, seen, outputs, kept, 0)?,
            _ => {
                let image = seen.image();
                let mut labels = LabelMap::new(*image.geometry(), vec![0; image.geometry().voxels()])?;
                for (index, (part, model)) in recipe.parts.iter().zip(models).enumerate() {
                    let later = recipe.parts.get(index + 1..).unwrap_or_default();
                    let later = tiles_of(self.segmenter, later, image.geometry(), recipe.split);
                    let mask = self.part_of_grid(part, model, image, thirds.as_ref(), kept, later)?;
                    labels = merge(part, &mask, labels)?;
                }
                Prediction { labels, probabilities: None }
            }
        };
        let start = Instant::now();
        let prediction = match grid {
            None => prediction,
            Some(grid) => Prediction { labels: grid.labels_back(&prediction.labels)?, probabilities: None },
        };
        resampling += start.elapsed();
        self.effort.seconds.preprocess += resampling.as_secs_f64();
        Ok(prediction)
    }

    /// The mask of a part on the whole grid, which may be divided.
    fn part_of_grid(
        &mut self,
        part: &Part,
        model: &Model,
        image: &Image,
        thirds: Option<&Thirds>,
        kept: u64,
        later: usize,
    ) -> Result<LabelMap, Error> {
        let Some(thirds) = thirds else {
            let kept = kept.saturating_add((image.geometry().voxels() * size_of::<Label>()) as u64);
            return Ok(self.part(part, model, ScanInput::Borrowed(image), Outputs::Labels, kept, later)?.labels);
        };
        let kept = kept.saturating_add(size_of_val(image.data()) as u64);
        let mut whole = vec![0; image.geometry().voxels()];
        for third in 0..Thirds::COUNT {
            let seen = thirds.image(third, image)?;
            let rest = (Thirds::COUNT - 1 - third) * tiles_on(self.segmenter, model, seen.geometry());
            let found = self.part(part, model, ScanInput::Owned(seen), Outputs::Labels, kept, later + rest)?;
            thirds.put(third, &found.labels, &mut whole);
        }
        Ok(LabelMap::new(*image.geometry(), whole)?)
    }

    fn part(
        &mut self,
        part: &Part,
        model: &Model,
        seen: ScanInput<'_>,
        outputs: Outputs,
        kept: u64,
        later: usize,
    ) -> Result<Prediction, Error> {
        let start = Instant::now();
        let shape = seen.image().geometry().shape();
        let (prediction, tiles) = self.predict(model, seen, outputs, kept, later)?;
        let seconds = start.elapsed().as_secs_f64();
        self.steps.push(PackStep::Part { network: part.network.clone(), shape, tiles, seconds });
        Ok(prediction)
    }

    /// Predicts what a network sees. `kept` is what is held in memory besides, in bytes; `later` an estimate of the tiles that follow.
    fn predict(
        &mut self,
        model: &Model,
        seen: ScanInput<'_>,
        outputs: Outputs,
        kept: u64,
        later: usize,
    ) -> Result<(Prediction, usize), Error> {
        let mut settings = self.segmenter.inference_settings(outputs, self.limit);
        settings.reserved_bytes = kept.saturating_add(self.workspaces_beside(model, seen.image().geometry()));
        self.counter.expect_later(later);
        let work = Work { models: &[model], spec: &model.spec, settings, is_limited: self.is_limited };
        let predicted = self.segmenter.predict(work, seen, &mut |_| Ok(()), &mut self.counter);
        // The next network gets the memory.
        model.release();
        let (prediction, effort) = predicted?;
        self.effort.add(&effort);
        Ok((prediction, effort.tiles))
    }

    /// The memory that engines keep for the other networks, if they do not free it.
    fn workspaces_beside(&self, model: &Model, geometry: &Geometry) -> u64 {
        if self.segmenter.engine() == Engine::Native || self.segmenter.device().is_gpu() {
            return 0;
        }
        let others = self.segmenter.models.iter().filter(|other| !std::ptr::eq(*other, model));
        let bytes = others.map(|other| workspace_bytes(&other.planned(geometry), geometry));
        bytes.fold(0, u64::saturating_add)
    }

    /// Compares the scan, or the box, with what the networks were trained on; where they crop scans, the cropped one.
    fn check(&mut self, models: &[&Model], image: &Image) -> Result<(), Error> {
        let specs: Vec<&ModelSpec> =
            models.iter().flat_map(|model| model.chain()).map(|model| &model.spec).collect();
        for rule in [CropRule::Whole, CropRule::Nonzero] {
            let specs: Vec<&ModelSpec> = specs.iter().copied().filter(|spec| spec.crop == rule).collect();
            let Some(first) = specs.first() else { continue };
            let found = match Crop::of(first, image)? {
                None => check_scan(&specs, image, self.segmenter.checks)?,
                Some(crop) => check_scan(&specs, &crop.image(image)?, self.segmenter.checks)?,
            };
            add_warnings(&mut self.warnings, found, self.segmenter.checks)?;
        }
        Ok(())
    }

    /// The result where there is nothing to segment.
    fn empty(self, outputs: Outputs, whole: Geometry) -> Result<Segmentation, Error> {
        let labels = LabelMap::new(whole, vec![0; whole.voxels()])?;
        let spec = self.segmenter.spec();
        let probabilities = match outputs {
            Outputs::Labels => None,
            Outputs::LabelsAndProbabilities => {
                let classes = spec.classes();
                let mut values = vec![0.0; classes.saturating_mul(whole.voxels())];
                if spec.activation == OutputActivation::Softmax {
                    values.iter_mut().take(whole.voxels()).for_each(|value| *value = 1.0);
                }
                Some(Image::new(whole, classes, values)?)
            }
        };
        Ok(self.finish(Prediction { labels, probabilities }))
    }

    fn finish(self, prediction: Prediction) -> Segmentation {
        let Self { segmenter, steps, warnings, effort, .. } = self;
        let mut segmentation = segmenter.segmentation(segmenter.spec(), prediction, &effort, warnings);
        segmentation.steps = steps;
        segmentation
    }
}

/// A mask that was put together has no probabilities.
fn check_outputs(pack: &PackSpec, outputs: Outputs) -> Result<(), Error> {
    let Recipe { grid, split, parts, .. } = &pack.recipe;
    let takes_over =
        matches!(parts.as_slice(), [only] if only.merge.is_none()) && grid.is_none() && split.is_none();
    match outputs {
        Outputs::LabelsAndProbabilities if !takes_over => {
            Err(ErrorKind::PackProbabilities { pack: pack.name.clone() }.into())
        }
        _ => Ok(()),
    }
}

/// The grid on which networks see a scan of this geometry.
fn grid_of(rule: Option<&CanonicalGrid>, geometry: &Geometry) -> Result<Geometry, PipelineError> {
    rule.map_or(Ok(*geometry), |rule| PackGrid::new(rule, geometry, false).map(|grid| *grid.geometry()))
}

/// An estimate of the tiles of a network, 0 if there is none.
fn tiles_on(segmenter: &Segmenter, model: &Model, geometry: &Geometry) -> usize {
    let window = &segmenter.inference_settings(Outputs::Labels, None).window;
    let count = |model: &Model| count_tiles(&model.spec, geometry, window).unwrap_or(0);
    model.chain().map(count).sum()
}

/// An estimate of the tiles of parts on a grid.
fn tiles_of(segmenter: &Segmenter, parts: &[Part], geometry: &Geometry, split: Option<SplitRule>) -> usize {
    let thirds = if split.is_some_and(|rule| rule.divides(geometry.shape())) { Thirds::COUNT } else { 1 };
    let [x, y, z] = geometry.shape();
    let seen = geometry.with_grid([x, y, z.div_ceil(thirds)], *geometry.ras_from_voxel()).unwrap_or(*geometry);
    let tiles =
        |part: &Part| segmenter.network(&part.network).map_or(0, |model| tiles_on(segmenter, model, &seen));
    parts.iter().map(tiles).sum::<usize>() * thirds
}

/// Calls `check` for the networks of a pack that see the whole scan. (After a rough network, the size of the box is not known.)
///
/// # Errors
/// Those of `check`, and if a grid cannot be processed.
pub(super) fn for_each_network(
    segmenter: &Segmenter,
    pack: &PackSpec,
    geometry: &Geometry,
    settings: &InferenceSettings,
    check: &mut StageCheck<'_>,
) -> Result<(), Error> {
    let Recipe { locate, grid, parts, .. } = &pack.recipe;
    let seen: Vec<(&String, Option<&CanonicalGrid>)> = match locate {
        Some(locate) => vec![(&locate.network, locate.grid.as_ref())],
        None => parts.iter().map(|part| (&part.network, grid.as_ref())).collect(),
    };
    for (network, rule) in seen {
        let mut settings = *settings;
        if rule.is_some() || locate.is_some() || parts.len() > 1 {
            // The scan stays, or the grid does, and the mask is put together.
            let mask = (geometry.voxels() as u64).saturating_mul(size_of::<Label>() as u64);
            settings.reserved_bytes = settings.reserved_bytes.saturating_add(mask);
            settings.scan = ScanOwnership::Borrowed;
        }
        for_each_stage(&[segmenter.network(network)?], &grid_of(rule, geometry)?, &settings, check)?;
    }
    Ok(())
}

/// The network whose plan is shown, and the grid on which it sees a scan.
pub(super) fn first_part<'a>(
    segmenter: &'a Segmenter,
    pack: &PackSpec,
    geometry: &Geometry,
) -> Result<(&'a Model, Geometry), Error> {
    let part = pack.recipe.parts.first().ok_or(ErrorKind::NoModel)?;
    Ok((segmenter.network(&part.network)?, grid_of(pack.recipe.grid.as_ref(), geometry)?))
}
