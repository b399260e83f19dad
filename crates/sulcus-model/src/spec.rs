mod previous;

use serde::{Deserialize, Serialize};
use sulcus_volume::{Geometry, Interpolation, LabelTable, Spacing};

use crate::pack_version::{PACK_VERSION, is_pack};
use crate::{
    CropRule, GoldenCase, GridAxes, NetworkSpec, NnunetOrigin, NnunetSpacing, Normalisation, Postprocess,
    Precision, QuantizationReport, Region, SpecError, Structure, TrainingScans,
};

pub use previous::{MaskUse, PreviousNetwork};

/// The key of the ONNX metadata entry that holds the specification.
pub const SPEC_KEY: &str = "sulcus.spec";

/// The newest format version of a file with one model. Packs have [`PACK_VERSION`].
pub const FORMAT_VERSION: u32 = 7;
/// The oldest format version. A specification that needs no newer feature is written in it.
const OLDEST_VERSION: u32 = 1;
/// The first version with regions.
const REGIONS_VERSION: u32 = 2;
/// The first version with cropping, normalisation inside the nonzero voxels, and separate resampling along coarse axes.
const CROP_VERSION: u32 = 3;
/// The first version with the mark of a model that failed its check.
const UNCHECKED_VERSION: u32 = 4;
/// The first version with acquired axes, a tolerance of the voxel size, and a description of the training scans.
const TRAINING_SCANS_VERSION: u32 = 5;
/// The first version with models from nnU-Net: stored axes, its resampling, tiles and largest components, images that are not
/// normalised, and several networks in one file.
const NNUNET_VERSION: u32 = 6;
/// The first version with networks that use the mask of another network, splines of order 2, 4 and 5, and assumed voxel
/// sizes.
const PREVIOUS_VERSION: u32 = 7;

/// Everything that prediction needs to know about a model besides its graph. It is stored in the `.onnx` file as JSON,
/// under [`SPEC_KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Version of this structure.
    pub format_version: u32,
    /// Name of the model.
    pub name: String,
    /// The network, as data.
    pub network: NetworkSpec,
    /// The input channels, in order.
    pub channels: Vec<ChannelSpec>,
    /// The label values of masks, with names and colours. They are the structures, unless there are regions.
    pub labels: LabelTable,
    /// Structures that are unions of values, in the order of the output channels and of writing; empty if each value is
    /// one structure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// The meaning of the channels of `logits`.
    pub activation: OutputActivation,
    /// Number of networks in the file, such as the folds of a cross-validation. Their logits follow one after the other along the
    /// channel axis, `[N, networks · K, (D,) H, W]`, and are averaged.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub networks: usize,
    /// The network of this file whose mask this one uses, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<PreviousNetwork>>,
    /// The part of a scan that the model sees.
    #[serde(default, skip_serializing_if = "CropRule::is_whole")]
    pub crop: CropRule,
    /// The axes of the preprocessed grid. A 2-D network sees slices along its third axis.
    pub orientation: GridAxes,
    /// The voxel size that the network works on.
    pub spacing: SpacingRule,
    /// The voxel size along x, y, z of the file that every scan counts as having, in millimetres, whatever its file states; absent for the
    /// stated one. (nnU-Net's readers of pictures read no voxel sizes.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed_mm: Option<Spacing>,
    /// Patch size of the training, (D,) H, W.
    pub patch: Vec<usize>,
    /// How a volume is divided into tiles at prediction.
    pub tiling: Tiling,
    /// Distance between neighbouring tiles as a fraction of the tile size, 0 < step ≤ 1; tiles overlap by half at 0.5.
    #[serde(rename = "overlap")]
    pub tile_step: f64,
    /// Axes of (D,) H, W, counted from 0, along which training also mirrored its input. Prediction may mirror only along
    /// these axes, because the network has seen no other mirrored input.
    #[serde(default)]
    pub mirror_axes: Vec<usize>,
    /// The number by which the length of each axis, (D,) H, W, must be divisible.
    pub padding_multiple: Vec<usize>,
    /// Steps that change the mask, in order.
    pub postprocessing: Vec<Postprocess>,
    /// Origin of the weights.
    pub training: Training,
    /// Where the model comes from, if it was imported from nnU-Net.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nnunet: Option<NnunetOrigin>,
    /// The properties of the training scans, if they are known. A scan that differs from them is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_scans: Option<TrainingScans>,
    /// Reduced precision of the file and its loss of Dice; `None` for a file in single precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<QuantizationReport>,
    /// Why the exported file did not pass its check against the trainer; `None` if it did. Masks of such a file may be
    /// wrong, so programs refuse it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    /// A small input and its expected mask.
    pub golden_case: Option<GoldenCase>,
}

/// One input channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// Modality, such as `MRI` or `CT`.
    pub name: String,
    /// How its intensities are scaled.
    pub normalisation: Normalisation,
}

/// The meaning of the channels of `logits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputActivation {
    /// Background, then the labels in the order of the table. A voxel gets the label with the greatest logit.
    Softmax,
    /// One channel for one label. A voxel has the label if the logit is above 0 (probability above ½).
    Sigmoid,
    /// One channel for each region, independent of the others as with `Sigmoid`. Where regions overlap, the value of the
    /// last one is written.
    Regions,
}

/// The voxel size that the network works on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SpacingRule {
    /// The voxel size of the scan.
    Native,
    /// Scans are resampled to this voxel size, given along the axes of the preprocessed grid, with this interpolation.
    Resample {
        /// Target voxel size in millimetres.
        mm: Spacing,
        /// Interpolation of the image. Logits are always resampled linearly.
        interpolation: Interpolation,
        /// How values are resampled along a coarse axis.
        #[serde(default, skip_serializing_if = "CoarseAxis::is_as_others")]
        coarse_axis: CoarseAxis,
        /// A scan keeps its own voxel size if each edge of its voxels differs from `mm` by at most this factor (≥ 1). The
        /// training scans then had such voxel sizes and were not resampled either.
        #[serde(default = "exact", skip_serializing_if = "is_exact")]
        tolerance: f64,
    },
    /// Scans are resampled as nnU-Net v2 does.
    Nnunet(NnunetSpacing),
}

impl SpacingRule {
    /// The voxel size that a scan is resampled to; `None` if it keeps its own. Both along the axes of the preprocessed grid.
    pub fn target_for(&self, scan: Spacing) -> Option<Spacing> {
        let (mm, tolerance) = match self {
            Self::Native => return None,
            Self::Resample { mm, tolerance, .. } => (*mm, *tolerance),
            Self::Nnunet(rule) => return Some(rule.target_for(scan)),
        };
        let is_within = |(own, target): (f64, f64)| own <= target * tolerance && target <= own * tolerance;
        let keeps_own = tolerance > 1.0 && scan.mm().into_iter().zip(mm.mm()).all(is_within);
        (!keeps_own).then_some(mm)
    }

    /// Whether all preprocessed scans have the same voxel size.
    pub fn resamples_every_scan(&self) -> bool {
        match self {
            Self::Native => false,
            Self::Resample { tolerance, .. } => is_exact(tolerance),
            Self::Nnunet(rule) => rule.mm.iter().all(Option::is_some),
        }
    }

    fn tolerance(&self) -> f64 {
        match self {
            Self::Native | Self::Nnunet(_) => exact(),
            Self::Resample { tolerance, .. } => *tolerance,
        }
    }
}

/// The tolerance of a rule by which every scan is resampled.
fn exact() -> f64 {
    1.0
}

fn is_exact(tolerance: &f64) -> bool {
    *tolerance == exact()
}

/// How values are resampled along the axis of thick slices, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoarseAxis {
    /// The same way as along the other axes.
    #[default]
    AsOthers,
    /// With the value of the nearest slice, for image, mask and logits, as in nnU-Net. An axis is coarse if the voxels of
    /// the scan (or, if none is coarse there, of the model) are more than three times as long along it as along the
    /// finest axis. Interpolation between such slices would mix different anatomy.
    Nearest,
}

impl CoarseAxis {
    fn is_as_others(&self) -> bool {
        *self == Self::AsOthers
    }
}

/// How a volume is divided into tiles at prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tiling {
    /// One tile for each slice (2-D) or for the volume (3-D), padded to the network's multiple.
    Whole,
    /// A sliding window of the size of the training patch, weighted with a Gaussian.
    Patch,
    /// As `Patch`, with nnU-Net's positions: a scan that is smaller than the patch lies in the middle of the tile, half of the missing
    /// voxels (rounded down) before it, and the Gaussian has its maximum at voxel `patch / 2`.
    CentredPatch,
}

fn one() -> usize {
    1
}

fn is_one(networks: &usize) -> bool {
    *networks == 1
}

/// Origin of a model's weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// `sulcus` and its version.
    pub tool_version: String,
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 over the files of the training cases.
    pub data_sha256: String,
    /// Number of training cases.
    pub training_cases: usize,
    /// Number of validation cases.
    pub validation_cases: usize,
    /// Mean foreground Dice over the validation cases, on whole volumes; `None` if all cases were used for training.
    pub validation_dice: Option<f64>,
    /// Number of epochs of training up to the exported weights.
    pub epochs: usize,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl ModelSpec {
    /// No network can process more voxels at once. A file with a larger patch is damaged.
    const MAX_TILE_VOXELS: usize = 1 << 27;
    /// Networks do not recognise structures that are more than twice as large or small as in training.
    const MAX_TOLERANCE: f64 = 2.0;
    /// Far more folds than are used in practice. A file with more networks is damaged.
    const MAX_NETWORKS: usize = 64;

    /// Number of classes or regions: the channels of `logits` of one network.
    pub fn classes(&self) -> usize {
        match self.activation {
            OutputActivation::Softmax => self.labels.entries().len() + 1,
            OutputActivation::Sigmoid => 1,
            OutputActivation::Regions => self.regions.len(),
        }
    }

    /// Number of channels of the graph's input: those of the scan, and those that the mask of the previous network becomes.
    pub fn input_channels(&self) -> usize {
        let of_mask = self.previous.as_ref().map_or(0, |previous| previous.mask.input_channels());
        self.channels.len().saturating_add(of_mask)
    }

    /// The voxel size of a scan on this grid, along the axes of its file.
    pub fn scan_spacing(&self, geometry: &Geometry) -> Spacing {
        self.assumed_mm.unwrap_or_else(|| geometry.spacing())
    }

    /// The previous network, the one before it, and so on.
    pub fn previous_networks(&self) -> impl Iterator<Item = &PreviousNetwork> {
        std::iter::successors(self.previous.as_deref(), |network| network.spec.previous.as_deref())
    }

    /// The structures to segment: the regions, or the labels if there are no regions.
    pub fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.labels, &self.regions)
    }

    /// The format version for a specification with these regions.
    pub fn version_for(regions: &[Region]) -> u32 {
        if regions.is_empty() { OLDEST_VERSION } else { REGIONS_VERSION }
    }

    /// The oldest format version that has every feature of this specification. Files are written in it, so that older
    /// programs can read all files whose features they know.
    pub fn min_format_version(&self) -> u32 {
        let other_splines = match &self.spacing {
            SpacingRule::Nnunet(rule) => rule.image.has_other_orders() || rule.logits.has_other_orders(),
            _ => false,
        };
        if self.previous.is_some() || other_splines || self.assumed_mm.is_some() {
            return PREVIOUS_VERSION;
        }
        if self.needs_nnunet_version() {
            return NNUNET_VERSION;
        }
        let tolerant = self.orientation == GridAxes::Acquired || self.spacing.tolerance() != exact();
        if tolerant || self.training_scans.is_some() {
            return TRAINING_SCANS_VERSION;
        }
        if self.unchecked.is_some() {
            return UNCHECKED_VERSION;
        }
        let coarse = matches!(self.spacing, SpacingRule::Resample { coarse_axis: CoarseAxis::Nearest, .. });
        let inside = self.channels.iter().any(|c| c.normalisation == Normalisation::ZScoreNonzero);
        if coarse || inside || !self.crop.is_whole() { CROP_VERSION } else { Self::version_for(&self.regions) }
    }

    fn needs_nnunet_version(&self) -> bool {
        matches!(self.orientation, GridAxes::Stored(_))
            || matches!(self.spacing, SpacingRule::Nnunet(_))
            || self.tiling == Tiling::CentredPatch
            || self.networks != 1
            || self.nnunet.is_some()
            || self.network.imported.is_some()
            || self.channels.iter().any(|channel| channel.normalisation.is_of_nnunet())
            || self.postprocessing.iter().any(|step| matches!(step, Postprocess::KeepLargestComponents { .. }))
    }

    /// The precision of the model file.
    pub fn precision(&self) -> Precision {
        self.precision.map_or(Precision::Fp32, |reduction| reduction.kind)
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`SpecError::Invalid`] with the first problem.
    pub fn check(&self) -> Result<(), SpecError> {
        let bad = |what: String| Err(SpecError::Invalid(what));
        check_version(self.format_version)?;
        if self.format_version < self.min_format_version() {
            return bad(format!(
                "it uses features of format version {}, but states format version {}",
                self.min_format_version(),
                self.format_version
            ));
        }
        self.network.check().map_err(SpecError::Invalid)?;
        let axes = self.network.dimensions.count();
        if self.channels.is_empty() {
            return bad("it has no input channel".into());
        }
        if self.labels.entries().is_empty() {
            return bad("it has no label".into());
        }
        if self.activation == OutputActivation::Sigmoid && self.labels.entries().len() != 1 {
            return bad(format!("a sigmoid output has one label, found {}", self.labels.entries().len()));
        }
        self.check_regions().map_err(SpecError::Invalid)?;
        let most = NetworkSpec::MAX_CHANNELS;
        if self.channels.len() > most || self.classes() > most {
            return bad(format!(
                "it has {} input channels and {} classes, at most {most} of each are possible",
                self.channels.len(),
                self.classes()
            ));
        }
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
        if !(1..=Self::MAX_NETWORKS).contains(&self.networks) {
            return bad(format!("it has {} networks, possible are 1 to {}", self.networks, Self::MAX_NETWORKS));
        }
        if let SpacingRule::Nnunet(rule) = &self.spacing {
            rule.check().map_err(SpecError::Invalid)?;
        }
        if !(1.0..=Self::MAX_TOLERANCE).contains(&self.spacing.tolerance()) {
            return bad(format!(
                "its tolerance of the voxel size must lie in [1, {}], found {}",
                Self::MAX_TOLERANCE,
                self.spacing.tolerance()
            ));
        }
        if let Some(previous) = &self.previous {
            previous.check(self).map_err(SpecError::Invalid)?;
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

    /// Reads the JSON of the metadata entry and checks it. The version is checked first, so that the error for a newer
    /// file names the version instead of unknown fields.
    ///
    /// # Errors
    /// If the text is not JSON, has an unknown version, or its parts do not fit together.
    pub fn from_json(json: &str) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_str(json).map_err(|e| {
            SpecError::Invalid(format!("its specification is not JSON with a format_version: {e}"))
        })?;
        if is_pack(json) {
            return Err(SpecError::Pack);
        }
        check_version(version.format_version)?;
        let spec: Self = serde_json::from_str(json)
            .map_err(|e| SpecError::Invalid(format!("its specification is broken: {e}")))?;
        spec.check()?;
        Ok(spec)
    }

    /// The JSON of the metadata entry.
    ///
    /// # Errors
    /// If a number in it is not finite.
    pub fn to_json(&self) -> Result<String, SpecError> {
        serde_json::to_string(self).map_err(|e| SpecError::Invalid(format!("it cannot be written as JSON: {e}")))
    }
}

fn check_version(found: u32) -> Result<(), SpecError> {
    if (OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Ok(());
    }
    if found == PACK_VERSION {
        return Err(SpecError::Invalid(format!(
            "its format version is {found}, that of packs, but it has no recipe"
        )));
    }
    Err(SpecError::Invalid(format!(
        "its format version is {found}, this program knows {OLDEST_VERSION} to {PACK_VERSION}: use a newer sulcus"
    )))
}
