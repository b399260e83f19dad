//! Refuses cases that need more memory than there is, before they are read and before they are prepared: a header with a wrong
//! shape or voxel size announces any amount.

use sulcus_dataset::{Case, CaseFacts, Dataset, map_parallel};
use sulcus_model::{CropRule, ModelSpec};
use sulcus_pipeline::{PipelineError, Resampling, preprocessing_bytes};
use sulcus_volume::{Geometry, Label, OrientationSource, RasFromVoxel};

use super::cases::cases;
use crate::error::{CaseStage, TrainError};

/// Compares the headers of cases with the limit. Files without a readable header pass; reading them reports the reason.
pub(super) fn check_headers(dataset: &Dataset, names: &[String], limit: Option<u64>) -> Result<(), TrainError> {
    if limit.is_none() {
        return Ok(());
    }
    let check_one = |case: &&Case| check(&case.name, CaseStage::Read, read_bytes(case), limit, || None);
    map_parallel(&cases(dataset, names), check_one).into_iter().collect()
}

fn read_bytes(case: &Case) -> u64 {
    let files = case.images.iter().chain([&case.label]);
    let headers = files.filter_map(|file| sulcus_io::read_metadata(file).ok());
    headers.fold(0, |sum, header| sum.saturating_add(header.memory_bytes()))
}

/// Compares the grids that cases have after preprocessing with the limit.
pub(super) fn check_grids(facts: &[CaseFacts], spec: &ModelSpec, limit: Option<u64>) -> Result<(), TrainError> {
    for case in facts {
        let shape = match spec.crop {
            CropRule::Whole => case.shape,
            CropRule::Nonzero => case.measures.crop_shape,
        };
        let map = RasFromVoxel::aligned(case.orientation, case.spacing);
        let geometry = Geometry::new(shape, map, OrientationSource::Sform)?;
        let labels = (geometry.voxels() as u64).saturating_mul(size_of::<Label>() as u64);
        let preprocessing = preprocessing_bytes(spec, &geometry).map_err(|error| match error {
            PipelineError::GridTooLarge { .. } => {
                TrainError::CaseGrid { case: case.name.clone(), source: Box::new(error) }
            }
            other => other.into(),
        })?;
        let required = preprocessing.saturating_add(labels);
        check(&case.name, CaseStage::Prepare, required, limit, || Resampling::enlarging([spec], &geometry))?;
    }
    Ok(())
}

fn check(
    case: &str,
    stage: CaseStage,
    required: u64,
    limit: Option<u64>,
    resampling: impl Fn() -> Option<Resampling>,
) -> Result<(), TrainError> {
    match limit {
        Some(limit) if required > limit => Err(TrainError::CaseMemory {
            case: case.to_owned(),
            stage,
            required,
            limit,
            resampling: resampling().map(Box::new),
        }),
        _ => Ok(()),
    }
}
