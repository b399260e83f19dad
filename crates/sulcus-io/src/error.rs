use std::fmt;
use std::path::{Path, PathBuf};

use sulcus_volume::VolumeError;

/// Why a file could not be read or written: the [`IoErrorKind`] with its data, and the path if it is known.
///
/// Displayed as one sentence that is complete in itself, with the path last.
#[derive(Debug)]
pub struct IoError {
    kind: Box<IoErrorKind>,
    path: Option<PathBuf>,
}

impl IoError {
    /// An error that concerns this file.
    pub(crate) fn in_file(path: &Path, kind: IoErrorKind) -> Self {
        Self { kind: Box::new(kind), path: Some(path.to_path_buf()) }
    }

    /// What went wrong, without the path.
    pub fn kind(&self) -> &IoErrorKind {
        &self.kind
    }

    /// The file; `None` for data in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The same error with the path of its file; a path that is already set stays.
    #[cfg(feature = "dicom")]
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }
}

impl From<IoErrorKind> for IoError {
    fn from(kind: IoErrorKind) -> Self {
        Self { kind: Box::new(kind), path: None }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", self.kind, path.display()),
            None => self.kind.fmt(f),
        }
    }
}

/// The message contains the cause, so there is no source to report beside it. The cause is in the [`IoErrorKind`].
impl std::error::Error for IoError {}

impl From<VolumeError> for IoErrorKind {
    fn from(cause: VolumeError) -> Self {
        Self::Volume { action: "put the voxels on their grid", cause: cause.into() }
    }
}

/// What went wrong between a file and a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoErrorKind {
    /// The operating system reported an error.
    #[error("cannot {action}: {reason}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the error means, and what to do.
        reason: String,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The path is a folder instead of a file.
    #[error("cannot {action}: expected a file, found a folder; name a file in it")]
    Folder {
        /// What was being done.
        action: &'static str,
    },
    /// The file is empty.
    #[error(
        "cannot read a volume: the file is empty (0 bytes); it was not copied or written to its end, get it again"
    )]
    Empty,
    /// The file is shorter than a header.
    #[error(
        "cannot read the NIfTI header: expected at least {expected} bytes, found {found}; the file is cut short or is not a NIfTI file, get it again"
    )]
    ShortHeader {
        /// The length of a header in bytes.
        expected: usize,
        /// The length of the file in bytes.
        found: usize,
    },
    /// The content has no known volume format.
    #[error("cannot read a volume: expected NIfTI (.nii, .nii.gz or .hdr/.img), found {found}; {hint}")]
    UnknownFormat {
        /// The kind of file that the content resembles.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// The file is Analyze 7.5, a format without orientation.
    #[error(
        "cannot read a volume: this is an Analyze 7.5 header, not NIfTI (no magic n+1 or ni1), and it does not state which side is left; convert it to NIfTI with the software that created it"
    )]
    Analyze,
    /// The magic is unknown in NIfTI.
    #[error(
        "cannot read the NIfTI header: expected the magic {expected}, found `{found}`; the header is damaged, get the file again"
    )]
    Magic {
        /// The valid values.
        expected: &'static str,
        /// The four bytes, escaped.
        found: String,
    },
    /// A field of a NIfTI header violates the standard or contradicts another field.
    #[error("cannot {action} the NIfTI header: expected {expected}, found {found}; {hint}")]
    Header {
        /// `read` or `write`.
        action: &'static str,
        /// What the standard requires.
        expected: String,
        /// The value of the field.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// A field of a text header (NRRD, MetaImage) is missing, violates the format or contradicts another field.
    #[error("cannot read the {format} header: expected {expected}, found {found}; {hint}")]
    TextHeader {
        /// `NRRD` or `MetaImage`.
        format: &'static str,
        /// What the format requires.
        expected: String,
        /// The value in the header.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// A picture is damaged, or not of a kind that can be used.
    #[cfg(feature = "pictures")]
    #[error("cannot read the {format} picture: {what}; {hint}")]
    Picture {
        /// `PNG`, `JPEG` or `TIFF`.
        format: &'static str,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A volume cannot be written as a picture.
    #[cfg(feature = "pictures")]
    #[error("cannot write the volume as {format}: {what}; {hint}")]
    PictureOutput {
        /// `PNG`, `JPEG` or `TIFF`.
        format: &'static str,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The zlib data is damaged or ends early.
    #[error(
        "cannot decompress the voxels: their zlib data {reason} after {found} of {expected} bytes; get the file again"
    )]
    Zlib {
        /// What is wrong, as a verb phrase.
        reason: &'static str,
        /// The number of bytes that were inflated.
        found: usize,
        /// The number of bytes that the volume needs.
        expected: u64,
    },
    /// Voxels stored as text are invalid or incomplete.
    #[error(
        "cannot read the voxels: expected {expected} numbers of type {dtype} as text, found {found}; get the file again"
    )]
    TextVoxels {
        /// The number of values that the header announces.
        expected: u64,
        /// NumPy's name of the type.
        dtype: &'static str,
        /// The number of values, or the first invalid word.
        found: String,
    },
    /// The header names a voxel file outside its own folder.
    #[error(
        "cannot read the voxels: the header names a data file outside its own folder, expected a plain file name; put the file beside the header and correct the name in it"
    )]
    DataFileOutside,
    /// The header names a separate voxel file, and only the header was given.
    #[error(
        "cannot read a volume: its header says that the voxels are in a file beside it; give the path of the header in the folder with both"
    )]
    DataFileMissing,
    /// The content is not a label table.
    #[error(
        "cannot read the label table: expected a label description of ITK-SNAP, a colour table of 3D Slicer (.ctbl or CSV) or a label colormap of NiiVue (JSON), found none of them; give one of these"
    )]
    NoLabelTable,
    /// A line of a label table is invalid.
    #[error(
        "cannot read the label table: expected a line of {format} with a value from 0 to {max}, a name and colours from 0 to 255, found {found} in line {line}; correct the line"
    )]
    LabelTableLine {
        /// The name of the format.
        format: &'static str,
        /// The line number, from 1.
        line: usize,
        /// The largest label value.
        max: u16,
        /// The content of the line.
        found: String,
    },
    /// The lists of a NiiVue label colormap are inconsistent.
    #[error("cannot read the label table: expected a label colormap of NiiVue, but {reason}; correct the file")]
    LabelColormap {
        /// What is wrong.
        reason: String,
    },
    /// The file name has no ending of a label table.
    #[error(
        "cannot write the label table: expected a file name that ends in .txt (ITK-SNAP), .ctbl or .csv (3D Slicer) or .json (NiiVue); rename the output"
    )]
    LabelTableName,
    /// The segments of a `.seg.nrrd` cannot form one label map.
    #[error("cannot read the segmentation: {reason}; {hint}")]
    Segments {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The voxel type is not a single number, or has no native representation.
    #[error(
        "cannot read the voxels: type {name} is not supported, expected whole numbers of 8 to 64 bits, float32 or float64; {hint}"
    )]
    UnsupportedType {
        /// The name of the type in nibabel.
        name: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The header announces more voxels than the file contains.
    #[error(
        "cannot read the voxels: the header announces shape {shape} of {dtype}, {expected} bytes with what comes before them, but the file holds {found}; it was cut short or its header is wrong, get it again"
    )]
    TooFewVoxels {
        /// The shape, as x × y × z.
        shape: String,
        /// NumPy's name of the voxel type.
        dtype: &'static str,
        /// The required number of bytes.
        expected: u64,
        /// The number of bytes in the file, or an upper limit.
        found: String,
    },
    /// The gzip data ends early.
    #[error(
        "cannot decompress the file: its gzip data ends after {found} of {expected} bytes; the download or copy was cut short, get the file again"
    )]
    TruncatedGzip {
        /// The number of bytes that were inflated.
        found: usize,
        /// The number of bytes that the volume needs.
        expected: u64,
    },
    /// The gzip data is damaged.
    #[error(
        "cannot decompress the file: its gzip data is damaged ({reason}) after {found} bytes; get the file again"
    )]
    DamagedGzip {
        /// What is wrong.
        reason: &'static str,
        /// The number of bytes that were inflated.
        found: usize,
    },
    /// The compressed data continues long after the last voxel.
    #[error(
        "cannot decompress the file: the header announces {expected} bytes, but its compressed data has more than {surplus} bytes after them; the header is wrong or the file is not a volume, get it again"
    )]
    TrailingData {
        /// The number of bytes that the volume needs.
        expected: u64,
        /// How many bytes may follow.
        surplus: u64,
    },
    /// The other file of a `.hdr`/`.img` pair is missing.
    #[error(
        "cannot read a volume: the second file of the pair is missing, expected {expected} beside {found}; copy both files"
    )]
    MissingPairFile {
        /// The name of the file that exists.
        found: String,
        /// The expected names.
        expected: String,
    },
    /// The file name has no ending of a format that can be written.
    #[error("cannot write the volume: expected a file name that ends in {endings}; rename the output")]
    OutputName {
        /// The known endings, as a list for people.
        endings: String,
    },
    /// A NIfTI header has its voxels in a separate file, and only the header was given.
    #[error(
        "cannot read a volume: the header says (magic ni1 or ni2) that its voxels are in a separate .img file; give the .hdr and .img files, or convert the pair to .nii"
    )]
    DetachedVoxels,
    /// DICOM files that cannot be read, or a segmentation that cannot be written.
    #[cfg(feature = "dicom")]
    #[error("{0}")]
    Dicom(Box<sulcus_dicom::DicomError>),
    /// The transform from voxels to the patient is unusable.
    #[error(
        "cannot place the volume in the patient from its {form}: {cause}; repair the header before using the file"
    )]
    Transform {
        /// The name of the field, such as sform, qform or pixdim.
        form: &'static str,
        /// What is wrong.
        cause: Box<VolumeError>,
    },
    /// The grid of a volume is invalid, or differs from the expected one.
    #[error("cannot {action}: {cause}")]
    Volume {
        /// What was being done.
        action: &'static str,
        /// What is wrong.
        cause: Box<VolumeError>,
    },
    /// There is not enough memory.
    #[error(
        "cannot {action}: {bytes} bytes do not fit in memory; use a machine with more, or crop or downsample the volume first"
    )]
    Memory {
        /// What was being done.
        action: &'static str,
        /// The number of bytes that could not be allocated.
        bytes: u64,
    },
    /// A value exceeds the range of single precision.
    #[error(
        "cannot read the image: its values run from {min:e} to {max:e}, more than single precision holds (±3.4e38); rescale the image first"
    )]
    Range {
        /// The smallest value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// There is more than one channel axis.
    #[error(
        "cannot read the image: expected x, y, z and one more axis with channels, found shape {shape}; split the file, or put its channels along the fourth axis"
    )]
    ManyAxes {
        /// The shape, as x × y × z × …
        shape: String,
    },
    /// The unit of length is not millimetres, and programs interpret it differently.
    #[error(
        "cannot determine the voxel size: the header gives {spacing} in {unit} (xyzt_units); some programs convert them to millimetres, others ignore the unit; set the sizes and sform in millimetres and the unit to 2"
    )]
    LengthUnit {
        /// The name of the unit.
        unit: &'static str,
        /// The voxel sizes in the header, as x × y × z.
        spacing: String,
    },
    /// A label map has channels.
    #[error(
        "cannot read labels: expected one value per voxel (a 3-D volume), found {channels} along the fourth axis; give one 3-D label map"
    )]
    LabelChannels {
        /// The number of channels.
        channels: usize,
    },
    /// A label map contains values that are not labels.
    #[error(
        "cannot read labels: expected whole numbers from 0 to 65535, found other values in {count} voxel(s), such as {example}; this is an image or a probability map, not a label map, or it was resampled with interpolation"
    )]
    LabelValue {
        /// The first invalid value.
        example: f64,
        /// The number of voxels with invalid values.
        count: usize,
    },
}
