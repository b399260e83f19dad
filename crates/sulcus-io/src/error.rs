use std::fmt;
use std::path::{Path, PathBuf};

use sulcus_volume::VolumeError;

/// Why a file could not be read or written: the [`Problem`], and the file where one is known.
///
/// Shown as one sentence that is complete in itself, the path last; its source is there for programs that look into it.
#[derive(Debug)]
pub struct IoError {
    problem: Box<Problem>,
    path: Option<PathBuf>,
}

impl IoError {
    /// A problem with a file.
    pub fn in_file(path: &Path, problem: Problem) -> Self {
        Self { problem: Box::new(problem), path: Some(path.to_path_buf()) }
    }

    /// What went wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The file, where the bytes came from one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The same problem, now that the file is known; a path that is already there stays.
    #[cfg(feature = "dicom")]
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_path_buf());
        self
    }
}

impl From<Problem> for IoError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), path: None }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", self.problem, path.display()),
            None => self.problem.fmt(f),
        }
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// What can go wrong between a file and a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system refused.
    #[error("cannot {action}: {reason}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system says, and what to do about it.
        reason: String,
        /// Its error.
        #[source]
        source: std::io::Error,
    },
    /// A folder where a file belongs.
    #[error("cannot {action}: expected a file, found a folder; name a file in it")]
    Folder {
        /// What was being done.
        action: &'static str,
    },
    /// A file without content.
    #[error(
        "cannot read a volume: the file is empty (0 bytes); it was not copied or written to its end, get it again"
    )]
    Empty,
    /// Fewer bytes than a header.
    #[error(
        "cannot read the NIfTI header: expected at least {expected} bytes, found {found}; the file is cut short or is no NIfTI file, get it again"
    )]
    ShortHeader {
        /// Bytes of a header.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Something else altogether.
    #[error("cannot read a volume: expected NIfTI (.nii, .nii.gz or .hdr/.img), found {found}; {hint}")]
    NotNifti {
        /// What the content looks like.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// Analyze 7.5.
    #[error(
        "cannot read a volume: this is an Analyze 7.5 header, not NIfTI (no magic n+1 or ni1), and it doesn't say which side is left; convert it to NIfTI with a tool that knows where it came from"
    )]
    Analyze,
    /// A header whose magic is none that NIfTI knows.
    #[error(
        "cannot read the NIfTI header: expected the magic {expected}, found `{found}`; the header is damaged, get the file again"
    )]
    Magic {
        /// Those of its version.
        expected: &'static str,
        /// The four bytes, escaped.
        found: String,
    },
    /// A field of the header that contradicts itself or the standard.
    #[error("cannot {action} the NIfTI header: expected {expected}, found {found}; {hint}")]
    Header {
        /// What was being done with it: `read` or `write`.
        action: &'static str,
        /// What the standard asks for.
        expected: String,
        /// What the field says.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// A field of a text header (NRRD, MetaImage) that is missing, contradicts itself or the format.
    #[error("cannot read the {format} header: expected {expected}, found {found}; {hint}")]
    TextHeader {
        /// `NRRD` or `MetaImage`.
        format: &'static str,
        /// What the format asks for.
        expected: String,
        /// What the header says.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// zlib data that is wrong or ends early.
    #[error(
        "cannot decompress the voxels: their zlib data {reason} after {found} of {expected} bytes; get the file again"
    )]
    Zlib {
        /// What is wrong with it, as a verb.
        reason: &'static str,
        /// Bytes inflated before that.
        found: usize,
        /// Bytes that the volume needs.
        expected: u64,
    },
    /// Voxels written as text that are no numbers of their type, or too few.
    #[error(
        "cannot read the voxels: expected {expected} numbers of type {dtype} as text, found {found}; get the file again"
    )]
    TextVoxels {
        /// How many the header announces.
        expected: u64,
        /// NumPy's name of the type.
        dtype: &'static str,
        /// How many there are, or which word is none.
        found: String,
    },
    /// The file that a header names for its voxels, outside the header's folder.
    #[error(
        "cannot read the voxels: the header names a data file outside its own folder, expected a plain file name; put the file beside the header and correct the name in it"
    )]
    DataFileOutside,
    /// A header and voxels in two files, where one was given.
    #[error(
        "cannot read a volume: its header says that the voxels are in a file beside it; give the path of the header in the folder with both"
    )]
    DataFileMissing,
    /// A file that is no label table.
    #[error(
        "cannot read the label table: expected a label description of ITK-SNAP, a colour table of 3D Slicer (.ctbl or CSV) or a label colormap of NiiVue (JSON), found none of them; give one of these"
    )]
    NoLabelTable,
    /// A line of a label table that can't be read.
    #[error(
        "cannot read the label table: expected a line of {format} with a value from 0 to {most}, a name and colours from 0 to 255, found {found} in line {line}; correct the line"
    )]
    LabelTableLine {
        /// Whose format it is.
        format: &'static str,
        /// Its number, from 1.
        line: usize,
        /// The greatest label value.
        most: u16,
        /// What it says.
        found: String,
    },
    /// A label colormap of NiiVue whose lists don't fit together.
    #[error("cannot read the label table: expected a label colormap of NiiVue, but {reason}; correct the file")]
    LabelColormap {
        /// What is wrong.
        reason: String,
    },
    /// A name that doesn't say how to write a label table.
    #[error(
        "cannot write the label table: expected a file name that ends in .txt (ITK-SNAP), .ctbl or .csv (3D Slicer) or .json (NiiVue); rename the output"
    )]
    LabelTableName,
    /// Segments of a `.seg.nrrd` that cannot become one label map.
    #[error("cannot read the segmentation: {reason}; {hint}")]
    Segments {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// A voxel type that holds no single number, or one that no computer here has.
    #[error(
        "cannot read the voxels: type {name} is not supported, expected whole numbers of 8 to 64 bits, float32 or float64; {hint}"
    )]
    UnsupportedType {
        /// nibabel's name of the type.
        name: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The header announces more voxels than the file holds.
    #[error(
        "cannot read the voxels: the header announces shape {shape} of {dtype}, {expected} bytes with what comes before them, but the file holds {found}; it was cut short or its header is wrong, get it again"
    )]
    TooFewVoxels {
        /// The shape, as x × y × z.
        shape: String,
        /// The type of a voxel.
        dtype: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes there, or at most there.
        found: String,
    },
    /// gzip data that ends early.
    #[error(
        "cannot decompress the file: its gzip data ends after {found} of {expected} bytes; the download or copy was cut short, get the file again"
    )]
    TruncatedGzip {
        /// Bytes inflated before the end.
        found: usize,
        /// Bytes that the volume needs.
        expected: u64,
    },
    /// gzip data that is wrong.
    #[error(
        "cannot decompress the file: its gzip data is damaged ({reason}) after {found} bytes; get the file again"
    )]
    DamagedGzip {
        /// What is wrong with it.
        reason: &'static str,
        /// Bytes inflated before that.
        found: usize,
    },
    /// The other file of a `.hdr`/`.img` pair.
    #[error(
        "cannot read a volume: {found} was there, but not its partner, expected {expected} beside it; copy both files of the pair"
    )]
    Partner {
        /// The file that exists.
        found: String,
        /// The names looked for.
        expected: String,
    },
    /// A name that doesn't say how to write.
    #[error(
        "cannot write the volume: expected a file name that ends in .nii, .nii.gz, .hdr, .img, .nrrd, .seg.nrrd, .nhdr, .mha or .mhd; rename the output"
    )]
    OutputName,
    /// A header and voxels in two files, where one was given.
    #[error(
        "cannot read a volume: the header says (magic ni1 or ni2) that its voxels are in a separate .img file; give the .hdr and .img files, or convert the pair to .nii"
    )]
    Detached,
    /// DICOM files that can't be taken as they are.
    #[cfg(all(feature = "dicom", not(target_family = "wasm")))]
    #[error(transparent)]
    Dicom(Box<crate::dicom::DicomProblem>),
    /// A map to the patient that can't be used.
    #[error(
        "cannot place the volume in the patient from its {form}: {source}; repair the header before using the file"
    )]
    Transform {
        /// sform, qform or pixdim.
        form: &'static str,
        /// What is wrong with it.
        #[source]
        source: Box<VolumeError>,
    },
    /// A volume whose parts don't fit together.
    #[error("cannot {action}: {source}")]
    Volume {
        /// What was being done.
        action: &'static str,
        /// What is wrong.
        #[source]
        source: Box<VolumeError>,
    },
    /// More than this machine can hold.
    #[error(
        "cannot {action}: {bytes} bytes do not fit in memory; use a machine with more, or crop or downsample the volume first"
    )]
    Memory {
        /// What was being done.
        action: &'static str,
        /// Bytes asked for.
        bytes: u64,
    },
    /// A value that single precision can't hold.
    #[error(
        "cannot read the image: its values run from {min:e} to {max:e}, more than single precision holds (±3.4e38); rescale the image first"
    )]
    Range {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// More than one axis of channels.
    #[error(
        "cannot read the image: expected x, y, z and one more axis with channels, found shape {shape}; split the file, or put its channels along the fourth axis"
    )]
    ManyAxes {
        /// The shape, as x × y × z × …
        shape: String,
    },
    /// A unit of length that programs take differently.
    #[error(
        "cannot tell the size of a voxel: the header counts in {unit} (xyzt_units), by which some programs scale its {spacing} and others take them for millimetres; set the sizes and sform in millimetres and the unit to 2"
    )]
    Unit {
        /// Its name.
        unit: &'static str,
        /// The numbers in the header, as x × y × z.
        spacing: String,
    },
    /// A mask with channels.
    #[error(
        "cannot read labels: expected one value a voxel (a 3-D volume), found {channels} along the fourth axis; give one 3-D label map"
    )]
    LabelChannels {
        /// How many.
        channels: usize,
    },
    /// A mask with values that are no labels.
    #[error(
        "cannot read labels: expected whole numbers from 0 to 65535, found {example} and the like in {count} voxel(s); this is an image or a probability map, not a label map, or it was resampled with interpolation"
    )]
    LabelValue {
        /// The first that is none.
        example: f64,
        /// How many voxels hold such a value.
        count: usize,
    },
}
