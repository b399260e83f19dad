use sulcus_volume::{Label, LabelMap};

use sulcus_volume::VolumeError;

/// Sets every voxel that the reference marks with `ignore` to background, in prediction and reference. The correct label
/// of such a voxel is unknown, so it must not affect a score.
///
/// # Errors
/// If the masks lie on different grids.
pub fn mask_ignored_voxels(
    prediction: &LabelMap,
    reference: &LabelMap,
    ignore: Label,
) -> Result<(LabelMap, LabelMap), VolumeError> {
    prediction.geometry().check_same_grid(reference.geometry())?;
    let (geometry, mut predicted) = prediction.clone().into_parts();
    for (label, truth) in predicted.iter_mut().zip(reference.data()) {
        if *truth == ignore {
            *label = 0;
        }
    }
    let known = reference.map(|truth| if *truth == ignore { 0 } else { *truth });
    Ok((LabelMap::new(geometry, predicted)?, known))
}
