use std::borrow::Cow;

use sulcus_volume::Geometry;
#[cfg(not(target_family = "wasm"))]
use sulcus_volume::LabelTable;

#[cfg(all(feature = "dicom", not(target_family = "wasm")))]
use crate::dicom::Series;
use crate::error::{IoError, Problem};
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
    unit: Unit,
    is_label_map: bool,
    #[cfg(not(target_family = "wasm"))]
    label_table: Option<LabelTable>,
    origin: Origin,
}

/// In what the header counts lengths, as far as programs agree on what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Millimetres, said or understood.
    Millimetre,
    /// Another one: ITK scales by it, nibabel doesn't.
    Doubtful(&'static str),
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
            unit: Unit::Millimetre,
            is_label_map: false,
            #[cfg(not(target_family = "wasm"))]
            label_table: None,
            origin: Origin::Unsaid,
        }
    }

    /// The same, said to count in a unit.
    pub(crate) fn in_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// The same, said by the file to be a label map.
    pub(crate) fn of_labels(self) -> Self {
        Self { is_label_map: true, ..self }
    }

    /// That the voxels can be worked with: one axis of channels at most, and lengths in millimetres.
    pub(crate) fn check_usable(&self) -> Result<(), Problem> {
        if self.file_shape.iter().skip(3).filter(|n| **n > 1).count() > 1 {
            return Err(Problem::ManyAxes { shape: shape_text(&self.file_shape) });
        }
        match self.unit {
            Unit::Millimetre => Ok(()),
            Unit::Doubtful(unit) => Err(Problem::Unit {
                unit,
                spacing: self.geometry.spacing().mm().map(|v| format!("{v}")).join(" × "),
            }),
        }
    }

    /// The same with values of another type, or another number of channels along the fourth axis.
    pub fn with_values(self, voxel_type: VoxelType, channels: usize) -> Self {
        let fourth = Some(channels).filter(|n| *n > 1);
        let file_shape = self.geometry.shape().into_iter().chain(fourth).collect();
        Self { voxel_type, channels, file_shape, ..self }
    }

    /// A volume that was made from this one on another grid: type, names, and what a header says of the values and of the
    /// axes after the third stay; what it says of the place is now `geometry`.
    ///
    /// # Errors
    /// When a NIfTI header cannot say where the grid lies, or this one counts in another unit than millimetres.
    pub fn on_grid(&self, geometry: &Geometry) -> Result<Self, IoError> {
        self.check_usable()?;
        let after = self.file_shape.iter().skip(3).copied();
        let file_shape = geometry.shape().into_iter().chain(after).collect();
        let origin = match &self.origin {
            Origin::Nifti(header) => Origin::Nifti(Box::new(header.on_grid(geometry)?)),
            _ => Origin::Unsaid,
        };
        Ok(Self { geometry: *geometry, file_shape, unit: Unit::Millimetre, origin, ..self.clone() })
    }

    /// The same with label names for masks.
    #[cfg(not(target_family = "wasm"))]
    pub fn with_names(self, table: LabelTable) -> Self {
        self.with_label_table(Some(table))
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

    /// Whether the file itself says that its values are labels: by its intent, its names, or its kind.
    pub fn is_label_map(&self) -> bool {
        #[cfg(not(target_family = "wasm"))]
        let named = self.label_table.is_some();
        #[cfg(target_family = "wasm")]
        let named = self.label_text().is_some();
        self.is_label_map || named
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
    pub(crate) fn nifti_header(&self) -> Result<Cow<'_, NiftiHeader>, Problem> {
        match &self.origin {
            Origin::Nifti(header) => Ok(Cow::Borrowed(header)),
            _ => Ok(Cow::Owned(NiftiHeader::from_geometry(&self.geometry)?)),
        }
    }
}

impl From<Geometry> for Source {
    /// Of a volume that came from no file.
    fn from(geometry: Geometry) -> Self {
        Self { format: None, ..Self::new(VolumeFormat::Nifti1, geometry, VoxelType::Float32) }
    }
}

/// A shape as messages have it: `2 × 3 × 4`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}
