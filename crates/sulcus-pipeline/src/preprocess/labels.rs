use sulcus_model::ModelSpec;
use sulcus_model::SpecError;
use sulcus_volume::{Image, Label, LabelMap, Xyz, resample};

use super::check_length;
use super::crop::Crop;
use super::grid_transform::GridTransform;
use crate::PipelineError;

/// A reference mask on the network's grid, as class indices.
///
/// # Shapes
/// `classes` is `[z, y, x]`; 0 is the background, `i + 1` the `i`-th entry of the label table, and
/// [`PreprocessedLabels::IGNORED`] marks voxels without a label (nnU-Net's `ignore`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreprocessedLabels {
    shape: [usize; 3],
    classes: Vec<u8>,
}

impl PreprocessedLabels {
    /// The class of a voxel that is part of no loss and no score.
    pub const IGNORED: u8 = u8::MAX;
    /// Classes are bytes: this is the number of structures besides the background and [`PreprocessedLabels::IGNORED`].
    pub const MAX_STRUCTURES: usize = 254;

    /// Creates the result of an earlier [`preprocess_labels`] again, for example from a cache.
    ///
    /// # Shapes
    /// `shape` x, y, z; `classes` `[z, y, x]`.
    ///
    /// # Errors
    /// If the number of classes is not the product of the shape.
    pub fn from_parts(shape: [usize; 3], classes: Vec<u8>) -> Result<Self, PipelineError> {
        check_length(shape, 1, classes.len())?;
        Ok(Self { shape, classes })
    }

    /// Voxels along x, y, z of the network's grid.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class indices, `[z, y, x]`.
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }
}

/// Resamples a mask to the grid to which [`preprocess`](super::preprocess) resamples its image; the image determines the
/// crop. Voxels with the value `ignore` get the class [`PreprocessedLabels::IGNORED`].
///
/// # Errors
/// When mask and image lie on different grids, the mask has a value that is missing from the label table, or the table contains
/// `ignore` or more than [`PreprocessedLabels::MAX_STRUCTURES`] entries.
pub fn preprocess_labels(
    spec: &ModelSpec,
    image: &Image,
    labels: &LabelMap,
    ignore: Option<Label>,
) -> Result<PreprocessedLabels, PipelineError> {
    image.geometry().check_same_grid(labels.geometry())?;
    let class_of_value = class_table(spec, labels, ignore)?;
    let cropped = Crop::of(spec, image)?.map(|crop| crop.labels(labels)).transpose()?;
    let labels = cropped.as_ref().unwrap_or(labels);
    let geometry = labels.geometry();
    let transform = GridTransform::checked(spec, geometry)?;
    let classes: Vec<u8> = labels.data().iter().map(|v| class_of_value[usize::from(*v)]).collect();
    let mut classes = transform.reorientation.apply(&classes, geometry.shape());
    if transform.resampled_shape != transform.reoriented_shape {
        let ignored = classes.contains(&PreprocessedLabels::IGNORED).then_some(PreprocessedLabels::IGNORED);
        // `class_table` has checked that there are at most 254 structures.
        let structures = 1..=spec.labels.entries().len() as u8;
        classes = resample_classes(&classes, &transform, structures.chain(ignored))?;
    }
    Ok(PreprocessedLabels { shape: transform.resampled_shape, classes })
}

/// The class of every label value.
fn class_table(spec: &ModelSpec, labels: &LabelMap, ignore: Option<Label>) -> Result<Vec<u8>, PipelineError> {
    let known: Vec<Label> = spec.labels.entries().iter().map(|e| e.value).collect();
    let allowed = |v: &Label| *v == 0 || Some(*v) == ignore || known.contains(v);
    let found: Vec<Label> = labels.counts().into_keys().filter(|v| !allowed(v)).collect();
    if !found.is_empty() {
        return Err(PipelineError::UnknownLabels { found, known });
    }
    if known.len() > PreprocessedLabels::MAX_STRUCTURES {
        return Err(SpecError::Invalid(format!(
            "it has {} labels, at most {} are possible",
            known.len(),
            PreprocessedLabels::MAX_STRUCTURES
        ))
        .into());
    }
    let mut table = vec![0_u8; usize::from(Label::MAX) + 1];
    for (class, value) in (1..PreprocessedLabels::IGNORED).zip(&known) {
        table[usize::from(*value)] = class;
    }
    if let Some(ignore) = ignore {
        if ignore == 0 || known.contains(&ignore) {
            return Err(SpecError::Invalid(format!("its label {ignore} cannot also be the ignore label")).into());
        }
        table[usize::from(ignore)] = PreprocessedLabels::IGNORED;
    }
    Ok(table)
}

/// Resamples each class separately, linearly; a voxel gets the last class that fills at least half of it (nnU-Net).
fn resample_classes(
    classes: &[u8],
    transform: &GridTransform,
    occurring: impl Iterator<Item = u8>,
) -> Result<Vec<u8>, PipelineError> {
    let (from, to) = (Xyz(transform.reoriented_shape), Xyz(transform.resampled_shape));
    let interpolation = Xyz(transform.forward_labels());
    let mut out = vec![0_u8; transform.resampled_shape.iter().product()];
    for class in occurring {
        let indicator: Vec<f32> = classes.iter().map(|c| f32::from(*c == class)).collect();
        let fraction = resample(&indicator, from, to, interpolation)?;
        out.iter_mut().zip(fraction).filter(|(_, f)| *f >= 0.5).for_each(|(c, _)| *c = class);
    }
    Ok(out)
}
