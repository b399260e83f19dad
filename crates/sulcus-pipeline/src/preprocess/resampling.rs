use std::fmt;

use sulcus_volume::Spacing;

/// How a scan is resampled to the voxel size of a network. Its own data and the network's are along the axes of the model's
/// orientation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resampling {
    /// The scan's voxel size.
    pub from_mm: Spacing,
    /// The network's voxel size.
    pub to_mm: Spacing,
    /// The scan's voxels.
    pub from_shape: [usize; 3],
    /// The voxels after resampling. An axis that is too long for its type has its maximum.
    pub to_shape: [usize; 3],
}

/// A clause, such as `resampling from the scan's voxel size of 1000 × 1000 × 1000 mm to the model's 1 × 1 × 1 mm makes …`.
impl fmt::Display for Resampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Voxel sizes are stored in single precision, so 0.8 is 0.800000011920929.
        let mm = |spacing: Spacing| spacing.mm().map(|mm| (mm as f32).to_string()).join(" × ");
        let voxels = |shape: [usize; 3]| shape.map(|n| n.to_string()).join(" × ");
        write!(
            f,
            "resampling from the scan's voxel size of {} mm to the model's {} mm makes {} voxels of {}",
            mm(self.from_mm),
            mm(self.to_mm),
            voxels(self.to_shape),
            voxels(self.from_shape)
        )
    }
}
