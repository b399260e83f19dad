use std::ops::Range;

use sulcus_model::{ModelSpec, OutputActivation};
use sulcus_volume::{Geometry, Image, Label, LabelMap, Reorientation};

use super::decide::{labels_of, to_probabilities};
use super::resample_back::ReorientedPlane;
use super::zeros;
use crate::{Outputs, PipelineError, Prediction, postprocess};

/// Collects the mask, and on request the probabilities, plane by plane on the scan's grid.
pub struct LabelAccumulator<'a> {
    spec: &'a ModelSpec,
    geometry: Geometry,
    labels: Vec<Label>,
    /// `[K, z, y, x]`.
    probabilities: Option<Vec<f32>>,
}

impl<'a> LabelAccumulator<'a> {
    /// A mask that contains only background.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(spec: &'a ModelSpec, geometry: &Geometry, outputs: Outputs) -> Result<Self, PipelineError> {
        let voxels = geometry.voxels();
        let mut labels = Vec::new();
        labels.try_reserve_exact(voxels).map_err(|_| PipelineError::Memory { values: voxels.div_ceil(2) })?;
        labels.resize(voxels, 0);
        let probabilities = match outputs {
            Outputs::Labels => None,
            Outputs::LabelsAndProbabilities => Some(zeros(voxels.checked_mul(spec.classes()))?),
        };
        Ok(Self { spec, geometry: *geometry, labels, probabilities })
    }

    pub(super) fn add_plane(&mut self, reorientation: &Reorientation, plane: ReorientedPlane) {
        let ReorientedPlane { z, y, x, mut values } = plane;
        let (shape, n) = (self.geometry.shape(), y.len() * x.len());
        let labels = labels_of(self.spec, &values, n);
        let at = (z, y, x);
        reorientation.put_back(&labels, shape, at.clone(), &mut self.labels, 0, |to, label| *to = label);
        if let Some(probabilities) = &mut self.probabilities {
            to_probabilities(self.spec, &mut values, n);
            for (to, from) in probabilities.chunks_exact_mut(self.geometry.voxels()).zip(values.chunks_exact(n)) {
                reorientation.put_back(from, shape, at.clone(), to, 0, |to, v| *to = v);
            }
        }
    }

    /// Chooses the labels of the slices of a slab.
    pub fn add_slab(&mut self, slab: LogitSlab) {
        let orientation = self.geometry.orientation();
        let identity = Reorientation::between(orientation, orientation);
        let [nx, ny, _] = self.geometry.shape();
        let voxels = slab.slices.len() * nx * ny;
        for (i, z) in slab.slices.clone().enumerate() {
            let plane = i * nx * ny..(i + 1) * nx * ny;
            let of = |channel: &[f32]| channel.get(plane.clone()).unwrap_or_default().to_vec();
            let values = slab.values.chunks_exact(voxels).flat_map(of).collect();
            self.add_plane(&identity, ReorientedPlane { z, y: 0..ny, x: 0..nx, values });
        }
    }

    /// The postprocessed mask.
    ///
    /// # Errors
    /// None for a grid that was read from a file.
    pub fn finish(self) -> Result<Prediction, PipelineError> {
        let Self { spec, geometry, labels, probabilities } = self;
        // Postprocessing runs on the scan's grid, on which it was chosen: the order of equal components depends on the
        // grid.
        let labels = postprocess(&spec.postprocessing, LabelMap::new(geometry, labels)?)?;
        let probabilities = probabilities.map(|data| Image::new(geometry, spec.classes(), data)).transpose()?;
        Ok(Prediction { labels, probabilities })
    }
}

/// Logits on some slices of the scan's own grid: the sum over models whose network grids differ.
#[derive(Debug)]
pub struct LogitSlab {
    shape: [usize; 3],
    pub(super) slices: Range<usize>,
    /// `[K, slices, y, x]`.
    values: Vec<f32>,
}

impl LogitSlab {
    /// Zeros for these slices.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(geometry: &Geometry, classes: usize, slices: Range<usize>) -> Result<Self, PipelineError> {
        let [nx, ny, _] = geometry.shape();
        let values = zeros((nx * ny * slices.len()).checked_mul(classes))?;
        Ok(Self { shape: geometry.shape(), slices, values })
    }

    /// Replaces mean probabilities by logits that give the same labels and probabilities.
    pub(super) fn into_logits(mut self, spec: &ModelSpec) -> Self {
        let logit = |p: f32| match spec.activation {
            OutputActivation::Softmax => p.max(f32::MIN_POSITIVE).ln(),
            OutputActivation::Sigmoid | OutputActivation::Regions => {
                p.max(f32::MIN_POSITIVE).ln() - (1.0 - p).max(f32::MIN_POSITIVE).ln()
            }
        };
        self.values.iter_mut().for_each(|v| *v = logit(*v));
        self
    }

    pub(super) fn add(&mut self, reorientation: &Reorientation, plane: &ReorientedPlane) {
        let ReorientedPlane { z, y, x, values } = plane;
        let slice_voxels = self.shape[0] * self.shape[1];
        let skip = self.slices.start * slice_voxels;
        let voxels = self.slices.len() * slice_voxels;
        for (to, from) in self.values.chunks_exact_mut(voxels).zip(values.chunks_exact(x.len() * y.len())) {
            reorientation.put_back(from, self.shape, (*z, y.clone(), x.clone()), to, skip, |sum, v| *sum += v);
        }
    }
}
