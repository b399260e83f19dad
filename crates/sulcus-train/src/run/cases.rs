//! The cases of a training: reading and preparing them, and the sampler that draws patches from them.

use std::collections::{BTreeMap, BTreeSet};

use sulcus_dataset::{CacheKey, Case, CaseFacts, Dataset, LabelledScan, Split, load_or_prepare, map_parallel};
use sulcus_model::{Dimensions, GoldenCase, ModelSpec, SpacingRule};
use sulcus_pipeline::{preprocess_labels, preprocess_owned};
use sulcus_plan::{Plan, TrainConfig};
use sulcus_volume::{LabelMap, Spacing};

use super::samples;
use crate::error::TrainError;
use crate::sampling::regions::{classes_of_structures, loss_regions};
use crate::sampling::sampler::{Sampler, SamplingConfig};
use crate::sampling::training_case::TrainingCase;

/// The cases with these names.
pub(super) fn cases<'a>(dataset: &'a Dataset, names: &[String]) -> Vec<&'a Case> {
    names.iter().filter_map(|name| dataset.case(name)).collect()
}

/// Reads image and mask of a case.
pub(crate) fn read_case(case: &Case) -> Result<LabelledScan, TrainError> {
    case.read().map_err(TrainError::Case)
}

/// Reads the mask of a case.
pub(super) fn read_reference(case: &Case) -> Result<LabelMap, TrainError> {
    Ok(case.read_labels().map_err(TrainError::Case)?.0)
}

/// Reads cases and prepares them by the code that prediction uses, or takes them from the cache.
pub(super) fn prepared(
    dataset: &Dataset,
    spec: &ModelSpec,
    names: &[String],
    data_sha256: &BTreeMap<String, String>,
    config: &TrainConfig,
) -> Result<Vec<TrainingCase>, TrainError> {
    let structures = classes_of_structures(spec);
    let prepare_one = |case: &&Case| -> Result<TrainingCase, TrainError> {
        let read_and_prepare = || {
            let scan = read_case(case)?;
            let labels = preprocess_labels(spec, &scan.image, &scan.labels, dataset.ignore())?;
            Ok::<_, TrainError>((preprocess_owned(spec, scan.image)?.0, labels))
        };
        let (image, labels) = match data_sha256.get(&case.name) {
            Some(sha256) => {
                let key = CacheKey::new(sha256, spec, dataset.ignore())?;
                load_or_prepare(config.cache.as_deref(), &key, read_and_prepare)?
            }
            None => read_and_prepare()?,
        };
        TrainingCase::new(case.name.clone(), image, labels, &structures)
    };
    map_parallel(&cases(dataset, names), prepare_one).into_iter().collect()
}

/// The sampler of the training cases.
pub(super) fn sampler(
    dataset: &Dataset,
    spec: &ModelSpec,
    training: &[String],
    facts: &[CaseFacts],
    data_sha256: &BTreeMap<String, String>,
    plan: &Plan,
    config: &TrainConfig,
) -> Result<Sampler, TrainError> {
    let patch = match *plan.patch.as_slice() {
        [height, width] => [1, height, width],
        [depth, height, width] => [depth, height, width],
        _ => return Err(TrainError::Config(format!("a patch has (D,) H and W, found {:?}", plan.patch))),
    };
    let [x, y, z] = match plan.spacing {
        SpacingRule::Resample { mm, .. } => mm.mm(),
        // Replaced by the spacing of each case below.
        SpacingRule::Native | SpacingRule::Nnunet(_) => [1.0; 3],
    };
    let mut augmentation = config.augmentation;
    augmentation.flips = plan.flips;
    let sampling = SamplingConfig {
        patch,
        spacing_mm: [z, y, x],
        batch_size: plan.batch_size,
        foreground_share: config.foreground_share,
        augmentation,
        seed: config.seed,
    };
    let mut cases = prepared(dataset, spec, training, data_sha256, config)?;
    if !plan.spacing.resamples_every_scan() {
        let with_own_spacing = |case: TrainingCase| match facts.iter().find(|f| f.name == case.name()) {
            Some(facts) => {
                let [x, y, z] = prepared_spacing_mm(facts, plan);
                case.with_spacing([z, y, x])
            }
            None => case,
        };
        cases = cases.into_iter().map(with_own_spacing).collect();
    }
    Ok(Sampler::new(cases, sampling)?.with_regions(loss_regions(spec)?))
}

/// The voxel size of a case after preprocessing, along the plan's x, y, z.
fn prepared_spacing_mm(facts: &CaseFacts, plan: &Plan) -> [f64; 3] {
    let (_, own) = facts.oriented(plan.orientation);
    let target = Spacing::new(own).ok().and_then(|scan| plan.spacing.target_for(scan));
    target.map_or(own, Spacing::mm)
}

/// The memory in bytes of the prepared cases that stay in memory: the training cases and those that are scored after each
/// epoch.
pub(super) fn prepared_bytes(
    facts: &[CaseFacts],
    plan: &Plan,
    split: &Split,
    scored_each_epoch: &[String],
) -> u64 {
    let in_memory: BTreeSet<&String> = split.training.iter().chain(scored_each_epoch).collect();
    let bytes = |f: &CaseFacts| {
        let (shape, from_mm) = f.cropped_and_oriented(plan.crop, plan.orientation);
        let to_mm = prepared_spacing_mm(f, plan);
        let voxels: f64 = (0..3).map(|a| (shape[a] as f64 * from_mm[a] / to_mm[a]).round().max(1.0)).product();
        // 4 bytes per channel, and 1 byte for the class.
        voxels as u64 * (4 * f.channels as u64 + 1)
    };
    facts.iter().filter(|f| in_memory.contains(&f.name)).map(bytes).sum()
}

/// Cuts the samples that the run keeps, from evenly spaced cases.
pub(super) fn draw_samples(
    dataset: &Dataset,
    spec: &ModelSpec,
    names: &[String],
) -> Result<Vec<GoldenCase>, TrainError> {
    let picked = evenly_spaced(names, samples::MAX_SAMPLES);
    let sample = |case: &&Case| -> Result<GoldenCase, TrainError> {
        Ok(samples::sample_of(spec, &read_case(case)?, dataset.ignore())?)
    };
    map_parallel(&cases(dataset, &picked), sample).into_iter().collect()
}

/// At most `n` of the names, evenly spaced.
pub(crate) fn evenly_spaced(names: &[String], n: usize) -> Vec<String> {
    let count = n.min(names.len());
    (0..count).filter_map(|i| names.get(i * names.len() / count)).cloned().collect()
}

/// The validation cases that are scored after each epoch: fewer than configured where the plan expects them to take more than a
/// tenth of the time.
pub(super) fn scored_each_epoch(
    split: &Split,
    plan: &Plan,
    config: &TrainConfig,
    steps_per_epoch: usize,
) -> Vec<String> {
    let most = plan.pace.map_or(usize::MAX, |pace| pace.cases_per_epoch(steps_per_epoch, plan.batch_size));
    evenly_spaced(&split.validation, config.cases_scored_per_epoch.min(most).max(1))
}

/// The default number of steps per epoch: for 2-D networks as many patches as cover the slices with foreground, four patches per case
/// for 3-D networks. The maximum is nnU-Net's 250, since the state is saved only after each epoch. With a time budget an epoch has
/// at least a tenth of the steps that the plan expects.
pub(super) fn default_steps(sampler: &Sampler, plan: &Plan) -> usize {
    const MAX_STEPS: usize = 250;
    let cases = sampler.cases();
    let min = plan.pace.map_or(1, |pace| pace.min_steps_per_epoch()).min(MAX_STEPS);
    match plan.network.dimensions {
        Dimensions::Two => {
            let patches = |case: &TrainingCase| case.foreground_slices() * case.patches_per_slice(&plan.patch);
            cases.iter().map(patches).sum::<usize>().div_ceil(plan.batch_size).clamp(min, MAX_STEPS)
        }
        Dimensions::Three => (4 * cases.len()).div_ceil(plan.batch_size).clamp(min, MAX_STEPS),
    }
}
