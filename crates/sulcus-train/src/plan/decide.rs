use sulcus_model::{CoarseAxis, CropRule, Dimensions, Normalisation, OutputActivation, Region, SpacingRule};
use sulcus_pipeline::PipelineError;
use sulcus_volume::{Interpolation, LabelTable, Orientation, Reorientation, Spacing};

use super::fingerprint::quantile;
use super::size::{self, Grid, Size};
use super::{Fingerprint, Plan};
use crate::survey::Range;
use crate::{CaseFacts, DiceScope, Flips, NetworkChoice, SpacingChoice, TrainConfig, TrainError};

/// Spacings that differ by less than this factor are alike: resampling would blur more than it aligns.
const ALIKE: f64 = 1.2;
/// Voxels that are longer by more than this factor than along both other axes make the data anisotropic (nnU-Net).
const ANISOTROPIC: f64 = 3.0;
/// Scans of fewer slices hold too little of a third axis to convolve over.
const FEWEST_SLICES: f64 = 8.0;
/// Slices that lie further apart than this many pixels show too little of what lies between.
const WIDEST_GAP: f64 = 10.0;
/// Scans whose non-zero box fills less than this share of the median one are cut to it and normalised inside (nnU-Net
/// cuts always, and normalises inside below this share).
const MOSTLY_MARGIN: f64 = 0.75;

/// Decides everything that `config` leaves open.
pub(super) fn plan(
    config: &TrainConfig,
    labels: &LabelTable,
    regions: &[Region],
    facts: &[CaseFacts],
    fingerprint: &Fingerprint,
) -> Result<Plan, TrainError> {
    config.check()?;
    let mut why = Vec::new();
    let output = output(config, labels, regions, &mut why)?;
    // Asked for another output, the values themselves are learnt.
    let regions = if output == OutputActivation::Regions { regions } else { &[] };
    let structures = if regions.is_empty() { labels.entries().len() } else { regions.len() };
    let dimensions = dimensions(config, fingerprint, &mut why);
    let orientation = match (config.orientation, dimensions) {
        (Some(orientation), _) => orientation,
        (None, Dimensions::Two) => slice_plane(fingerprint, &mut why)?,
        (None, Dimensions::Three) => block_axes(fingerprint, &mut why)?,
    };
    let crop = crop(fingerprint, &mut why);
    let (shapes, spacings): (Vec<_>, Vec<_>) = facts.iter().map(|f| f.seen_along(crop, orientation)).unzip();
    let shape = Range::of(shapes.iter().map(|s: &[usize; 3]| s.map(|n| n as f64))).median;
    let spacing = spacing_rule(config.spacing, orientation, shape, &spacings, &mut why)?;
    let native = Range::of(spacings.into_iter()).median;
    let (shape, mm) = match spacing {
        SpacingRule::Native => (shape, native),
        SpacingRule::Resample { mm, .. } => {
            (std::array::from_fn(|a| (shape[a] * native[a] / mm.mm()[a]).round_ties_even().max(1.0)), mm.mm())
        }
    };
    let normalisation = normalisation(config, fingerprint, &mut why);
    let flips = flips(config, structures, dimensions, &mut why);
    let dice_scope = config.dice_scope.unwrap_or_else(|| dice_scope(dimensions, &mut why));
    let classes = match output {
        OutputActivation::Sigmoid => 1,
        OutputActivation::Softmax => structures + 1,
        OutputActivation::Regions => structures,
    };
    let grid = Grid { shape, mm, cases: fingerprint.cases, channels: fingerprint.channels.len(), classes };
    let Size { network, patch, tiling, batch_size } = match &config.network {
        NetworkChoice::Fixed(network) => size::fixed(network, &grid, config, &mut why)?,
        NetworkChoice::Rule(rule) => size::by_rule(*rule, dimensions, &grid, config, &mut why)?,
    };
    let plan = Plan {
        network,
        channels: fingerprint.channels.iter().map(|c| c.name.clone()).collect(),
        labels: labels.clone(),
        regions: regions.to_vec(),
        normalisation,
        output,
        crop,
        orientation,
        spacing,
        patch,
        batch_size,
        dice_scope,
        tiling,
        flips,
        why,
    };
    plan.check()?;
    Ok(plan)
}

/// What the network's channels are to mean.
fn output(
    config: &TrainConfig,
    labels: &LabelTable,
    regions: &[Region],
    why: &mut Vec<String>,
) -> Result<OutputActivation, TrainError> {
    if labels.entries().is_empty() {
        return Err(TrainError::Config("the data set has no label to learn: every mask is empty".into()));
    }
    match config.output {
        Some(OutputActivation::Regions) if regions.is_empty() => {
            Err(TrainError::Config("`output` is `regions`, but the data set has no regions".into()))
        }
        Some(output) => Ok(output),
        None if !regions.is_empty() => {
            let order: Vec<String> = regions.iter().map(|r| format!("{} as {}", r.name, r.writes)).collect();
            why.push(format!(
                "a sigmoid channel for each of {} regions, as they may overlap; written one over the other: {}",
                regions.len(),
                order.join(", ")
            ));
            Ok(OutputActivation::Regions)
        }
        None if labels.entries().len() == 1 => Ok(OutputActivation::Sigmoid),
        None => Ok(OutputActivation::Softmax),
    }
}

/// The coarsest axis along right, anterior, superior; where all are alike, the last.
fn coarsest_axis(spacing_mm: [f64; 3]) -> usize {
    if alike(spacing_mm) {
        return 2;
    }
    (0..3).rev().max_by(|a, b| spacing_mm[*a].total_cmp(&spacing_mm[*b])).unwrap_or(2)
}

fn alike(spacing_mm: [f64; 3]) -> bool {
    let finest = spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
    spacing_mm.iter().all(|mm| *mm < ALIKE * finest)
}

/// 3-D, unless somebody decided otherwise or the scans are slices rather than volumes.
fn dimensions(config: &TrainConfig, fingerprint: &Fingerprint, why: &mut Vec<String>) -> Dimensions {
    let rule = match &config.network {
        NetworkChoice::Fixed(network) => return network.dimensions,
        NetworkChoice::Rule(rule) => rule,
    };
    if let Some(dimensions) = rule.dimensions() {
        return dimensions;
    }
    match config.patch.as_deref().map(<[usize]>::len) {
        Some(2) => return Dimensions::Two,
        Some(3) => return Dimensions::Three,
        _ => {}
    }
    let (shape, mm) = (fingerprint.shape.median, fingerprint.spacing_mm.median);
    let axis = coarsest_axis(mm);
    let finest = mm.iter().copied().fold(f64::INFINITY, f64::min);
    let shortest = shape.iter().copied().fold(f64::INFINITY, f64::min);
    let (slices, gap) = (if alike(mm) { shortest } else { shape[axis] }, mm[axis] / finest);
    if slices < FEWEST_SLICES {
        why.push(format!("a 2-D network: the median scan has {slices} slices, too few to convolve across them"));
        Dimensions::Two
    } else if gap > WIDEST_GAP {
        why.push(format!(
            "a 2-D network: slices lie {gap:.1} pixels apart, so that neighbours show little of each other"
        ));
        Dimensions::Two
    } else {
        why.push(format!(
            "a 3-D network: the scans are volumes, of {} voxels each {} mm in the median (along R, A, S)",
            times(&shape),
            times(&mm.map(|v| format!("{v:.2}")))
        ));
        Dimensions::Three
    }
}

/// Margins of zeros say nothing: memory and patches go to what lies between them.
fn crop(fingerprint: &Fingerprint, why: &mut Vec<String>) -> CropRule {
    if fingerprint.crop_ratio >= MOSTLY_MARGIN {
        return CropRule::Whole;
    }
    why.push(format!(
        "scans are cut to the box of what is not zero, which fills {:.0} % of the median one; the rest is background",
        100.0 * fingerprint.crop_ratio
    ));
    CropRule::Nonzero
}

/// Slices are taken across the coarsest axis, so that the network sees the finest detail; where all are alike, across
/// the shortest one, so that it sees the most context.
fn slice_plane(fingerprint: &Fingerprint, why: &mut Vec<String>) -> Result<Orientation, TrainError> {
    let (shape, mm) = (fingerprint.shape.median, fingerprint.spacing_mm.median);
    let axis = if alike(mm) {
        (0..3).rev().min_by(|a, b| shape[*a].total_cmp(&shape[*b])).unwrap_or(2)
    } else {
        coarsest_axis(mm)
    };
    let (code, name) = PLANES[axis];
    why.push(format!(
        "{name} slices ({code}): median spacing {} mm and shape {} along R, A, S",
        times(&mm.map(|v| format!("{v:.2}"))),
        times(&shape)
    ));
    parse(code)
}

/// The coarsest axis comes to lie along D, as nnU-Net's transposition has it.
fn block_axes(fingerprint: &Fingerprint, why: &mut Vec<String>) -> Result<Orientation, TrainError> {
    let mm = fingerprint.spacing_mm.median;
    let (code, name) = PLANES[coarsest_axis(mm)];
    why.push(if alike(mm) {
        format!("scans are turned to {code}: their voxels are alike along all axes")
    } else {
        format!("scans are turned to {code}: {name} slices have the finest voxels and lie along H and W")
    });
    parse(code)
}

/// Slice axis right, anterior, superior; the slices' rows run along the first letter, columns along the second.
const PLANES: [(&str, &str); 3] = [("ASR", "sagittal"), ("RSA", "coronal"), ("RAS", "axial")];

fn parse(code: &str) -> Result<Orientation, TrainError> {
    Ok(code.parse::<Orientation>().map_err(PipelineError::from)?)
}

/// `shape` and `spacings` run along the axes of the orientation that was chosen.
fn spacing_rule(
    choice: SpacingChoice,
    orientation: Orientation,
    shape: [f64; 3],
    spacings: &[[f64; 3]],
    why: &mut Vec<String>,
) -> Result<SpacingRule, TrainError> {
    let cubic = |mm: [f64; 3]| -> Result<SpacingRule, TrainError> {
        let mm = Spacing::new(mm).map_err(PipelineError::from)?;
        // Only where voxels are anisotropic does the coarse axis differ from the others.
        Ok(SpacingRule::Resample { mm, interpolation: Interpolation::Cubic, coarse_axis: CoarseAxis::Nearest })
    };
    match choice {
        SpacingChoice::Native => return Ok(SpacingRule::Native),
        SpacingChoice::Resample(ras) => {
            return cubic(Reorientation::between(Orientation::RAS, orientation).triple(ras.mm()));
        }
        SpacingChoice::Auto => {}
    }
    let range = Range::of(spacings.iter().copied());
    let ratio = (0..3).map(|a| range.max[a] / range.min[a]).fold(1.0, f64::max);
    if ratio <= ALIKE {
        why.push(format!(
            "no resampling, which would blur more than it aligns: voxel sizes differ by a factor of {ratio:.2} at most"
        ));
        return Ok(SpacingRule::Native);
    }
    let mut target = range.median;
    let mut how = "the median voxel";
    if let Some((axis, mm)) = anisotropic_target(shape, spacings, target) {
        target[axis] = mm;
        how = "the median voxel, its long edge at the 10th percentile as the data are anisotropic,";
    }
    why.push(format!(
        "resampling to {how} of {} mm: voxel sizes differ by up to a factor of {ratio:.2}",
        times(&target.map(|v| format!("{v:.2}")))
    ));
    cubic(target)
}

/// nnU-Net's exception to the median: where slices are thick and few, the 10th percentile of their thickness keeps
/// more of what the better scans show, but is never finer than the other axes.
fn anisotropic_target(shape: [f64; 3], spacings: &[[f64; 3]], median: [f64; 3]) -> Option<(usize, f64)> {
    let worst = (0..3).rev().max_by(|a, b| median[*a].total_cmp(&median[*b]))?;
    let others = || (0..3).filter(|axis| *axis != worst);
    let coarsest_other = others().map(|a| median[a]).fold(0.0, f64::max);
    let shortest_other = others().map(|a| shape[a]).fold(f64::INFINITY, f64::min);
    if median[worst] <= ANISOTROPIC * coarsest_other || shape[worst] * ANISOTROPIC >= shortest_other {
        return None;
    }
    let mut edges: Vec<f64> = spacings.iter().map(|mm| mm[worst]).collect();
    edges.sort_unstable_by(f64::total_cmp);
    Some((worst, quantile(&edges, 0.1).max(coarsest_other)))
}

/// CT numbers mean the same on every scanner; all other intensities only mean something within their scan.
fn normalisation(config: &TrainConfig, fingerprint: &Fingerprint, why: &mut Vec<String>) -> Vec<Normalisation> {
    let choose = |channel: &super::ChannelIntensities| {
        let name = &channel.name;
        if let Some(normalisation) = config.normalisation {
            return normalisation;
        }
        let z_score = if fingerprint.crop_ratio < MOSTLY_MARGIN {
            Normalisation::ZScoreNonzero
        } else {
            Normalisation::ZScore
        };
        if !name.eq_ignore_ascii_case("ct") {
            return z_score;
        }
        let Some(f) = channel.foreground else {
            return z_score;
        };
        let clip = [f.percentile_00_5, f.percentile_99_5].map(|v| v as f32);
        let ct = Normalisation::Ct { clip, mean: f.mean as f32, sd: f.sd as f32 };
        // A foreground of one value, as in made-up data, has no spread to divide by.
        if ct.check().is_ok() { ct } else { z_score }
    };
    let chosen: Vec<Normalisation> = fingerprint.channels.iter().map(choose).collect();
    if config.normalisation.is_some() {
        return chosen;
    }
    for (channel, normalisation) in fingerprint.channels.iter().zip(&chosen) {
        let name = &channel.name;
        why.push(match normalisation {
            Normalisation::Ct { clip: [low, high], mean, sd } => format!(
                "channel `{name}` is clipped to {low:.0} to {high:.0} (0.5th and 99.5th percentile of the foreground), \
                 then brought to mean 0 and deviation 1 by the data set's {mean:.0} ± {sd:.0}"
            ),
            Normalisation::ZScoreNonzero => format!(
                "channel `{name}` is brought to mean 0 and deviation 1 scan by scan, over its non-zero part alone"
            ),
            _ => format!("channel `{name}` is brought to mean 0 and deviation 1 scan by scan, as its units mean nothing"),
        });
    }
    chosen
}

fn flips(config: &TrainConfig, structures: usize, dimensions: Dimensions, why: &mut Vec<String>) -> Flips {
    match (config.augmentation.flips, structures) {
        (Flips::Auto, 1) => {
            why.push("mirrored patches are trained on too: there is one structure".into());
            Flips::all(dimensions.count())
        }
        (Flips::Auto, _) => {
            why.push("no mirrored patches: several structures are often told apart by their side".into());
            Flips::none()
        }
        (chosen, _) => chosen,
    }
}

fn dice_scope(dimensions: Dimensions, why: &mut Vec<String>) -> DiceScope {
    match dimensions {
        Dimensions::Two => {
            why.push("Dice is taken over the batch: a single slice often lacks a structure".into());
            DiceScope::Batch
        }
        Dimensions::Three => {
            why.push("Dice is taken patch by patch: a block mostly holds enough of each structure".into());
            DiceScope::Case
        }
    }
}

/// `36 × 50 × 35`.
pub(super) fn times<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" × ")
}
