//! What one DICOM file says of itself, checked: pixels, frames and where they lie.

use super::dataset::Dataset;
use super::error::{DicomFault, DicomProblem};
use super::tags::{self, Tag};
use crate::voxels::VoxelType;

/// The SOP class of DICOM segmentations.
pub(crate) const SEGMENTATION_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.66.4";
/// The SOP class of a DICOMDIR.
pub(crate) const DIRECTORY_STORAGE: &str = "1.2.840.10008.1.3.10";

const NUCLEAR_MEDICINE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.20";

/// How the pixels of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PixelLayout {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) frames: usize,
    pub(crate) kind: PixelKind,
}

/// What one pixel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixelKind {
    /// A whole number in `stored` of `allocated` bits, the most significant one at `high`.
    Integer { allocated: u16, stored: u16, high: u16, signed: bool },
    /// A binary number of single precision.
    Float,
    /// One of double precision.
    Double,
}

impl PixelKind {
    /// Bytes of a pixel.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Integer { allocated, .. } => usize::from(allocated / 8),
            Self::Float => 4,
            Self::Double => 8,
        }
    }

    /// NumPy's name of it.
    pub(crate) fn voxel_type(self) -> VoxelType {
        match self {
            Self::Integer { allocated: 8, signed: false, .. } => VoxelType::Uint8,
            Self::Integer { allocated: 8, signed: true, .. } => VoxelType::Int8,
            Self::Integer { allocated: 16, signed: false, .. } => VoxelType::Uint16,
            Self::Integer { allocated: 16, signed: true, .. } => VoxelType::Int16,
            Self::Integer { signed: false, .. } => VoxelType::Uint32,
            Self::Integer { signed: true, .. } => VoxelType::Int32,
            Self::Float => VoxelType::Float32,
            Self::Double => VoxelType::Float64,
        }
    }
}

impl PixelLayout {
    pub(crate) fn frame_pixels(&self) -> usize {
        // Both are of 16 bits.
        self.rows * self.columns
    }

    /// Reads and checks it.
    pub(crate) fn read(set: &Dataset<'_>) -> Result<Self, DicomProblem> {
        let pixels = set.get(tags::PIXELS).is_some();
        let float = set.bytes(tags::FLOAT_PIXELS).is_some();
        let double = set.bytes(tags::DOUBLE_PIXELS).is_some();
        if !(pixels || float || double) {
            return Err(DicomProblem::new(
                DicomFault::NoPixels,
                "a file with pixels",
                "one without pixel data",
                "it holds no picture or was cut short: get it again, or move it out of the folder",
            ));
        }
        let size = |tag: Tag, name: &'static str| {
            set.short(tag).filter(|n| *n > 0).map(usize::from).ok_or_else(|| {
                let found = set.short(tag).map_or_else(|| "none".to_owned(), |n| n.to_string());
                attribute(&format!("a number of at least 1 ({name})"), &found)
            })
        };
        let (rows, columns) = (size(tags::ROWS, "Rows")?, size(tags::COLUMNS, "Columns")?);
        let frames = match set.decimals::<1>(tags::FRAMES) {
            Ok(None) => 1,
            Ok(Some([n])) if n.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&n) => n as usize,
            _ => return Err(attribute("at least 1 frame (NumberOfFrames)", "something else")),
        };
        if !set.items(tags::MODALITY_LUT).is_empty() {
            return Err(DicomProblem::new(
                DicomFault::PixelFormat,
                "values that slope and intercept give (RescaleSlope, RescaleIntercept)",
                "values from a table (ModalityLUTSequence)",
                "convert the series with software that applies the table, for example dcm2niix",
            ));
        }
        Ok(Self { rows, columns, frames, kind: pixel_kind(set, pixels, float)? })
    }
}

fn pixel_kind(set: &Dataset<'_>, pixels: bool, float: bool) -> Result<PixelKind, DicomProblem> {
    let refuse = |expected: &str, found: String, hint| {
        Err(DicomProblem::new(DicomFault::PixelFormat, expected, found, hint))
    };
    let photometric = set.text(tags::PHOTOMETRIC).unwrap_or_else(|| "MONOCHROME2".into());
    let samples = set.short(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
    if samples != 1 || !photometric.starts_with("MONOCHROME") {
        let known = ["RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"];
        let name = known.iter().find(|k| **k == photometric).copied().unwrap_or("another kind of colour");
        return refuse(
            "one grey value a pixel (MONOCHROME1 or MONOCHROME2)",
            format!("{name}, {samples} value(s) a pixel"),
            "colour pictures, such as screenshots and fused images, are no scans: give the series that they were made from",
        );
    }
    if !pixels {
        return Ok(if float { PixelKind::Float } else { PixelKind::Double });
    }
    let allocated = set.short(tags::BITS_ALLOCATED).unwrap_or(16);
    if !matches!(allocated, 8 | 16 | 32) {
        return refuse(
            "8, 16 or 32 bits a pixel (BitsAllocated)",
            allocated.to_string(),
            "convert the series with the software that it comes from",
        );
    }
    let stored = set.short(tags::BITS_STORED).unwrap_or(allocated);
    let high = set.short(tags::HIGH_BIT).unwrap_or_else(|| stored.saturating_sub(1));
    if stored == 0 || stored > allocated || high >= allocated || high + 1 < stored {
        return refuse(
            "bits that fit into their pixel",
            format!("{stored} bits up to bit {high} of {allocated} (BitsStored, HighBit, BitsAllocated)"),
            "the header is damaged, get the file again",
        );
    }
    match set.short(tags::SIGNED).unwrap_or(0) {
        sign @ (0 | 1) => Ok(PixelKind::Integer { allocated, stored, high, signed: sign == 1 }),
        other => {
            refuse("0 or 1 (PixelRepresentation)", other.to_string(), "the header is damaged, get the file again")
        }
    }
}

/// Where a frame lies, in the patient coordinates of DICOM (LPS+ millimetres), and what its values mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// The centre of its first pixel.
    pub(crate) position: [f64; 3],
    /// The direction along a row, then down a column.
    pub(crate) orientation: [f64; 6],
    /// Distance of rows, then of columns.
    pub(crate) spacing: [f64; 2],
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    /// What may tell volumes of one series apart, as [`PHASES`] lists them.
    pub(crate) phase: [Option<f64>; PHASES.len()],
}

/// What tells the volumes of a series apart, and what it is called.
pub(crate) const PHASES: [(Tag, &str); 6] = [
    (tags::TEMPORAL_POSITION, "time (TemporalPositionIdentifier)"),
    (tags::TEMPORAL_INDEX, "time (TemporalPositionIndex)"),
    (tags::ACQUISITION_NUMBER, "acquisition (AcquisitionNumber)"),
    (tags::ECHO_TIME, "echo (EchoTime)"),
    (tags::DIFFUSION_B_VALUE, "diffusion weighting (DiffusionBValue)"),
    (tags::TRIGGER_TIME, "phase of the heart (TriggerTime)"),
];

/// Where the frames of a file lie; frames share what the file says once.
pub(crate) fn frames(set: &Dataset<'_>, count: usize) -> Result<Vec<Frame>, DicomProblem> {
    let shared = set.items(tags::SHARED_GROUPS).first();
    let own = set.items(tags::FRAME_GROUPS);
    if !own.is_empty() && own.len() != count {
        return Err(attribute(
            &format!("a description of each of the {count} frames (PerFrameFunctionalGroupsSequence)"),
            &own.len().to_string(),
        ));
    }
    if own.is_empty() && shared.is_none() && count > 1 {
        return stacked(set, count);
    }
    if own.is_empty() && count > 1 {
        return Err(no_place("frames in one file without a word on where each lies"));
    }
    if own.is_empty() {
        return Ok(vec![frame(&Groups { set, shared, own: None })?]);
    }
    own.iter().map(|own| frame(&Groups { set, shared, own: Some(own) })).collect()
}

/// Frames of the older kind, which lie on the first one's normal: doses say how far from it each lies, nuclear medicine
/// by what step, whose sign is that of the direction (PS3.3, C.8.4.15). Others don't say which way they are stacked.
fn stacked(set: &Dataset<'_>, count: usize) -> Result<Vec<Frame>, DicomProblem> {
    let first = frame(&Groups { set, shared: set.items(tags::DETECTORS).first(), own: None })?;
    let offsets: Vec<f64> = if let Some(text) = set.text(tags::FRAME_OFFSETS) {
        let offsets: Result<Vec<f64>, _> = text.split('\\').map(|part| part.trim().parse::<f64>()).collect();
        offsets.unwrap_or_default()
    } else if set.text(tags::SOP_CLASS).as_deref() == Some(NUCLEAR_MEDICINE_STORAGE)
        && let Ok(Some([step])) = set.decimals::<1>(tags::SPACING_BETWEEN_SLICES)
    {
        (0..count).map(|i| i as f64 * step).collect()
    } else {
        return Err(no_place("frames in one file without a word on where each lies"));
    };
    let relative = offsets.first().is_some_and(|first| *first == 0.0);
    if offsets.len() != count || !relative || offsets.iter().any(|v| !v.is_finite()) {
        return Err(attribute(
            &format!("an offset for each of the {count} frames, from 0 (GridFrameOffsetVector)"),
            "something else",
        ));
    }
    let [a, b, c, d, e, f] = first.orientation;
    let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
    let moved = |offset: f64| {
        let mut frame = first.clone();
        frame.position.iter_mut().zip(normal).for_each(|(p, n)| *p += n * offset);
        frame
    };
    Ok(offsets.into_iter().map(moved).collect())
}

/// The places where an attribute of a frame may be, in the order of their rank.
struct Groups<'s, 'a> {
    set: &'s Dataset<'a>,
    shared: Option<&'s Dataset<'a>>,
    own: Option<&'s Dataset<'a>>,
}

impl Groups<'_, '_> {
    /// The attribute of this frame: from the functional group `group`, or from the file itself.
    fn decimals<const N: usize>(&self, group: Tag, tag: Tag) -> Result<Option<[f64; N]>, DicomProblem> {
        let in_group = |groups: Option<&Dataset<'_>>| {
            let Some(groups) = groups else { return Ok(None) };
            // A detector of nuclear medicine holds the attribute itself.
            groups.items(group).first().unwrap_or(groups).decimals::<N>(tag)
        };
        let found = match in_group(self.own) {
            Ok(None) => match in_group(self.shared) {
                Ok(None) => self.set.decimals::<N>(tag),
                other => other,
            },
            other => other,
        };
        found.map_err(|()| attribute(&format!("{N} number(s) in {}", name(tag)), "something else"))
    }
}

fn frame(groups: &Groups<'_, '_>) -> Result<Frame, DicomProblem> {
    let missing = |tag| no_place(&format!("no {}", name(tag)));
    let position =
        groups.decimals(tags::PLANE_POSITION, tags::POSITION)?.ok_or_else(|| missing(tags::POSITION))?;
    let orientation =
        groups.decimals(tags::PLANE_ORIENTATION, tags::ORIENTATION)?.ok_or_else(|| missing(tags::ORIENTATION))?;
    let spacing: [f64; 2] =
        groups.decimals(tags::PIXEL_MEASURES, tags::PIXEL_SPACING)?.ok_or_else(|| missing(tags::PIXEL_SPACING))?;
    if spacing.iter().any(|mm| *mm <= 0.0) {
        return Err(attribute("pixels larger than 0 mm (PixelSpacing)", &format!("{spacing:?}")));
    }
    let transformed = |tag| groups.decimals::<1>(tags::PIXEL_TRANSFORMATION, tag);
    let slope = transformed(tags::RESCALE_SLOPE)?.map_or(1.0, |[v]| v);
    let intercept = transformed(tags::RESCALE_INTERCEPT)?.map_or(0.0, |[v]| v);
    if slope == 0.0 {
        return Err(attribute("a slope other than 0 (RescaleSlope)", "0, which makes all pixels equal"));
    }
    // Frames of the newer kind say it in groups of their own, and in other attributes than files do.
    let own = |group: Tag| groups.own.and_then(|own| own.items(group).first());
    let file = |tag: Tag| groups.set.decimals::<1>(tag).ok().flatten().map(|[v]| v);
    let phase = PHASES.map(|(tag, _)| match tag {
        tags::TEMPORAL_INDEX => own(tags::FRAME_CONTENT).and_then(|content| content.long(tag)).map(f64::from),
        tags::DIFFUSION_B_VALUE => {
            own(tags::MR_DIFFUSION).and_then(|diffusion| diffusion.double(tag)).or_else(|| groups.set.double(tag))
        }
        tags::ECHO_TIME => {
            own(tags::MR_ECHO).and_then(|echo| echo.double(tags::EFFECTIVE_ECHO_TIME)).or_else(|| file(tag))
        }
        tags::TRIGGER_TIME => own(tags::CARDIAC_SYNCHRONIZATION)
            .and_then(|heart| heart.double(tags::TRIGGER_DELAY))
            .or_else(|| file(tag)),
        tag => file(tag),
    });
    Ok(Frame { position, orientation: unit(orientation)?, spacing, slope, intercept, phase })
}

/// Checks that the two directions are of length 1 and at right angles.
fn unit(orientation: [f64; 6]) -> Result<[f64; 6], DicomProblem> {
    /// Numbers rounded to a few digits still say where a scan lies.
    const TOLERANCE: f64 = 0.01;
    /// As precise as the standard's 16 characters: taken as they are.
    const EXACT: f64 = 1e-4;
    let [a, b, c, d, e, f] = orientation;
    let lengths = [(a * a + b * b + c * c).sqrt(), (d * d + e * e + f * f).sqrt()];
    let dot = a * d + b * e + c * f;
    if lengths.iter().any(|l| (l - 1.0).abs() > TOLERANCE) || dot.abs() > TOLERANCE {
        return Err(attribute(
            "two directions of length 1 at right angles (ImageOrientationPatient)",
            &format!("{orientation:?}"),
        ));
    }
    let [row, column] = lengths.map(|l| if (l - 1.0).abs() > EXACT { 1.0 / l } else { 1.0 });
    Ok([a * row, b * row, c * row, d * column, e * column, f * column])
}

fn name(tag: Tag) -> &'static str {
    match tag {
        tags::POSITION => "ImagePositionPatient",
        tags::ORIENTATION => "ImageOrientationPatient",
        tags::PIXEL_SPACING => "PixelSpacing",
        tags::RESCALE_SLOPE => "RescaleSlope",
        tags::RESCALE_INTERCEPT => "RescaleIntercept",
        _ => "an attribute",
    }
}

pub(crate) fn attribute(expected: &str, found: &str) -> DicomProblem {
    DicomProblem::new(DicomFault::Attribute, expected, found, "the header is damaged, get the file again")
}

fn no_place(found: &str) -> DicomProblem {
    DicomProblem::new(
        DicomFault::NoPlace,
        "slices that say where they lie in the patient (ImagePositionPatient, ImageOrientationPatient, PixelSpacing)",
        found,
        "this is no volume of slices, or it lost its geometry: export the original series from the scanner or archive",
    )
}
