use sulcus_volume::{Geometry, Image, Interpolation, LabelMap, Volume, resample};

use crate::decide::{labels_of, to_probabilities};
use crate::prepare::Path;
use crate::{Logits, ModelSpec, PipelineError, postprocess};

/// What leads back from the prepared grid to the scan's own. Consumed by the undoing.
#[derive(Debug)]
pub struct Restore {
    geometry: Geometry,
    path: Path,
}

impl std::fmt::Debug for Path {
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
pub struct Restored {
    /// The mask.
    pub labels: LabelMap,
    /// Probabilities `[K, z, y, x]`, background first (softmax), or of the one label (sigmoid).
    pub probabilities: Option<Image>,
}

impl Restore {
    pub(crate) fn new(geometry: Geometry, path: Path) -> Self {
        Self { geometry, path }
    }

    /// Brings logits back: resampled linearly to the scan's voxel size, decided voxel by voxel, turned to the scan's
    /// orientation, postprocessed.
    ///
    /// # Errors
    /// When the logits don't lie on the grid that this came with.
    pub fn finish(self, spec: &ModelSpec, logits: Logits, outputs: Outputs) -> Result<Restored, PipelineError> {
        let Self { geometry, path } = self;
        let classes = spec.classes();
        let mut values = resampled(&path, classes, logits)?;
        let voxels = geometry.voxels();
        let back = path.turn.inverse();
        let decided = labels_of(spec, &values, voxels);
        let labels = Volume::new(geometry, back.apply(&decided, path.turned_shape))?;
        // On the scan's own grid, as it is chosen: which of two equal components comes first depends on the grid.
        let labels = postprocess(&spec.postprocessing, labels)?;
        let probabilities = match outputs {
            Outputs::Labels => None,
            Outputs::LabelsAndProbabilities => {
                to_probabilities(spec, &mut values, voxels);
                let data = values.chunks_exact(voxels).flat_map(|c| back.apply(c, path.turned_shape)).collect();
                Some(Image::new(geometry, classes, data)?)
            }
        };
        Ok(Restored { labels, probabilities })
    }

    /// Brings logits onto the scan's own grid and leaves them undecided, so that those of models that prepare a scan
    /// differently can be averaged. The new `Restore` belongs to that grid.
    ///
    /// # Errors
    /// When the logits don't lie on the grid that this came with.
    pub fn onto_scan(self, logits: Logits) -> Result<(Self, Logits), PipelineError> {
        let Self { geometry, path } = self;
        let (classes, tiles) = (logits.classes(), logits.tiles());
        let mut values = resampled(&path, classes, logits)?;
        let back = path.turn.inverse();
        for channel in values.chunks_exact_mut(geometry.voxels()) {
            let turned = back.apply(channel, path.turned_shape);
            channel.copy_from_slice(&turned);
        }
        let restore = Self { geometry, path: Path::of_scan(&geometry) };
        Ok((restore, Logits::new(geometry.shape(), classes, values, tiles)))
    }
}

/// Values `[K, z, y, x]` on the turned grid, of the scan's voxel size.
fn resampled(path: &Path, classes: usize, logits: Logits) -> Result<Vec<f32>, PipelineError> {
    if logits.shape() != path.prepared_shape || logits.classes() != classes {
        return Err(PipelineError::AnswerShape {
            expected: [vec![classes], path.prepared_shape.to_vec()].concat(),
            found: [vec![logits.classes()], logits.shape().to_vec()].concat(),
        });
    }
    let values = logits.into_data();
    if path.prepared_shape == path.turned_shape {
        return Ok(values);
    }
    let voxels = path.prepared_shape.iter().product::<usize>();
    let resample = |c| resample(c, path.prepared_shape, path.turned_shape, [Interpolation::Linear; 3]);
    Ok(values.chunks_exact(voxels).flat_map(resample).collect())
}
