use std::collections::BTreeMap;

use crate::{Geometry, VolumeError, VoxelIndex};

/// One value per voxel on a [`Geometry`], stored with x fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume<T> {
    geometry: Geometry,
    data: Vec<T>,
}

/// A label value. 0 is the background.
pub type Label = u16;

/// A segmentation: one label per voxel.
pub type LabelMap = Volume<Label>;

impl<T> Volume<T> {
    /// A volume of these values on this grid.
    ///
    /// # Shapes
    /// `data` holds x · y · z values, x fastest.
    ///
    /// # Errors
    /// [`VolumeError::Length`] when the number of values is not the number of voxels.
    pub fn new(geometry: Geometry, data: Vec<T>) -> Result<Self, VolumeError> {
        check_length(&geometry, 1, data.len())?;
        Ok(Self { geometry, data })
    }

    /// The grid.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The values, x fastest: a row-major `[z, y, x]` tensor.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The value at a voxel, or `None` outside the grid.
    pub fn get(&self, index: VoxelIndex) -> Option<&T> {
        self.geometry.offset(index).and_then(|offset| self.data.get(offset))
    }

    /// A volume on the same grid with `f` applied to each value.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Volume<U> {
        Volume { geometry: self.geometry, data: self.data.iter().map(f).collect() }
    }

    /// The grid and the values.
    pub fn into_parts(self) -> (Geometry, Vec<T>) {
        (self.geometry, self.data)
    }
}

impl LabelMap {
    /// The number of voxels of each label that occurs, including the background.
    pub fn counts(&self) -> BTreeMap<Label, usize> {
        let mut table = vec![0_usize; 1 << Label::BITS];
        for label in &self.data {
            table[usize::from(*label)] += 1;
        }
        (0..=Label::MAX).zip(table).filter(|(_, n)| *n > 0).collect()
    }
}

/// A scan: one or more channels of `f32` values on one grid.
///
/// # Shapes
/// The values are a row-major `[channels, z, y, x]` tensor, which is the order of a 4-D NIfTI file.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    geometry: Geometry,
    channels: usize,
    data: Vec<f32>,
}

impl Image {
    /// An image with `channels` values per voxel on this grid.
    ///
    /// # Shapes
    /// `data` is `[channels, z, y, x]`, row-major.
    ///
    /// # Errors
    /// [`VolumeError::Length`] when `channels` is 0 or the number of values is wrong.
    pub fn new(geometry: Geometry, channels: usize, data: Vec<f32>) -> Result<Self, VolumeError> {
        check_length(&geometry, channels, data.len())?;
        Ok(Self { geometry, channels, data })
    }

    /// The grid.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The number of channels, at least 1.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All values, `[channels, z, y, x]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The grid and all values.
    pub fn into_parts(self) -> (Geometry, Vec<f32>) {
        (self.geometry, self.data)
    }

    /// The values of one channel, `[z, y, x]`. Empty when the image has no such channel.
    pub fn channel(&self, channel: usize) -> &[f32] {
        self.data.chunks_exact(self.geometry.voxels()).nth(channel).unwrap_or_default()
    }
}

impl From<Volume<f32>> for Image {
    fn from(volume: Volume<f32>) -> Self {
        Self { geometry: volume.geometry, channels: 1, data: volume.data }
    }
}

fn check_length(geometry: &Geometry, channels: usize, found: usize) -> Result<(), VolumeError> {
    let expected = geometry.voxels().saturating_mul(channels);
    if channels == 0 || expected != found {
        return Err(VolumeError::Length { shape: geometry.shape(), channels, expected, found });
    }
    Ok(())
}
