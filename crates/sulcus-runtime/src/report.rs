//! The result of one segmentation as data, the same for the command line, HTTP, C and Python.

use serde::{Serialize, Serializer};
use sulcus_pipeline::{Crop, Numerics, ScanWarning, StageSeconds};
use sulcus_volume::Label;

/// The description of a segmented scan besides its mask. It serializes to the JSON object that every front end returns.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The engine: `native`, `ort` or `tract`.
    pub engine: String,
    /// The device, such as `cpu` or `cuda:0`.
    pub device: String,
    /// The precision of the arithmetic: `fp32`, `fp16`, `bf16` or `int8`; `fp32+int8` for an ensemble of both.
    pub precision: String,
    /// How it was computed: `nnunet` if it repeated nnU-Net's computation, else absent.
    #[serde(skip_serializing_if = "Numerics::is_default")]
    pub numerics: Numerics,
    /// The duration of each stage.
    pub seconds: Seconds,
    /// Number of tiles that the scan was divided into.
    pub tiles: usize,
    /// The steps of a pack's recipe, in the order in which they were carried out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<PackStep>,
    /// The peak memory of the process so far, if the system reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Reasons why the mask may be wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ScanWarning>,
    /// The volume of each structure, by name.
    #[serde(serialize_with = "serialize_labels", skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelVolume>,
}

/// A step of a pack's recipe that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PackStep {
    /// The rough network saw the whole scan.
    Locate {
        /// The network.
        network: String,
        /// Voxels along x, y, z of the grid that it saw.
        shape: [usize; 3],
        /// Number of its tiles.
        tiles: usize,
        /// Its duration, with the way to its grid and back.
        seconds: f64,
        /// The box that the parts saw; `None` if nothing was found.
        found: Option<VoxelBox>,
    },
    /// A network saw what its recipe shows it: the scan, the box, or a third of it.
    Part {
        /// The network.
        network: String,
        /// Voxels along x, y, z of the grid that it saw.
        shape: [usize; 3],
        /// Number of its tiles.
        tiles: usize,
        /// Its duration.
        seconds: f64,
    },
}

/// A box of voxels of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VoxelBox {
    /// Its first voxel along x, y, z of the file, from 0.
    pub first: [usize; 3],
    /// Its voxels along x, y, z of the file.
    pub shape: [usize; 3],
}

impl From<&Crop> for VoxelBox {
    fn from(crop: &Crop) -> Self {
        Self { first: crop.ranges().clone().map(|range| range.start), shape: crop.part().shape() }
    }
}

/// Wall-clock seconds of one segmentation, all models together. Stages that did not happen, such as reading a file, are 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Seconds {
    /// Waiting time for a worker of a server; not part of `total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<f64>,
    /// Reading the scan.
    pub read: f64,
    /// Reorienting, normalising and resampling it.
    pub preprocess: f64,
    /// The sliding window, and the choice of labels plane by plane, which happens at the same time.
    pub infer: f64,
    /// The part of `infer` during which the engine computed.
    pub engine: f64,
    /// Postprocessing of the whole mask.
    pub postprocess: f64,
    /// Writing the mask.
    pub write: f64,
    /// From the start of reading to the end of writing.
    pub total: f64,
}

impl Seconds {
    pub(crate) fn of_stages(stages: StageSeconds, engine: f64) -> Self {
        let StageSeconds { preprocess, infer, postprocess } = stages;
        let total = preprocess + infer + postprocess;
        Self { preprocess, infer, engine, postprocess, total, ..Self::default() }
    }

    /// The stages with their names, as in the JSON object.
    pub fn named(&self) -> [(&'static str, f64); 8] {
        [
            ("queue", self.queue.unwrap_or_default()),
            ("read", self.read),
            ("preprocess", self.preprocess),
            ("infer", self.infer),
            ("engine", self.engine),
            ("postprocess", self.postprocess),
            ("write", self.write),
            ("total", self.total),
        ]
    }
}

/// The volume of one structure in a mask.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelVolume {
    /// The structure's name.
    pub name: String,
    /// Its value in the mask. A region has this value where no other region overlaps it.
    pub value: Label,
    /// All values that belong to it: one, or those of a region.
    pub values: Vec<Label>,
    /// Voxels with any of these values.
    pub voxels: usize,
    /// Their volume in millilitres; `None` in a picture, whose pixels have no volume.
    pub ml: Option<f64>,
    /// Their area in square millimetres, in a picture that states the size of its pixels.
    pub mm2: Option<f64>,
}

/// For `#[serde(serialize_with)]`: `{"Anterior": {"value": 1, "voxels": 10, "ml": 0.01}}`, in the order given; a region has `values`
/// in place of `value`, a picture `mm2` or only the number of pixels in place of `ml`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_labels<S: Serializer>(labels: &[LabelVolume], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Amount<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<Label>,
        #[serde(skip_serializing_if = "Option::is_none")]
        values: Option<&'a [Label]>,
        voxels: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        ml: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mm2: Option<f64>,
    }
    serializer.collect_map(labels.iter().map(|label| {
        let (value, values) = match label.values.as_slice() {
            [value] => (Some(*value), None),
            values => (None, Some(values)),
        };
        (&label.name, Amount { value, values, voxels: label.voxels, ml: label.ml, mm2: label.mm2 })
    }))
}
