//! Overlapping regions as targets.

use std::sync::Arc;

use super::IGNORED;
use crate::error::KernelError;

/// The regions that each class belongs to. Regions may overlap, so a class may belong to several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    count: usize,
    pub(super) channels: Arc<ClassChannels>,
}

impl Regions {
    /// The maximum number of regions: each class has one bit per region.
    pub const MAX_REGIONS: usize = 31;

    /// Regions as lists of their classes; `classes` is the number of classes, including the background.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for no region or more than [`Self::MAX_REGIONS`], [`KernelError::Class`] for a region with an
    /// unknown class or the background.
    pub fn new(regions: &[Vec<u8>], classes: usize) -> Result<Self, KernelError> {
        if regions.is_empty() || regions.len() > Self::MAX_REGIONS || classes > usize::from(IGNORED) {
            return Err(KernelError::Shape(format!("{} regions of {classes} classes", regions.len())));
        }
        let mut channels = ClassChannels { of_class: [0; 256], classes };
        channels.of_class[usize::from(IGNORED)] = UNCOUNTED;
        for (region, of_region) in regions.iter().enumerate() {
            for &class in of_region {
                if class == 0 || usize::from(class) >= classes {
                    return Err(KernelError::Class { found: class, classes });
                }
                channels.of_class[usize::from(class)] |= 1 << region;
            }
        }
        Ok(Self { count: regions.len(), channels: Arc::new(channels) })
    }

    /// The number of regions.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a class belongs to a region.
    pub fn contains(&self, region: usize, class: u8) -> bool {
        region < self.count && self.channels.of_class[usize::from(class)] >> region & 1 == 1
    }
}

/// The bit of the ignored class, which counts in no channel.
pub(super) const UNCOUNTED: u32 = 1 << 31;

/// For each class, one bit per channel in which the class is true.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClassChannels {
    pub(super) of_class: [u32; 256],
    /// The number of classes.
    pub(super) classes: usize,
}

impl ClassChannels {
    /// A single channel that is true for every class except the background.
    pub(super) fn foreground() -> Self {
        let mut of_class = [1; 256];
        (of_class[0], of_class[usize::from(IGNORED)]) = (0, UNCOUNTED);
        Self { of_class, classes: usize::from(IGNORED) }
    }
}
