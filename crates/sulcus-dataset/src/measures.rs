use sulcus_pipeline::nonzero_box;
use sulcus_volume::{Image, Label, LabelMap};

use crate::quantile::{quantile, sorted};

/// Intensities and margins of one case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaseMeasures {
    /// The fraction of the scan inside the bounding box of its non-zero voxels.
    pub crop_ratio: f64,
    /// The shape of that box along the axes of the file.
    pub crop_shape: [usize; 3],
    /// Intensities in the foreground, channel by channel.
    pub foreground: Vec<ForegroundSample>,
    /// The 0.5th, 5th, 50th, 95th and 99.5th percentiles of the finite voxels of each channel. At most 100,000 voxels,
    /// evenly spaced in the order of the file, are used; without finite voxels the percentiles are 0.
    pub percentiles: Vec<[f64; 5]>,
}

/// Voxels of one channel in the foreground of one case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForegroundSample {
    /// At most 10,000 voxels, evenly spaced in the order of the file.
    pub values: Vec<f32>,
    /// Minimum and maximum of all foreground voxels; `None` without foreground.
    pub range: Option<[f32; 2]>,
}

/// How many foreground voxels of a case are kept.
const MAX_SAMPLED: usize = 10_000;

impl CaseMeasures {
    /// Measures a scan and its mask, which lie on the same grid. Voxels with the label `ignore` are not foreground.
    pub(crate) fn of(image: &Image, labels: &LabelMap, ignore: Option<Label>) -> Self {
        let is_inside = |label: Label| label != 0 && Some(label) != ignore;
        let inside: Vec<usize> =
            labels.data().iter().enumerate().filter(|(_, l)| is_inside(**l)).map(|(index, _)| index).collect();
        let picked = inside.len().min(MAX_SAMPLED);
        let foreground = (0..image.channels()).map(|channel| {
            let values = image.channel(channel);
            let at = |index: &usize| values.get(*index).copied();
            let range = inside.iter().filter_map(at).fold(None, |range: Option<[f32; 2]>, v| {
                Some(range.map_or([v; 2], |[low, high]| [low.min(v), high.max(v)]))
            });
            let sample = (0..picked).filter_map(|i| inside.get(i * inside.len() / picked)).filter_map(at);
            ForegroundSample { values: sample.collect(), range }
        });
        // An image of zeros has no box; its whole grid counts as the box.
        let crop_shape =
            nonzero_box(image).map_or(image.geometry().shape(), |ranges| ranges.map(|range| range.len()));
        let inside: usize = crop_shape.iter().product();
        Self {
            crop_ratio: inside as f64 / image.geometry().voxels() as f64,
            crop_shape,
            foreground: foreground.collect(),
            percentiles: (0..image.channels()).map(|channel| percentiles(image.channel(channel))).collect(),
        }
    }
}

fn percentiles(values: &[f32]) -> [f64; 5] {
    /// How many voxels of a channel are sorted.
    const MAX_PICKED: usize = 100_000;
    let step = values.len().div_ceil(MAX_PICKED).max(1);
    let picked = values.iter().step_by(step).map(|v| f64::from(*v)).filter(|v| v.is_finite());
    let picked = sorted(picked.collect());
    [0.005, 0.05, 0.5, 0.95, 0.995].map(|share| quantile(&picked, share))
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn case() -> (Image, LabelMap) {
        const SHAPE: [usize; 3] = [10, 20, 30];
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0, 1.0, 2.0]).unwrap());
        let geometry = Geometry::new(SHAPE, map, OrientationSource::Sform).unwrap();
        let mut values = vec![0.0; 6000];
        // A box of 4 × 10 × 15 voxels in the first channel, one voxel beside it in the second.
        for (x, y, z) in (3..7).flat_map(|x| (5..15).flat_map(move |y| (10..25).map(move |z| (x, y, z)))) {
            values[(z * 20 + y) * 10 + x] = (z * 10 + y) as f32;
        }
        let mut second = vec![0.0; 6000];
        second[(12 * 20 + 5) * 10 + 8] = 1.0;
        let labels = values.iter().map(|v| u16::from(*v > 200.0)).collect();
        values.extend(second);
        (Image::new(geometry, 2, values).unwrap(), LabelMap::new(geometry, labels).unwrap())
    }

    #[test]
    fn crop_box_holds_non_zero_voxels_of_all_channels() {
        let (image, labels) = case();
        let measures = CaseMeasures::of(&image, &labels, None);
        assert_eq!(measures.crop_ratio, 6.0 * 10.0 * 15.0 / 6000.0);
        let inside = labels.data().iter().filter(|l| **l != 0).count();
        assert_eq!(measures.foreground[0].values.len(), inside);
        assert_eq!(measures.foreground[0].range, Some([201.0, 254.0]));
        let empty = LabelMap::new(*image.geometry(), vec![0; 6000]).unwrap();
        assert_eq!(CaseMeasures::of(&image, &empty, None).foreground[1], ForegroundSample::default());
    }
}
