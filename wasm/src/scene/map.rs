//! The map: values that are drawn over the image, such as probabilities, uncertainty, or another scan.

use sulcus_io::VolumeMetadata;
use sulcus_volume::{Image, Plane, SliceView, WindowLevel, extract_slice};

use super::inspect::range_of;
use super::{Scan, Scene};
use crate::colormap::ColorTable;
use crate::render::MapLayer;
use crate::settings::MapSettings;

/// The window of probabilities. Smaller ones are not drawn.
const PROBABILITIES: WindowLevel = WindowLevel { low: 0.1, high: 1.0 };
/// The window of uncertainty: at 0.5 a second class is as probable as the first.
const UNCERTAINTY: WindowLevel = WindowLevel { low: 0.05, high: 0.5 };

impl Scene {
    pub(super) fn show_map(&mut self, image: Image, source: VolumeMetadata) {
        // Class 0 is the background.
        self.settings.map.channel = usize::from(image.channels() > 1);
        self.map = Some(Scan { image, source });
        self.settings.map.window = self.default_map_window();
        self.refresh();
    }

    /// The map, if it is on the displayed grid.
    fn drawn_map(&self) -> Option<&Image> {
        let image = &self.map.as_ref()?.image;
        self.geometry()?.check_same_grid(image.geometry()).is_ok().then_some(image)
    }

    /// The number of channels of the map; 0 without a map. A map of several channels, one per class, has one more view after
    /// them: the uncertainty, 1 minus the largest probability.
    pub fn map_channels(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.image.channels())
    }

    /// The window that suits the displayed channel of the map.
    pub fn default_map_window(&self) -> WindowLevel {
        let Some(Scan { image, .. }) = &self.map else { return PROBABILITIES };
        let channel = self.settings.map.channel;
        if channel >= image.channels() {
            return UNCERTAINTY;
        }
        let values = image.channel(channel);
        match range_of(values) {
            Some([low, high]) if low >= 0.0 && high <= 1.0 => PROBABILITIES,
            _ => WindowLevel::auto(values),
        }
    }

    pub(super) fn map_layer<'a>(
        &self,
        plane: Plane,
        slice: usize,
        colors: &'a ColorTable,
    ) -> Option<MapLayer<'a>> {
        let MapSettings { window, opacity, .. } = self.settings.map;
        Some(MapLayer { slice: self.map_slice(plane, slice)?, window, colors, opacity })
    }

    /// A slice of the displayed channel of the map.
    fn map_slice(&self, plane: Plane, slice: usize) -> Option<SliceView<f32>> {
        let (image, shown) = (self.drawn_map()?, self.settings.map.channel);
        let channel = |channel| extract_slice(image.geometry(), image.channel(channel), plane, slice);
        if shown < image.channels() {
            return channel(shown);
        }
        let mut most = channel(0)?;
        for other in 1..image.channels() {
            most.data.iter_mut().zip(channel(other)?.data).for_each(|(most, value)| *most = most.max(value));
        }
        most.data.iter_mut().for_each(|most| *most = 1.0 - *most);
        Some(most)
    }

    /// The value of the map under the crosshair.
    pub fn map_value(&self) -> Option<f32> {
        let cursor = self.cursor?;
        let slice = self.map_slice(Plane::Axial, cursor.slice(Plane::Axial))?;
        let [column, row] = cursor.pixel(Plane::Axial);
        slice.data.get(row * slice.width + column).copied()
    }
}

#[cfg(test)]
mod tests {
    use sulcus_io::{Compression, VoxelType, encode_image};
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;
    use crate::settings::Role;

    fn file(shape: [usize; 3], channels: usize, value: impl Fn(usize, usize) -> f32) -> Vec<u8> {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([2.0; 3]).unwrap());
        let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
        let n = geometry.voxels();
        let data = (0..channels).flat_map(|channel| (0..n).map(move |i| (channel, i)));
        let image = Image::new(geometry, channels, data.map(|(channel, i)| value(channel, i)).collect()).unwrap();
        let like = VolumeMetadata::from(geometry).with_values(VoxelType::Float32, channels);
        encode_image(&image, &like, Compression::None).unwrap()
    }

    #[test]
    fn probabilities_become_a_map_with_uncertainty() {
        let mut scene = Scene::default();
        let image = file([6, 5, 4], 1, |_, i| (i * 37 % 101) as f32 + 0.5);
        // Three classes: the background at 0.2, the first at 0.7.
        let maps = file([6, 5, 4], 3, |channel, _| [0.2, 0.7, 0.1][channel]);
        assert_eq!(scene.load(&image, "a.nii", None), Ok(Role::Image));
        let without = scene.draw(Plane::Axial, [40, 40], 1);
        assert_eq!(scene.load(&maps, "a_probabilities.nii", None), Ok(Role::Map));
        assert_eq!((scene.map_channels(), scene.settings.map.channel), (3, 1));
        assert_eq!(scene.map_value(), Some(0.7));
        assert_eq!(scene.default_map_window(), PROBABILITIES);
        assert_ne!(scene.draw(Plane::Axial, [40, 40], 1), without);
        scene.settings.map.channel = 3;
        assert!((scene.map_value().unwrap() - 0.3).abs() < 1e-6);
        assert_eq!(scene.default_map_window(), UNCERTAINTY);
        scene.settings.map.window = WindowLevel { low: 0.31, high: 1.0 };
        assert_eq!(scene.draw(Plane::Axial, [40, 40], 1), without, "below the window nothing is drawn");
        scene.settings.map.window = WindowLevel { low: 0.29, high: 1.0 };
        assert_ne!(scene.draw(Plane::Axial, [40, 40], 1), without);
        assert_eq!(scene.header(Role::Map)[1].1, "6 × 5 × 4 × 3");
        scene.remove(Role::Map);
        assert!(!scene.has(Role::Map) && scene.has(Role::Image));
    }

    #[test]
    fn map_on_another_grid_is_not_drawn() {
        let mut scene = Scene::default();
        scene.load(&file([6, 5, 4], 1, |_, i| i as f32 + 0.5), "", Some(Role::Image)).unwrap();
        let without = scene.draw(Plane::Coronal, [40, 40], 1);
        scene.load(&file([6, 5, 5], 1, |_, _| 1.0), "", Some(Role::Map)).unwrap();
        assert_eq!(scene.draw(Plane::Coronal, [40, 40], 1), without);
        assert!(scene.problems()[0].starts_with("The map is not drawn"), "{:?}", scene.problems());
        assert_eq!((scene.misplaced(), scene.map_value()), (vec![Role::Map], None));
        scene.remove(Role::Image);
        assert_eq!(scene.map_value(), Some(1.0), "alone it is drawn on its own grid");
    }
}
