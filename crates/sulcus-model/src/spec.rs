use serde::{Deserialize, Serialize};
use sulcus_volume::{Interpolation, LabelTable, Orientation, Spacing};

use crate::{
    CropRule, GoldenCase, NetworkSpec, Normalisation, Postprocess, Precision, QuantizationReport, Region,
    SpecError, Structure, TrainingScans,
};

/// The key of the ONNX metadata entry that holds the specification.
pub const SPEC_KEY: &str = "sulcus.spec";

/// The newest format version that this code reads.
pub const FORMAT_VERSION: u32 = 5;
/// The oldest one, which it writes where nothing newer is needed.
const OLDEST_VERSION: u32 = 1;
/// The one that brought regions.
const REGIONS_VERSION: u32 = 2;
/// The first version with cropping, normalisation inside the nonzero voxels, and separate resampling along coarse axes.
const CROP_VERSION: u32 = 3;
/// The one that brought the mark of a model that failed its check.
const UNCHECKED_VERSION: u32 = 4;
/// The first version with a description of the training scans.
const TRAINING_SCANS_VERSION: u32 = 5;

/// Everything that prediction needs to know about a model besides its graph. It travels inside the `.onnx` file,
/// as JSON under [`SPEC_KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Version of this structure.
    pub format_version: u32,
    /// What people call the model.
    pub name: String,
    /// The network, as data.
    pub network: NetworkSpec,
    /// Input channels, in order.
    pub channels: Vec<ChannelSpec>,
    /// The values that its masks may have, with names and colours. Unless it has regions they are the structures it
    /// finds.
    pub labels: LabelTable,
    /// The structures it finds where these are unions of values, in the order of its channels and of writing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// What the channels of `logits` mean.
    pub activation: OutputActivation,
    /// What of a scan it looks at.
    #[serde(default, skip_serializing_if = "CropRule::is_whole")]
    pub crop: CropRule,
    /// How the prepared grid lies in the patient. A 2-D network sees slices along its third axis.
    pub orientation: Orientation,
    /// On which voxel size the network works.
    pub spacing: SpacingRule,
    /// The block it was trained on, (D,) H, W.
    pub patch: Vec<usize>,
    /// How a volume is cut up at prediction.
    pub tiling: Tiling,
    /// By how much of a tile's edge the next one advances, 0 < step ≤ 1: with 0.5 neighbours overlap by half.
    #[serde(rename = "overlap")]
    pub tile_step: f64,
    /// Axes of (D,) H, W, from 0, along which it was trained with mirrored input as well: those that may be mirrored
    /// at prediction. Mirrored input along any other is unlike all that the network has seen.
    #[serde(default)]
    pub mirror_axes: Vec<usize>,
    /// By what (D,) H, W must be divisible.
    pub padding_multiple: Vec<usize>,
    /// What is done to the mask, in order.
    pub postprocessing: Vec<Postprocess>,
    /// Where the weights come from.
    pub training: Training,
    /// What the training scans looked like; absent where it is unknown. Scans that are unlike them are reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_scans: Option<TrainingScans>,
    /// In what fewer bits it was exported and what that cost; absent in single precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<QuantizationReport>,
    /// Why the exported file did not pass its check against the trainer; absent where it did. Its masks may be wrong, so
    /// programs refuse it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    /// A small input and the answer it must get.
    pub golden_case: Option<GoldenCase>,
}

/// One input channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// Modality, such as `MRI` or `CT`.
    pub name: String,
    /// How its intensities are brought to a common scale.
    pub normalisation: Normalisation,
}

/// What the channels of `logits` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputActivation {
    /// Background, then the labels in the order of the table; the greatest logit wins.
    Softmax,
    /// One channel, one label: the voxel has it where the logit is above 0 (probability above ½).
    Sigmoid,
    /// A channel a region, each by itself as with `Sigmoid`; where regions overlap the later one's value is written.
    Regions,
}

/// On which voxel size the network works.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SpacingRule {
    /// The scan's own.
    Native,
    /// Resampled to this voxel size, given along the axes of the prepared grid, with this interpolation.
    Resample {
        /// Target voxel size in millimetres.
        mm: Spacing,
        /// For the image; logits come back linearly.
        interpolation: Interpolation,
        /// What is otherwise along a coarse axis.
        #[serde(default, skip_serializing_if = "CoarseAxis::is_as_others")]
        coarse_axis: CoarseAxis,
    },
}

/// How values are found along the axis of thick slices, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoarseAxis {
    /// As along the others.
    #[default]
    AsOthers,
    /// By the nearest slice, for image, mask and logits alike, as nnU-Net does: where voxels, the scan's or else the
    /// model's, are more than three times as long along one axis as along the finest, neighbouring slices show too
    /// little of each other to blend them.
    Nearest,
}

impl CoarseAxis {
    fn is_as_others(&self) -> bool {
        *self == Self::AsOthers
    }
}

/// How a volume is cut up at prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tiling {
    /// Each slice (2-D) or the volume (3-D) in one piece, padded to the network's multiple.
    Whole,
    /// A sliding window of the training patch's size, blended with Gaussian weights.
    Patch,
}

/// Where a model's weights come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// `sulcus` and its version.
    pub tool_version: String,
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 over the files of the training cases.
    pub data_sha256: String,
    /// Cases it was trained on.
    pub training_cases: usize,
    /// Cases it was scored on while training.
    pub validation_cases: usize,
    /// Mean foreground Dice over the validation cases, whole volumes; absent when every case was trained on.
    pub validation_dice: Option<f64>,
    /// Epochs behind the exported weights.
    pub epochs: usize,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl ModelSpec {
    /// More than any network can take at once: a file that asks for it is broken.
    const MAX_TILE_VOXELS: usize = 1 << 27;

    /// Channels of `logits`.
    pub fn classes(&self) -> usize {
        match self.activation {
            OutputActivation::Softmax => self.labels.entries().len() + 1,
            OutputActivation::Sigmoid => 1,
            OutputActivation::Regions => self.regions.len(),
        }
    }

    /// The structures it finds: the regions, or where there are none the labels.
    pub fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.labels, &self.regions)
    }

    /// The format version that a specification with these regions is written in.
    pub fn version_for(regions: &[Region]) -> u32 {
        if regions.is_empty() { OLDEST_VERSION } else { REGIONS_VERSION }
    }

    /// The oldest format version that can say all that this says: the one to write, so that older programs read what they
    /// understand, and refuse the rest by its number.
    pub fn min_format_version(&self) -> u32 {
        if self.training_scans.is_some() {
            return TRAINING_SCANS_VERSION;
        }
        if self.unchecked.is_some() {
            return UNCHECKED_VERSION;
        }
        let coarse = matches!(self.spacing, SpacingRule::Resample { coarse_axis: CoarseAxis::Nearest, .. });
        let inside = self.channels.iter().any(|c| c.normalisation == Normalisation::ZScoreNonzero);
        if coarse || inside || !self.crop.is_whole() { CROP_VERSION } else { Self::version_for(&self.regions) }
    }

    /// The numbers that its network is written in.
    pub fn precision(&self) -> Precision {
        self.precision.map_or(Precision::Fp32, |reduction| reduction.kind)
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`SpecError::Invalid`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        let bad = |what: String| Err(SpecError::Invalid(what));
        check_version(self.format_version)?;
        if self.format_version < self.min_format_version() {
            return bad(format!(
                "what it asks for came with format version {}, but it says {}",
                self.min_format_version(),
                self.format_version
            ));
        }
        self.network.check().map_err(SpecError::Invalid)?;
        let axes = self.network.dimensions.count();
        if self.channels.is_empty() {
            return bad("it names no input channel".into());
        }
        if self.labels.entries().is_empty() {
            return bad("it names no label".into());
        }
        if self.activation == OutputActivation::Sigmoid && self.labels.entries().len() != 1 {
            return bad(format!("a sigmoid output has one label, found {}", self.labels.entries().len()));
        }
        self.check_regions().map_err(SpecError::Invalid)?;
        if self.padding_multiple != self.network.padding_multiple() {
            return bad(format!(
                "its padding multiple is {:?}, its network's strides give {:?}",
                self.padding_multiple,
                self.network.padding_multiple()
            ));
        }
        let tile = self.patch.iter().try_fold(1_usize, |product, edge| product.checked_mul(*edge));
        if tile.is_none_or(|voxels| voxels > Self::MAX_TILE_VOXELS) {
            return bad(format!("its patch {:?} has more than {} voxels", self.patch, Self::MAX_TILE_VOXELS));
        }
        let fits = |(edge, multiple): (&usize, &usize)| *edge > 0 && edge.is_multiple_of(*multiple);
        if self.patch.len() != axes || !self.patch.iter().zip(&self.padding_multiple).all(fits) {
            return bad(format!(
                "its patch {:?} must have {axes} axes, each a multiple of {:?}",
                self.patch, self.padding_multiple
            ));
        }
        let too_many = |axis: &usize| *axis >= axes;
        if self.mirror_axes.iter().any(too_many) || self.mirror_axes.windows(2).any(|pair| pair[0] >= pair[1]) {
            return bad(format!("its mirror axes {:?} must rise and be less than {axes}", self.mirror_axes));
        }
        if !(self.tile_step > 0.0 && self.tile_step <= 1.0) {
            return bad(format!("its window step must lie in (0, 1], found {}", self.tile_step));
        }
        if let Some(scans) = &self.training_scans {
            scans.check(self.channels.len()).map_err(SpecError::Invalid)?;
        }
        self.precision.map_or(Ok(()), |reduction| reduction.check()).map_err(SpecError::Invalid)?;
        self.postprocessing.iter().try_for_each(|step| step.check(&self.labels)).map_err(SpecError::Invalid)?;
        self.channels.iter().try_for_each(|c| c.normalisation.check())
    }

    fn check_regions(&self) -> Result<(), String> {
        if self.activation != OutputActivation::Regions {
            return match self.regions.first() {
                Some(region) => Err(format!("it names region `{}`, but its output is of no regions", region.name)),
                None => Ok(()),
            };
        }
        if self.regions.is_empty() {
            return Err("its output is of regions, but it names none".into());
        }
        Region::check_all(&self.regions)?;
        let unnamed = self.regions.iter().flat_map(|r| &r.values).find(|value| self.labels.get(**value).is_none());
        if let Some(value) = unnamed {
            return Err(format!("a region has value {value}, which the label table lacks"));
        }
        let stray = self.labels.entries().iter().find(|entry| !self.regions.iter().any(|r| r.holds(entry.value)));
        stray.map_or(Ok(()), |entry| Err(format!("its label {} belongs to no region", entry.value)))
    }

    /// Reads the JSON of the metadata entry and checks it. The version is looked at before anything else, so that
    /// a newer file is named as such and not as a list of unknown fields.
    ///
    /// # Errors
    /// When it is not JSON, is of an unknown version, or its parts don't fit each other.
    pub fn from_json(json: &str) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_str(json).map_err(|e| {
            SpecError::Invalid(format!("its specification is not JSON with a format_version: {e}"))
        })?;
        check_version(version.format_version)?;
        let spec: Self = serde_json::from_str(json)
            .map_err(|e| SpecError::Invalid(format!("its specification is broken: {e}")))?;
        spec.check()?;
        Ok(spec)
    }

    /// The JSON of the metadata entry.
    ///
    /// # Errors
    /// When a number in it is not finite.
    pub fn to_json(&self) -> Result<String, SpecError> {
        serde_json::to_string(self).map_err(|e| SpecError::Invalid(format!("it cannot be written as JSON: {e}")))
    }
}

fn check_version(found: u32) -> Result<(), SpecError> {
    if (OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Ok(());
    }
    Err(SpecError::Invalid(format!(
        "its format version is {found}, this program knows {OLDEST_VERSION} to {FORMAT_VERSION}: use a newer sulcus"
    )))
}
