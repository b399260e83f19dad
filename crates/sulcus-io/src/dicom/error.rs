use std::fmt;

use crate::error::Problem;

/// Why DICOM files cannot be taken as they are: what was expected, what was found, what to do. Never says anything of
/// the patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DicomProblem {
    doing: &'static str,
    fault: DicomFault,
    expected: String,
    found: String,
    hint: &'static str,
}

/// What is wrong with DICOM files, for programs to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DicomFault {
    /// No DICOM image where one was looked for.
    NoImages,
    /// The series asked for is not there.
    NoSuchSeries,
    /// A file ends early, or its elements contradict each other.
    Damaged,
    /// A file without pixels.
    NoPixels,
    /// Pixels encoded in a way that is not read.
    TransferSyntax,
    /// Pixels that hold no single number, or of an odd size.
    PixelFormat,
    /// More or fewer pixels than rows, columns and frames announce.
    PixelLength,
    /// Compressed pixels that cannot be decoded.
    Compression,
    /// The files don't say where their slices lie in the patient.
    NoPlace,
    /// Rescaling or another attribute that makes no sense.
    Attribute,
    /// Slices of different sizes.
    MixedSizes,
    /// Slices that look along different axes.
    MixedOrientations,
    /// Overview pictures among the slices.
    Localizers,
    /// One slice several times.
    Duplicates,
    /// Several volumes in one series: times, echoes, directions.
    Temporal,
    /// Gaps.
    MissingSlices,
    /// Distances between slices that differ.
    UnevenSpacing,
    /// Slices shifted against each other: a tilted gantry.
    Tilt,
    /// A segmentation that is no label map, or none at all.
    Segmentation,
}

impl DicomProblem {
    pub(crate) fn new(
        fault: DicomFault,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { doing: "read the DICOM series", fault, expected: expected.into(), found: found.into(), hint }
    }

    /// The same, while something else was being done.
    pub(crate) fn doing(mut self, doing: &'static str) -> Self {
        self.doing = doing;
        self
    }

    /// What is wrong.
    pub fn fault(&self) -> DicomFault {
        self.fault
    }
}

impl fmt::Display for DicomProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: expected {}, found {}; {}", self.doing, self.expected, self.found, self.hint)
    }
}

impl std::error::Error for DicomProblem {}

impl From<DicomProblem> for Problem {
    fn from(problem: DicomProblem) -> Self {
        Self::Dicom(Box::new(problem))
    }
}
