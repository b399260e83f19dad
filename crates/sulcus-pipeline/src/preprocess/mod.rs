//! From a scan to the array that a network sees.
//!
//! # Adding a normalisation scheme
//!
//! 1. Add a variant to [`Normalisation`] in `sulcus-model`, with its parameters and their check. Raise `FORMAT_VERSION` there and
//!    return it from [`ModelSpec::min_format_version`] for models with the new scheme, so that an older program refuses such a model
//!    by its version.
//! 2. Add its arm in `normalize.rs`, and the scheme to the tests there.
//! 3. If it needs more memory than the values themselves (such as a sorted copy), add this to
//!    `GridTransform::intermediate_bytes` in `grid_transform.rs`.
//! 4. Add its text to `output/rules.rs` in `sulcus-cli`; the compiler names this place. To offer it as `--normalisation NAME`, add
//!    it to `args/values.rs` there. To let plans choose it, add a rule to `decide/mod.rs` in `sulcus-plan`.
//!
//! Training, prediction, the cache of prepared cases and every engine then use it.

mod crop;
mod grid_transform;
mod inverse_transform;
mod labels;
mod nnunet_image;
mod normalize;
mod previous_mask;
mod resampling;

use sulcus_model::{ModelSpec, Normalisation, SpacingRule};
use sulcus_volume::{Geometry, Image, LabelMap, Xyz, resample};

use crate::PipelineError;
use crate::nnunet::resample_channel;
pub use crop::{Crop, nonzero_box};
pub(crate) use crop::{bounding_box, filled_union};
use grid_transform::in_double_precision;
pub(crate) use grid_transform::{GridTransform, MAX_EDGE};
pub use inverse_transform::InverseTransform;
pub use labels::{PreprocessedLabels, preprocess_labels};
use nnunet_image::resample_as_nnunet;
use normalize::normalize;
pub(crate) use previous_mask::{add_labels, mask_channels, needed_mask};
pub use resampling::Resampling;

/// A scan in the form of a network's input: cropped, reoriented, normalised and resampled. It cannot be preprocessed
/// twice.
///
/// # Shapes
/// `data` is `[C, z, y, x]`; a 2-D network sees the `[y, x]` slices.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessed {
    shape: [usize; 3],
    channels: usize,
    data: Vec<f32>,
}

impl Preprocessed {
    /// Creates the result of an earlier [`preprocess`] again, for example from a cache.
    ///
    /// # Shapes
    /// `shape` x, y, z; `data` `[C, z, y, x]`.
    ///
    /// # Errors
    /// If the number of values is not the product of channels and shape, or one is not finite.
    pub fn from_parts(shape: [usize; 3], channels: usize, data: Vec<f32>) -> Result<Self, PipelineError> {
        check_length(shape, channels, data.len())?;
        check_finite(&data)?;
        Ok(Self { shape, channels, data })
    }

    /// Voxels along x, y, z of the network's grid.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Input channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The values, `[C, z, y, x]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// Preprocesses a scan and returns the transform that maps logits back to its grid.
///
/// # Errors
/// When the number of channels is not the model's, a voxel is not finite, or the model needs the mask of a previous network.
pub fn preprocess(spec: &ModelSpec, image: &Image) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    preprocess_with_mask(spec, image, None)
}

/// As [`preprocess`], for a model that needs the mask of its [previous network](ModelSpec::previous), on the scan's grid.
///
/// # Errors
/// As [`preprocess`], and when there is a mask that the model does not need, or with another grid.
pub fn preprocess_with_mask(
    spec: &ModelSpec,
    image: &Image,
    mask: Option<&LabelMap>,
) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    check_input(spec, image)?;
    let mask = needed_mask(spec, image.geometry(), mask)?;
    if let Some(crop) = Crop::of(spec, image)? {
        let mask = mask.map(|mask| crop.labels(mask)).transpose()?;
        let (preprocessed, inverse) = preprocess_uncropped(spec, &crop.image(image)?, mask.as_ref())?;
        return Ok((preprocessed, inverse.with_crop(crop)));
    }
    preprocess_uncropped(spec, image, mask)
}

/// As [`preprocess`], for a scan that is not needed afterwards: unless it is resampled, its memory is reused.
///
/// # Errors
/// As [`preprocess`].
pub fn preprocess_owned(
    spec: &ModelSpec,
    image: Image,
) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    check_input(spec, &image)?;
    needed_mask(spec, image.geometry(), None)?;
    if let Some(crop) = Crop::of(spec, &image)? {
        let part = crop.image(&image)?;
        drop(image);
        let (preprocessed, inverse) = preprocess_in_place(spec, part)?;
        return Ok((preprocessed, inverse.with_crop(crop)));
    }
    preprocess_in_place(spec, image)
}

fn preprocess_in_place(spec: &ModelSpec, image: Image) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    let transform = GridTransform::checked(spec, image.geometry())?;
    let is_resampled = transform.in_place_bytes().is_none();
    if is_resampled && (image.channels() > 1 || !transform.reorientation.is_identity()) {
        return preprocess_uncropped(spec, &image, None);
    }
    let inside = inside_mask(spec, &image, &transform);
    let (geometry, mut data) = image.into_parts();
    if is_resampled {
        data = normalize_and_resample(spec, &transform, &inside, std::iter::once(data))?;
    } else {
        for (channel, values) in spec.channels.iter().zip(data.chunks_exact_mut(geometry.voxels().max(1))) {
            transform.reorientation.apply_in_place(values, geometry.shape());
            normalize(channel.normalisation, values, &inside);
        }
    }
    Ok(pair(spec, geometry, transform, data))
}

fn preprocess_uncropped(
    spec: &ModelSpec,
    image: &Image,
    mask: Option<&LabelMap>,
) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    let transform = GridTransform::checked(spec, image.geometry())?;
    let shape = image.geometry().shape();
    let mut inside = inside_mask(spec, image, &transform);
    let of_mask = match mask {
        Some(mask) => mask_channels(spec, &transform, mask, &inside)?,
        None => Vec::new(),
    };
    mask.into_iter().for_each(|mask| add_labels(&transform, mask, &mut inside));
    let reoriented = (0..image.channels()).map(|index| transform.reorientation.apply(image.channel(index), shape));
    let mut data = normalize_and_resample(spec, &transform, &inside, reoriented)?;
    data.try_reserve_exact(of_mask.len()).map_err(|_| PipelineError::Memory { values: of_mask.len() })?;
    data.extend_from_slice(&of_mask);
    Ok(pair(spec, *image.geometry(), transform, data))
}

/// The voxels of the reoriented scan that [`Normalisation::ZScoreNonzero`] uses and a mask is resampled in; empty if nothing needs them.
pub(crate) fn inside_mask(spec: &ModelSpec, image: &Image, transform: &GridTransform) -> Vec<bool> {
    let is_inside = |scheme: Normalisation| scheme == Normalisation::ZScoreNonzero;
    if spec.previous.is_none() && !spec.channels.iter().any(|channel| is_inside(channel.normalisation)) {
        return Vec::new();
    }
    transform.reorientation.apply(&filled_union(image), image.geometry().shape())
}

pub(crate) fn check_input(spec: &ModelSpec, image: &Image) -> Result<(), PipelineError> {
    check_channels(spec, image)?;
    check_finite(image.data())
}

/// Checks that the image has the model's channels.
pub(crate) fn check_channels(spec: &ModelSpec, image: &Image) -> Result<(), PipelineError> {
    if image.channels() == spec.channels.len() {
        return Ok(());
    }
    let names: Vec<&str> = spec.channels.iter().map(|c| c.name.as_str()).collect();
    Err(PipelineError::Channels {
        expected: spec.channels.len(),
        names: names.join(", "),
        found: image.channels(),
    })
}

pub(crate) fn check_finite(values: &[f32]) -> Result<(), PipelineError> {
    let count = values.iter().filter(|v| !v.is_finite()).count();
    if count > 0 { Err(PipelineError::NonFinite { count }) } else { Ok(()) }
}

fn normalize_and_resample(
    spec: &ModelSpec,
    transform: &GridTransform,
    inside: &[bool],
    reoriented: impl Iterator<Item = Vec<f32>>,
) -> Result<Vec<f32>, PipelineError> {
    let mut data: Vec<f32> = Vec::new();
    for (channel, mut values) in spec.channels.iter().zip(reoriented) {
        normalize(channel.normalisation, &mut values, inside);
        if transform.reoriented_shape != transform.resampled_shape {
            values = resample_image(spec, transform, values)?;
        }
        if data.is_empty() {
            let others = values.len() * (spec.channels.len() - 1);
            data = values;
            data.try_reserve_exact(others).map_err(|_| PipelineError::Memory { values: others })?;
        } else {
            data.extend_from_slice(&values);
        }
    }
    Ok(data)
}

fn resample_image(
    spec: &ModelSpec,
    transform: &GridTransform,
    values: Vec<f32>,
) -> Result<Vec<f32>, PipelineError> {
    let (from, to) = (transform.reoriented_shape, transform.resampled_shape);
    let Some(rule) = in_double_precision(spec) else {
        return match spec.spacing {
            SpacingRule::Nnunet(_) => resample_as_nnunet(values, transform),
            _ => Ok(resample(&values, Xyz(from), Xyz(to), Xyz(transform.forward()))?),
        };
    };
    let zyx = |[x, y, z]: [usize; 3]| [z, y, x];
    let separate = transform.separate_axis_forward().map(|axis| 2 - axis);
    let values = values.into_iter().map(f64::from).collect();
    let resampled = resample_channel(&rule, values, zyx(from), zyx(to), separate)?;
    Ok(resampled.into_iter().map(|v| v as f32).collect())
}

fn pair(
    spec: &ModelSpec,
    geometry: Geometry,
    transform: GridTransform,
    data: Vec<f32>,
) -> (Preprocessed, InverseTransform) {
    let preprocessed = Preprocessed { shape: transform.resampled_shape, channels: spec.input_channels(), data };
    (preprocessed, InverseTransform::new(geometry, transform))
}

/// The most memory that preprocessing a scan of this geometry needs at a time, in bytes: the scan, its form on the network's grid
/// if it is resampled, and what is held between the two. The geometry is that of the part that [`CropRule`](sulcus_model::CropRule) keeps.
///
/// # Errors
/// When the network's grid would be larger than any that can be processed.
pub fn preprocessing_bytes(spec: &ModelSpec, geometry: &Geometry) -> Result<u64, PipelineError> {
    let transform = GridTransform::checked(spec, geometry)?;
    let values = |shape: [usize; 3], channels: usize| {
        let voxels = shape.iter().fold(channels as u64, |product, n| product.saturating_mul(*n as u64));
        voxels.saturating_mul(size_of::<f32>() as u64)
    };
    let network = values(transform.resampled_shape, spec.input_channels());
    let needs_mask = spec.input_channels() > spec.channels.len();
    let result = transform.in_place_bytes().filter(|_| !needs_mask).unwrap_or(network);
    let both = values(geometry.shape(), spec.channels.len()).saturating_add(result);
    Ok(both.saturating_add(transform.intermediate_bytes(spec)))
}

/// Checks that there are as many values as channels and voxels, and at least one.
fn check_length([nx, ny, nz]: [usize; 3], channels: usize, found: usize) -> Result<(), PipelineError> {
    let shape = [channels, nz, ny, nx];
    let expected = shape.iter().try_fold(1_usize, |product, edge| product.checked_mul(*edge));
    if found == 0 || expected != Some(found) {
        return Err(PipelineError::TensorLength { shape: shape.to_vec(), found });
    }
    Ok(())
}
