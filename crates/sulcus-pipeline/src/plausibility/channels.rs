use sulcus_volume::Image;

use crate::quantile::quantile;

/// What is measured of the intensities of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ChannelMeasures {
    /// Minimum and maximum of the finite voxels; `None` if there is none.
    pub range: Option<[f32; 2]>,
    /// The 0.5th, 5th, 50th, 95th and 99.5th percentiles of the finite voxels; 0 if there is none. At most 100,000 voxels,
    /// evenly spaced in the order of the file, are used.
    pub percentiles: [f64; 5],
    /// The most frequent value of these voxels; 0 if there is none.
    pub mode: f32,
    /// The fraction of these voxels that have the most frequent value.
    pub mode_fraction: f64,
}

/// Measures each channel of an image.
pub fn measure_channels(image: &Image) -> Vec<ChannelMeasures> {
    let [nx, ny, _] = image.geometry().shape();
    (0..image.channels()).map(|channel| measure(image.channel(channel), nx * ny)).collect()
}

fn measure(values: &[f32], slice: usize) -> ChannelMeasures {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    let range = finite.fold(None, |range: Option<[f32; 2]>, v| {
        Some(range.map_or([v; 2], |[low, high]| [low.min(v), high.max(v)]))
    });
    let mut sample: Vec<f32> =
        values.iter().step_by(step(values.len(), slice)).copied().filter(|v| v.is_finite()).collect();
    sample.sort_unstable_by(f32::total_cmp);
    let most_frequent = sample.chunk_by(|a, b| a == b).max_by_key(|equal| equal.len()).unwrap_or_default();
    ChannelMeasures {
        range,
        percentiles: [0.005, 0.05, 0.5, 0.95, 0.995].map(|share| quantile(&sample, share)),
        mode: most_frequent.first().copied().unwrap_or_default(),
        mode_fraction: most_frequent.len() as f64 / sample.len().max(1) as f64,
    }
}

/// From one voxel of the sample to the next. The step has no factor in common with the voxels of a slice: otherwise the sample
/// could consist of a few columns of the image, such as its border.
fn step(voxels: usize, slice: usize) -> usize {
    /// How many voxels of a channel are sorted.
    const MAX_SAMPLED: usize = 100_000;
    let common_factor = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut step = voxels.div_ceil(MAX_SAMPLED).max(1);
    while common_factor(step, slice) > 1 {
        step += 1;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_ignore_voxels_that_are_not_finite() {
        let values = [f32::NAN, -1.0, -1.0, -1.0, 4.0, f32::INFINITY];
        let found = measure(&values, 6);
        assert_eq!((found.range, found.mode, found.mode_fraction), (Some([-1.0, 4.0]), -1.0, 0.75));
        assert_eq!(measure(&[f32::NAN], 1).range, None);
    }

    #[test]
    fn minimum_and_maximum_are_exact_in_large_images() {
        let mut values = vec![5.0; 300_000];
        values[1] = -1.0;
        values[299_999] = 9.0;
        assert_eq!(measure(&values, 100).range, Some([-1.0, 9.0]));
    }

    #[test]
    fn sample_reaches_every_column_of_an_image() {
        // The plain step would be 256, the length of a row: the sample would be the first column.
        const EDGE: usize = 256;
        const VOXELS: usize = EDGE * EDGE * 390;
        assert_eq!(VOXELS.div_ceil(100_000), EDGE);
        let step = step(VOXELS, EDGE * EDGE);
        let columns: std::collections::BTreeSet<usize> = (0..1000).map(|i| i * step % EDGE).collect();
        assert_eq!(columns.len(), EDGE);
    }
}
