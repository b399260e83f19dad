//! What of a volume a picture can hold.

use std::borrow::Cow;

use sulcus_volume::{Label, LabelTable};

use super::PictureFormat;
use crate::error::IoErrorKind;
use crate::format::VolumeToEncode;
use crate::metadata::VolumeMetadata;
use crate::stored::StoredVolume;
use crate::voxels::VoxelType;

/// The values of a volume, in the types of pictures.
pub(super) struct Output<'a> {
    /// `[channel, z, y, x]`.
    pub(super) volume: StoredVolume<'a>,
    /// The names and colours of labels, if the values are labels.
    pub(super) labels: Option<Cow<'a, LabelTable>>,
}

impl<'a> Output<'a> {
    pub(super) fn new(volume: &VolumeToEncode<'a>) -> Result<Self, IoErrorKind> {
        let labels = match *volume {
            VolumeToEncode::Labels { table, .. } => Some(Cow::Borrowed(table)),
            VolumeToEncode::Image { .. } => None,
            VolumeToEncode::Stored { volume, table, .. } => {
                // An indexed picture stays one.
                let indexed = || volume.metadata().palette().map(|_| Cow::Owned(LabelTable::default()));
                table.map(Cow::Borrowed).or_else(indexed)
            }
        };
        Ok(Self { volume: volume.unscaled()?, labels })
    }

    pub(super) fn metadata(&self) -> &VolumeMetadata {
        self.volume.metadata()
    }

    pub(super) fn channels(&self) -> usize {
        self.metadata().channels()
    }

    /// The values as unsigned integers of 8 bits, or 16 if that is needed.
    ///
    /// # Errors
    /// When a value is not such an integer.
    pub(super) fn unsigned(&self, format: PictureFormat) -> Result<Unsigned<'_>, IoErrorKind> {
        let swapped = || -> Cow<'_, [u8]> { self.volume.bytes() };
        match self.metadata().voxel_type() {
            VoxelType::Uint8 => return Ok(Unsigned::Bytes(swapped())),
            VoxelType::Uint16 => {
                let bytes = swapped();
                return Ok(Unsigned::Words(
                    bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect(),
                ));
            }
            _ => {}
        }
        let (mut words, mut other) = (Vec::new(), None);
        self.volume.each_block(&mut |values| {
            for value in values {
                // The cast saturates and converts NaN to 0.
                let word = *value as u16;
                if f64::from(word) != *value {
                    other.get_or_insert(*value);
                }
                words.push(word);
            }
        });
        if let Some(value) = other {
            return Err(IoErrorKind::PictureOutput {
                format: format.name(),
                what: format!("it holds whole numbers from 0 to 65535, found the value {value}"),
                hint: "name the output .tif, .nii.gz or .nrrd, which hold any number",
            });
        }
        if words.iter().all(|word| *word <= u16::from(u8::MAX)) {
            return Ok(Unsigned::Bytes(words.into_iter().map(|word| word as u8).collect()));
        }
        Ok(Unsigned::Words(words))
    }

    /// The greatest label of the values and the table.
    pub(super) fn greatest_label(values: &[u8], table: &LabelTable) -> usize {
        let named = table.entries().iter().map(|entry| entry.value).filter(|value| *value <= Label::from(u8::MAX));
        let of_values = values.iter().copied().max().unwrap_or_default();
        usize::from(named.max().unwrap_or_default().max(Label::from(of_values)))
    }
}

/// Values as unsigned integers.
pub(super) enum Unsigned<'a> {
    Bytes(Cow<'a, [u8]>),
    Words(Vec<u16>),
}

/// Values of several channels, those of one pixel after each other.
pub(super) fn interleaved<T: Copy>(planes: &[T], channels: usize) -> Vec<T> {
    let plane = planes.len() / channels.max(1);
    let of_pixel = |pixel| (0..channels).filter_map(move |channel| planes.get(channel * plane + pixel).copied());
    (0..plane).flat_map(of_pixel).collect()
}
