//! Roles of files and display settings.

use sulcus_volume::WindowLevel;

use crate::colormap::Colormap;
use crate::display::Camera;

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
    /// Values over the image: probabilities, uncertainty, or another scan.
    Map,
}

impl Role {
    /// The name of the role.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Mask => "mask",
            Self::Truth => "truth",
            Self::Map => "map",
        }
    }

    /// The index of the label layer; `None` for the image and the map.
    pub(crate) fn layer(self) -> Option<usize> {
        match self {
            Self::Image | Self::Map => None,
            Self::Mask => Some(0),
            Self::Truth => Some(1),
        }
    }
}

/// How neighbouring slices are combined into one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Projection {
    /// The maximum intensity (MIP).
    #[default]
    Maximum,
    /// The mean intensity.
    Mean,
    /// The minimum intensity.
    Minimum,
}

/// How mask and reference are shown together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Comparison {
    /// Both, each in its own style.
    #[default]
    Layers,
    /// Where they agree and where they differ, see [`Difference`](crate::Difference).
    Difference,
    /// The mask to the left of this fraction of the canvas, the reference to the right of it.
    Swipe(f64),
    /// One of the two, for flicker.
    Only(Role),
}

/// How the map is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapSettings {
    /// The channel; the one after the last is the uncertainty.
    pub channel: usize,
    /// The values that get the first and the last colour. Those below the first are not drawn.
    pub window: WindowLevel,
    /// The colours.
    pub colormap: Colormap,
    /// The opacity, 0 to 1.
    pub opacity: f32,
}

/// The display settings, which the controls of the page change.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ViewSettings {
    /// The intensity window.
    pub window: WindowLevel,
    /// The index of the image channel.
    pub channel: usize,
    /// The colours of the window.
    pub colormap: Colormap,
    /// The interpolation between voxel centres.
    pub shading: Shading,
    /// The thickness of the slab that a picture shows, in millimetres; at 0 it is one slice.
    pub slab_mm: f64,
    /// How the slices of the slab are combined.
    pub projection: Projection,
    /// The styles of the mask and of the reference.
    pub styles: [LabelStyle; 2],
    /// The opacity of filled labels, 0 to 1.
    pub opacity: f32,
    /// How mask and reference are shown together.
    pub comparison: Comparison,
    /// How the map is drawn.
    pub map: MapSettings,
    /// Whether the crosshair is drawn.
    pub crosshair: bool,
    /// The part of the grid that is shown.
    pub camera: Camera,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            window: WindowLevel { low: 0.0, high: 1.0 },
            channel: 0,
            colormap: Colormap::Grey,
            shading: Shading::Smooth,
            slab_mm: 0.0,
            projection: Projection::Maximum,
            styles: [LabelStyle::Filled, LabelStyle::Outline],
            opacity: 0.45,
            comparison: Comparison::Layers,
            map: MapSettings {
                channel: 0,
                window: WindowLevel { low: 0.0, high: 1.0 },
                colormap: Colormap::Hot,
                opacity: 0.6,
            },
            crosshair: true,
            camera: Camera::default(),
        }
    }
}
