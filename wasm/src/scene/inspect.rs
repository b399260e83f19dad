//! What is displayed, in numbers and words.

use std::ops::Range;

use sulcus_io::{VolumeFormat, VolumeMetadata};
use sulcus_volume::{Geometry, GridUnit, Image, Label, OrientationSource, RasPoint, VoxelIndex, WindowLevel};

use super::{Scene, is_in_colour};
use crate::display::voxel_at;
use crate::settings::Role;

impl Scene {
    fn image(&self) -> Option<&Image> {
        self.scan.as_ref().map(|scan| &scan.image)
    }

    /// The number of image channels that can be shown; 0 without an image. The colours of a picture are shown together.
    pub fn channels(&self) -> usize {
        self.image().map_or(0, |image| if is_in_colour(image) { 1 } else { image.channels() })
    }

    /// The channels that are drawn: one, or the three colours of a picture.
    pub(super) fn shown_channels(&self) -> Range<usize> {
        let channel = self.settings.channel;
        if self.image().is_some_and(is_in_colour) { 0..3 } else { channel..channel + 1 }
    }

    /// The unit of the grid of a picture; `None` for a scan.
    pub fn picture_unit(&self) -> Option<GridUnit> {
        self.geometry().filter(|geometry| geometry.is_picture()).map(Geometry::unit)
    }

    /// Shows another channel. The window stays, so that channels can be compared.
    pub fn set_channel(&mut self, channel: usize) {
        if channel < self.channels() {
            self.settings.channel = channel;
            self.intensities_are_current = false;
        }
    }

    /// The values of the displayed channel. Colours are no values of one channel.
    pub(super) fn values(&self) -> Option<&[f32]> {
        self.image().filter(|image| !is_in_colour(image)).map(|image| image.channel(self.settings.channel))
    }

    /// The automatic window for the displayed channel.
    pub fn auto_window(&self) -> WindowLevel {
        self.values().map_or(self.settings.window, WindowLevel::auto)
    }

    /// The window between two percentiles, 0 to 100, of the finite values of the displayed channel other than 0.
    pub fn percentile_window(&self, low: f64, high: f64) -> WindowLevel {
        self.values().map_or(self.settings.window, |values| WindowLevel::percentiles(values, [low, high]))
    }

    /// The smallest and largest finite value of the displayed channel.
    pub fn range(&self) -> Option<[f32; 2]> {
        let channel = self.settings.channel;
        if let Some((_, range)) = self.range.get().filter(|(of, _)| *of == channel) {
            return range;
        }
        let range = range_of(self.values()?);
        self.range.set(Some((channel, range)));
        range
    }

    /// The voxel under the crosshair, as an index on the axes of the file, and its position in the patient.
    pub fn position(&self) -> Option<(VoxelIndex, RasPoint)> {
        let geometry = self.geometry()?;
        let voxel = voxel_at(geometry, self.cursor?)?;
        Some((voxel, geometry.ras_from_voxel().apply(voxel.0.map(|i| i as f64))))
    }

    /// The image value under the crosshair, or the three of a picture in colours.
    pub fn values_here(&self) -> Vec<f32> {
        let value = |channel| {
            let image = self.image()?;
            image.channel(channel).get(image.geometry().offset(self.position()?.0)?).copied()
        };
        self.shown_channels().filter_map(value).collect()
    }

    /// The label under the crosshair in the mask or the reference.
    pub fn label(&self, role: Role) -> Option<Label> {
        self.labels(role.layer()?)?.map().get(self.position()?.0).copied()
    }

    /// The values of the displayed channel at some offsets; NaN without an image.
    pub fn values_at(&self, offsets: &[u32]) -> Vec<f32> {
        let values = self.values().unwrap_or_default();
        offsets.iter().map(|offset| values.get(*offset as usize).copied().unwrap_or(f32::NAN)).collect()
    }

    /// The header of a file: pairs of a name and a value. It has no texts of the file, which may identify the patient.
    pub fn header(&self, role: Role) -> Vec<(&'static str, String)> {
        let source = match role {
            Role::Image => self.scan.as_ref().map(|scan| &scan.source),
            Role::Map => self.map.as_ref().map(|map| &map.source),
            Role::Mask => self.layers[0].as_ref().map(|labels| &labels.source),
            Role::Truth => self.layers[1].as_ref().map(|labels| &labels.source),
        };
        source.map(describe).unwrap_or_default()
    }
}

/// The smallest and largest finite value.
pub(super) fn range_of(values: &[f32]) -> Option<[f32; 2]> {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    let range = finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)]);
    (range[0] <= range[1]).then_some(range)
}

fn describe(source: &VolumeMetadata) -> Vec<(&'static str, String)> {
    let geometry = source.geometry();
    let times = |numbers: &mut dyn Iterator<Item = String>| numbers.collect::<Vec<_>>().join(" × ");
    let format = match source.format() {
        Some(VolumeFormat::Nifti2) => "NIfTI-2",
        _ => "NIfTI-1",
    };
    let place = match geometry.source() {
        OrientationSource::Sform => "sform",
        OrientationSource::Qform => "qform",
        OrientationSource::None => "nothing: left and right are unknown",
        _ => "directions",
    };
    vec![
        ("Format", format.to_owned()),
        ("Shape", times(&mut source.file_shape().iter().map(ToString::to_string))),
        // Single precision, as in the header, hides the rounding of the transform.
        ("Voxel size", times(&mut geometry.spacing().mm().iter().map(|v| (*v as f32).to_string())) + " mm"),
        ("Orientation", geometry.orientation().to_string()),
        ("Oblique by", format!("{:.1}°", geometry.obliquity_degrees())),
        ("Placed by", place.to_owned()),
        ("Type", source.voxel_type().name().to_owned()),
    ]
}
