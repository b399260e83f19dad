//! Pixels on their way from a decoder, which yields them in their order, to channels, which lie one after the other. Only a block of
//! pixels exists in both forms at a time.

use crate::error::IoErrorKind;
#[cfg(feature = "statistics")]
use crate::scan::ScanBuilder;
#[cfg(feature = "statistics")]
use crate::voxels::VoxelType;
use crate::voxels::reserve;

/// Receives consecutive pixels, `[pixel, sample]`, little-endian.
pub(super) type Emit<'a> = dyn FnMut(&[u8]) -> Result<(), IoErrorKind> + 'a;

/// The samples of a pixel that are kept: the first ones, as many as there are channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    /// Bytes of a sample.
    pub(super) value: usize,
    /// Bytes of a pixel with all its samples.
    pub(super) pixel: usize,
}

impl Layout {
    fn is_one_channel(self) -> bool {
        self.pixel == self.value
    }

    /// One sample of each pixel of a block.
    fn samples(self, block: &[u8], channel: usize) -> impl Iterator<Item = &[u8]> {
        let range = channel * self.value..(channel + 1) * self.value;
        block.chunks_exact(self.pixel).map(move |pixel| pixel.get(range.clone()).unwrap_or_default())
    }
}

/// Collects the stored values, `[channel, page, y, x]`.
pub(super) fn stored_planes(
    layout: Layout,
    decode: impl FnOnce(&mut Emit<'_>) -> Result<(), IoErrorKind>,
) -> Result<Vec<u8>, IoErrorKind> {
    let bytes = layout.pixels.saturating_mul(layout.channels * layout.value);
    let mut planes: Vec<u8> = reserve(bytes)?;
    if layout.is_one_channel() {
        decode(&mut |block| {
            planes.extend_from_slice(block);
            Ok(())
        })?;
        return Ok(planes);
    }
    planes.resize(bytes, 0);
    let mut at = 0;
    decode(&mut |block| {
        for channel in 0..layout.channels {
            let from = (channel * layout.pixels + at) * layout.value;
            let plane = planes.get_mut(from..).unwrap_or_default();
            for (to, sample) in plane.chunks_exact_mut(layout.value).zip(layout.samples(block, channel)) {
                to.copy_from_slice(sample);
            }
        }
        at += block.len() / layout.pixel;
        Ok(())
    })?;
    Ok(planes)
}

/// Collects the values in single precision, `[channel, page, y, x]`, with their statistics.
#[cfg(feature = "statistics")]
pub(super) fn scan_planes(
    layout: Layout,
    voxel_type: VoxelType,
    decode: impl FnOnce(&mut Emit<'_>) -> Result<(), IoErrorKind>,
) -> Result<ScanBuilder, IoErrorKind> {
    /// Pixels that are separated into channels at a time.
    const BLOCK: usize = 1 << 14;
    let values = layout.pixels.saturating_mul(layout.channels);
    if layout.is_one_channel() {
        let mut builder = ScanBuilder::new(reserve(values)?);
        decode(&mut |block| {
            builder.add_stored(block, voxel_type, false, None);
            Ok(())
        })?;
        return Ok(builder);
    }
    let mut planes: Vec<f32> = reserve(values)?;
    planes.resize(values, 0.0);
    let mut block_of_channel = ScanBuilder::new(reserve(BLOCK)?);
    let mut stored: Vec<u8> = reserve(BLOCK * layout.value)?;
    let mut at = 0;
    decode(&mut |pixels| {
        for block in pixels.chunks(BLOCK * layout.pixel) {
            for channel in 0..layout.channels {
                stored.clear();
                layout.samples(block, channel).for_each(|sample| stored.extend_from_slice(sample));
                block_of_channel.data.clear();
                block_of_channel.add_stored(&stored, voxel_type, false, None);
                let plane = planes.get_mut(channel * layout.pixels + at..).unwrap_or_default();
                plane.iter_mut().zip(&block_of_channel.data).for_each(|(to, value)| *to = *value);
            }
            at += block.len() / layout.pixel;
        }
        Ok(())
    })?;
    block_of_channel.data = planes;
    Ok(block_of_channel)
}
