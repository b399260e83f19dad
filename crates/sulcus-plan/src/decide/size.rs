use sulcus_model::{Dimensions, Encoder, NetworkSpec, Tiling};

use super::grid::{Grid, MIN_BATCH, MIN_STAGES};
use super::time::{self, TimeLimit};
use super::topology::{Topology, Width, first_patch};
use crate::config::TrainConfig;
use crate::device::DeviceKind;
use crate::error::PlanError;
use crate::memory::MemoryEstimate;
use crate::pace::{Pace, StepTimer};
use crate::preset::NetworkRule;
use crate::text::{gigabytes, times};

/// A network, its patches and batches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Size {
    pub(super) network: NetworkSpec,
    pub(super) patch: Vec<usize>,
    pub(super) tiling: Tiling,
    pub(super) batch_size: usize,
    pub(super) pace: Option<Pace>,
}

/// The limits of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limits {
    width: Width,
    max_batch: usize,
    max_patch: usize,
    /// The reason, for the plan.
    what: &'static str,
}

/// The maximum fraction of all voxels in one batch (nnU-Net), against overfitting.
const MAX_VOXEL_FRACTION: f64 = 0.05;
/// Patches per step of a 2-D network that the configuration fixes.
const FIXED_BATCH: usize = 16;
/// The maximum edge of a slice for a fixed network: with `unet2d-classic` larger slices do not fit a laptop's memory.
const MAX_SLICE_EDGE: usize = 320;
/// The maximum number of voxels of a block on a processor: a step on two such blocks takes seconds.
const MAX_PROCESSOR_VOXELS: usize = 96 * 96 * 96;

impl Limits {
    fn of(rule: NetworkRule, dimensions: Dimensions, kind: DeviceKind) -> Self {
        let width = |base, max| Width { base, max, encoder: Encoder::Plain };
        let nnunet =
            |width| Limits { width, max_batch: usize::MAX, max_patch: usize::MAX, what: "nnU-Net's width" };
        let half = |width, max_batch, max_patch| Limits {
            width,
            max_batch,
            max_patch,
            what: "half of nnU-Net's width, a quarter of its computation",
        };
        match (rule, dimensions, kind) {
            (NetworkRule::ResEnc3d, ..) => nnunet(Width { encoder: Encoder::Residual, ..width(32, 320) }),
            (NetworkRule::Auto, Dimensions::Two, DeviceKind::Processor) => {
                half(width(16, 256), FIXED_BATCH, MAX_SLICE_EDGE * MAX_SLICE_EDGE)
            }
            (NetworkRule::Auto | NetworkRule::Unet3dLite, Dimensions::Three, DeviceKind::Processor) => {
                half(width(16, 160), MIN_BATCH, MAX_PROCESSOR_VOXELS)
            }
            (NetworkRule::Unet3dLite, ..) => half(width(16, 160), usize::MAX, usize::MAX),
            (_, Dimensions::Two, _) => nnunet(width(32, 512)),
            (_, Dimensions::Three, _) => nnunet(width(32, 320)),
        }
    }
}

/// The size for a network that the configuration fixes. The batch fits the memory if the configuration limits it.
pub(super) fn fixed(
    network: &NetworkSpec,
    grid: &Grid,
    config: &TrainConfig,
    kind: DeviceKind,
    why: &mut Vec<String>,
) -> Result<Size, PlanError> {
    let size = fixed_on_scans(network, grid, config, why);
    let Some(memory) = config.memory_bytes else { return Ok(size) };
    let estimate = MemoryEstimate::new(network, &size.patch, grid.channels, grid.classes, kind, config.optimizer);
    let needed = estimate.bytes(size.batch_size);
    if needed <= memory {
        return Ok(size);
    }
    let batch_size = estimate.max_batch(memory);
    if batch_size == 0 || config.batch_size.is_some() {
        return Err(PlanError::Memory(format!(
            "a step of {} patch(es) of {} takes about {}, but there are {} of memory; make the patch or the batch smaller, \
             or take a smaller preset",
            if batch_size == 0 { 1 } else { size.batch_size },
            times(&size.patch),
            gigabytes(if batch_size == 0 { estimate.bytes(1) } else { needed }),
            gigabytes(memory)
        )));
    }
    why.push(format!(
        "batches of {batch_size} instead of {}: larger ones do not fit in {} of memory",
        size.batch_size,
        gigabytes(memory)
    ));
    Ok(Size { batch_size, ..size })
}

/// The size without a memory limit: the patch is the median slice or block, each edge rounded up to the network's multiple
/// and limited.
fn fixed_on_scans(network: &NetworkSpec, grid: &Grid, config: &TrainConfig, why: &mut Vec<String>) -> Size {
    let batch_size = config.batch_size.unwrap_or(match network.dimensions {
        Dimensions::Two => FIXED_BATCH,
        Dimensions::Three => MIN_BATCH,
    });
    let size = |patch, tiling| Size { network: network.clone(), patch, tiling, batch_size, pace: None };
    if let Some(patch) = &config.patch {
        return size(patch.clone(), Tiling::Patch);
    }
    let (shape, _) = grid.along(network.dimensions);
    let limit = match network.dimensions {
        Dimensions::Two => MAX_SLICE_EDGE,
        Dimensions::Three => 96,
    };
    let edge = |(length, multiple): (&f64, &usize)| {
        let multiple = (*multiple).max(1);
        let whole = (length.ceil() as usize).max(1).next_multiple_of(multiple);
        whole.min((limit / multiple * multiple).max(multiple))
    };
    let patch: Vec<usize> = shape.iter().zip(&network.padding_multiple()).map(edge).collect();
    let whole = patch.iter().zip(&shape).all(|(edge, length)| *edge as f64 >= *length);
    match (whole, network.dimensions) {
        (true, Dimensions::Two) => {
            why.push(format!("patches of {patch:?} contain a median slice; prediction uses whole slices"));
            size(patch, Tiling::Whole)
        }
        (true, Dimensions::Three) => {
            why.push(format!("patches of {patch:?} contain a median scan; prediction uses a sliding window"));
            size(patch, Tiling::Patch)
        }
        (false, _) => {
            why.push(format!(
                "patches of {patch:?}, because larger ones do not fit; prediction uses a sliding window"
            ));
            size(patch, Tiling::Patch)
        }
    }
}

/// nnU-Net's rule: the largest patch of which a batch of two fits the memory, then the largest batch. With a time budget, the
/// rules of Sulcus (not nnU-Net's presets) fit both to it.
pub(super) fn by_rule(
    rule: NetworkRule,
    dimensions: Dimensions,
    grid: &Grid,
    config: &TrainConfig,
    kind: DeviceKind,
    (timer, why): (&mut dyn StepTimer, &mut Vec<String>),
) -> Result<Size, PlanError> {
    let memory = config.memory_bytes.unwrap_or_else(|| kind.default_memory_bytes());
    let limits = Limits::of(rule, dimensions, kind);
    let (shape, mm) = grid.along(dimensions);
    let name = match (rule, dimensions) {
        (NetworkRule::Auto, Dimensions::Two) => "auto-2d",
        (NetworkRule::Auto, Dimensions::Three) => "auto-3d",
        _ => rule.name(),
    };
    let network_of = |topology: &Topology| topology.network(name, limits.width);
    let estimate = |topology: &Topology| {
        let network = network_of(topology);
        let (channels, classes) = (grid.channels, grid.classes);
        MemoryEstimate::new(&network, &topology.patch, channels, classes, kind, config.optimizer)
    };
    let wanted_batch = config.batch_size.unwrap_or(MIN_BATCH);
    let fits = |topology: &Topology| {
        topology.voxels() <= limits.max_patch && estimate(topology).bytes(wanted_batch) <= memory
    };
    let mut time_limit = |topology: &Topology| {
        let fitted = rule.fits_time_budget() && (config.patch.is_none() || config.batch_size.is_none());
        let timer = fitted.then_some(&mut *timer)?;
        TimeLimit::measure(topology, network_of, (&shape, &mm), grid, config, timer)
    };
    let (topology, time) = match &config.patch {
        Some(patch) => {
            let topology = configured_topology(patch, &mm)?;
            let time = time_limit(&topology);
            (topology, time)
        }
        None => {
            let first = Topology::new(&first_patch(&shape, &mm), &mm);
            let largest = largest_that_fits(first.clone(), &shape, &mm, fits).ok_or_else(|| no_fit(memory))?;
            let time = time_limit(&largest);
            let topology = match time {
                Some(time) => time.fit(largest.clone(), network_of, (&shape, &mm), grid, wanted_batch),
                None => largest.clone(),
            };
            why.push(if topology == largest {
                patch_sentence(&first, &topology, &shape, memory, limits.max_patch)
            } else {
                time::patch_sentence(&largest.patch, &topology.patch, wanted_batch)
            });
            (topology, time)
        }
    };
    let network = network_of(&topology);
    why.push(stages_sentence(&topology));
    why.push(width_sentence(&network, &limits, kind));
    let by_memory = estimate(&topology).max_batch(memory);
    let by_share = (MAX_VOXEL_FRACTION * grid.voxels() / topology.voxels() as f64).round() as usize;
    let batch_size = config.batch_size.unwrap_or_else(|| {
        let (fitting, reason) = [
            (by_memory, "larger ones do not fit in memory"),
            (by_share, "a batch holds at most 5 % of all voxels"),
            (limits.max_batch, "larger ones are slow on a processor"),
            (
                time.map_or(usize::MAX, |time| time.max_batch(&network, &topology.patch, grid)),
                "larger ones leave too few steps in the time budget",
            ),
        ]
        .into_iter()
        .min_by_key(|(size, _)| *size)
        .unwrap_or((MIN_BATCH, ""));
        let batch = fitting.max(MIN_BATCH);
        why.push(format!(
            "batches of {batch}: {}",
            if fitting < MIN_BATCH { "smaller ones make the gradient too noisy" } else { reason }
        ));
        batch
    });
    let pace = time.map(|time| time.pace(&network, &topology.patch, batch_size, grid));
    why.extend(pace.map(|pace| time::sentence(&pace, &topology.patch, batch_size)));
    why.push(memory_sentence(&estimate(&topology), batch_size, config.device.choices().count(), memory));
    Ok(Size { network, patch: topology.patch, tiling: Tiling::Patch, batch_size, pace })
}

/// The topology for a patch size from the configuration.
fn configured_topology(patch: &[usize], mm: &[f64]) -> Result<Topology, PlanError> {
    if patch.len() != mm.len() {
        return Err(PlanError::Config(format!(
            "`patch` must have {} edges for a {}-D network, found {patch:?}",
            mm.len(),
            mm.len()
        )));
    }
    let topology = Topology::new(patch, mm);
    if topology.patch != patch {
        return Err(PlanError::Config(format!(
            "`patch` {patch:?} must have edges that are multiples of {:?}: {:?} would do",
            topology.multiple, topology.patch
        )));
    }
    Ok(topology)
}

fn largest_that_fits(
    mut topology: Topology,
    shape: &[f64],
    mm: &[f64],
    fits: impl Fn(&Topology) -> bool,
) -> Option<Topology> {
    while !fits(&topology) {
        topology = topology.smaller(shape, mm).filter(|t| t.stages.len() >= MIN_STAGES)?;
    }
    Some(topology)
}

fn no_fit(memory: u64) -> PlanError {
    PlanError::Memory(format!(
        "not even the smallest patch fits {} of memory; take a smaller preset",
        gigabytes(memory)
    ))
}

fn patch_sentence(first: &Topology, chosen: &Topology, shape: &[f64], memory: u64, max_voxels: usize) -> String {
    let patch = times(&chosen.patch);
    if first != chosen {
        let limit = if first.voxels() > max_voxels { "a processor's time" } else { "the memory" };
        return format!(
            "patches of {patch}, shortened from {} until a batch of two fits {limit} ({})",
            times(&first.patch),
            if first.voxels() > max_voxels {
                format!("{max_voxels} voxels; a time budget fits them to the speed of the machine")
            } else {
                gigabytes(memory)
            }
        );
    }
    let median = times(&shape.iter().map(|n| n.round()).collect::<Vec<_>>());
    let whole = chosen.patch.iter().zip(shape).all(|(edge, length)| *edge as f64 >= length.round());
    if whole {
        format!("patches of {patch}: the median of {median}, rounded up to multiples of the strides")
    } else {
        format!(
            "patches of {patch}: the same length in millimetres along each axis, limited by the median of {median}"
        )
    }
}

fn stages_sentence(topology: &Topology) -> String {
    let uneven = topology.stages.iter().any(|(kernel, _)| kernel.contains(&1));
    let halvings: Vec<String> = topology.multiple.iter().map(|m| m.ilog2().to_string()).collect();
    format!(
        "{} stages; the axes are halved {} times, while at least 4 voxels remain{}",
        topology.stages.len(),
        halvings.join(", "),
        if uneven { "; coarse axes are halved later and have kernels of 1 until then" } else { "" }
    )
}

fn width_sentence(network: &NetworkSpec, limits: &Limits, kind: DeviceKind) -> String {
    let maps: Vec<String> = network.stages.iter().map(|s| s.channels.to_string()).collect();
    let place = match kind {
        DeviceKind::Processor => "a processor",
        DeviceKind::Gpu => "a GPU",
    };
    format!("{} feature maps: {}, for {place}", maps.join("–"), limits.what)
}

/// Each of several devices holds all weights and a part of the batch.
fn memory_sentence(estimate: &MemoryEstimate, batch_size: usize, devices: usize, memory: u64) -> String {
    let whole =
        format!("a step needs about {} of {} of memory", gigabytes(estimate.bytes(batch_size)), gigabytes(memory));
    if devices < 2 {
        return whole;
    }
    let each = gigabytes(estimate.bytes(batch_size.div_ceil(devices)));
    format!("{whole}; with {devices} devices about {each} on each")
}
