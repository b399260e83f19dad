use serde::{Deserialize, Serialize};
use sulcus_volume::Spacing;

/// A voxel size above this ratio to the smallest is anisotropic for nnU-Net.
const ANISOTROPY_THRESHOLD: f64 = 3.0;

/// The greatest order of a spline in SciPy.
const MAX_ORDER: u8 = 5;

/// Where a model that was imported from nnU-Net v2 comes from. Only such models can be computed as nnU-Net computes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NnunetOrigin {
    /// Name of the data set, such as `Dataset004_Hippocampus`.
    pub dataset: String,
    /// Class of the trainer, such as `nnUNetTrainer`. It is recorded only.
    pub trainer: String,
    /// Name of the plans.
    pub plans: String,
    /// The configuration, such as `3d_fullres`. Models of one configuration are its folds, whose logits are averaged; of several
    /// configurations the probabilities are averaged.
    pub configuration: String,
    /// The folds in the file, in the order of the output channels: `0` to `4`, or `all`.
    pub folds: Vec<String>,
    /// The checkpoint that was read: `final`, `best` or `latest`.
    pub checkpoint: String,
}

impl NnunetOrigin {
    /// Whether the other model is of the same configuration of the same plans.
    pub fn has_configuration_of(&self, other: &Self) -> bool {
        (&self.dataset, &self.plans, &self.configuration) == (&other.dataset, &other.plans, &other.configuration)
    }
}

/// The voxel size of a model from nnU-Net, and how it resamples.
///
/// The number of voxels along an axis is `round(own / mm · voxels)`, halves to even. Both grids have the same outer faces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NnunetSpacing {
    /// The voxel size in millimetres along x, y, z of the preprocessed grid. `null` along an axis along which each scan keeps its own:
    /// z of a 2-D configuration.
    pub mm: [Option<f64>; 3],
    /// How scans are resampled.
    pub image: NnunetResampling,
    /// How logits are resampled to the scan's voxel size.
    pub logits: NnunetResampling,
}

impl NnunetSpacing {
    /// The voxel size for a scan of this voxel size; both along x, y, z of the preprocessed grid.
    pub fn target_for(&self, scan: Spacing) -> Spacing {
        let own = scan.mm();
        let mm = std::array::from_fn(|axis| self.mm[axis].unwrap_or(own[axis]));
        // The check has refused sizes that are not positive.
        Spacing::new(mm).unwrap_or(scan)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.mm.iter().flatten().any(|mm| !(*mm > 0.0 && mm.is_finite())) {
            return Err(format!("its voxel size {:?} must be positive", self.mm));
        }
        self.image.check()?;
        self.logits.check()
    }
}

/// How values are resampled to another grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NnunetResampling {
    /// The function.
    pub method: ResamplingMethod,
    /// `force_separate_z`: whether slices are resampled in their plane and then along the coarse axis, the one with the longest voxels.
    /// `null` decides by the voxel sizes: if those of the source are anisotropic, else if those of the target are. Where several axes
    /// are equally coarse, nothing is separate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separate_z: Option<bool>,
    /// Voxel sizes are anisotropic if the longest is more than this many times the shortest.
    #[serde(default = "anisotropy_threshold", skip_serializing_if = "is_anisotropy_threshold")]
    pub anisotropy_threshold: f64,
}

/// The functions that nnU-Net resamples with. Its `no_resampling_hack` is [`SpacingRule::Native`](crate::SpacingRule::Native).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResamplingMethod {
    /// `resample_data_or_seg_to_shape`: splines, as scikit-image's `resize` computes them, clipped to the range of the source.
    Spline {
        /// Order of the spline: 0 to 5.
        order: u8,
        /// Order along a coarse axis: 0 to 5.
        order_z: u8,
    },
    /// `resample_torch_fornnunet`: PyTorch's `interpolate`, linear, and the nearest slice along a coarse axis.
    Interpolate,
}

impl NnunetResampling {
    /// nnU-Net's default for images: cubic splines, and the nearest slice along a coarse axis.
    pub const DEFAULT_IMAGE: Self = Self::spline(3);
    /// nnU-Net's default for logits: linear, and the nearest slice along a coarse axis.
    pub const DEFAULT_LOGITS: Self = Self::spline(1);

    const fn spline(order: u8) -> Self {
        let method = ResamplingMethod::Spline { order, order_z: 0 };
        Self { method, separate_z: None, anisotropy_threshold: ANISOTROPY_THRESHOLD }
    }

    /// Whether it has splines that exist only since format version 7.
    pub(crate) fn has_other_orders(&self) -> bool {
        let ResamplingMethod::Spline { order, order_z } = self.method else { return false };
        [order, order_z].iter().any(|order| ![0, 1, 3].contains(order))
    }

    /// The coarse axis (0 is x) along which values are resampled separately from the others, if there is one
    /// (nnU-Net's `determine_do_sep_z_and_axis`). Voxel sizes are along x, y, z.
    pub fn separate_axis(&self, from_mm: [f64; 3], to_mm: [f64; 3]) -> Option<usize> {
        let longest = |mm: [f64; 3]| mm.into_iter().fold(0.0, f64::max);
        let shortest = |mm: [f64; 3]| mm.into_iter().fold(f64::INFINITY, f64::min);
        let is_anisotropic = |mm: &[f64; 3]| longest(*mm) / shortest(*mm) > self.anisotropy_threshold;
        let mm = match self.separate_z {
            Some(false) => None,
            Some(true) => Some(from_mm),
            None => [from_mm, to_mm].into_iter().find(is_anisotropic),
        }?;
        let mut axes = (0..3).filter(|axis| longest(mm) / mm[*axis] == 1.0);
        let axis = axes.next()?;
        axes.next().is_none().then_some(axis)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if let ResamplingMethod::Spline { order, order_z } = self.method
            && order.max(order_z) > MAX_ORDER
        {
            return Err(format!(
                "it resamples with splines of order {order} and {order_z}, possible are 0 to {MAX_ORDER}"
            ));
        }
        if !(self.anisotropy_threshold >= 1.0 && self.anisotropy_threshold.is_finite()) {
            return Err(format!(
                "its anisotropy threshold must be 1 or more, found {}",
                self.anisotropy_threshold
            ));
        }
        Ok(())
    }
}

fn anisotropy_threshold() -> f64 {
    ANISOTROPY_THRESHOLD
}

fn is_anisotropy_threshold(value: &f64) -> bool {
    *value == ANISOTROPY_THRESHOLD
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of nnU-Net 2.8.1, with axes in the order x, y, z.
    #[test]
    fn separate_axis_equals_nnunets() {
        let by_size = NnunetResampling::DEFAULT_IMAGE;
        let axis = |from, to| by_size.separate_axis(from, to);
        assert_eq!(axis([0.5, 0.5, 2.0], [1.0; 3]), Some(2));
        assert_eq!(axis([1.0; 3], [0.5, 2.0, 0.5]), Some(1));
        assert_eq!(axis([1.0, 1.0, 3.0], [1.0; 3]), None, "the ratio must exceed the threshold");
        assert_eq!(axis([2.0, 0.5, 2.0], [1.0; 3]), None, "two axes are equally coarse");
        assert_eq!(axis([2.0, 0.5, 2.0], [1.0, 1.0, 5.0]), None, "the source decides");
        let forced = NnunetResampling { separate_z: Some(true), ..by_size };
        assert_eq!(forced.separate_axis([1.0, 1.0, 1.5], [1.0; 3]), Some(2));
        assert_eq!(forced.separate_axis([1.0; 3], [1.0, 1.0, 9.0]), None);
        let never = NnunetResampling { separate_z: Some(false), ..by_size };
        assert_eq!(never.separate_axis([1.0, 1.0, 9.0], [1.0; 3]), None);
    }

    #[test]
    fn invalid_rules_are_refused() {
        let rule =
            |image: NnunetResampling, mm| NnunetSpacing { mm, image, logits: NnunetResampling::DEFAULT_LOGITS };
        let default = NnunetResampling::DEFAULT_IMAGE;
        assert!(rule(default, [Some(1.0), Some(1.0), None]).check().is_ok());
        for mm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(rule(default, [Some(mm), None, None]).check().is_err());
        }
        let of_order = |order| ResamplingMethod::Spline { order, order_z: 0 };
        assert!(rule(NnunetResampling { method: of_order(5), ..default }, [None; 3]).check().is_ok());
        let message = rule(NnunetResampling { method: of_order(6), ..default }, [None; 3]).check().unwrap_err();
        assert!(message.contains("order 6"), "{message}");
        assert!(rule(NnunetResampling { anisotropy_threshold: 0.5, ..default }, [None; 3]).check().is_err());
    }

    #[test]
    fn defaults_are_short_in_json() {
        let json = serde_json::to_string(&NnunetResampling::DEFAULT_IMAGE).unwrap();
        assert_eq!(json, r#"{"method":{"spline":{"order":3,"order_z":0}}}"#);
        assert_eq!(serde_json::from_str::<NnunetResampling>(&json).unwrap(), NnunetResampling::DEFAULT_IMAGE);
        let torch = NnunetResampling {
            method: ResamplingMethod::Interpolate,
            separate_z: Some(true),
            ..NnunetResampling::DEFAULT_LOGITS
        };
        assert_eq!(serde_json::to_string(&torch).unwrap(), r#"{"method":"interpolate","separate_z":true}"#);
    }
}
