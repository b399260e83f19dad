use std::borrow::Cow;

use sulcus_volume::{Image, Label, LabelMap};

use crate::error::{IoError, IoErrorKind};
use crate::info::VolumeInfo;
use crate::metadata::VolumeMetadata;
use crate::scan::{Scan, ScanBuilder};
use crate::text::shape_text;
use crate::voxels::{LabelReader, Scale, Statistics, VoxelType, each_block, reserve, reverse_bytes};

/// A volume as it is stored in its file: checked and complete, but not converted. Every format is read into this type;
/// all further conversions are independent of the format. Writing the volume again does not change a bit of it.
///
/// # Shapes
/// The voxels are `[channels, z, y, x]` row-major, which is the order of a 4-D NIfTI file.
#[derive(Debug, Clone)]
pub struct StoredVolume<'a> {
    metadata: VolumeMetadata,
    /// The voxels, possibly with other parts of the file before and after them.
    content: Cow<'a, [u8]>,
    /// The offset of the first voxel in `content`.
    start: usize,
    big_endian: bool,
    scale: Option<Scale>,
}

impl<'a> StoredVolume<'a> {
    /// Combines metadata with little-endian values of its voxel type.
    ///
    /// # Errors
    /// When the number of bytes does not match the grid, the channels and the voxel type.
    pub fn new(metadata: VolumeMetadata, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, IoError> {
        let content = bytes.into();
        let values = (metadata.geometry().voxels() as u64).saturating_mul(metadata.channels() as u64);
        let expected = values.saturating_mul(metadata.voxel_type().bytes() as u64);
        if content.len() as u64 != expected {
            let shape = shape_text(metadata.file_shape());
            let (dtype, found) = (metadata.voxel_type().name(), content.len().to_string());
            return Err(IoErrorKind::TooFewVoxels { shape, dtype, expected, found }.into());
        }
        Ok(Self::from_content(metadata, content, 0, false, None))
    }

    /// The volume whose voxels begin at byte `start` of `content`. The caller has checked the length.
    pub(crate) fn from_content(
        metadata: VolumeMetadata,
        content: Cow<'a, [u8]>,
        start: usize,
        big_endian: bool,
        scale: Option<Scale>,
    ) -> Self {
        Self { metadata, content, start, big_endian, scale }
    }

    /// The same voxels with other metadata, of the same grid and voxel type.
    #[cfg(feature = "unscaled")]
    pub(crate) fn with_metadata(self, metadata: VolumeMetadata) -> Self {
        Self { metadata, ..self }
    }

    /// The same voxels with the real values `slope · stored + intercept`. With a slope of 0, or one that is not finite, the
    /// real values are the stored values.
    ///
    /// # Errors
    /// When the slope applies and the intercept is not finite.
    pub fn scaled(self, slope: f64, intercept: f64) -> Result<Self, IoError> {
        Ok(Self { scale: Scale::from_header(slope, intercept)?, ..self })
    }

    /// Grid, voxel type, shape, names, and the data of the file format.
    pub fn metadata(&self) -> &VolumeMetadata {
        &self.metadata
    }

    /// Slope and intercept; `None` when the real values are the stored values.
    pub fn slope_and_intercept(&self) -> Option<(f64, f64)> {
        self.scale.map(|scale| (scale.slope, scale.intercept))
    }

    /// All voxels, little-endian.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        let size = self.metadata.voxel_type().bytes();
        if !self.big_endian || size == 1 {
            return self.raw().into();
        }
        let mut reversed = self.raw().to_vec();
        reverse_bytes(&mut reversed, size);
        reversed.into()
    }

    /// Describes the volume. This reads every value once.
    pub fn info(&self) -> VolumeInfo {
        let mut statistics = Statistics::EMPTY;
        self.each_block(&mut |values| statistics.add(values));
        VolumeInfo::new(&self.metadata, &statistics)
    }

    /// Converts the values to single precision. The channels are the indices of the axes after the third, of which only
    /// one may be longer than 1.
    ///
    /// # Errors
    /// When a value exceeds single precision, there are several channel axes, or the unit of length is ambiguous.
    pub fn into_scan(self) -> Result<Scan, IoError> {
        Ok(self.scan()?)
    }

    /// Converts the values to labels.
    ///
    /// # Errors
    /// As [`StoredVolume::into_scan`]; also when there are channels, or a value is not an integer from 0 to 65535.
    pub fn into_labels(self) -> Result<(LabelMap, VolumeMetadata), IoError> {
        Ok(self.labels()?)
    }

    fn values(&self) -> usize {
        self.metadata.geometry().voxels().saturating_mul(self.metadata.channels())
    }

    /// The voxels in the byte order of the file.
    pub(crate) fn raw(&self) -> &[u8] {
        // The length was checked when the content was read.
        let length = self.values().saturating_mul(self.metadata.voxel_type().bytes());
        self.content.get(self.start..self.start.saturating_add(length)).unwrap_or_default()
    }

    pub(crate) fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    pub(crate) fn each_block(&self, f: &mut dyn FnMut(&[f64])) {
        each_block(self.raw(), self.metadata.voxel_type(), self.big_endian, self.scale, f);
    }

    /// The same real values without slope and intercept, in single precision if it holds every value exactly, otherwise in
    /// double precision.
    #[cfg(feature = "unscaled")]
    pub(crate) fn without_scale(&self) -> Result<StoredVolume<'_>, IoErrorKind> {
        if self.scale.is_none() {
            let (metadata, content) = (self.metadata.clone(), Cow::Borrowed(self.raw()));
            return Ok(StoredVolume::from_content(metadata, content, 0, self.big_endian, None));
        }
        let mut single = true;
        self.each_block(&mut |values| single &= values.iter().all(|v| f64::from(*v as f32) == *v || v.is_nan()));
        let voxel_type = if single { VoxelType::Float32 } else { VoxelType::Float64 };
        let mut bytes = reserve(self.values().saturating_mul(voxel_type.bytes()))?;
        self.each_block(&mut |values| {
            if single {
                values.iter().for_each(|v| bytes.extend((*v as f32).to_le_bytes()));
            } else {
                values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
            }
        });
        let metadata = self.metadata.clone();
        let (channels, shape) = (metadata.channels(), metadata.file_shape().to_vec());
        let metadata = metadata.with_values(voxel_type, channels).with_shape(channels, shape);
        Ok(StoredVolume::from_content(metadata, bytes.into(), 0, false, None))
    }

    pub(crate) fn scan(self) -> Result<Scan, IoErrorKind> {
        self.metadata.check_usable()?;
        let mut builder = ScanBuilder::new(reserve(self.values())?);
        builder.add_stored(self.raw(), self.metadata.voxel_type(), self.big_endian, self.scale);
        builder.finish(self.metadata)
    }

    pub(crate) fn image_without_statistics(self) -> Result<(Image, VolumeMetadata), IoErrorKind> {
        self.metadata.check_usable()?;
        let mut data = reserve(self.values())?;
        self.each_block(&mut |values| data.extend(values.iter().map(|v| *v as f32)));
        Ok((Image::new(*self.metadata.geometry(), self.metadata.channels(), data)?, self.metadata))
    }

    pub(crate) fn labels(self) -> Result<(LabelMap, VolumeMetadata), IoErrorKind> {
        self.metadata.check_usable()?;
        let channels = self.metadata.channels();
        if channels != 1 {
            return Err(IoErrorKind::LabelChannels { channels });
        }
        let labels = if self.metadata.voxel_type() == VoxelType::Uint8 && self.scale.is_none() {
            // Most masks have this type, and every value of it is a label.
            let mut labels = reserve(self.values())?;
            labels.extend(self.raw().iter().map(|v| Label::from(*v)));
            labels
        } else {
            let mut labels = LabelReader::new(self.values(), self.scale.is_some())?;
            self.each_block(&mut |values| labels.read(values));
            labels.finish()?
        };
        Ok((LabelMap::new(*self.metadata.geometry(), labels)?, self.metadata))
    }
}
