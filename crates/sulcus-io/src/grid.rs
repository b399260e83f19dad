use std::borrow::Cow;

use sulcus_volume::{Geometry, Image, LabelMap, LabelTable};

use crate::error::Problem;
use crate::info::VolumeFormat;
use crate::source::Source;
use crate::stored::StoredVolume;
use crate::values::fit_into_bytes;
use crate::voxels::{VoxelType, reserve};

/// What NRRD and MetaImage files hold: a checked grid and all of its values in bytes.
///
/// # Shapes
/// The values are `[channels, z, y, x]` row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid<'a> {
    pub(crate) geometry: Geometry,
    /// The length of the fourth axis, where the file has one.
    pub(crate) channels: Option<usize>,
    pub(crate) voxel_type: VoxelType,
    pub(crate) big_endian: bool,
    /// The values, and whatever is around them in the file.
    pub(crate) content: Cow<'a, [u8]>,
    /// Where the values begin in `content`.
    pub(crate) start: usize,
}

impl<'a> Grid<'a> {
    /// An image's values as float32. `geometry` is the image's to the last bit.
    pub(crate) fn from_image(image: &Image, geometry: Geometry) -> Result<Grid<'static>, Problem> {
        let channels = (image.channels() > 1).then_some(image.channels());
        let bytes = to_bytes(image.data(), |v| v.to_le_bytes())?;
        Ok(Grid::little_endian(geometry, channels, VoxelType::Float32, bytes))
    }

    /// Labels as uint8 where they fit, as uint16 otherwise. `geometry` is that of the labels to the last bit.
    pub(crate) fn from_labels(labels: &LabelMap, geometry: Geometry) -> Result<Grid<'static>, Problem> {
        let (voxel_type, bytes) = if fit_into_bytes(labels.data()) {
            (VoxelType::Uint8, to_bytes(labels.data(), |label| [label as u8])?)
        } else {
            (VoxelType::Uint16, to_bytes(labels.data(), |label| label.to_le_bytes())?)
        };
        Ok(Grid::little_endian(geometry, None, voxel_type, bytes))
    }

    /// A volume in its own type. The formats have no slope and intercept, so values with these are written as what they
    /// mean, in single precision where that holds each.
    pub(crate) fn from_stored<'v>(volume: &'v StoredVolume<'_>) -> Result<Grid<'v>, Problem> {
        let source = volume.source();
        // These formats count in millimetres.
        source.check_usable()?;
        let channels = (source.file_shape().len() > 3).then(|| source.channels());
        if volume.slope_and_intercept().is_none() {
            let content = Cow::Borrowed(volume.raw());
            let (voxel_type, big_endian) = (source.voxel_type(), volume.big_endian);
            return Ok(Grid { geometry: *source.geometry(), channels, voxel_type, big_endian, content, start: 0 });
        }
        let mut single = true;
        volume.each_block(&mut |values| single &= values.iter().all(|v| f64::from(*v as f32) == *v || v.is_nan()));
        let voxel_type = if single { VoxelType::Float32 } else { VoxelType::Float64 };
        let values = source.geometry().voxels().saturating_mul(source.channels());
        let mut bytes = reserve(values.saturating_mul(voxel_type.bytes()))?;
        volume.each_block(&mut |values| {
            if single {
                values.iter().for_each(|v| bytes.extend((*v as f32).to_le_bytes()));
            } else {
                values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
            }
        });
        Ok(Grid::little_endian(*source.geometry(), channels, voxel_type, bytes))
    }

    pub(crate) fn little_endian(
        geometry: Geometry,
        channels: Option<usize>,
        voxel_type: VoxelType,
        bytes: Vec<u8>,
    ) -> Grid<'static> {
        Grid { geometry, channels, voxel_type, big_endian: false, content: bytes.into(), start: 0 }
    }

    /// Bytes of all values.
    pub(crate) fn length(&self) -> usize {
        let values = self.geometry.voxels().saturating_mul(self.channels.unwrap_or(1));
        values.saturating_mul(self.voxel_type.bytes())
    }

    /// The bytes of all values.
    pub(crate) fn values(&self) -> &[u8] {
        let end = self.start.saturating_add(self.length());
        self.content.get(self.start..end).unwrap_or_default()
    }

    /// The volume as every format has it.
    pub(crate) fn into_stored(self, format: VolumeFormat, table: Option<LabelTable>) -> StoredVolume<'a> {
        StoredVolume {
            source: self.source(format, table),
            content: self.content,
            start: self.start,
            big_endian: self.big_endian,
            scale: None,
        }
    }

    /// What the file says besides the values.
    pub(crate) fn source(&self, format: VolumeFormat, table: Option<LabelTable>) -> Source {
        let shape = self.geometry.shape().into_iter().chain(self.channels).collect();
        let source = Source::new(format, self.geometry, self.voxel_type);
        source.with_shape(self.channels.unwrap_or(1), shape).with_label_table(table)
    }
}

fn to_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Result<Vec<u8>, Problem> {
    let mut out = reserve(values.len().saturating_mul(N))?;
    values.iter().for_each(|v| out.extend(bytes(*v)));
    Ok(out)
}

/// Values whose channels are not the slowest axis, put in the order of [`Grid`]: `before` values share a channel, then
/// come as many of the next of `channels`.
pub(crate) fn channels_last(
    values: &[u8],
    value_bytes: usize,
    before: usize,
    channels: usize,
) -> Result<Vec<u8>, Problem> {
    let run = before.saturating_mul(value_bytes).max(1);
    let block = run.saturating_mul(channels).max(1);
    let mut out = reserve(values.len())?;
    for channel in 0..channels {
        for runs in values.chunks_exact(block) {
            out.extend(runs.get(channel * run..(channel + 1) * run).unwrap_or_default());
        }
    }
    Ok(out)
}

/// The way back where the channels of a voxel are to be together.
pub(crate) fn channels_together(values: &[u8], value_bytes: usize, channels: usize) -> Result<Vec<u8>, Problem> {
    let channel_bytes = values.len() / channels.max(1);
    let mut out = reserve(values.len())?;
    for at in (0..channel_bytes).step_by(value_bytes.max(1)) {
        for channel in 0..channels {
            let from = channel * channel_bytes + at;
            out.extend(values.get(from..from + value_bytes).unwrap_or_default());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_apart_and_together_again() {
        // Two voxels of three channels of two bytes, the channels of a voxel together.
        let together: Vec<u8> = (0..12).collect();
        let apart = channels_last(&together, 2, 1, 3).unwrap();
        assert_eq!(apart, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        assert_eq!(channels_together(&apart, 2, 3).unwrap(), together);
    }
}
