//! Roles of files and display settings.

use sulcus_volume::WindowLevel;

/// The style in which a label layer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelStyle {
    /// Each region is filled with its colour, translucent.
    Filled,
    /// The edge of each region is drawn, opaque.
    Outline,
    /// The layer is not drawn.
    Hidden,
}

/// The interpolation of intensities between voxel centres. Labels are never interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shading {
    /// Nearest neighbour: each voxel is a box of one grey value.
    Voxels,
    /// Linear interpolation.
    Smooth,
}

/// The role of a file in the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The scan.
    Image,
    /// A predicted segmentation.
    Mask,
    /// The reference segmentation that the prediction is compared with.
    Truth,
}

impl Role {
    /// The name of the role.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Mask => "mask",
            Self::Truth => "truth",
        }
    }

    /// The index of the label layer; `None` for the image.
    pub(crate) fn layer(self) -> Option<usize> {
        match self {
            Self::Image => None,
            Self::Mask => Some(0),
            Self::Truth => Some(1),
        }
    }
}

/// The display settings, which the controls of the page change.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ViewSettings {
    /// The intensity window.
    pub window: WindowLevel,
    /// The index of the image channel.
    pub channel: usize,
    /// The interpolation between voxel centres.
    pub shading: Shading,
    /// The styles of the mask and of the reference.
    pub styles: [LabelStyle; 2],
    /// The opacity of filled labels, 0 to 1.
    pub opacity: f32,
    /// Whether the crosshair is drawn.
    pub crosshair: bool,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            window: WindowLevel { low: 0.0, high: 1.0 },
            channel: 0,
            shading: Shading::Smooth,
            styles: [LabelStyle::Filled, LabelStyle::Outline],
            opacity: 0.45,
            crosshair: true,
        }
    }
}
