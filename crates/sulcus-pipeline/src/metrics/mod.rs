//! Scores of a mask against its reference: overlap by voxels, distances between surfaces.

mod counts;
mod distance;
mod structures;
mod surface;
mod surfels;

pub use counts::{Counts, count_labels};
pub use structures::{count_structures, structure_distances};
pub use surface::{DEFAULT_NSD_MM, SurfaceDistances, surface_distances};

/// Mean of the values that are defined; `None` when none is.
pub fn mean_defined(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, n) = values.into_iter().flatten().fold((0.0, 0_usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::mean_defined;

    #[test]
    fn what_is_undefined_is_left_out_of_the_mean() {
        assert_eq!(mean_defined([Some(0.0), None, Some(1.0)]), Some(0.5));
        assert_eq!((mean_defined([None]), mean_defined([])), (None, None));
    }
}
