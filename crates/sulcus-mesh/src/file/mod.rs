//! Files of surfaces.

mod ply;
mod stl;

use sulcus_volume::LabelEntry;

use crate::surface::Surface;

pub use ply::write_ply;
pub use stl::write_stl;

/// The directions of the axes in a file. 3D Slicer reads this from the header of STL and PLY, and takes files that do not say it for
/// LPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Space {
    /// x grows to the patient's right, y to anterior, z to superior, as in NIfTI.
    #[default]
    Ras,
    /// x grows to the patient's left, y to posterior, z to superior, as in DICOM.
    Lps,
}

impl Space {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ras => "RAS",
            Self::Lps => "LPS",
        }
    }

    /// A position or direction in RAS in this space. This is a half turn, so that triangles keep their orientation.
    fn coordinates(self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Ras => [x, y, z],
            Self::Lps => [-x, -y, z],
        }
    }
}

/// A surface with the name and the colour of its label.
#[derive(Debug, Clone, Copy)]
pub struct NamedSurface<'a> {
    /// The surface.
    pub surface: &'a Surface,
    /// The name and the colour.
    pub entry: &'a LabelEntry,
}

/// A name for a header of lines and `KEY=VALUE`.
fn header_name(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || c == '=' { ' ' } else { c }).collect()
}
