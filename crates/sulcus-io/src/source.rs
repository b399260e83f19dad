use sulcus_volume::Geometry;
#[cfg(not(target_family = "wasm"))]
use sulcus_volume::LabelTable;

#[cfg(all(feature = "dicom", not(target_family = "wasm")))]
use crate::dicom::Series;
use crate::error::Problem;
use crate::info::VolumeFormat;
use crate::nifti::NiftiHeader;
use crate::voxels::VoxelType;

/// What a file says of a volume besides its voxels: grid, type, label names, and whatever its format needs to write
/// results on the same grid, so that they say so in the same bytes.
///
/// Each format reads into one, and each is written from one, whatever format it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    format: Option<VolumeFormat>,
    geometry: Geometry,
    file_shape: Vec<usize>,
    channels: usize,
    voxel_type: VoxelType,
    #[cfg(not(target_family = "wasm"))]
    label_table: Option<LabelTable>,
    origin: Origin,
}

/// What is particular to a format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// No more than the grid.
    Unsaid,
    /// The header, whose fields go out as they came in.
    Nifti(Box<NiftiHeader>),
    /// The series, which a segmentation of it refers to.
    #[cfg(all(feature = "dicom", not(target_family = "wasm")))]
    Dicom(Box<Series>),
}

impl Source {
    /// Of a volume in a file, with a value a voxel.
    pub(crate) fn new(format: VolumeFormat, geometry: Geometry, voxel_type: VoxelType) -> Self {
        Self {
            format: Some(format),
            geometry,
            file_shape: geometry.shape().to_vec(),
            channels: 1,
            voxel_type,
            #[cfg(not(target_family = "wasm"))]
            label_table: None,
            origin: Origin::Unsaid,
        }
    }

    /// The same with what is particular to the format.
    pub(crate) fn with_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same with channels, and the shape that the file itself counts.
    pub(crate) fn with_shape(self, channels: usize, file_shape: Vec<usize>) -> Self {
        Self { channels, file_shape, ..self }
    }

    /// The same with the label names that the file carries.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn with_label_table(self, label_table: Option<LabelTable>) -> Self {
        Self { label_table, ..self }
    }

    /// The grid: shape, and where its voxels lie in the patient.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Values a voxel: the length of the fourth axis, 1 without one.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The type of a value in the file.
    pub fn voxel_type(&self) -> VoxelType {
        self.voxel_type
    }

    /// The shape in file order, first axis first: x, y, z, and the fourth where the file has one.
    pub fn file_shape(&self) -> &[usize] {
        &self.file_shape
    }

    /// The file's format; none when the volume came from no file.
    pub fn format(&self) -> Option<VolumeFormat> {
        self.format
    }

    /// The label names that the file carries, if it is a mask that has them. WebAssembly has [`Source::label_text`]
    /// instead.
    #[cfg(not(target_family = "wasm"))]
    pub fn label_table(&self) -> Option<&LabelTable> {
        self.label_table.as_ref()
    }

    /// The label names as the JSON text that a NIfTI file carries, not looked at. A browser has a reader of JSON; ours
    /// would be a third of all that the viewer loads.
    pub fn label_text(&self) -> Option<&str> {
        match &self.origin {
            Origin::Nifti(header) => header.label_text(),
            _ => None,
        }
    }

    /// The DICOM series that the volume is, if it is one.
    #[cfg(all(feature = "dicom", not(target_family = "wasm")))]
    pub fn series(&self) -> Option<&Series> {
        match &self.origin {
            Origin::Dicom(series) => Some(series),
            _ => None,
        }
    }

    /// The header with which a NIfTI file says the same: the file's own if it was one, else made from the grid.
    pub(crate) fn nifti_header(&self) -> Result<NiftiHeader, Problem> {
        match &self.origin {
            Origin::Nifti(header) => Ok(header.as_ref().clone()),
            _ => NiftiHeader::from_geometry(&self.geometry),
        }
    }
}

impl From<Geometry> for Source {
    /// Of a volume that came from no file.
    fn from(geometry: Geometry) -> Self {
        Self { format: None, ..Self::new(VolumeFormat::Nifti1, geometry, VoxelType::Float32) }
    }
}
