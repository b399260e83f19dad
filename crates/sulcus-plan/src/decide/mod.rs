//! Decides a plan from the data: output, dimensions, orientation, spacing and normalisation here, the network's size in
//! [`size`] and [`time`], its stages in [`topology`].

mod grid;
mod size;
mod time;
mod topology;

use sulcus_dataset::CaseFacts;
use sulcus_model::{
    AxisRange, CoarseAxis, CropRule, Dimensions, GridAxes, Normalisation, OutputActivation, Region, SpacingRule,
};
use sulcus_pipeline::{PipelineError, quantile};
use sulcus_volume::{GridUnit, Interpolation, LabelTable, Orientation, Reorientation, Spacing};

use crate::augmentation::Flips;
use crate::config::{SpacingChoice, TrainConfig};
use crate::device::DeviceKind;
use crate::error::PlanError;
use crate::fingerprint::{ChannelIntensities, Fingerprint};
use crate::loss::DiceScope;
use crate::pace::StepTimer;
use crate::plan::Plan;
use crate::preset::NetworkChoice;
use crate::text::times;
use crate::training_scans::training_scans;

use grid::Grid;
use size::Size;

/// Spacings that differ by less than this factor are similar: resampling would blur more than it aligns.
const SIMILAR: f64 = 1.2;
/// The tolerance with which every scan is resampled.
const EXACT: f64 = 1.0;
/// Data are anisotropic if voxels are longer along one axis by more than this factor than along both others (nnU-Net).
const ANISOTROPIC: f64 = 3.0;
/// With fewer slices the network is 2-D.
const MIN_SLICES: f64 = 8.0;
/// With a larger distance between slices, in pixels, the network is 2-D.
const MAX_SLICE_GAP: f64 = 10.0;
/// Scans are cropped to their non-zero box and normalised inside if the box fills less than this fraction of the median
/// scan. (nnU-Net always crops, and normalises inside below this fraction.)
const MAX_CROP_RATIO: f64 = 0.75;

impl Plan {
    /// Decides what the configuration leaves open, for data without regions and without regard to a time budget. Otherwise
    /// use [`PlanFile::decide`](crate::PlanFile::decide).
    ///
    /// # Errors
    /// When a setting does not fit the data or the network, or no network fits the memory.
    pub fn decide(
        config: &TrainConfig,
        device: DeviceKind,
        channels: &[String],
        labels: &LabelTable,
        facts: &[CaseFacts],
    ) -> Result<Self, PlanError> {
        decide_plan(config, device, labels, &[], facts, (&Fingerprint::new(channels, labels, &[], facts), &mut ()))
    }
}

/// The median scan along the axes of a frame.
struct MedianScan {
    frame: GridAxes,
    shape: [f64; 3],
    mm: [f64; 3],
}

impl MedianScan {
    fn of(facts: &[CaseFacts], frame: GridAxes) -> Self {
        let (shapes, spacings): (Vec<_>, Vec<_>) = facts.iter().map(|f| f.oriented(frame)).unzip();
        let shape = AxisRange::of(shapes.into_iter().map(|shape: [usize; 3]| shape.map(|n| n as f64))).median;
        Self { frame, shape, mm: AxisRange::of(spacings.into_iter()).median }
    }

    /// The names of the axes, for people.
    fn axes(&self) -> &'static str {
        if self.frame == GridAxes::Acquired { "x, y, z, where z is the slice axis" } else { "R, A, S" }
    }
}

/// Whether the axes of the acquisition are kept, because patient axes would not bring the slices of all scans to the same axis.
fn needs_acquired_axes(facts: &[CaseFacts], why: &mut Vec<String>) -> bool {
    /// Between two patient axes, a small rotation changes the nearest one.
    const MAX_OBLIQUITY_DEGREES: f64 = 35.0;
    /// More than this fraction of the scans is not an exception.
    const EXCEPTIONS: f64 = 0.05;
    let are_many = |n: usize| n as f64 > EXCEPTIONS * facts.len() as f64;
    let oblique = facts.iter().filter(|f| f.obliquity_degrees > MAX_OBLIQUITY_DEGREES).count();
    if are_many(oblique) {
        why.push(format!(
            "scans keep the axes of their acquisition, slices along z: in {oblique} of {} the axes lie more than \
             {MAX_OBLIQUITY_DEGREES:.0}° from every patient axis, so that the nearest one is arbitrary",
            facts.len()
        ));
        return true;
    }
    let mut slice_normals = [0; 3];
    for case in facts {
        let (_, mm) = case.oriented(GridAxes::Acquired);
        if mm[2] > SIMILAR * mm[0].max(mm[1]) {
            slice_normals[case.acquired.axes()[2].ras_axis()] += 1;
        }
    }
    let with_slices: usize = slice_normals.iter().sum();
    if are_many(with_slices - slice_normals.into_iter().max().unwrap_or(0)) {
        let [sagittal, coronal, axial] = slice_normals;
        why.push(format!(
            "scans keep the axes of their acquisition, slices along z: thick slices are sagittal in {sagittal}, coronal in \
             {coronal} and axial in {axial} scan(s)"
        ));
        return true;
    }
    false
}

/// The facts in pixels, if the size of a pixel is not known of all cases.
fn pixels(facts: &[CaseFacts]) -> Option<Vec<CaseFacts>> {
    facts.iter().any(|f| f.unit == GridUnit::Pixel).then(|| facts.iter().map(CaseFacts::in_pixels).collect())
}

/// Decides everything that `config` leaves open.
pub(crate) fn decide_plan(
    config: &TrainConfig,
    device: DeviceKind,
    labels: &LabelTable,
    regions: &[Region],
    facts: &[CaseFacts],
    (fingerprint, timer): (&Fingerprint, &mut dyn StepTimer),
) -> Result<Plan, PlanError> {
    config.check()?;
    let mut why = Vec::new();
    let in_pixels = pixels(facts);
    let facts = in_pixels.as_deref().unwrap_or(facts);
    let output = output(config, labels, regions, &mut why)?;
    // With another output the label values themselves are learnt.
    let regions = if output == OutputActivation::Regions { regions } else { &[] };
    let structures = if regions.is_empty() { labels.entries().len() } else { regions.len() };
    let acquired = match config.orientation {
        Some(axes) => axes == GridAxes::Acquired,
        None => needs_acquired_axes(facts, &mut why),
    };
    let frame = if acquired { GridAxes::Acquired } else { Orientation::RAS.into() };
    let scan = MedianScan::of(facts, frame);
    let dimensions = dimensions(config, &scan, &mut why);
    check_depth(config, dimensions, fingerprint)?;
    let orientation = match (config.orientation, dimensions) {
        (Some(axes), _) => axes,
        (None, _) if acquired => GridAxes::Acquired,
        (None, Dimensions::Two) if facts.iter().all(|f| f.picture) => {
            why.push("pictures as they are stored: rows along H, columns along W".into());
            Orientation::LPS.into()
        }
        (None, Dimensions::Two) => slice_plane(&scan, &mut why)?,
        (None, Dimensions::Three) => block_axes(&scan, &mut why)?,
    };
    let crop = crop(fingerprint, &mut why);
    let (shapes, spacings): (Vec<_>, Vec<_>) =
        facts.iter().map(|f| f.cropped_and_oriented(crop, orientation)).unzip();
    let shape = AxisRange::of(shapes.iter().map(|s: &[usize; 3]| s.map(|n| n as f64))).median;
    let choice = match config.spacing {
        SpacingChoice::Auto if in_pixels.is_some() => {
            why.push("no resampling: the size of the pixels is not known".into());
            SpacingChoice::Native
        }
        choice => choice,
    };
    let spacing = spacing_rule(choice, orientation, shape, &spacings, &mut why)?;
    let native = AxisRange::of(spacings.into_iter()).median;
    let (shape, mm) = match spacing {
        // Only imported models have nnU-Net's rule, never plans.
        SpacingRule::Native | SpacingRule::Nnunet(_) => (shape, native),
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
    let Size { network, patch, tiling, batch_size, pace } = match &config.network {
        NetworkChoice::Fixed(network) => size::fixed(network, &grid, config, device, &mut why)?,
        NetworkChoice::Rule(rule) => size::by_rule(*rule, dimensions, &grid, config, device, (timer, &mut why))?,
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
        training_scans: training_scans(facts, crop),
        pace,
        why,
    };
    plan.check()?;
    Ok(plan)
}

/// The output activation.
fn output(
    config: &TrainConfig,
    labels: &LabelTable,
    regions: &[Region],
    why: &mut Vec<String>,
) -> Result<OutputActivation, PlanError> {
    if labels.entries().is_empty() {
        return Err(PlanError::Config("the data set has no label to learn: every mask is empty".into()));
    }
    match config.output {
        Some(OutputActivation::Regions) if regions.is_empty() => {
            Err(PlanError::Config("`output` is `regions`, but the data set has no regions".into()))
        }
        Some(output) => Ok(output),
        None if !regions.is_empty() => {
            let order: Vec<String> = regions.iter().map(|r| format!("{} as {}", r.name, r.writes)).collect();
            why.push(format!(
                "a sigmoid channel for each of {} regions, because they may overlap; order in which they are written: {}",
                regions.len(),
                order.join(", ")
            ));
            Ok(OutputActivation::Regions)
        }
        None if labels.entries().len() == 1 => Ok(OutputActivation::Sigmoid),
        None => Ok(OutputActivation::Softmax),
    }
}

/// The coarsest axis among right, anterior, superior; the last one if all are similar.
fn coarsest_axis(spacing_mm: [f64; 3]) -> usize {
    if are_similar(spacing_mm) {
        return 2;
    }
    (0..3).rev().max_by(|a, b| spacing_mm[*a].total_cmp(&spacing_mm[*b])).unwrap_or(2)
}

fn are_similar(spacing_mm: [f64; 3]) -> bool {
    let finest = spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
    spacing_mm.iter().all(|mm| *mm < SIMILAR * finest)
}

/// 3-D, unless the configuration says otherwise or the scans have few or distant slices.
fn dimensions(config: &TrainConfig, scan: &MedianScan, why: &mut Vec<String>) -> Dimensions {
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
    let (shape, mm) = (scan.shape, scan.mm);
    let axis = coarsest_axis(mm);
    let finest = mm.iter().copied().fold(f64::INFINITY, f64::min);
    let shortest = shape.iter().copied().fold(f64::INFINITY, f64::min);
    let (slices, gap) = (if are_similar(mm) { shortest } else { shape[axis] }, mm[axis] / finest);
    if slices < MIN_SLICES {
        let noun = if slices == 1.0 { "slice" } else { "slices" };
        why.push(format!(
            "a 2-D network: the median scan has {slices} {noun}, too few for convolutions across slices"
        ));
        Dimensions::Two
    } else if gap > MAX_SLICE_GAP {
        why.push(format!(
            "a 2-D network: the distance between slices is {gap:.1} pixels, so that neighbouring slices have little in common"
        ));
        Dimensions::Two
    } else {
        why.push(format!(
            "a 3-D network: the scans are volumes with a median shape of {} voxels of {} mm (along {})",
            times(&shape),
            times(&mm.map(|v| format!("{v:.2}"))),
            scan.axes()
        ));
        Dimensions::Three
    }
}

/// Refuses a rule for 3-D networks where all scans are one voxel thick along the same axis. A network that is given layer by
/// layer is taken as it is.
fn check_depth(config: &TrainConfig, dimensions: Dimensions, fingerprint: &Fingerprint) -> Result<(), PlanError> {
    let by_rule = matches!(config.network, NetworkChoice::Rule(_));
    let flat = fingerprint.shape.max.iter().any(|edge| *edge <= 1.0);
    if by_rule && flat && dimensions == Dimensions::Three { Err(PlanError::FlatScans) } else { Ok(()) }
}

/// Whether to crop margins of zeros, which would waste memory and patches.
fn crop(fingerprint: &Fingerprint, why: &mut Vec<String>) -> CropRule {
    if fingerprint.crop_ratio >= MAX_CROP_RATIO {
        return CropRule::Whole;
    }
    why.push(format!(
        "scans are cropped to the bounding box of the nonzero voxels, which fills {:.0} % of the median scan; the rest is background",
        100.0 * fingerprint.crop_ratio
    ));
    CropRule::Nonzero
}

/// The plane of 2-D slices: across the coarsest axis, for the finest detail; across the shortest axis if all spacings are
/// similar, for the most context.
fn slice_plane(scan: &MedianScan, why: &mut Vec<String>) -> Result<GridAxes, PlanError> {
    let (shape, mm) = (scan.shape, scan.mm);
    let axis = if are_similar(mm) {
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

/// The axes of 3-D blocks: the coarsest axis lies along D, as in nnU-Net's transposition.
fn block_axes(scan: &MedianScan, why: &mut Vec<String>) -> Result<GridAxes, PlanError> {
    let mm = scan.mm;
    let (code, name) = PLANES[coarsest_axis(mm)];
    why.push(if are_similar(mm) {
        format!("scans are reoriented to {code}: their voxel sizes are similar along all axes")
    } else {
        format!("scans are reoriented to {code}: {name} slices have the finest voxels and lie along H and W")
    });
    parse(code)
}

/// For slices across right, anterior and superior: rows run along the first letter, columns along the second.
const PLANES: [(&str, &str); 3] = [("ASR", "sagittal"), ("RSA", "coronal"), ("RAS", "axial")];

fn parse(code: &str) -> Result<GridAxes, PlanError> {
    Ok(code.parse::<GridAxes>().map_err(PipelineError::from)?)
}

/// `shape` and `spacings` run along the axes of `orientation`.
fn spacing_rule(
    choice: SpacingChoice,
    orientation: GridAxes,
    shape: [f64; 3],
    spacings: &[[f64; 3]],
    why: &mut Vec<String>,
) -> Result<SpacingRule, PlanError> {
    let cubic = |mm: [f64; 3], tolerance: f64| -> Result<SpacingRule, PlanError> {
        let mm = Spacing::new(mm).map_err(PipelineError::from)?;
        // The coarse axis is treated differently only if voxels are anisotropic.
        let coarse_axis = CoarseAxis::Nearest;
        Ok(SpacingRule::Resample { mm, interpolation: Interpolation::Cubic, coarse_axis, tolerance })
    };
    match (choice, orientation) {
        (SpacingChoice::Native, _) => return Ok(SpacingRule::Native),
        (SpacingChoice::Resample(ras), GridAxes::Anatomical(orientation)) => {
            return cubic(ras.reoriented(Reorientation::between(Orientation::RAS, orientation)).mm(), EXACT);
        }
        (SpacingChoice::Resample(mm), _) => return cubic(mm.mm(), EXACT),
        (SpacingChoice::Auto, _) => {}
    }
    let range = AxisRange::of(spacings.iter().copied());
    let ratio = (0..3).map(|a| range.max[a] / range.min[a]).fold(1.0, f64::max);
    if ratio <= SIMILAR {
        why.push(format!(
            "no resampling: voxel sizes differ by a factor of at most {ratio:.2}, and resampling would blur the scans; scans that \
             differ by more than a factor of {SIMILAR} from {} mm are resampled to it",
            times(&range.median.map(|v| format!("{v:.2}")))
        ));
        return cubic(range.median, SIMILAR);
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
    cubic(target, EXACT)
}

/// nnU-Net's exception to the median: if slices are thick and few, the target is the 10th percentile of their thickness,
/// which keeps more detail of the better scans, but is never finer than the other axes.
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

/// CT intensities are comparable between scanners; all others only within their scan.
fn normalisation(config: &TrainConfig, fingerprint: &Fingerprint, why: &mut Vec<String>) -> Vec<Normalisation> {
    let choose = |channel: &ChannelIntensities| {
        let name = &channel.name;
        if let Some(normalisation) = config.normalisation {
            return normalisation;
        }
        if fingerprint.rgb {
            return Normalisation::RgbTo01;
        }
        let z_score = if fingerprint.crop_ratio < MAX_CROP_RATIO {
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
        // Synthetic data may have a foreground of one value, whose standard deviation is 0.
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
                 then scaled to mean 0 and standard deviation 1 with the data set's {mean:.0} ± {sd:.0}"
            ),
            Normalisation::RgbTo01 => {
                format!("channel `{name}` is divided by 255: the images are colour pictures of 8 bits")
            }
            Normalisation::ZScoreNonzero => format!(
                "channel `{name}` is scaled to mean 0 and standard deviation 1 in each scan, computed inside its non-zero part"
            ),
            _ => format!("channel `{name}` is scaled to mean 0 and standard deviation 1 in each scan, because its units are arbitrary"),
        });
    }
    chosen
}

fn flips(config: &TrainConfig, structures: usize, dimensions: Dimensions, why: &mut Vec<String>) -> Flips {
    match (config.augmentation.flips, structures) {
        (Flips::Auto, 1) => {
            why.push("training also uses mirrored patches, because there is one structure".into());
            Flips::all(dimensions.count())
        }
        (Flips::Auto, _) => {
            why.push(
                "no mirrored patches, because several structures are often distinguished by their side".into(),
            );
            Flips::none()
        }
        (chosen, _) => chosen,
    }
}

fn dice_scope(dimensions: Dimensions, why: &mut Vec<String>) -> DiceScope {
    match dimensions {
        Dimensions::Two => {
            why.push("Dice is computed over the batch, because a 2-D patch often lacks a structure".into());
            DiceScope::Batch
        }
        Dimensions::Three => {
            why.push(
                "Dice is computed for each patch, because a 3-D patch usually contains enough of each structure"
                    .into(),
            );
            DiceScope::Case
        }
    }
}

#[cfg(test)]
mod tests;
