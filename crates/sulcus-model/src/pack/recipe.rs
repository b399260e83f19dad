use serde::{Deserialize, Serialize};
use sulcus_volume::Label;

/// How the networks of a pack segment a scan: where they look, on which grid, and how their masks become one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// A rough network that sees the whole scan first. The parts see the box of what it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locate: Option<Locate>,
    /// The grid on which the parts see the scan, or the box; absent for the scan's own grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<CanonicalGrid>,
    /// When the grid is divided into three parts that are segmented one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitRule>,
    /// The networks whose masks make up the result, in this order. Where several find something at a voxel, the last one is right.
    pub parts: Vec<Part>,
}

/// The rough first step of a [`Recipe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locate {
    /// The network.
    pub network: String,
    /// The grid on which it sees the scan; absent for the scan's own grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<CanonicalGrid>,
    /// The labels of its mask whose common box is what the parts see.
    pub labels: Vec<Label>,
    /// By how much the box is enlarged on each side, along x, y, z of the file, in millimetres, rounded down to whole voxels. It ends
    /// at the border of the scan.
    pub margin_mm: [f64; 3],
    /// What happens if it finds none of the labels.
    pub nothing_found: NothingFound,
}

/// What happens if a rough network finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NothingFound {
    /// The mask is empty: where the rough network finds nothing, there is nothing (TotalSegmentator).
    EmptyMask,
    /// The parts see the whole scan.
    WholeScan,
}

/// The grid on which TotalSegmentator shows a scan to its networks: its axes in the order and directions closest to right, anterior,
/// superior, and with `mm` resampled so that the first and last voxels of each axis keep their centres (`scipy.ndimage.zoom` with
/// `grid_mode=False`), linearly, with values truncated towards zero to whole numbers. Masks return by the nearest voxel.
///
/// A scan that already has this voxel size is neither resampled nor truncated, unless it is cropped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanonicalGrid {
    /// The voxel size along the axes of the grid; absent for that of the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mm: Option<[f64; 3]>,
}

/// When a grid is divided along its third axis into three parts, each `margin` slices longer than a third of it. It saves memory and
/// time of networks that resample a large grid; what is seen at the edges changes the mask a little, so it is part of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRule {
    /// Grids with more voxels than this are divided …
    pub above_voxels: u64,
    /// … if they also have more slices than this.
    pub above_slices: usize,
    /// Slices by which the parts overlap their neighbours.
    pub margin: usize,
}

impl SplitRule {
    /// Whether a grid of this shape is divided.
    pub fn divides(&self, shape: [usize; 3]) -> bool {
        let voxels = shape.iter().fold(1_u64, |product, n| product.saturating_mul(*n as u64));
        voxels > self.above_voxels && shape[2] > self.above_slices
    }
}

/// A network whose mask is a part of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The network.
    pub network: String,
    /// Pairs of a label of its mask and the label of the result that it becomes. Its other labels are not taken over. Absent if all
    /// labels stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Vec<[Label; 2]>>,
}

impl Part {
    /// The label of the result for a label of the part; 0 if it is not taken over.
    pub fn label_of(&self, label: Label) -> Label {
        match &self.merge {
            None => label,
            Some(pairs) => pairs.iter().find(|[from, _]| *from == label).map_or(0, |[_, to]| *to),
        }
    }
}
