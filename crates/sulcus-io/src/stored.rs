use std::borrow::Cow;

use sulcus_volume::{Image, Label, LabelMap};

use crate::error::{IoError, Problem};
use crate::info::{Statistics, VolumeInfo};
use crate::narrow;
use crate::read::Scan;
use crate::source::{Source, shape_text};
use crate::voxels::{self, Scale, VoxelType};

/// A volume as its file has it: checked, all of its voxels there, none converted. Each format reads into one; what
/// becomes of it is the same for all, and written again it is the same to the last bit.
///
/// # Shapes
/// The voxels are `[channels, z, y, x]` row-major, which is the order of a 4-D NIfTI file.
#[derive(Debug, Clone)]
pub struct StoredVolume<'a> {
    pub(crate) source: Source,
    /// The voxels, and whatever is around them in the file.
    pub(crate) content: Cow<'a, [u8]>,
    /// Where the voxels begin in `content`.
    pub(crate) start: usize,
    pub(crate) big_endian: bool,
    pub(crate) scale: Option<Scale>,
}

impl<'a> StoredVolume<'a> {
    /// Puts values, little-endian and of the type that `source` says, on its grid.
    ///
    /// # Errors
    /// When the number of bytes is not what grid, channels and type need.
    pub fn new(source: Source, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, IoError> {
        let content = bytes.into();
        let values = (source.geometry().voxels() as u64).saturating_mul(source.channels() as u64);
        let expected = values.saturating_mul(source.voxel_type().bytes() as u64);
        if content.len() as u64 != expected {
            let shape = shape_text(source.file_shape());
            let (dtype, found) = (source.voxel_type().name(), content.len().to_string());
            return Err(Problem::TooFewVoxels { shape, dtype, expected, found }.into());
        }
        Ok(Self { source, content, start: 0, big_endian: false, scale: None })
    }

    /// The same voxels, whose values mean `slope · stored + intercept`. A slope that is 0 or not finite means that they
    /// are as stored.
    ///
    /// # Errors
    /// When the slope counts and the intercept is not finite.
    pub fn scaled(self, slope: f64, intercept: f64) -> Result<Self, IoError> {
        Ok(Self { scale: Scale::from_header(slope, intercept)?, ..self })
    }

    /// Grid, type, shape, names, and what the file's format adds.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Slope and intercept, unless the values are as stored.
    pub fn slope_and_intercept(&self) -> Option<(f64, f64)> {
        self.scale.map(|scale| (scale.slope, scale.intercept))
    }

    /// All voxels, little-endian.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        let size = self.source.voxel_type().bytes();
        if !self.big_endian || size == 1 {
            return self.raw().into();
        }
        let mut turned = self.raw().to_vec();
        voxels::reverse_each(&mut turned, size);
        turned.into()
    }

    /// Describes the volume; its values are looked at once.
    pub fn info(&self) -> VolumeInfo {
        let mut statistics = Statistics::NOTHING;
        self.each_block(&mut |values| statistics.add(values));
        VolumeInfo::new(&self.source, &statistics)
    }

    /// The values in single precision, a channel for each index of the axes after the third, of which one may be longer
    /// than 1.
    ///
    /// # Errors
    /// When a value is beyond single precision, there are several such axes, or the grid's unit is in doubt.
    pub fn into_scan(self) -> Result<Scan, IoError> {
        Ok(self.scan()?)
    }

    /// The values as labels.
    ///
    /// # Errors
    /// As [`StoredVolume::into_scan`]; when there are channels, or a value is no whole number from 0 to 65535.
    pub fn into_labels(self) -> Result<(LabelMap, Source), IoError> {
        Ok(self.labels()?)
    }

    fn values(&self) -> usize {
        self.source.geometry().voxels().saturating_mul(self.source.channels())
    }

    /// The voxels in the file's byte order.
    pub(crate) fn raw(&self) -> &[u8] {
        // Lengths were checked when the content was read; it ends with the last voxel or after it.
        let length = self.values().saturating_mul(self.source.voxel_type().bytes());
        self.content.get(self.start..self.start.saturating_add(length)).unwrap_or_default()
    }

    pub(crate) fn each_block(&self, f: &mut dyn FnMut(&[f64])) {
        voxels::each_block(self.raw(), self.source.voxel_type(), self.big_endian, self.scale, f);
    }

    pub(crate) fn scan(self) -> Result<Scan, Problem> {
        self.source.check_usable()?;
        let mut converted = Converted { data: voxels::reserve(self.values())?, statistics: Statistics::NOTHING };
        converted.add(self.raw(), self.source.voxel_type(), self.big_endian, self.scale);
        converted.into_scan(self.source)
    }

    pub(crate) fn unmeasured_image(self) -> Result<(Image, Source), Problem> {
        self.source.check_usable()?;
        let mut data = voxels::reserve(self.values())?;
        self.each_block(&mut |values| data.extend(values.iter().map(|v| *v as f32)));
        Ok((Image::new(*self.source.geometry(), self.source.channels(), data)?, self.source))
    }

    pub(crate) fn labels(self) -> Result<(LabelMap, Source), Problem> {
        self.source.check_usable()?;
        let channels = self.source.channels();
        if channels != 1 {
            return Err(Problem::LabelChannels { channels });
        }
        let labels = if self.source.voxel_type() == VoxelType::Uint8 && self.scale.is_none() {
            // Most masks are this, and need no look at each value.
            let mut labels = voxels::reserve(self.values())?;
            labels.extend(self.raw().iter().map(|v| Label::from(*v)));
            labels
        } else {
            let mut labels = voxels::LabelReader::new(self.values(), self.scale.is_some())?;
            self.each_block(&mut |values| labels.read(values));
            labels.finish()?
        };
        Ok((LabelMap::new(*self.source.geometry(), labels)?, self.source))
    }
}

/// Values in single precision, and their statistics.
pub(crate) struct Converted {
    pub(crate) data: Vec<f32>,
    pub(crate) statistics: Statistics,
}

impl Converted {
    /// Adds stored values, for which there is room.
    pub(crate) fn add(&mut self, bytes: &[u8], voxel_type: VoxelType, big_endian: bool, scale: Option<Scale>) {
        let Self { data, statistics } = self;
        if scale.is_none() && narrow::to_f32(bytes, voxel_type, big_endian, statistics, data) {
            return;
        }
        voxels::each_block(bytes, voxel_type, big_endian, scale, &mut |values| {
            statistics.add(values);
            data.extend(values.iter().map(|v| *v as f32));
        });
    }

    /// The image, once all values are there.
    pub(crate) fn into_scan(self, source: Source) -> Result<Scan, Problem> {
        let info = VolumeInfo::new(&source, &self.statistics);
        if let (Some(min), Some(max)) = (info.min, info.max)
            && (min < f64::from(f32::MIN) || max > f64::from(f32::MAX))
        {
            return Err(Problem::Range { min, max });
        }
        let image = Image::new(*source.geometry(), source.channels(), self.data)?;
        Ok(Scan { image, source, info })
    }
}
