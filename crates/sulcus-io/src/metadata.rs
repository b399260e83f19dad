use std::borrow::Cow;

use serde::Serialize;
#[cfg(feature = "dicom")]
use sulcus_dicom::Series;
#[cfg(feature = "pictures")]
use sulcus_volume::Rgb;
use sulcus_volume::{Geometry, LabelTable};

use crate::error::{IoError, IoErrorKind};
use crate::format::nifti::header::NiftiHeader;
use crate::text::shape_text;
use crate::voxels::VoxelType;

/// The format of a volume's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum VolumeFormat {
    /// NIfTI-1, in one file or two.
    #[serde(rename = "nifti-1")]
    Nifti1,
    /// NIfTI-2, in one file or two.
    #[serde(rename = "nifti-2")]
    Nifti2,
    /// A DICOM series: a folder of slices, or one multi-frame file.
    #[serde(rename = "dicom")]
    Dicom,
    /// NRRD, in one file or two.
    #[serde(rename = "nrrd")]
    Nrrd,
    /// MetaImage, in one file or two.
    #[serde(rename = "metaimage")]
    MetaImage,
    /// A PNG picture.
    #[serde(rename = "png")]
    Png,
    /// A JPEG picture.
    #[serde(rename = "jpeg")]
    Jpeg,
    /// A TIFF picture, or a stack of them.
    #[serde(rename = "tiff")]
    Tiff,
}

/// Everything that a file states about a volume besides its voxels: grid, voxel type, label names, and the data that its
/// format needs to write results on the same grid without loss.
///
/// Every format is read into this type and written from it, whatever the original format was.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeMetadata {
    format: Option<VolumeFormat>,
    geometry: Geometry,
    file_shape: Vec<usize>,
    channels: usize,
    voxel_type: VoxelType,
    unit: LengthUnit,
    is_label_map: bool,
    label_table: Option<LabelTable>,
    format_metadata: FormatMetadata,
}

/// The unit of lengths in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LengthUnit {
    /// Millimetres, stated or by default.
    Millimetre,
    /// Another unit, with its name. ITK converts it to millimetres, nibabel does not.
    Ambiguous(&'static str),
}

/// The data that only one format has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FormatMetadata {
    /// Nothing besides the grid.
    None,
    /// The header, whose fields are written unchanged.
    Nifti(Box<NiftiHeader>),
    /// The series, which a segmentation references.
    #[cfg(feature = "dicom")]
    Dicom(Box<Series>),
    /// The colours of a picture with a palette.
    #[cfg(feature = "pictures")]
    Picture(PictureMetadata),
}

/// The colours of an indexed picture.
#[cfg(feature = "pictures")]
pub(crate) type Palette = Vec<Rgb>;

/// What the metadata of a picture contains besides its grid.
#[cfg(feature = "pictures")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PictureMetadata {
    /// The colours of the indices.
    pub(crate) palette: Option<Palette>,
    /// The number of values of a pixel, as an image.
    pub(crate) image_channels: usize,
}

impl VolumeMetadata {
    /// The metadata of a file with one value per voxel.
    pub(crate) fn new(format: VolumeFormat, geometry: Geometry, voxel_type: VoxelType) -> Self {
        Self {
            format: Some(format),
            geometry,
            file_shape: geometry.shape().to_vec(),
            channels: 1,
            voxel_type,
            unit: LengthUnit::Millimetre,
            is_label_map: false,
            label_table: None,
            format_metadata: FormatMetadata::None,
        }
    }

    pub(crate) fn with_unit(self, unit: LengthUnit) -> Self {
        Self { unit, ..self }
    }

    /// Marks the volume as a label map, as the file states.
    pub(crate) fn marked_as_label_map(self) -> Self {
        Self { is_label_map: true, ..self }
    }

    /// Checks that the voxels can be used: at most one channel axis, and lengths in millimetres.
    pub(crate) fn check_usable(&self) -> Result<(), IoErrorKind> {
        if self.file_shape.iter().skip(3).filter(|n| **n > 1).count() > 1 {
            return Err(IoErrorKind::ManyAxes { shape: shape_text(&self.file_shape) });
        }
        match self.unit {
            LengthUnit::Millimetre => Ok(()),
            LengthUnit::Ambiguous(unit) => Err(IoErrorKind::LengthUnit {
                unit,
                // Single precision, as in the header, hides the rounding of the transform.
                spacing: self.geometry.spacing().mm().map(|v| (v as f32).to_string()).join(" × "),
            }),
        }
    }

    /// The same metadata for values of another type, with this number of channels along the fourth axis.
    pub fn with_values(self, voxel_type: VoxelType, channels: usize) -> Self {
        let fourth = Some(channels).filter(|n| *n > 1);
        let file_shape = self.geometry.shape().into_iter().chain(fourth).collect();
        Self { voxel_type, channels, file_shape, ..self }
    }

    /// The metadata of a volume that was resampled to another grid. The voxel type, the names, and the header fields about
    /// the values and the axes after the third stay; the position in the patient becomes that of `geometry`.
    ///
    /// # Errors
    /// When a NIfTI header cannot represent the grid, or the lengths are not in millimetres.
    pub fn on_grid(&self, geometry: &Geometry) -> Result<Self, IoError> {
        self.check_usable()?;
        let after = self.file_shape.iter().skip(3).copied();
        let file_shape = geometry.shape().into_iter().chain(after).collect();
        let format_metadata = match &self.format_metadata {
            FormatMetadata::Nifti(header) => FormatMetadata::Nifti(Box::new(header.on_grid(geometry)?)),
            _ => FormatMetadata::None,
        };
        Ok(Self { geometry: *geometry, file_shape, unit: LengthUnit::Millimetre, format_metadata, ..self.clone() })
    }

    /// The same metadata with label names.
    pub fn with_names(self, table: LabelTable) -> Self {
        self.with_label_table(Some(table))
    }

    pub(crate) fn with_format_metadata(self, format_metadata: FormatMetadata) -> Self {
        Self { format_metadata, ..self }
    }

    /// The same metadata with channels, and the shape in the file.
    pub(crate) fn with_shape(self, channels: usize, file_shape: Vec<usize>) -> Self {
        Self { channels, file_shape, ..self }
    }

    pub(crate) fn with_label_table(self, label_table: Option<LabelTable>) -> Self {
        Self { label_table, ..self }
    }

    /// The grid: its shape, and its position in the patient.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The number of values per voxel: the length of the fourth axis, or 1 without one.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The number of channels when the volume is read as an image: that of the values, but 3 for a picture with a palette, whose
    /// values are indices of colours.
    pub fn image_channels(&self) -> usize {
        #[cfg(feature = "pictures")]
        if let FormatMetadata::Picture(picture) = &self.format_metadata {
            return picture.image_channels;
        }
        self.channels
    }

    /// The colours of the values, if the file is a picture with a palette.
    #[cfg(feature = "pictures")]
    pub(crate) fn palette(&self) -> Option<&[sulcus_volume::Rgb]> {
        match &self.format_metadata {
            FormatMetadata::Picture(picture) => picture.palette.as_deref(),
            _ => None,
        }
    }

    /// The memory in bytes that reading the volume as an image needs at most, beside the bytes of its file: the values as they are
    /// stored, and in single precision. Rows of a PNG and strips of a TIFF are converted one by one, except where a picture is
    /// interlaced, has a palette, or has its channels apart.
    pub fn memory_bytes(&self) -> u64 {
        let values = (self.geometry.voxels() as u64).saturating_mul(self.image_channels() as u64);
        let copies = match self.format {
            // A progressive JPEG keeps two bytes for each value while it is decoded.
            Some(VolumeFormat::Jpeg) => 4,
            // Indices and colours, or a slice before and after its channels are put together.
            Some(VolumeFormat::Tiff) => 2,
            Some(VolumeFormat::Png) if self.image_channels() != self.channels => 2,
            _ => 1,
        };
        values.saturating_mul((copies * self.voxel_type.bytes() + size_of::<f32>()) as u64)
    }

    /// The type of a value in the file.
    pub fn voxel_type(&self) -> VoxelType {
        self.voxel_type
    }

    /// The shape in the file, first axis first: x, y, z, and further axes if the file has them.
    pub fn file_shape(&self) -> &[usize] {
        &self.file_shape
    }

    /// The length of the fourth axis, if the file has one.
    pub(crate) fn fourth_axis(&self) -> Option<usize> {
        (self.file_shape.len() > 3).then_some(self.channels)
    }

    /// The file format; `None` for a volume that was not read from a file.
    pub fn format(&self) -> Option<VolumeFormat> {
        self.format
    }

    /// Whether the file itself states that its values are labels: by its intent, its label names, or its kind.
    pub fn is_label_map(&self) -> bool {
        // Without the feature the names are not parsed.
        let named =
            if cfg!(feature = "label-tables") { self.label_table.is_some() } else { self.label_text().is_some() };
        self.is_label_map || named
    }

    /// The label names in the file. Without the feature `label-tables` a NIfTI file has only [`Self::label_text`].
    pub fn label_table(&self) -> Option<&LabelTable> {
        self.label_table.as_ref()
    }

    /// The label names as the unparsed JSON text in a NIfTI file. The browser has a JSON parser; ours would be a third of
    /// the viewer's size.
    pub fn label_text(&self) -> Option<&str> {
        match &self.format_metadata {
            FormatMetadata::Nifti(header) => header.label_text(),
            _ => None,
        }
    }

    /// The DICOM series, if the volume was read from one.
    #[cfg(feature = "dicom")]
    pub fn series(&self) -> Option<&Series> {
        match &self.format_metadata {
            FormatMetadata::Dicom(series) => Some(series),
            _ => None,
        }
    }

    /// A NIfTI header for this volume: that of the file if it was NIfTI, otherwise one made from the grid.
    pub(crate) fn nifti_header(&self) -> Result<Cow<'_, NiftiHeader>, IoErrorKind> {
        match &self.format_metadata {
            FormatMetadata::Nifti(header) => Ok(Cow::Borrowed(header)),
            _ => Ok(Cow::Owned(NiftiHeader::from_geometry(&self.geometry)?)),
        }
    }
}

impl From<Geometry> for VolumeMetadata {
    /// The metadata of a volume that was not read from a file.
    fn from(geometry: Geometry) -> Self {
        Self { format: None, ..Self::new(VolumeFormat::Nifti1, geometry, VoxelType::Float32) }
    }
}
