use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sulcus_volume::VolumeError;

/// Why DICOM files could not be read, or a segmentation could not be written. The message never contains patient data.
///
/// Displayed as one sentence that is complete in itself, with the path last.
#[derive(Debug)]
pub struct DicomError {
    kind: DicomErrorKind,
    details: Box<Details>,
    path: Option<PathBuf>,
}

/// The categories of DICOM errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DicomErrorKind {
    /// There is no DICOM image where one was expected.
    NoImages,
    /// The requested series does not exist.
    SeriesNotFound,
    /// A file ends early, or its elements contradict each other.
    Damaged,
    /// A file has no pixel data.
    NoPixelData,
    /// The pixels are encoded in an unsupported way.
    TransferSyntax,
    /// A pixel is not one number, or has an unsupported number of bits.
    PixelFormat,
    /// The amount of pixel data does not match the rows, columns and frames in the header.
    PixelLength,
    /// Compressed pixels that cannot be decoded.
    Compression,
    /// The files do not state where the slices lie in the patient.
    MissingGeometry,
    /// An attribute has an invalid value.
    InvalidAttribute,
    /// The files belong to several patients.
    MixedPatients,
    /// The files belong to several studies.
    MixedStudies,
    /// The positions of the files refer to several coordinate systems.
    MixedFramesOfReference,
    /// The files come from several modalities, or contain several kinds of images.
    MixedModalities,
    /// The slices differ in size or pixel spacing.
    MixedSizes,
    /// The slices differ in orientation.
    MixedOrientations,
    /// There are localizer images among the slices.
    Localizers,
    /// A picture shows the slices of a volume as tiles, and its file does not describe them completely and consistently.
    Mosaic,
    /// Several slices lie at one position.
    DuplicateSlices,
    /// The series holds several volumes, such as time points, echoes or diffusion weightings.
    MultipleVolumes,
    /// Slices are missing.
    MissingSlices,
    /// The distances between slices differ.
    UnevenSpacing,
    /// The slices are sheared against each other by a tilted gantry.
    GantryTilt,
    /// The file is not a segmentation, or not one that a label map can hold.
    Segmentation,
    /// The grid of a volume is invalid, or differs from the expected one.
    Geometry,
    /// The operating system refused access to a file or folder.
    Io,
    /// There is not enough memory.
    OutOfMemory,
    /// A segmentation could not be encoded.
    Encoding,
}

#[derive(Debug)]
struct Details {
    action: &'static str,
    cause: Cause,
}

#[derive(Debug, Clone)]
enum Cause {
    Mismatch { expected: String, found: String, hint: &'static str },
    Geometry(VolumeError),
    Encoding(String),
    Memory { bytes: u64 },
    Io(std::sync::Arc<io::Error>),
}

impl DicomError {
    pub(crate) fn new(
        kind: DicomErrorKind,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        let cause = Cause::Mismatch { expected: expected.into(), found: found.into(), hint };
        Self::with_cause(kind, "read the DICOM series", cause)
    }

    pub(crate) fn geometry(action: &'static str, source: VolumeError) -> Self {
        Self::with_cause(DicomErrorKind::Geometry, action, Cause::Geometry(source))
    }

    pub(crate) fn encoding(action: &'static str, reason: String) -> Self {
        Self::with_cause(DicomErrorKind::Encoding, action, Cause::Encoding(reason))
    }

    pub(crate) fn out_of_memory(bytes: u64) -> Self {
        Self::with_cause(DicomErrorKind::OutOfMemory, "read the voxels", Cause::Memory { bytes })
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::with_cause(DicomErrorKind::Io, action, Cause::Io(source.into())).at(path)
    }

    fn with_cause(kind: DicomErrorKind, action: &'static str, cause: Cause) -> Self {
        Self { kind, details: Box::new(Details { action, cause }), path: None }
    }

    /// The same error, with another description of what was being done.
    pub(crate) fn doing(mut self, action: &'static str) -> Self {
        self.details.action = action;
        self
    }

    /// The same error, where something else was expected.
    pub(crate) fn expecting(mut self, wanted: &str) -> Self {
        if let Cause::Mismatch { expected, .. } = &mut self.details.cause {
            *expected = wanted.to_owned();
        }
        self
    }

    /// The same error with the path of its file; a path that is already set stays.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// The category of the error.
    pub fn kind(&self) -> DicomErrorKind {
        self.kind
    }

    /// What was being done, such as `read the DICOM series`.
    pub fn action(&self) -> &'static str {
        self.details.action
    }

    /// The file or folder, or for data in memory `file N`, counted from 1.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Takes the path out, for errors that show it themselves.
    pub fn take_path(&mut self) -> Option<PathBuf> {
        self.path.take()
    }

    /// The error of the operating system, if the kind is [`DicomErrorKind::Io`].
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.details.cause {
            Cause::Io(source) => Some(source),
            _ => None,
        }
    }

    /// The error of the grid, if the kind is [`DicomErrorKind::Geometry`].
    pub fn volume_error(&self) -> Option<&VolumeError> {
        match &self.details.cause {
            Cause::Geometry(source) => Some(source),
            _ => None,
        }
    }

    /// The number of bytes that could not be allocated, if the kind is [`DicomErrorKind::OutOfMemory`].
    pub fn bytes(&self) -> Option<u64> {
        match self.details.cause {
            Cause::Memory { bytes } => Some(bytes),
            _ => None,
        }
    }
}

impl Clone for DicomError {
    fn clone(&self) -> Self {
        let Details { action, cause } = &*self.details;
        Self { path: self.path.clone(), ..Self::with_cause(self.kind, action, cause.clone()) }
    }
}

impl fmt::Display for DicomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.details.action)?;
        match &self.details.cause {
            Cause::Mismatch { expected, found, hint } => write!(f, "expected {expected}, found {found}; {hint}")?,
            Cause::Geometry(source) => source.fmt(f)?,
            Cause::Encoding(reason) => f.write_str(reason)?,
            Cause::Memory { bytes } => write!(
                f,
                "{bytes} bytes do not fit in memory; use a machine with more, or crop or downsample the volume first"
            )?,
            Cause::Io(source) => source.fmt(f)?,
        }
        self.path.as_ref().map_or(Ok(()), |path| write!(f, ": {}", path.display()))
    }
}

/// The message contains the cause, so there is no source to report beside it.
impl std::error::Error for DicomError {}
