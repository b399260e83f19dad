use std::borrow::Cow;

use sulcus_volume::{Image, Label, LabelMap};

use crate::error::Problem;
use crate::info::{Statistics, VolumeInfo};
use crate::read::Scan;
use crate::source::Source;
use crate::voxels::{self, Scale, VoxelType};

/// A volume as its file has it: checked, all of its voxels there, none converted. Each format reads into one; what
/// becomes of it is the same for all.
pub(crate) struct Stored<'a> {
    pub(crate) source: Source,
    /// The voxels, and whatever is around them in the file.
    pub(crate) content: Cow<'a, [u8]>,
    /// Where the voxels begin in `content`.
    pub(crate) start: usize,
    pub(crate) big_endian: bool,
    pub(crate) scale: Option<Scale>,
}

impl Stored<'_> {
    fn values(&self) -> usize {
        self.source.geometry().voxels() * self.source.channels()
    }

    fn voxels(&self) -> &[u8] {
        // Lengths were checked when the content was read; it ends with the last voxel or after it.
        let length = self.values().saturating_mul(self.source.voxel_type().bytes());
        self.content.get(self.start..self.start.saturating_add(length)).unwrap_or_default()
    }

    fn each_block(&self, f: &mut dyn FnMut(&[f64])) {
        voxels::each_block(self.voxels(), self.source.voxel_type(), self.big_endian, self.scale, f);
    }

    pub(crate) fn info(&self) -> VolumeInfo {
        let mut statistics = Statistics::NOTHING;
        self.each_block(&mut |values| statistics.add(values));
        VolumeInfo::new(&self.source, &statistics)
    }

    pub(crate) fn scan(self) -> Result<Scan, Problem> {
        let mut statistics = Statistics::NOTHING;
        let mut data = voxels::reserve(self.values())?;
        self.each_block(&mut |values| {
            statistics.add(values);
            data.extend(values.iter().map(|v| *v as f32));
        });
        let info = VolumeInfo::new(&self.source, &statistics);
        if let (Some(min), Some(max)) = (info.min, info.max)
            && (min < f64::from(f32::MIN) || max > f64::from(f32::MAX))
        {
            return Err(Problem::Range { min, max });
        }
        let image = Image::new(*self.source.geometry(), self.source.channels(), data)?;
        Ok(Scan { image, source: self.source, info })
    }

    pub(crate) fn unmeasured_image(self) -> Result<(Image, Source), Problem> {
        let mut data = voxels::reserve(self.values())?;
        self.each_block(&mut |values| data.extend(values.iter().map(|v| *v as f32)));
        Ok((Image::new(*self.source.geometry(), self.source.channels(), data)?, self.source))
    }

    pub(crate) fn labels(self) -> Result<(LabelMap, Source), Problem> {
        let channels = self.source.channels();
        if channels != 1 {
            return Err(Problem::LabelChannels { channels });
        }
        let labels = if self.source.voxel_type() == VoxelType::Uint8 && self.scale.is_none() {
            // Most masks are this, and need no look at each value.
            let mut labels = voxels::reserve(self.values())?;
            labels.extend(self.voxels().iter().map(|v| Label::from(*v)));
            labels
        } else {
            let mut labels = voxels::LabelReader::new(self.values(), self.scale.is_some())?;
            self.each_block(&mut |values| labels.read(values));
            labels.finish()?
        };
        Ok((LabelMap::new(*self.source.geometry(), labels)?, self.source))
    }
}
