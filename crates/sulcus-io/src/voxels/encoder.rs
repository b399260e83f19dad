use std::ops::Range;

use sulcus_volume::Label;

use super::blocks::reverse_bytes;
use super::labels::fit_into_bytes;
use super::voxel_type::VoxelType;

/// Values to write: converts them to little-endian bytes block by block.
#[derive(Clone, Copy)]
pub(crate) enum VoxelEncoder<'a> {
    /// Labels up to 255.
    Uint8(&'a [Label]),
    Uint16(&'a [Label]),
    Float32(&'a [f32]),
    /// Values in their stored type and byte order.
    Stored {
        bytes: &'a [u8],
        voxel_type: VoxelType,
        big_endian: bool,
    },
}

impl<'a> VoxelEncoder<'a> {
    /// The size of a block: much larger than the window of a compressor, much smaller than a volume.
    const BLOCK_BYTES: usize = 1 << 19;

    /// Bytes to write unchanged.
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Self {
        Self::Stored { bytes, voxel_type: VoxelType::Uint8, big_endian: false }
    }

    /// Labels in the smallest type that holds them.
    pub(crate) fn from_labels(labels: &'a [Label]) -> Self {
        if fit_into_bytes(labels) { Self::Uint8(labels) } else { Self::Uint16(labels) }
    }

    pub(crate) fn voxel_type(&self) -> VoxelType {
        match self {
            Self::Uint8(_) => VoxelType::Uint8,
            Self::Uint16(_) => VoxelType::Uint16,
            Self::Float32(_) => VoxelType::Float32,
            Self::Stored { voxel_type, .. } => *voxel_type,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Uint8(labels) | Self::Uint16(labels) => labels.len(),
            Self::Float32(values) => values.len(),
            Self::Stored { bytes, voxel_type, .. } => bytes.len() / voxel_type.bytes(),
        }
    }

    /// The size of all values in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.count().saturating_mul(self.voxel_type().bytes())
    }

    /// The index ranges of the blocks, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, step) = (self.count(), Self::BLOCK_BYTES / self.voxel_type().bytes());
        (0..count).step_by(step).map(move |start| start..(start + step).min(count))
    }

    /// Appends the bytes of the values in `range`.
    pub(crate) fn append(&self, range: Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::Uint8(labels) => out.extend(labels.get(range).unwrap_or_default().iter().map(|v| *v as u8)),
            Self::Uint16(labels) => {
                out.extend(labels.get(range).unwrap_or_default().iter().flat_map(|v| v.to_le_bytes()))
            }
            Self::Float32(values) => {
                out.extend(values.get(range).unwrap_or_default().iter().flat_map(|v| v.to_le_bytes()))
            }
            Self::Stored { bytes, voxel_type, big_endian } => {
                let size = voxel_type.bytes();
                let start = out.len();
                out.extend(bytes.get(range.start * size..range.end * size).unwrap_or_default());
                if *big_endian {
                    reverse_bytes(out.get_mut(start..).unwrap_or_default(), size);
                }
            }
        }
    }
}
