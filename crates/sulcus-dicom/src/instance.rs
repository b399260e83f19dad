//! The checked description of one DICOM file: its pixel layout, and the position and scaling of its frames.

use super::dataset::Dataset;
use super::error::{DicomError, DicomErrorKind};
use super::tags::{self, Tag};

/// The SOP class of segmentations with binary or fractional segments.
pub(crate) const SEGMENTATION_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.66.4";
/// The SOP class of segmentations whose pixels are segment numbers.
const LABEL_MAP_SEGMENTATION_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.66.7";
/// The SOP class of a DICOMDIR.
pub(crate) const DIRECTORY_STORAGE: &str = "1.2.840.10008.1.3.10";

/// Whether the SOP class is that of a segmentation.
pub(crate) fn is_segmentation_class(sop_class: &str) -> bool {
    [SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE].contains(&sop_class)
}

const NUCLEAR_MEDICINE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.20";

/// How the pixels of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PixelLayout {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) frames: usize,
    pub(crate) format: PixelFormat,
}

/// The numeric type of a pixel, by the size and sign of its stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PixelType {
    /// Unsigned 8-bit integer.
    Uint8,
    /// Signed 8-bit integer.
    Int8,
    /// Unsigned 16-bit integer.
    Uint16,
    /// Signed 16-bit integer.
    Int16,
    /// Unsigned 32-bit integer.
    Uint32,
    /// Signed 32-bit integer.
    Int32,
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
}

/// The representation of one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixelFormat {
    /// An integer in `stored` of `allocated` bits, whose most significant bit is `high`.
    Integer { allocated: u16, stored: u16, high: u16, signed: bool },
    /// Single precision.
    Float,
    /// Double precision.
    Double,
}

impl PixelFormat {
    /// Bytes of a pixel.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Integer { allocated, .. } => usize::from(allocated / 8),
            Self::Float => 4,
            Self::Double => 8,
        }
    }

    pub(crate) fn pixel_type(self) -> PixelType {
        match self {
            Self::Integer { allocated: 8, signed: false, .. } => PixelType::Uint8,
            Self::Integer { allocated: 8, signed: true, .. } => PixelType::Int8,
            Self::Integer { allocated: 16, signed: false, .. } => PixelType::Uint16,
            Self::Integer { allocated: 16, signed: true, .. } => PixelType::Int16,
            Self::Integer { signed: false, .. } => PixelType::Uint32,
            Self::Integer { signed: true, .. } => PixelType::Int32,
            Self::Float => PixelType::Float32,
            Self::Double => PixelType::Float64,
        }
    }
}

impl PixelLayout {
    pub(crate) fn frame_pixels(&self) -> usize {
        // Each has at most 16 bits, so the product does not overflow.
        self.rows * self.columns
    }

    /// Reads the layout from a data set and checks it.
    pub(crate) fn read(set: &Dataset<'_>) -> Result<Self, DicomError> {
        let pixels = set.get(tags::PIXEL_DATA).is_some();
        let float = set.bytes(tags::FLOAT_PIXEL_DATA).is_some();
        let double = set.bytes(tags::DOUBLE_PIXEL_DATA).is_some();
        if !(pixels || float || double) {
            return Err(DicomError::new(
                DicomErrorKind::NoPixelData,
                "a file with pixels",
                "a file without pixel data",
                "it holds no image or was cut short: get it again, or move it out of the folder",
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
            return Err(DicomError::new(
                DicomErrorKind::PixelFormat,
                "values scaled by slope and intercept (RescaleSlope, RescaleIntercept)",
                "values from a table (ModalityLUTSequence)",
                "convert the series with software that applies the table, for example dcm2niix",
            ));
        }
        Ok(Self { rows, columns, frames, format: pixel_format(set, pixels, float)? })
    }
}

fn pixel_format(set: &Dataset<'_>, pixels: bool, float: bool) -> Result<PixelFormat, DicomError> {
    let refuse = |expected: &str, found: String, hint| {
        Err(DicomError::new(DicomErrorKind::PixelFormat, expected, found, hint))
    };
    let photometric = set.text(tags::PHOTOMETRIC).unwrap_or_else(|| "MONOCHROME2".into());
    let samples = set.short(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
    if samples != 1 || !photometric.starts_with("MONOCHROME") {
        let known = ["RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"];
        let name = known.iter().find(|k| **k == photometric).copied().unwrap_or("another kind of colour");
        return refuse(
            "one grey value per pixel (MONOCHROME1 or MONOCHROME2)",
            format!("{name}, {samples} value(s) per pixel"),
            "colour images, such as screenshots and fused images, are not scans: give the series that they were made from",
        );
    }
    if !pixels {
        return Ok(if float { PixelFormat::Float } else { PixelFormat::Double });
    }
    let allocated = set.short(tags::BITS_ALLOCATED).unwrap_or(16);
    if !matches!(allocated, 8 | 16 | 32) {
        return refuse(
            "8, 16 or 32 bits per pixel (BitsAllocated)",
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
        sign @ (0 | 1) => Ok(PixelFormat::Integer { allocated, stored, high, signed: sign == 1 }),
        other => {
            refuse("0 or 1 (PixelRepresentation)", other.to_string(), "the header is damaged, get the file again")
        }
    }
}

/// The position of a frame in DICOM's patient coordinates (LPS+ millimetres), and the scaling of its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// The centre of the first pixel.
    pub(crate) position: [f64; 3],
    /// The direction along a row, then down a column.
    pub(crate) orientation: [f64; 6],
    /// The distance between rows, then between columns.
    pub(crate) spacing: [f64; 2],
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    /// SpacingBetweenSlices or else SliceThickness: the distance to a neighbouring slice, for a single slice.
    pub(crate) thickness_mm: Option<f64>,
    /// The values of [`VOLUME_ATTRIBUTES`].
    pub(crate) volume_attributes: [Option<f64>; VOLUME_ATTRIBUTES.len()],
}

/// The attributes that distinguish the volumes of a series which holds several, with their names.
pub(crate) const VOLUME_ATTRIBUTES: [(Tag, &str); 6] = [
    (tags::TEMPORAL_POSITION, "time (TemporalPositionIdentifier)"),
    (tags::TEMPORAL_INDEX, "time (TemporalPositionIndex)"),
    (tags::ACQUISITION_NUMBER, "acquisition (AcquisitionNumber)"),
    (tags::ECHO_TIME, "echo (EchoTime)"),
    (tags::DIFFUSION_B_VALUE, "diffusion weighting (DiffusionBValue)"),
    (tags::TRIGGER_TIME, "cardiac phase (TriggerTime)"),
];

/// The frames of a file. A frame inherits the attributes that the file states once.
pub(crate) fn frames(set: &Dataset<'_>, count: usize) -> Result<Vec<Frame>, DicomError> {
    let shared = set.items(tags::SHARED_GROUPS).first();
    let own = set.items(tags::FRAME_GROUPS);
    if !own.is_empty() && own.len() != count {
        return Err(attribute(
            &format!("a description of each of the {count} frames (PerFrameFunctionalGroupsSequence)"),
            &own.len().to_string(),
        ));
    }
    if own.is_empty() && shared.is_none() && count > 1 {
        return frames_from_offsets(set, count);
    }
    if own.is_empty() && count > 1 {
        return Err(missing_geometry(NO_FRAME_POSITIONS));
    }
    if own.is_empty() {
        return Ok(vec![frame(&Groups { set, shared, own: None })?]);
    }
    own.iter().map(|own| frame(&Groups { set, shared, own: Some(own) })).collect()
}

const NO_FRAME_POSITIONS: &str = "several frames in one file without a position for each";

/// The frames of classic multi-frame files, which lie along the normal of the first frame. Dose grids store the distance
/// of each frame; nuclear medicine stores one signed step (PS3.3, C.8.4.15). Other kinds do not store the direction.
fn frames_from_offsets(set: &Dataset<'_>, count: usize) -> Result<Vec<Frame>, DicomError> {
    let first = frame(&Groups { set, shared: set.items(tags::DETECTORS).first(), own: None })?;
    let offsets: Vec<f64> = if let Some(text) = set.text(tags::FRAME_OFFSETS) {
        let offsets: Result<Vec<f64>, _> = text.split('\\').map(|part| part.trim().parse::<f64>()).collect();
        offsets.unwrap_or_default()
    } else if set.text(tags::SOP_CLASS).as_deref() == Some(NUCLEAR_MEDICINE_STORAGE)
        && let Ok(Some([step])) = set.decimals::<1>(tags::SPACING_BETWEEN_SLICES)
    {
        (0..count).map(|i| i as f64 * step).collect()
    } else {
        return Err(missing_geometry(NO_FRAME_POSITIONS));
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

/// The data sets that may contain an attribute of a frame, in the order of precedence: `own`, `shared`, `set`.
struct Groups<'s, 'a> {
    set: &'s Dataset<'a>,
    shared: Option<&'s Dataset<'a>>,
    own: Option<&'s Dataset<'a>>,
}

impl Groups<'_, '_> {
    /// The attribute of this frame, from the functional group `group` or from the file itself.
    fn decimals<const N: usize>(&self, group: Tag, tag: Tag) -> Result<Option<[f64; N]>, DicomError> {
        let in_group = |groups: Option<&Dataset<'_>>| {
            let Some(groups) = groups else { return Ok(None) };
            // A detector of nuclear medicine contains the attribute directly.
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

fn frame(groups: &Groups<'_, '_>) -> Result<Frame, DicomError> {
    let missing = |tag| missing_geometry(&format!("no {}", name(tag)));
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
    let positive = |tag| {
        let value = groups.decimals::<1>(tags::PIXEL_MEASURES, tag).ok().flatten();
        value.map(|[mm]| mm).filter(|mm| *mm > 0.0)
    };
    let thickness_mm = positive(tags::SPACING_BETWEEN_SLICES).or(positive(tags::SLICE_THICKNESS));
    // The frames of enhanced files have these in functional groups, some under other attributes than classic files.
    let own = |group: Tag| groups.own.and_then(|own| own.items(group).first());
    let file = |tag: Tag| groups.set.decimals::<1>(tag).ok().flatten().map(|[v]| v);
    let volume_attributes = VOLUME_ATTRIBUTES.map(|(tag, _)| match tag {
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
    Ok(Frame {
        position,
        orientation: unit(orientation)?,
        spacing,
        slope,
        intercept,
        thickness_mm,
        volume_attributes,
    })
}

/// Checks that the two directions have length 1 and are perpendicular.
fn unit(orientation: [f64; 6]) -> Result<[f64; 6], DicomError> {
    /// Some writers round to a few digits.
    const TOLERANCE: f64 = 0.01;
    /// Directions within the precision of a decimal string are used unchanged.
    const EXACT: f64 = 1e-4;
    let [a, b, c, d, e, f] = orientation;
    let lengths = [(a * a + b * b + c * c).sqrt(), (d * d + e * e + f * f).sqrt()];
    let dot = a * d + b * e + c * f;
    if lengths.iter().any(|l| (l - 1.0).abs() > TOLERANCE) || dot.abs() > TOLERANCE {
        return Err(attribute(
            "two perpendicular directions of length 1 (ImageOrientationPatient)",
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

pub(crate) fn attribute(expected: &str, found: &str) -> DicomError {
    DicomError::new(DicomErrorKind::InvalidAttribute, expected, found, "the header is damaged, get the file again")
}

fn missing_geometry(found: &str) -> DicomError {
    DicomError::new(
        DicomErrorKind::MissingGeometry,
        "slices with a position in the patient (ImagePositionPatient, ImageOrientationPatient, PixelSpacing)",
        found,
        "this is not a volume of slices, or it has lost its geometry: export the original series from the scanner or archive",
    )
}
