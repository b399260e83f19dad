use sulcus_volume::{Image, LabelMap, LabelTable};

use crate::error::IoErrorKind;
use crate::metadata::VolumeMetadata;
use crate::stored::StoredVolume;
#[cfg(feature = "unscaled")]
use crate::voxels::{VoxelType, fit_into_bytes, reserve};

/// Whether to keep the texts in the header of the input: description, names, and extensions of other programs. They may
/// contain the name of the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Texts {
    /// The texts are not written.
    #[default]
    Drop,
    /// The texts are written if the output has the format of the input.
    Keep,
}

/// A volume to encode, independent of the format.
#[derive(Clone, Copy)]
pub(crate) enum VolumeToEncode<'a> {
    /// A label map on the grid of `metadata`, as uint8 if its labels fit, otherwise as uint16.
    Labels { labels: &'a LabelMap, metadata: &'a VolumeMetadata, table: &'a LabelTable },
    /// An image on the grid of `metadata`, as float32.
    Image { image: &'a Image, metadata: &'a VolumeMetadata },
    /// A volume in its own type; a label map if there is a table.
    Stored { volume: &'a StoredVolume<'a>, table: Option<&'a LabelTable>, texts: Texts },
}

impl<'a> VolumeToEncode<'a> {
    /// Checks that a label map or an image lies on the grid of its metadata.
    pub(crate) fn check_grid(&self) -> Result<(), IoErrorKind> {
        let (action, geometry, metadata) = match self {
            Self::Labels { labels, metadata, .. } => {
                ("write the mask on the grid of its input", labels.geometry(), metadata)
            }
            Self::Image { image, metadata } => {
                ("write the image on the grid of its input", image.geometry(), metadata)
            }
            Self::Stored { .. } => return Ok(()),
        };
        let same = metadata.geometry().check_same_grid(geometry);
        same.map_err(|cause| IoErrorKind::Volume { action, cause: cause.into() })
    }

    /// The values for formats without slope and intercept, whose lengths are in millimetres.
    #[cfg(feature = "unscaled")]
    pub(crate) fn unscaled(&self) -> Result<StoredVolume<'a>, IoErrorKind> {
        match *self {
            Self::Labels { labels, metadata, .. } => {
                let (voxel_type, bytes) = if fit_into_bytes(labels.data()) {
                    (VoxelType::Uint8, to_bytes(labels.data(), |label| [label as u8])?)
                } else {
                    (VoxelType::Uint16, to_bytes(labels.data(), |label| label.to_le_bytes())?)
                };
                let metadata = metadata.clone().with_values(voxel_type, 1);
                Ok(StoredVolume::from_content(metadata, bytes.into(), 0, false, None))
            }
            Self::Image { image, metadata } => {
                let metadata = metadata.clone().with_values(VoxelType::Float32, image.channels());
                let bytes = to_bytes(image.data(), |v| v.to_le_bytes())?;
                Ok(StoredVolume::from_content(metadata, bytes.into(), 0, false, None))
            }
            Self::Stored { volume, .. } => {
                volume.metadata().check_usable()?;
                volume.without_scale()
            }
        }
    }

    /// The label names to write.
    #[cfg(feature = "unscaled")]
    pub(crate) fn label_table(&self) -> Option<&'a LabelTable> {
        match *self {
            Self::Labels { table, .. } => Some(table),
            Self::Image { .. } => None,
            Self::Stored { table, .. } => table,
        }
    }
}

#[cfg(feature = "unscaled")]
fn to_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Result<Vec<u8>, IoErrorKind> {
    let mut out = reserve(values.len().saturating_mul(N))?;
    values.iter().for_each(|v| out.extend(bytes(*v)));
    Ok(out)
}
