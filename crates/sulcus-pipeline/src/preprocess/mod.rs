use sulcus_volume::{Geometry, Image, Interpolation, Label, LabelMap, Reorientation, Spacing, resample};

use crate::crop::filled_union;
use crate::{CoarseAxis, Crop, ModelSpec, Normalisation, PipelineError, InverseTransform, SpacingRule};

/// A scan as a network takes it: turned, resampled and normalised. It cannot be prepared twice.
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
    /// Values that [`prepare`] gave earlier, such as from a cache.
    ///
    /// # Shapes
    /// `shape` x, y, z; `data` `[C, z, y, x]`.
    ///
    /// # Errors
    /// When their number is not the shape's, or one is not a finite number.
    pub fn from_parts(shape: [usize; 3], channels: usize, data: Vec<f32>) -> Result<Self, PipelineError> {
        check_length(shape, channels, data.len())?;
        let count = data.iter().filter(|v| !v.is_finite()).count();
        if count > 0 {
            return Err(PipelineError::NonFinite { count });
        }
        Ok(Self { shape, channels, data })
    }

    /// Voxels along x, y, z of the prepared grid.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The values, `[C, z, y, x]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// A mask on the prepared grid, as class indices.
///
/// # Shapes
/// `classes` is `[z, y, x]`; 0 is the background, `i + 1` the `i`-th entry of the label table, and
/// [`PreprocessedLabels::IGNORED`] marks voxels that nobody has labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreprocessedLabels {
    shape: [usize; 3],
    classes: Vec<u8>,
}

impl PreprocessedLabels {
    /// The class of a voxel that counts neither in a loss nor in a score, whatever is predicted there.
    pub const IGNORED: u8 = u8::MAX;
    /// As many structures as classes can tell apart beside the background and [`PreprocessedLabels::IGNORED`].
    pub const MAX_STRUCTURES: usize = 254;

    /// Classes that [`preprocess_labels`] gave earlier, such as from a cache.
    ///
    /// # Shapes
    /// `shape` x, y, z; `classes` `[z, y, x]`.
    ///
    /// # Errors
    /// When their number is not the shape's.
    pub fn from_parts(shape: [usize; 3], classes: Vec<u8>) -> Result<Self, PipelineError> {
        check_length(shape, 1, classes.len())?;
        Ok(Self { shape, classes })
    }

    /// Voxels along x, y, z of the prepared grid.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class indices, `[z, y, x]`.
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }
}

/// That there are as many values as voxels and channels, and at least one.
fn check_length([nx, ny, nz]: [usize; 3], channels: usize, found: usize) -> Result<(), PipelineError> {
    let shape = [channels, nz, ny, nx];
    let expected = shape.iter().try_fold(1_usize, |product, edge| product.checked_mul(*edge));
    if found == 0 || expected != Some(found) {
        return Err(PipelineError::TensorLength { shape: shape.to_vec(), found });
    }
    Ok(())
}

/// The geometric part of preparing: the turning, and the shapes before and after resampling.
pub(crate) struct GridTransform {
    pub(crate) turn: Reorientation,
    pub(crate) turned_shape: [usize; 3],
    pub(crate) prepared_shape: [usize; 3],
    /// The turned axis along which the nearest slice counts, on the way to the prepared grid and on the way back.
    coarse: [Option<usize>; 2],
}

impl GridTransform {
    fn new(spec: &ModelSpec, geometry: &Geometry) -> Self {
        let turn = Reorientation::between(geometry.orientation(), spec.orientation);
        let turned_shape = turn.shape(geometry.shape());
        let from_mm = turn.triple(geometry.spacing().mm());
        let (prepared_shape, coarse) = match spec.spacing {
            SpacingRule::Native => (turned_shape, [None; 2]),
            SpacingRule::Resample { mm, coarse_axis, .. } => (
                resampled_shape(turned_shape, from_mm, mm),
                match coarse_axis {
                    CoarseAxis::AsOthers => [None; 2],
                    CoarseAxis::Nearest => [coarse_axis_of(from_mm, mm.mm()), coarse_axis_of(mm.mm(), from_mm)],
                },
            ),
        };
        Self { turn, turned_shape, prepared_shape, coarse }
    }

    /// Interpolation along x, y, z towards the prepared grid.
    fn towards(&self, interpolation: Interpolation) -> [Interpolation; 3] {
        Self::along(interpolation, self.coarse[0])
    }

    /// Interpolation along x, y, z of logits on their way back.
    pub(crate) fn back(&self) -> [Interpolation; 3] {
        Self::along(Interpolation::Linear, self.coarse[1])
    }

    fn along(interpolation: Interpolation, coarse: Option<usize>) -> [Interpolation; 3] {
        std::array::from_fn(|axis| if coarse == Some(axis) { Interpolation::Nearest } else { interpolation })
    }

    /// As [`GridTransform::new`], refused where the prepared grid is larger than any that can be worked on.
    pub(crate) fn checked(spec: &ModelSpec, geometry: &Geometry) -> Result<Self, PipelineError> {
        let path = Self::new(spec, geometry);
        // A target grid that a lying header blows up is caught before memory is asked for.
        geometry.resized(path.turn.inverse().shape(path.prepared_shape))?;
        Ok(path)
    }
}

/// The one axis along which voxels are longest where they are anisotropic: of the grid that values come from, or else of
/// the one they go to. Where two axes are as long there is none (nnU-Net's `determine_do_sep_z_and_axis`).
fn coarse_axis_of(from_mm: [f64; 3], to_mm: [f64; 3]) -> Option<usize> {
    /// Longest to shortest edge of a voxel, from where on it is anisotropic.
    const ANISOTROPIC: f64 = 3.0;
    let edges = |mm: [f64; 3]| (mm.into_iter().fold(0.0, f64::max), mm.into_iter().fold(f64::INFINITY, f64::min));
    let is_anisotropic = |mm: &[f64; 3]| {
        let (longest, shortest) = edges(*mm);
        longest / shortest > ANISOTROPIC
    };
    let mm = [from_mm, to_mm].into_iter().find(is_anisotropic)?;
    let (longest, _) = edges(mm);
    let mut axes = (0..3).filter(|axis| mm[*axis] == longest);
    let axis = axes.next()?;
    axes.next().is_none().then_some(axis)
}

/// Halves go to the even number, as in nnU-Net, whose networks see the same grid then.
fn resampled_shape(shape: [usize; 3], from_mm: [f64; 3], to: Spacing) -> [usize; 3] {
    std::array::from_fn(|a| ((shape[a] as f64 * from_mm[a] / to.mm()[a]).round_ties_even() as usize).max(1))
}

/// Brings a scan onto the model's grid and intensity scale, and remembers how to go back.
///
/// # Errors
/// When the channels are not the model's, or a voxel is not a finite number.
pub fn prepare(spec: &ModelSpec, image: &Image) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    check_values(spec, image)?;
    if let Some(crop) = Crop::of(spec, image)? {
        let (prepared, restore) = prepare_box(spec, &crop.image(image)?)?;
        return Ok((prepared, restore.inside(crop)));
    }
    prepare_box(spec, image)
}

/// As [`prepare`], for a scan that is not needed any more: where nothing has to be turned or resampled, its memory
/// becomes the prepared scan's.
///
/// # Errors
/// As [`prepare`].
pub fn preprocess_owned(spec: &ModelSpec, image: Image) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    check_values(spec, &image)?;
    if let Some(crop) = Crop::of(spec, &image)? {
        let part = crop.image(&image)?;
        drop(image);
        let (prepared, restore) = prepare_box(spec, &part)?;
        return Ok((prepared, restore.inside(crop)));
    }
    let path = GridTransform::checked(spec, image.geometry())?;
    if !path.turn.is_identity() || image.channels() > 1 {
        return prepare_box(spec, &image);
    }
    let inside = inside(spec, &image, &path);
    let (geometry, data) = image.into_parts();
    let data = normalised(spec, &path, &inside, std::iter::once(data));
    Ok(finish(spec, geometry, path, data))
}

/// [`prepare`] without looking for what to cut away.
fn prepare_box(spec: &ModelSpec, image: &Image) -> Result<(Preprocessed, InverseTransform), PipelineError> {
    let path = GridTransform::checked(spec, image.geometry())?;
    let shape = image.geometry().shape();
    let inside = inside(spec, image, &path);
    let turned = (0..image.channels()).map(|index| path.turn.apply(image.channel(index), shape));
    let data = normalised(spec, &path, &inside, turned);
    Ok(finish(spec, *image.geometry(), path, data))
}

/// Which voxels of the turned scan are inside, where a channel's normalisation asks for it.
fn inside(spec: &ModelSpec, image: &Image, path: &GridTransform) -> Vec<bool> {
    if spec.channels.iter().all(|channel| channel.normalisation != Normalisation::ZScoreNonzero) {
        return Vec::new();
    }
    path.turn.apply(&filled_union(image), image.geometry().shape())
}

fn check_values(spec: &ModelSpec, image: &Image) -> Result<(), PipelineError> {
    if image.channels() != spec.channels.len() {
        let names: Vec<&str> = spec.channels.iter().map(|c| c.name.as_str()).collect();
        return Err(PipelineError::Channels {
            expected: spec.channels.len(),
            names: names.join(", "),
            found: image.channels(),
        });
    }
    let count = image.data().iter().filter(|v| !v.is_finite()).count();
    if count > 0 {
        return Err(PipelineError::NonFinite { count });
    }
    Ok(())
}

fn normalised(spec: &ModelSpec, path: &GridTransform, inside: &[bool], turned: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let mut data = Vec::new();
    for (channel, mut values) in spec.channels.iter().zip(turned) {
        channel.normalisation.apply(&mut values, inside);
        if let SpacingRule::Resample { interpolation, .. } = spec.spacing
            && path.turned_shape != path.prepared_shape
        {
            values = resample(&values, path.turned_shape, path.prepared_shape, path.towards(interpolation));
        }
        if data.is_empty() {
            data = values;
        } else {
            data.extend_from_slice(&values);
        }
    }
    data
}

fn finish(spec: &ModelSpec, geometry: Geometry, path: GridTransform, data: Vec<f32>) -> (Preprocessed, InverseTransform) {
    let prepared = Preprocessed { shape: path.prepared_shape, channels: spec.channels.len(), data };
    (prepared, InverseTransform::new(geometry, path))
}

/// Brings a mask onto the grid that [`prepare`] gives its image, which decides what is cut away. Voxels of the value
/// `ignore`, where there is one, get the class [`PreprocessedLabels::IGNORED`].
///
/// # Errors
/// When mask and image lie on different grids, the mask has a value that the label table does not have, or the table has the value `ignore` or more than
/// [`PreprocessedLabels::MAX_STRUCTURES`] entries.
pub fn preprocess_labels(
    spec: &ModelSpec,
    image: &Image,
    labels: &LabelMap,
    ignore: Option<Label>,
) -> Result<PreprocessedLabels, PipelineError> {
    image.geometry().check_same_grid(labels.geometry())?;
    let table = class_of_value(spec, labels, ignore)?;
    let cropped = Crop::of(spec, image)?.map(|crop| crop.labels(labels)).transpose()?;
    let labels = cropped.as_ref().unwrap_or(labels);
    let geometry = labels.geometry();
    let path = GridTransform::new(spec, geometry);
    let classes: Vec<u8> = labels.data().iter().map(|v| table[usize::from(*v)]).collect();
    let mut classes = path.turn.apply(&classes, geometry.shape());
    if path.prepared_shape != path.turned_shape {
        let ignored = classes.contains(&PreprocessedLabels::IGNORED).then_some(PreprocessedLabels::IGNORED);
        // At most 254 structures, as the table of classes has checked.
        let structures = 1..=spec.labels.entries().len() as u8;
        classes = resample_classes(&classes, &path, structures.chain(ignored));
    }
    Ok(PreprocessedLabels { shape: path.prepared_shape, classes })
}

fn class_of_value(spec: &ModelSpec, labels: &LabelMap, ignore: Option<Label>) -> Result<Vec<u8>, PipelineError> {
    let known: Vec<Label> = spec.labels.entries().iter().map(|e| e.value).collect();
    let allowed = |v: &Label| *v == 0 || Some(*v) == ignore || known.contains(v);
    let found: Vec<Label> = labels.counts().into_keys().filter(|v| !allowed(v)).collect();
    if !found.is_empty() {
        return Err(PipelineError::UnknownLabels { found, known });
    }
    if known.len() > PreprocessedLabels::MAX_STRUCTURES {
        return Err(PipelineError::Spec(format!(
            "it has {} labels, at most {} are possible",
            known.len(),
            PreprocessedLabels::MAX_STRUCTURES
        )));
    }
    let mut table = vec![0_u8; usize::from(Label::MAX) + 1];
    for (class, value) in (1..PreprocessedLabels::IGNORED).zip(&known) {
        table[usize::from(*value)] = class;
    }
    if let Some(ignore) = ignore {
        if ignore == 0 || known.contains(&ignore) {
            return Err(PipelineError::Spec(format!("its label {ignore} cannot be the one that is ignored too")));
        }
        table[usize::from(ignore)] = PreprocessedLabels::IGNORED;
    }
    Ok(table)
}

/// Each class on its own, linearly; a voxel belongs to the last class that fills at least half of it (nnU-Net).
fn resample_classes(classes: &[u8], path: &GridTransform, occurring: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut out = vec![0_u8; path.prepared_shape.iter().product()];
    for class in occurring {
        let share: Vec<f32> = classes.iter().map(|c| f32::from(*c == class)).collect();
        let share = resample(&share, path.turned_shape, path.prepared_shape, path.towards(Interpolation::Linear));
        out.iter_mut().zip(share).filter(|(_, s)| *s >= 0.5).for_each(|(c, _)| *c = class);
    }
    out
}
