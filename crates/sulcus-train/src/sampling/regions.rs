//! Structures as sets of classes. The sets of regions overlap.

use sulcus_kernels::Regions;
use sulcus_model::{ModelSpec, OutputActivation};

use crate::error::TrainError;

/// The classes of prepared masks that belong to each structure: one class, or those of a region's values.
pub(crate) fn classes_of_structures(spec: &ModelSpec) -> Vec<Vec<u8>> {
    let entries = spec.labels.entries();
    let class = |value: &u16| (1..=u8::MAX).zip(entries).find(|(_, e)| e.value == *value).map(|(class, _)| class);
    spec.structures().iter().map(|structure| structure.values.iter().filter_map(class).collect()).collect()
}

/// The regions of the loss, for a network that predicts regions; `None` for other outputs.
///
/// # Errors
/// When there are more regions than the loss supports.
pub(crate) fn loss_regions(spec: &ModelSpec) -> Result<Option<Regions>, TrainError> {
    if spec.activation != OutputActivation::Regions {
        return Ok(None);
    }
    let regions = Regions::new(&classes_of_structures(spec), spec.labels.entries().len() + 1);
    regions.map(Some).map_err(|e| TrainError::Tensor(e.to_string()))
}
