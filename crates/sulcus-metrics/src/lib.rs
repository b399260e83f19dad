//! Scores of a predicted mask against its reference.
//!
//! Overlap is counted in voxels ([`Counts`]: Dice, IoU). Distances are measured between surfaces ([`SurfaceDistances`]:
//! HD95 and NSD, as defined by DeepMind's `surface-distance`). A [`Summary`] contains the scores of several cases in the
//! form of nnU-Net's `summary.json`. A score that is undefined because both masks are empty is `None`; a structure that
//! is missing in one mask scores 0 and is always counted. Masks on different grids are an error.
//!
//! `sulcus evaluate` scores files with this crate. [`Summary`] and [`count_structures`] are the places to start for several cases
//! and for regions.
//!
//! ```
//! use sulcus_metrics::count_labels;
//! use sulcus_volume::{Geometry, LabelMap, OrientationSource, RasFromVoxel, Spacing};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ras_from_voxel = RasFromVoxel::aligned("RAS".parse()?, Spacing::new([1.0, 1.0, 1.0])?);
//! let geometry = Geometry::new([2, 2, 1], ras_from_voxel, OrientationSource::Sform)?;
//! let prediction = LabelMap::new(geometry, vec![1, 1, 0, 0])?;
//! let reference = LabelMap::new(geometry, vec![1, 0, 0, 0])?;
//! let counts = count_labels(&prediction, &reference, &[1])?;
//! assert_eq!(counts[0].dice(), Some(2.0 / 3.0));
//! # Ok(())
//! # }
//! ```

mod counts;
mod distance;
mod ignored;
mod structures;
mod summary;
mod surface;
mod surfels;

pub use counts::{Counts, count_labels};
pub use ignored::mask_ignored_voxels;
pub use structures::{count_structures, structure_distances};
pub use summary::{CaseScores, LabelScores, MeanScores, Summary};
pub use surface::{DEFAULT_NSD_MM, SurfaceDistances, surface_distances};

/// Mean of the defined values; `None` if there is none.
pub fn mean_defined(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, n) = values.into_iter().flatten().fold((0.0, 0_usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::mean_defined;

    #[test]
    fn undefined_values_are_left_out_of_the_mean() {
        assert_eq!(mean_defined([Some(0.0), None, Some(1.0)]), Some(0.5));
        assert_eq!((mean_defined([None]), mean_defined([])), (None, None));
    }
}
