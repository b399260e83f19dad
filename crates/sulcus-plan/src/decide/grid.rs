//! The data on which the size of a network depends, and the smallest sizes.

use sulcus_model::Dimensions;

/// nnU-Net's minimum batch size.
pub(super) const MIN_BATCH: usize = 2;
/// With fewer stages the receptive field is too small to be worth training.
pub(super) const MIN_STAGES: usize = 3;

/// The data on which the network's size depends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    /// Shape of the median prepared scan along x, y, z.
    pub(super) shape: [f64; 3],
    /// The voxel size of the prepared grid.
    pub(super) mm: [f64; 3],
    /// Number of training cases.
    pub(super) cases: usize,
    /// Number of input channels.
    pub(super) channels: usize,
    /// Number of output channels.
    pub(super) classes: usize,
}

impl Grid {
    /// Median shape and spacing along the network's axes, (D,) H, W.
    pub(super) fn along(&self, dimensions: Dimensions) -> (Vec<f64>, Vec<f64>) {
        let pick = |[x, y, z]: [f64; 3]| match dimensions {
            Dimensions::Two => vec![y, x],
            Dimensions::Three => vec![z, y, x],
        };
        (pick(self.shape.map(|n| n.max(1.0))), pick(self.mm.map(|mm| if mm > 0.0 { mm } else { 1.0 })))
    }

    /// Tiles of a window that advances by half of a patch.
    pub(super) fn tiles(&self, patch: &[usize]) -> usize {
        let [x, y, z] = self.shape.map(|n| n.max(1.0) as usize);
        let (axes, slices) = if patch.len() == 2 { (vec![y, x], z) } else { (vec![z, y, x], 1) };
        let along = |(length, edge): (usize, &usize)| 1 + length.saturating_sub(*edge).div_ceil((edge / 2).max(1));
        axes.into_iter().zip(patch).map(along).product::<usize>().saturating_mul(slices)
    }

    /// Voxels of all scans, assuming the median shape for each.
    pub(super) fn voxels(&self) -> f64 {
        self.shape.iter().product::<f64>() * self.cases as f64
    }
}
