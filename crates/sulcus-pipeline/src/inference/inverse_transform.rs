use std::ops::Range;

use sulcus_volume::{AxisResampling, Geometry, Image, LabelMap};

use crate::prepare::GridTransform;
use crate::stream::LabelAccumulator;
use crate::{Crop, Logits, ModelSpec, PipelineError};

/// What leads back from the prepared grid to the scan's own.
#[derive(Debug)]
pub struct InverseTransform {
    pub(crate) geometry: Geometry,
    pub(crate) path: GridTransform,
    /// Where `geometry` lies in the scan, if that was cut.
    crop: Option<Crop>,
}

impl std::fmt::Debug for GridTransform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {:?} to {:?}", self.turn, self.turned_shape, self.prepared_shape)
    }
}

/// Which answers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outputs {
    /// The mask alone.
    #[default]
    Labels,
    /// The mask and each class's probability.
    LabelsAndProbabilities,
}

/// A prediction on the scan's own grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The mask.
    pub labels: LabelMap,
    /// Probabilities `[K, z, y, x]`, background first (softmax), or of the one label (sigmoid).
    pub probabilities: Option<Image>,
}

impl InverseTransform {
    pub(crate) fn new(geometry: Geometry, path: GridTransform) -> Self {
        Self { geometry, path, crop: None }
    }

    /// The way back of what was cut out of a scan.
    pub(crate) fn inside(self, crop: Crop) -> Self {
        Self { crop: Some(crop), ..self }
    }

    /// What this leads back to is the whole scan.
    pub(crate) fn is_of_whole_scan(&self) -> bool {
        self.crop.is_none()
    }

    /// Brings logits back: resampled linearly to the scan's voxel size, decided voxel by voxel, turned to the scan's
    /// orientation, postprocessed. Consumed by the undoing.
    ///
    /// # Errors
    /// When the logits don't lie on the grid that this came with.
    pub fn finish(self, spec: &ModelSpec, logits: Logits, outputs: Outputs) -> Result<Prediction, PipelineError> {
        let Self { geometry, path, crop } = self;
        if logits.shape() != path.prepared_shape || logits.classes() != spec.classes() {
            return Err(PipelineError::AnswerShape {
                expected: [vec![spec.classes()], path.prepared_shape.to_vec()].concat(),
                found: [vec![logits.classes()], logits.shape().to_vec()].concat(),
            });
        }
        let mut decision = LabelAccumulator::new(spec, &geometry, outputs)?;
        let whole = path.turned_shape.map(|n| 0..n);
        let [x, y, mut z] = source_region(&path, &whole);
        let mut next = || Ok(logits.plane(z.next().unwrap_or_default(), &y, &x));
        resample_region(&path, spec.classes(), &whole, &mut next, &mut |plane| {
            decision.plane(&path.turn, plane);
        })?;
        let prediction = decision.finish()?;
        match crop {
            Some(crop) => crop.restore(spec, prediction),
            None => Ok(prediction),
        }
    }
}

/// A piece of a plane of the turned grid, of the scan's voxel size.
pub(crate) struct ReorientedPlane {
    pub(crate) z: usize,
    pub(crate) y: Range<usize>,
    pub(crate) x: Range<usize>,
    /// `[K, y, x]` logits of these rows and columns.
    pub(crate) values: Vec<f32>,
}

/// How the prepared grid's logits become the turned grid's, along x, y and z.
fn resamplings(path: &GridTransform) -> [AxisResampling; 3] {
    let along = path.back();
    std::array::from_fn(|axis| {
        AxisResampling::new(path.prepared_shape[axis], path.turned_shape[axis], along[axis])
    })
}

/// The part of the prepared grid that a part of the turned one is made of; both x, y, z.
pub(crate) fn source_region(path: &GridTransform, part: &[Range<usize>; 3]) -> [Range<usize>; 3] {
    let along = resamplings(path);
    std::array::from_fn(|axis| along[axis].needs(part[axis].clone()))
}

/// Resamples a part of the turned grid from the planes of [`source_region`] it, which `next` gives one after the other, and
/// hands each of its planes on as soon as the planes that it lies between are there.
pub(crate) fn resample_region(
    path: &GridTransform,
    classes: usize,
    part: &[Range<usize>; 3],
    next: &mut dyn FnMut() -> Result<Vec<f32>, PipelineError>,
    sink: &mut dyn FnMut(ReorientedPlane),
) -> Result<(), PipelineError> {
    let [along_x, along_y, along_z] = resamplings(path);
    let [x, y, z] = part.clone();
    let (from_x, from_y) = (along_x.needs(x.clone()), along_y.needs(y.clone()));
    let mut plane = || -> Result<Vec<f32>, PipelineError> {
        let mut values = next()?;
        if !along_x.is_identity() {
            values = along_x.apply(&values, 1, from_x.clone(), x.clone());
        }
        if !along_y.is_identity() {
            values = along_y.apply(&values, x.len(), from_y.clone(), y.clone());
        }
        Ok(values)
    };
    let mut held: Vec<(usize, Vec<f32>)> = Vec::new();
    let mut coming = along_z.needs(z.clone());
    for z in z {
        let Some([(first, first_weight), (second, second_weight)]) = along_z.between(z) else { continue };
        held.retain(|(at, _)| *at >= first);
        while held.last().is_none_or(|(at, _)| *at < second)
            && let Some(at) = coming.next()
        {
            let values = plane()?;
            if at >= first {
                held.push((at, values));
            }
        }
        let find = |wanted: usize| held.iter().position(|(at, _)| *at == wanted);
        let (Some(a), Some(b)) = (find(first), find(second)) else { continue };
        let values = if along_z.is_identity() {
            held.swap_remove(a).1
        } else if second_weight == 0.0 {
            held[a].1.iter().map(|v| v * first_weight).collect()
        } else {
            held[a].1.iter().zip(&held[b].1).map(|(a, b)| a * first_weight + b * second_weight).collect()
        };
        if values.len() != classes * y.len() * x.len() {
            let expected = vec![classes, y.len(), x.len()];
            return Err(PipelineError::TensorLength { shape: expected, found: values.len() });
        }
        sink(ReorientedPlane { z, y: y.clone(), x: x.clone(), values });
    }
    Ok(())
}
