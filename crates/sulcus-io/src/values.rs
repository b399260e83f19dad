use std::ops::Range;

use sulcus_volume::Label;

use crate::voxels::VoxelType;
#[cfg(not(target_family = "wasm"))]
use crate::voxels::reverse_each;

/// Values on their way into a file: little-endian bytes of a type, made a block at a time.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    /// Labels that fit into a byte.
    Uint8(&'a [Label]),
    Uint16(&'a [Label]),
    Float32(&'a [f32]),
    /// Bytes as a file has them.
    #[cfg(not(target_family = "wasm"))]
    Stored {
        bytes: &'a [u8],
        voxel_type: VoxelType,
        big: bool,
    },
}

impl<'a> Values<'a> {
    /// Bytes that are made at a time: much more than a compressor's window, little beside a volume.
    const BLOCK_BYTES: usize = 1 << 19;

    /// Bytes as they are.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self::Stored { bytes, voxel_type: VoxelType::Uint8, big: false }
    }

    /// Labels in the smallest type that holds them.
    pub(crate) fn of_labels(labels: &'a [Label]) -> Self {
        if fit_into_bytes(labels) { Self::Uint8(labels) } else { Self::Uint16(labels) }
    }

    pub(crate) fn voxel_type(&self) -> VoxelType {
        match self {
            Self::Uint8(_) => VoxelType::Uint8,
            Self::Uint16(_) => VoxelType::Uint16,
            Self::Float32(_) => VoxelType::Float32,
            #[cfg(not(target_family = "wasm"))]
            Self::Stored { voxel_type, .. } => *voxel_type,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Uint8(labels) | Self::Uint16(labels) => labels.len(),
            Self::Float32(values) => values.len(),
            #[cfg(not(target_family = "wasm"))]
            Self::Stored { bytes, voxel_type, .. } => bytes.len() / voxel_type.bytes(),
        }
    }

    /// Bytes of all values.
    pub(crate) fn bytes(&self) -> usize {
        self.count().saturating_mul(self.voxel_type().bytes())
    }

    /// The values in blocks, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, step) = (self.count(), Self::BLOCK_BYTES / self.voxel_type().bytes());
        (0..count).step_by(step).map(move |start| start..(start + step).min(count))
    }

    /// Appends the bytes of some of the values.
    pub(crate) fn append(&self, range: Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::Uint8(labels) => out.extend(labels.get(range).unwrap_or_default().iter().map(|v| *v as u8)),
            Self::Uint16(labels) => {
                out.extend(labels.get(range).unwrap_or_default().iter().flat_map(|v| v.to_le_bytes()))
            }
            Self::Float32(values) => {
                out.extend(values.get(range).unwrap_or_default().iter().flat_map(|v| v.to_le_bytes()))
            }
            #[cfg(not(target_family = "wasm"))]
            Self::Stored { bytes, voxel_type, big } => {
                let size = voxel_type.bytes();
                let start = out.len();
                out.extend(bytes.get(range.start * size..range.end * size).unwrap_or_default());
                if *big {
                    reverse_each(out.get_mut(start..).unwrap_or_default(), size);
                }
            }
        }
    }
}

/// Whether no label is greater than 255: their bits are put together, which is faster than a look at each.
pub(crate) fn fit_into_bytes(labels: &[Label]) -> bool {
    const AT_ONCE: usize = 1 << 14;
    labels.chunks(AT_ONCE).all(|some| some.iter().fold(0, |bits, label| bits | label) <= Label::from(u8::MAX))
}
