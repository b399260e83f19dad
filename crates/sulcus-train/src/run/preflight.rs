//! The pre-flight check: before the first step, with the initial weights, a training does what it would otherwise do for the
//! first time at its end. It exports the network and chooses a golden case. This crate has no engine, so the observer gets
//! what it needs to compare logits, replay the golden case and predict a real case.

use std::cmp::Reverse;
use std::path::Path;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use sulcus_dataset::{Case, Dataset};
use sulcus_model::{Dimensions, ModelSpec, NetworkSpec};
use sulcus_pipeline::{PipelineError, Tensor, WindowOptions, count_tiles};
use sulcus_volume::Image;

use super::cases::read_case;
use super::golden_case::{cut, golden_case};
use super::samples;
use crate::error::TrainError;
use crate::export::onnx::export_onnx;
use crate::network::{NetworkPredictor, UNet};
use crate::sampling::sampler::Sampler;
use crate::sampling::training_case::TrainingCase;

/// How many samples are compared between engines, and considered as the golden case. Among three, one has a batch of two.
const MAX_SAMPLES: usize = 3;
/// Maximum number of tiles of the real case, for slices and for blocks, which take much longer.
const MAX_SLICE_TILES: usize = 8;
const MAX_BLOCK_TILES: usize = 2;

/// The model with the initial weights of a training, and the data to check it with.
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

    /// The network, on the processor.
    pub fn trainer(&self) -> &NetworkPredictor {
        &self.trainer
    }

    /// Network inputs, to compare the file with the trainer.
    ///
    /// # Shapes
    /// Each `[N, C, (D,) H, W]`, of different N, (D,) H and W.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// The name of the case of [`Preflight::scan`].
    pub fn case(&self) -> &str {
        &self.case.name
    }

    /// The smallest training case, cropped around its foreground so that it is predicted in few tiles.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn scan(&self) -> Result<Image, TrainError> {
        let scan = read_case(self.case)?;
        let ignore = self.dataset.ignore();
        let is_foreground = scan.labels.data().iter().map(|label| *label != 0 && Some(*label) != ignore);
        Ok(few_tiles(&self.spec, &scan.image, is_foreground)?)
    }
}

/// What a training starts from.
pub(crate) struct PreflightInput<'a> {
    pub(crate) dataset: &'a Dataset,
    /// The run's folder, which holds its samples.
    pub(crate) folder: &'a Path,
    pub(crate) spec: &'a ModelSpec,
    pub(crate) network: &'a UNet,
    pub(crate) sampler: &'a Sampler,
}

impl<'a> PreflightInput<'a> {
    /// Exports the network and chooses a golden case, as at the end of a training.
    ///
    /// # Errors
    /// When the network cannot be exported, or a sample cannot be predicted.
    pub(crate) fn model(&self) -> Result<Preflight<'a>, TrainError> {
        let device = Device::flex();
        let network = copy(self.network, &self.spec.network, &device)?;
        let trainer = NetworkPredictor::new(&network, &device);
        let mut samples = samples::read(&self.folder.join(samples::FILE))?;
        samples.truncate(MAX_SAMPLES);
        let mut spec = self.spec.clone();
        spec.golden_case = golden_case(&spec, &samples, &trainer)?;
        spec.check()?;
        let inputs = samples::inputs(&spec, &samples, MAX_SAMPLES)?;
        let file = export_onnx(&network, &spec)?;
        let voxels = |case: &&TrainingCase| case.image().shape().iter().product::<usize>();
        let smallest = self.sampler.cases().iter().min_by_key(voxels);
        let case = smallest
            .and_then(|case| self.dataset.case(case.name()))
            .ok_or_else(|| TrainError::Config("there is no case to train on".into()))?;
        Ok(Preflight { spec, file, trainer, inputs, dataset: self.dataset, case })
    }
}

/// A deep copy of the network on another device.
fn copy(network: &UNet, spec: &NetworkSpec, device: &Device) -> Result<UNet, TrainError> {
    let failed = |e: String| TrainError::Tensor(format!("the network cannot be copied to the processor: {e}"));
    let bytes = network.valid().into_record().into_bytes().map_err(|e| failed(e.to_string()))?;
    let record = ModuleRecord::from_bytes(bytes).map_err(|e| failed(e.to_string()))?;
    let empty = UNet::new(spec, network.input_channels(), network.output_channels(), 0, device)?;
    empty.try_load_record(record).map_err(|e| failed(e.to_string()))
}

/// A box of the image around the centre of its foreground. It is halved repeatedly along the axis that saves most tiles.
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
        let part = geometry.with_grid(shape, *geometry.ras_from_voxel())?;
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
