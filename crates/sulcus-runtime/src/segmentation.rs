use std::ops::ControlFlow;

use sulcus_model::Structure;
use sulcus_pipeline::{Numerics, Outputs, Progress, ScanWarning};
use sulcus_volume::{Image, LabelMap, LabelTable};

use crate::{Device, Engine, LabelVolume, PackStep, Report, Seconds};

/// Called after every tile; decides whether to continue.
type Observer<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Options of one segmentation.
#[derive(Default)]
pub struct SegmentOptions<'a> {
    pub(crate) outputs: Outputs,
    pub(crate) observer: Option<Observer<'a>>,
    pub(crate) max_memory: Option<u64>,
}

impl<'a> SegmentOptions<'a> {
    /// Also computes the probability of each class.
    #[must_use]
    pub fn with_probabilities(mut self) -> Self {
        self.outputs = Outputs::LabelsAndProbabilities;
        self
    }

    /// Calls an observer after every tile; [`ControlFlow::Break`] ends the segmentation with
    /// [`PipelineError::Cancelled`](sulcus_pipeline::PipelineError::Cancelled).
    #[must_use]
    pub fn with_observer(mut self, observer: &'a mut dyn FnMut(Progress) -> ControlFlow<()>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Limits the memory of the process during this segmentation, in bytes. Takes precedence over
    /// [`SegmenterBuilder::max_memory`](crate::SegmenterBuilder::max_memory).
    #[must_use]
    pub fn with_max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }
}

/// A segmented scan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Segmentation {
    /// The mask, on the scan's own grid.
    pub labels: LabelMap,
    /// Probabilities `[K, z, y, x]` on the scan's own grid, if requested.
    pub probabilities: Option<Image>,
    /// The values that the mask may have. For a model without regions they are its structures.
    pub table: LabelTable,
    /// The structures that the model segments: labels, or regions of several labels.
    pub structures: Vec<Structure>,
    /// Reasons why the mask may be wrong.
    pub warnings: Vec<ScanWarning>,
    /// The steps of a pack's recipe, in the order in which they were carried out; empty for other models.
    pub steps: Vec<PackStep>,
    /// Number of predicted tiles. A tile that models of an ensemble share counts once; a tile that several chunks need
    /// under a memory limit counts for each of them.
    pub tiles: usize,
    /// The duration of each stage.
    pub seconds: Seconds,
    /// The peak memory of the process since its start, if the system reports it (Linux).
    pub peak_memory_bytes: Option<u64>,
    /// The engine that ran the network.
    pub engine: Engine,
    /// The device that it ran on.
    pub device: Device,
    /// The precision of the arithmetic: `fp32`, `bf16`, `fp16` or `int8`; `fp32+int8` for an ensemble of both.
    pub precision: String,
    /// How it was computed.
    pub numerics: Numerics,
}

impl Segmentation {
    /// The description of this segmentation that every front end reports.
    pub fn report(&self) -> Report {
        Report {
            engine: self.engine.name().to_owned(),
            device: self.device.to_string(),
            precision: self.precision.clone(),
            numerics: self.numerics,
            seconds: self.seconds,
            tiles: self.tiles,
            steps: self.steps.clone(),
            peak_memory_bytes: self.peak_memory_bytes,
            warnings: self.warnings.clone(),
            labels: self.label_volumes(),
        }
    }

    /// The volume of every structure of the model, in the order of label values or regions; 0 for a structure that was not found.
    /// Overlapping regions each include the overlap.
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
                mm2: geometry.mm2(voxels),
            }
        };
        self.structures.iter().map(volume).collect()
    }
}
