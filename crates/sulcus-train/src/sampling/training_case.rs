use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sulcus_pipeline::{Preprocessed, PreprocessedLabels};

use crate::error::TrainError;

/// How many voxels of a structure are kept per case; more would not make the patches more diverse.
const MAX_KEPT: usize = 10_000;

/// A prepared case in memory, with the positions of its structures.
#[derive(Debug, Clone)]
pub struct TrainingCase {
    pub(super) name: String,
    pub(super) image: Preprocessed,
    pub(super) labels: PreprocessedLabels,
    /// Ascending offsets of voxels of each structure, by the structure's index. Structures that the case lacks are left out.
    pub(super) voxels_of_structure: Vec<(usize, Vec<usize>)>,
    foreground_slices: usize,
    /// Along D, H, W, if the cases have different spacings.
    pub(super) spacing_mm: Option<[f64; 3]>,
}

impl TrainingCase {
    /// Finds the voxels of each structure, which is given by its classes.
    ///
    /// # Errors
    /// When image and mask have different shapes, or no voxels.
    pub fn new(
        name: String,
        image: Preprocessed,
        labels: PreprocessedLabels,
        structures: &[Vec<u8>],
    ) -> Result<Self, TrainError> {
        let ([nx, ny, nz], masked) = (image.shape(), labels.shape());
        if [nx, ny, nz] != masked || nx * ny * nz == 0 {
            let what = format!("its image has {nx} × {ny} × {nz} voxels once prepared, its mask {masked:?}");
            return Err(TrainError::Sample { case: name, what });
        }
        let mut counts = [0_usize; 256];
        let mut foreground_slices = 0;
        let is_structure = |class: u8| structures.iter().any(|classes| classes.contains(&class));
        let is_structure: Vec<bool> = (0..=u8::MAX).map(is_structure).collect();
        for plane in labels.classes().chunks_exact(nx * ny) {
            plane.iter().for_each(|class| counts[usize::from(*class)] += 1);
            foreground_slices += usize::from(plane.iter().any(|class| is_structure[usize::from(*class)]));
        }
        let count = |wanted: &[u8]| wanted.iter().map(|class| counts[usize::from(*class)]).sum();
        let voxels_of_structure = structures
            .iter()
            .enumerate()
            .filter(|(_, wanted)| count(wanted) > 0)
            .map(|(structure, wanted)| (structure, some_voxels(labels.classes(), wanted, count(wanted))))
            .collect();
        Ok(Self { name, image, labels, voxels_of_structure, foreground_slices, spacing_mm: None })
    }

    /// Sets a voxel size along D, H, W, which replaces that of the sampler.
    #[must_use]
    pub fn with_spacing(self, mm: [f64; 3]) -> Self {
        Self { spacing_mm: Some(mm), ..self }
    }

    /// The case's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image.
    pub fn image(&self) -> &Preprocessed {
        &self.image
    }

    /// The mask.
    pub fn labels(&self) -> &PreprocessedLabels {
        &self.labels
    }

    /// The number of slices with foreground.
    pub(crate) fn foreground_slices(&self) -> usize {
        self.foreground_slices
    }

    /// The number of patches, of this size along H and W, that cover a slice.
    pub(crate) fn patches_per_slice(&self, patch: &[usize]) -> usize {
        let [_, height, width] = self.shape();
        [height, width].iter().zip(patch).map(|(edge, patch)| edge.div_ceil((*patch).max(1))).product()
    }

    /// The shape along z, y, x.
    pub(super) fn shape(&self) -> [usize; 3] {
        let [nx, ny, nz] = self.image.shape();
        [nz, ny, nx]
    }
}

/// All voxels of some classes, or a random subset of them with equal probability (Knuth, The Art of Computer Programming
/// 2, 3.4.2, algorithm S). The seed is fixed, so that the subset is reproducible.
fn some_voxels(classes: &[u8], wanted: &[u8], count: usize) -> Vec<usize> {
    let voxels = classes.iter().enumerate().filter(|(_, class)| wanted.contains(class)).map(|(offset, _)| offset);
    if count <= MAX_KEPT {
        return voxels.collect();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(wanted.first().copied().map_or(0, u64::from));
    let (mut left, mut missing) = (count, MAX_KEPT);
    let mut keep = |_: &usize| {
        let keep = rng.random_range(0..left.max(1)) < missing;
        left = left.saturating_sub(1);
        missing -= usize::from(keep && missing > 0);
        keep
    };
    voxels.filter(|offset| keep(offset)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_structures_are_subsampled_evenly() {
        let classes: Vec<u8> = (0..120_000).map(|i| u8::from(i % 3 != 0)).collect();
        let kept = some_voxels(&classes, &[1], 80_000);
        assert_eq!(kept.len(), MAX_KEPT);
        assert!(kept.is_sorted() && kept.iter().all(|i| classes[*i] == 1));
        let first_half = kept.iter().filter(|i| **i < 60_000).count();
        assert!((4_700..5_300).contains(&first_half), "{first_half}");
        assert_eq!(kept, some_voxels(&classes, &[1], 80_000));
    }
}
