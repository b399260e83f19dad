use std::ops::ControlFlow;

use serde::Serialize;
use sulcus_pipeline::{Outputs, Progress, Structure};
use sulcus_volume::{Image, Label, LabelMap, LabelTable};

use crate::{Device, Engine};

/// Is told of every tile done, and says whether to go on.
type Observer<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// What a caller wants of one segmentation.
#[derive(Default)]
pub struct SegmentOptions<'a> {
    pub(crate) outputs: Outputs,
    pub(crate) observer: Option<Observer<'a>>,
    pub(crate) max_memory: Option<u64>,
}

impl<'a> SegmentOptions<'a> {
    /// Also gives each class's probability.
    #[must_use]
    pub fn with_probabilities(mut self) -> Self {
        self.outputs = Outputs::LabelsAndProbabilities;
        self
    }

    /// Is told of every tile done; [`ControlFlow::Break`] ends the segmentation with
    /// [`PipelineError::Cancelled`](sulcus_pipeline::PipelineError::Cancelled).
    #[must_use]
    pub fn with_observer(mut self, observer: &'a mut dyn FnMut(Progress) -> ControlFlow<()>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// What the process may hold during this segmentation, in bytes, in place of
    /// [`SegmenterBuilder::max_memory`](crate::SegmenterBuilder::max_memory).
    #[must_use]
    pub fn with_max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }
}

/// Where the time of one segmentation went, that of all models together, in seconds of the wall clock (0 on
/// WebAssembly, which has none).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Seconds {
    /// Turning, resampling and normalising the scan.
    pub preprocess: f64,
    /// Walking over the prepared scan, asking the network tile by tile, and deciding plane by plane on the scan's own
    /// grid, which happens meanwhile.
    pub infer: f64,
    /// The part of `infer` during which the engine worked.
    pub engine: f64,
    /// What is done to the whole mask.
    pub postprocess: f64,
}

/// A segmented scan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Segmentation {
    /// The mask, on the scan's own grid.
    pub labels: LabelMap,
    /// Probabilities `[K, z, y, x]` on the scan's own grid, where they were asked for.
    pub probabilities: Option<Image>,
    /// The values that the mask may have. Unless the model finds regions they are its structures.
    pub table: LabelTable,
    /// What the model finds: labels, or regions of several.
    pub structures: Vec<Structure>,
    /// Tiles that the scan was cut into; models of an ensemble that cut it alike share theirs. Under a memory limit those
    /// that were asked again are counted again.
    pub tiles: usize,
    /// Where the time went.
    pub seconds: Seconds,
    /// The most memory that the process has held up to now, where the system says (Linux): everything in it, since it
    /// began.
    pub peak_memory_bytes: Option<u64>,
    /// What ran the network.
    pub engine: Engine,
    /// Where it ran.
    pub device: Device,
    /// The numbers that the network is written in, `fp32`, `fp16` or `int8`, of an ensemble of several kinds all of
    /// them, as `fp32+int8`; with [`Arithmetic::Half`](crate::Arithmetic::Half) those that the device computes in, `bf16` or
    /// `fp16`.
    pub precision: String,
}

/// How much of a mask a structure takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelVolume {
    /// The structure.
    pub name: String,
    /// Its value in the mask; a region's, where no other region lies over it.
    pub value: Label,
    /// All values that belong to it: those of a region, or the one.
    pub values: Vec<Label>,
    /// Voxels that have any of them.
    pub voxels: usize,
    /// Their volume in millilitres.
    pub ml: f64,
}

impl Segmentation {
    /// The volume of every structure that the model knows, by rising label value, or in the order of its regions; 0 for one
    /// that was not found. Regions that overlap both count what they share.
    pub fn label_volumes(&self) -> Vec<LabelVolume> {
        let counts = self.labels.counts();
        let geometry = self.labels.geometry();
        let volume = |structure: &Structure| {
            let voxels = structure.values.iter().filter_map(|value| counts.get(value)).sum();
            LabelVolume {
                name: structure.name.clone(),
                value: structure.written,
                values: structure.values.clone(),
                voxels,
                ml: geometry.ml(voxels),
            }
        };
        self.structures.iter().map(volume).collect()
    }
}
