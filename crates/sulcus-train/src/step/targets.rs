use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use sulcus_kernels::Regions;

use crate::error::TrainError;

/// The reference classes of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    pub(super) classes: Arc<[u8]>,
    shape: [usize; 4],
    pub(super) regions: Option<Regions>,
}

impl Targets {
    /// A voxel without a known class, which does not count in the loss.
    pub const IGNORED: u8 = u8::MAX;

    /// The classes of a batch.
    ///
    /// # Shapes
    /// `classes` `[N, D, H, W]`: indices below the network's outputs (0 or 1 for sigmoid), or [`Self::IGNORED`].
    ///
    /// # Errors
    /// When the number of classes does not match the shape.
    pub fn new(classes: Vec<u8>, shape: [usize; 4]) -> Result<Self, TrainError> {
        if classes.len() != shape.iter().product::<usize>() {
            return Err(TrainError::Tensor(format!("{} classes do not fill a batch of {shape:?}", classes.len())));
        }
        Ok(Self { classes: classes.into(), shape, regions: None })
    }

    /// Sets the regions of the classes, for a network that predicts regions.
    #[must_use]
    pub fn with_regions(self, regions: Option<Regions>) -> Self {
        Self { regions, ..self }
    }

    /// N, D, H, W.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The targets on a coarser grid: the class at the centre of each window (the upper one of two central voxels).
    ///
    /// # Errors
    /// When a stride does not divide its axis.
    pub fn coarser(&self, stride: [usize; 3]) -> Result<Self, TrainError> {
        let [n, axes @ ..] = self.shape;
        if axes.iter().zip(stride).any(|(length, by)| by == 0 || length % by != 0) {
            return Err(TrainError::Tensor(format!(
                "a batch of {:?} cannot be made {stride:?} coarser",
                self.shape
            )));
        }
        let [d, h, w] = std::array::from_fn(|a| axes[a] / stride[a]);
        let [_, height, width] = axes;
        let mut classes = Vec::with_capacity(n * d * h * w);
        for (case, z, y) in (0..n).flat_map(|n| (0..d).flat_map(move |z| (0..h).map(move |y| (n, z, y)))) {
            let (z, y) = (z * stride[0] + stride[0] / 2, y * stride[1] + stride[1] / 2);
            let row = ((case * axes[0] + z) * height + y) * width;
            let row = self.classes.get(row..row + width).unwrap_or_default();
            classes.extend(row.iter().skip(stride[2] / 2).step_by(stride[2]));
        }
        Ok(Self::new(classes, [n, d, h, w])?.with_regions(self.regions.clone()))
    }

    /// One mask per region.
    ///
    /// # Shapes
    /// `[N, regions, D · H · W, 1]`
    pub(super) fn region_masks(&self, regions: usize, device: &Device) -> Tensor<4> {
        let [n, d, h, w] = self.shape;
        let voxels = d * h * w;
        let mut masks = Vec::with_capacity(n * regions * voxels);
        for case in self.classes.chunks(voxels.max(1)) {
            for region in 0..regions {
                let holds = |class: &u8| self.regions.as_ref().is_some_and(|r| r.contains(region, *class));
                masks.extend(case.iter().map(|class| f32::from(u8::from(holds(class)))));
            }
        }
        Tensor::from_data(TensorData::new(masks, [n, regions, voxels, 1]), device)
    }

    /// # Shapes
    /// `[N, 1, D · H · W, 1]`
    pub(super) fn tensor(&self, device: &Device) -> Tensor<4, Int> {
        let classes: Vec<i32> = self.classes.iter().map(|class| i32::from(*class)).collect();
        let [n, d, h, w] = self.shape;
        Tensor::from_data(TensorData::new(classes, [n, 1, d * h * w, 1]), device)
    }
}
