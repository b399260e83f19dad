use sulcus_volume::Image;

use crate::error::IoErrorKind;
use crate::info::VolumeInfo;
use crate::metadata::VolumeMetadata;
#[cfg(feature = "dicom")]
use crate::voxels::BLOCK;
use crate::voxels::{Scale, Statistics, VoxelType, each_block, small_integers_to_f32};

/// An image with the metadata of its file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scan {
    /// The voxels, one channel for each index of the fourth axis. NaN and infinite voxels stay; `info` counts them.
    pub image: Image,
    /// Grid, voxel type, names and header, to write results on the same grid.
    pub metadata: VolumeMetadata,
    /// Type, shape and statistics.
    pub info: VolumeInfo,
}

/// Collects voxels in single precision, and their statistics.
pub(crate) struct ScanBuilder {
    pub(crate) data: Vec<f32>,
    statistics: Statistics,
}

impl ScanBuilder {
    /// Uses the capacity of `data`, which must be empty.
    pub(crate) fn new(data: Vec<f32>) -> Self {
        Self { data, statistics: Statistics::EMPTY }
    }

    /// Appends stored values. The caller has reserved the capacity.
    pub(crate) fn add_stored(
        &mut self,
        bytes: &[u8],
        voxel_type: VoxelType,
        big_endian: bool,
        scale: Option<Scale>,
    ) {
        let Self { data, statistics } = self;
        if scale.is_none() && small_integers_to_f32(bytes, voxel_type, big_endian, statistics, data) {
            return;
        }
        each_block(bytes, voxel_type, big_endian, scale, &mut |values| {
            statistics.add(values);
            data.extend(values.iter().map(|v| *v as f32));
        });
    }

    /// Appends values in double precision.
    #[cfg(feature = "dicom")]
    pub(crate) fn add(&mut self, values: &[f64]) {
        values.chunks(BLOCK).for_each(|block| self.statistics.add(block));
        self.data.extend(values.iter().map(|v| *v as f32));
    }

    /// The image, once all values have been added.
    pub(crate) fn finish(self, metadata: VolumeMetadata) -> Result<Scan, IoErrorKind> {
        let info = VolumeInfo::new(&metadata, &self.statistics);
        if let (Some(min), Some(max)) = (info.min, info.max)
            && (min < f64::from(f32::MIN) || max > f64::from(f32::MAX))
        {
            return Err(IoErrorKind::Range { min, max });
        }
        let image = Image::new(*metadata.geometry(), metadata.channels(), self.data)?;
        Ok(Scan { image, metadata, info })
    }
}
