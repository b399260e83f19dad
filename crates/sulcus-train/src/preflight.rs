//! The pre-flight check: before the first step, with the weights as they are then, a training tries what it would
//! otherwise do for the first time after hours. The network is exported, a golden case is chosen, and what needs an engine
//! is offered to the observer, since this crate knows none: parity, the golden case's replay, and one real case.

use std::cmp::Reverse;
use std::path::Path;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use sulcus_pipeline::{Dimensions, ModelSpec, NetworkSpec, PipelineError, Tensor, WindowOptions, count_tiles};
use sulcus_volume::{Geometry, Image};

use crate::golden_choice::{cut, golden_case};
use crate::sampler::{Sampler, TrainingCase};
use crate::score::broken;
use crate::{Case, Dataset, DeviceChoice, NetworkPredictor, TrainError, UNet, export_onnx, samples};

/// Samples that are compared between engines, and among which the golden case is chosen. Three have a batch of two and
/// others of one among them.
const SAMPLES: usize = 3;
/// Tiles of the real case that is predicted: slices, and blocks, which take much longer.
const MAX_SLICE_TILES: usize = 8;
const MAX_BLOCK_TILES: usize = 2;

/// The model that a training would leave if it ended before its first step, and what to check it with.
#[derive(Debug)]
pub struct Preflight<'a> {
    spec: ModelSpec,
    file: Vec<u8>,
    trainer: NetworkPredictor,
    inputs: Vec<Tensor>,
    dataset: &'a Dataset,
    case: &'a Case,
}

impl Preflight<'_> {
    /// The model's specification, with a golden case.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The model file.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// The network itself, on the processor.
    pub fn trainer(&self) -> &NetworkPredictor {
        &self.trainer
    }

    /// Real network inputs, for a comparison of the file with the trainer.
    ///
    /// # Shapes
    /// Each `[N, C, (D,) H, W]`, of different N, (D,) H and W.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// The name of the case that [`Preflight::scan`] reads.
    pub fn case(&self) -> &str {
        &self.case.name
    }

    /// A real training case, the smallest one: cut to a part around its foreground that is predicted in few tiles.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn scan(&self) -> Result<Image, TrainError> {
        let scan = self.case.read().map_err(broken(self.case))?;
        let ignore = self.dataset.ignore();
        let held = scan.labels.data().iter().map(|label| *label != 0 && Some(*label) != ignore);
        Ok(few_tiles(&self.spec, &scan.image, held)?)
    }
}

/// What a training is about to begin with.
pub(crate) struct Start<'a> {
    pub(crate) dataset: &'a Dataset,
    /// The run's folder, which holds its samples.
    pub(crate) folder: &'a Path,
    pub(crate) spec: &'a ModelSpec,
    pub(crate) network: &'a UNet,
    pub(crate) sampler: &'a Sampler,
}

impl<'a> Start<'a> {
    /// Does what the end of a training does, as far as no engine is needed.
    ///
    /// # Errors
    /// When the network cannot be exported, or has no answer for a sample.
    pub(crate) fn model(&self) -> Result<Preflight<'a>, TrainError> {
        let (device, _) = DeviceChoice::Cpu.resolve()?;
        let network = copy(self.network, &self.spec.network, &device)?;
        let trainer = NetworkPredictor::new(&network, &device);
        let mut samples = samples::read(&self.folder.join(samples::FILE))?;
        samples.truncate(SAMPLES);
        let mut spec = self.spec.clone();
        spec.golden_case = golden_case(&spec, &samples, &trainer)?;
        spec.check()?;
        let inputs = samples::inputs(&spec, &samples, SAMPLES)?;
        let file = export_onnx(&network, &spec)?;
        let voxels = |case: &&TrainingCase| case.image().shape().iter().product::<usize>();
        let smallest = self.sampler.cases().iter().min_by_key(voxels);
        let case = smallest
            .and_then(|case| self.dataset.case(case.name()))
            .ok_or_else(|| TrainError::Config("there is no case to train on".into()))?;
        Ok(Preflight { spec, file, trainer, inputs, dataset: self.dataset, case })
    }
}

/// The network on another device; it shares nothing with the one that will be trained.
fn copy(network: &UNet, spec: &NetworkSpec, device: &Device) -> Result<UNet, TrainError> {
    let failed = |e: String| TrainError::Tensor(format!("the network cannot be copied to the processor: {e}"));
    let bytes = network.valid().into_record().into_bytes().map_err(|e| failed(e.to_string()))?;
    let record = ModuleRecord::from_bytes(bytes).map_err(|e| failed(e.to_string()))?;
    let empty = UNet::new(spec, network.input_channels(), network.output_channels(), 0, device)?;
    empty.try_load_record(record).map_err(|e| failed(e.to_string()))
}

/// A box of the image around the centre of its foreground, halved along whatever axis saves most tiles until few are left.
fn few_tiles(
    spec: &ModelSpec,
    image: &Image,
    foreground: impl Iterator<Item = bool>,
) -> Result<Image, PipelineError> {
    let max = match spec.network.dimensions {
        Dimensions::Two => MAX_SLICE_TILES,
        Dimensions::Three => MAX_BLOCK_TILES,
    };
    let geometry = image.geometry();
    let full = geometry.shape();
    let tiles = |shape: [usize; 3]| {
        let part = Geometry::new(shape, *geometry.ras_from_voxel(), geometry.source())?;
        count_tiles(spec, &part, &WindowOptions::default())
    };
    let mut shape = full;
    while tiles(shape)? > max {
        let mut halves = Vec::new();
        for axis in (0..3).filter(|axis| shape[*axis] > 1) {
            let mut half = shape;
            half[axis] = half[axis].div_ceil(2);
            halves.push((tiles(half)?, Reverse(shape[axis]), half));
        }
        let Some((_, _, half)) = halves.into_iter().min() else { break };
        shape = half;
    }
    if shape == full {
        return Ok(image.clone());
    }
    let [nx, ny, _] = full;
    let (mut sum, mut count) = ([0; 3], 0);
    for (i, _) in foreground.enumerate().filter(|(_, held)| *held) {
        [i % nx, i / nx % ny, i / (nx * ny)].into_iter().zip(&mut sum).for_each(|(at, sum)| *sum += at);
        count += 1;
    }
    let ranges = std::array::from_fn(|axis| {
        let centre = sum[axis].checked_div(count).unwrap_or(full[axis] / 2);
        let start = centre.saturating_sub(shape[axis] / 2).min(full[axis] - shape[axis]);
        start..start + shape[axis]
    });
    cut(image, &ranges)
}
