use sulcus_model::CropRule;
use sulcus_pipeline::{ChannelMeasures, Crop, measure_channels};
use sulcus_volume::{Image, Label, LabelMap};

/// Intensities and margins of one case.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaseMeasures {
    /// The fraction of the scan inside the bounding box of its non-zero voxels.
    pub crop_ratio: f64,
    /// The shape of that box along the axes of the file.
    pub crop_shape: [usize; 3],
    /// Intensities in the foreground, channel by channel.
    pub foreground: Vec<ForegroundSample>,
    /// The intensities of each channel, in the whole scan.
    pub channels: Vec<ChannelMeasures>,
    /// The intensities of each channel inside the box.
    pub cropped_channels: Vec<ChannelMeasures>,
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
        let part = Crop::to_nonzero(image).ok().flatten().and_then(|crop| crop.image(image).ok());
        let crop_shape = part.as_ref().unwrap_or(image).geometry().shape();
        let inside: usize = crop_shape.iter().product();
        let channels = measure_channels(image);
        let cropped_channels = part.map_or_else(|| channels.clone(), |part| measure_channels(&part));
        Self {
            crop_ratio: inside as f64 / image.geometry().voxels() as f64,
            crop_shape,
            foreground: foreground.collect(),
            channels,
            cropped_channels,
        }
    }

    /// The intensities of each channel in the part of the scan that this crop rule keeps.
    pub fn channels_seen(&self, crop: CropRule) -> &[ChannelMeasures] {
        match crop {
            CropRule::Whole => &self.channels,
            CropRule::Nonzero => &self.cropped_channels,
        }
    }
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
        // The single voxel of the second channel enlarges the box to 6 × 10 × 15 voxels, of which the first fills 600.
        let zeros = |crop| measures.channels_seen(crop)[0].mode_fraction;
        assert_eq!((zeros(CropRule::Whole), zeros(CropRule::Nonzero)), (0.9, 300.0 / 900.0));
        let empty = LabelMap::new(*image.geometry(), vec![0; 6000]).unwrap();
        assert_eq!(CaseMeasures::of(&image, &empty, None).foreground[1], ForegroundSample::default());
    }
}
