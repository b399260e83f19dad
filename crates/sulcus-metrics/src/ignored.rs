use sulcus_volume::{Label, LabelMap};

use sulcus_volume::VolumeError;

/// Makes background of every voxel that the reference marks with `ignore`, in prediction and reference alike: nobody
/// knows what is right there, so it must not count in a score.
///
/// # Errors
/// When the two masks lie on different grids.
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
