use sulcus_model::ModelSpec;
use sulcus_volume::{Image, LabelMap};

use super::WindowOptions;
use crate::Outputs;

/// A loaded model, as far as planning needs to know it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PlannedModel<'a> {
    /// What the model file says.
    pub spec: &'a ModelSpec,
    /// Sessions of the model that the engine can run at the same time, at least 1.
    pub max_sessions: usize,
    /// Tiles that its engine takes in one call, at least 1.
    pub batch: usize,
    /// Length of its file in bytes.
    pub file_bytes: u64,
    /// Memory for the intermediate values of one call of its engine, in bytes; estimated from the network if it is not known.
    pub workspace_bytes: Option<u64>,
}

impl<'a> PlannedModel<'a> {
    /// A model with one session, whose engine takes one tile per call.
    pub fn new(spec: &'a ModelSpec) -> Self {
        Self { spec, max_sessions: 1, batch: 1, file_bytes: 0, workspace_bytes: None }
    }
}

/// A model in [`execute`](super::execute), in the order in which it was planned.
#[derive(Debug, Clone, Copy)]
pub struct ModelInput<'a> {
    /// What the model file says.
    pub spec: &'a ModelSpec,
    /// The mask of its [previous network](ModelSpec::previous) on the scan's grid, if it has one.
    pub mask: Option<&'a LabelMap>,
}

impl<'a> From<&'a ModelSpec> for ModelInput<'a> {
    /// A model without a previous network.
    fn from(spec: &'a ModelSpec) -> Self {
        Self { spec, mask: None }
    }
}

/// Whether the caller keeps the scan in memory while it is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScanOwnership {
    /// The caller keeps it.
    #[default]
    Borrowed,
    /// Its memory may be reused.
    Owned,
}

/// A scan to be predicted.
#[derive(Debug)]
pub enum ScanInput<'a> {
    /// The caller keeps it.
    Borrowed(&'a Image),
    /// Its memory may be reused.
    Owned(Image),
}

impl ScanInput<'_> {
    /// The scan.
    pub fn image(&self) -> &Image {
        match self {
            Self::Borrowed(image) => image,
            Self::Owned(image) => image,
        }
    }

    /// Who owns it.
    pub fn ownership(&self) -> ScanOwnership {
        match self {
            Self::Borrowed(_) => ScanOwnership::Borrowed,
            Self::Owned(_) => ScanOwnership::Owned,
        }
    }
}

/// Where the engine's workspace lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineMemory {
    /// In this process: it counts against the memory limit.
    #[default]
    Process,
    /// On a device with memory of its own.
    Device,
}

/// How a prediction is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Numerics {
    /// In single precision, plane by plane.
    #[default]
    Float32,
    /// As nnU-Net's predictor computes on a processor, so that masks are equal to its masks: splines in double precision, sums of logits
    /// in half precision, and the whole volume of logits in memory. Only for models that were imported from nnU-Net.
    Nnunet,
}

impl Numerics {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What [`plan_inference`](super::plan_inference) decides by, besides models and scan.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct InferenceSettings {
    /// Tile step and mirroring.
    pub window: WindowOptions,
    /// What is computed.
    pub outputs: Outputs,
    /// How it is computed.
    pub numerics: Numerics,
    /// Who owns the scan.
    pub scan: ScanOwnership,
    /// The shape x, y, z of the scan from which the caller has cut the image, if it has. NumPy's sums depend on it.
    pub cropped_from: Option<[usize; 3]>,
    /// Threads that call the engine at the same time where models have one session. 0 counts as 1.
    pub engine_threads: usize,
    /// Where the engine's workspace lies.
    pub engine_memory: EngineMemory,
    /// What the process may hold, in bytes.
    pub memory_limit: Option<u64>,
    /// What the process holds with the models loaded and no scan, in bytes.
    pub loaded_bytes: u64,
    /// What the caller holds beside the scan during the prediction, in bytes.
    pub reserved_bytes: u64,
}
