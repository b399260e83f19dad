use sulcus_volume::{Label, LabelMap};

use sulcus_volume::VolumeError;

/// Voxels of one label in a prediction and a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// True positives: voxels in both masks.
    pub tp: u64,
    /// False positives: voxels in the prediction only.
    pub fp: u64,
    /// False negatives: voxels in the reference only.
    pub fn_: u64,
    /// True negatives: voxels in neither mask.
    pub tn: u64,
}

impl Counts {
    /// 2TP / (2TP + FP + FN) (Dice 1945); `None` if both masks are empty, 0 if one is.
    pub fn dice(&self) -> Option<f64> {
        let denominator = 2 * self.tp + self.fp + self.fn_;
        (denominator > 0).then(|| (2 * self.tp) as f64 / denominator as f64)
    }

    /// TP / (TP + FP + FN) (Jaccard 1912); `None` if both masks are empty, 0 if one is.
    pub fn iou(&self) -> Option<f64> {
        let union = self.tp + self.fp + self.fn_;
        (union > 0).then(|| self.tp as f64 / union as f64)
    }

    /// Number of voxels in the prediction.
    pub fn n_pred(&self) -> u64 {
        self.tp + self.fp
    }

    /// Number of voxels in the reference.
    pub fn n_ref(&self) -> u64 {
        self.tp + self.fn_
    }
}

/// Counts each of `labels`, in their order.
///
/// # Errors
/// If the masks lie on different grids.
pub fn count_labels(
    prediction: &LabelMap,
    reference: &LabelMap,
    labels: &[Label],
) -> Result<Vec<Counts>, VolumeError> {
    prediction.geometry().check_same_grid(reference.geometry())?;
    let mut n_pred = vec![0_u64; usize::from(Label::MAX) + 1];
    let (mut n_ref, mut both) = (n_pred.clone(), n_pred.clone());
    for (p, r) in prediction.data().iter().zip(reference.data()) {
        n_pred[usize::from(*p)] += 1;
        n_ref[usize::from(*r)] += 1;
        both[usize::from(*p)] += u64::from(p == r);
    }
    let total = reference.data().len() as u64;
    let counts = labels.iter().map(|label| {
        let at = usize::from(*label);
        let (tp, n_pred, n_ref) = (both[at], n_pred[at], n_ref[at]);
        Counts { tp, fp: n_pred - tp, fn_: n_ref - tp, tn: total + tp - n_pred - n_ref }
    });
    Ok(counts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing, Volume};

    fn mask(values: [Label; 6]) -> LabelMap {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        Volume::new(Geometry::new([6, 1, 1], map, OrientationSource::Sform).unwrap(), values.to_vec()).unwrap()
    }

    #[test]
    fn counts_and_scores_by_hand() {
        let counts = count_labels(&mask([0, 1, 1, 2, 2, 7]), &mask([0, 1, 2, 2, 0, 7]), &[1, 2, 3]).unwrap();
        assert_eq!(counts[0], Counts { tp: 1, fp: 1, fn_: 0, tn: 4 });
        assert_eq!(counts[1], Counts { tp: 1, fp: 1, fn_: 1, tn: 3 });
        assert_eq!(counts[0].dice(), Some(2.0 / 3.0));
        assert_eq!(counts[1].iou(), Some(1.0 / 3.0));
        assert_eq!((counts[1].n_pred(), counts[1].n_ref()), (2, 2));
        assert_eq!((counts[2].dice(), counts[2].iou()), (None, None));
    }

    #[test]
    fn missed_structure_scores_zero_and_is_counted() {
        let missed = count_labels(&mask([0; 6]), &mask([0, 1, 1, 0, 0, 0]), &[1]).unwrap();
        let invented = count_labels(&mask([0, 1, 1, 0, 0, 0]), &mask([0; 6]), &[1]).unwrap();
        assert_eq!((missed[0].dice(), invented[0].dice()), (Some(0.0), Some(0.0)));
    }
}
