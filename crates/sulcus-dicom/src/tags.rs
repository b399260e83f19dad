//! The attributes that are read (DICOM PS3.6). All others are skipped, so that no other patient data enters memory.

/// Group (high 16 bits) and element (low 16 bits).
pub(crate) type Tag = u32;

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        $($(#[$doc])* pub(crate) const $name: Tag = $value;)*
        const READ: &[Tag] = &[$($value),*];
    };
}

tags! {
    TRANSFER_SYNTAX = 0x0002_0010,
    CHARACTER_SET = 0x0008_0005,
    IMAGE_TYPE = 0x0008_0008,
    SOP_CLASS = 0x0008_0016,
    SOP_INSTANCE = 0x0008_0018,
    STUDY_DATE = 0x0008_0020,
    STUDY_TIME = 0x0008_0030,
    ACCESSION_NUMBER = 0x0008_0050,
    MODALITY = 0x0008_0060,
    REFERRING_PHYSICIAN = 0x0008_0090,
    SERIES_DESCRIPTION = 0x0008_103E,
    PATIENT_NAME = 0x0010_0010,
    PATIENT_ID = 0x0010_0020,
    PATIENT_BIRTH_DATE = 0x0010_0030,
    PATIENT_SEX = 0x0010_0040,
    SLICE_THICKNESS = 0x0018_0050,
    ECHO_TIME = 0x0018_0081,
    SPACING_BETWEEN_SLICES = 0x0018_0088,
    TRIGGER_TIME = 0x0018_1060,
    /// Frequency rows, frequency columns, phase rows, phase columns.
    ACQUISITION_MATRIX = 0x0018_1310,
    EFFECTIVE_ECHO_TIME = 0x0018_9082,
    DIFFUSION_B_VALUE = 0x0018_9087,
    MR_ECHO = 0x0018_9114,
    MR_DIFFUSION = 0x0018_9117,
    CARDIAC_SYNCHRONIZATION = 0x0018_9118,
    /// The creator of the private elements of block 10 in this group.
    MOSAIC_CREATOR = 0x0019_0010,
    /// NumberOfImagesInMosaic, if the creator is `SIEMENS MR HEADER`.
    IMAGES_IN_MOSAIC = 0x0019_100A,
    STUDY_UID = 0x0020_000D,
    SERIES_UID = 0x0020_000E,
    STUDY_ID = 0x0020_0010,
    ACQUISITION_NUMBER = 0x0020_0012,
    POSITION = 0x0020_0032,
    ORIENTATION = 0x0020_0037,
    FRAME_OF_REFERENCE = 0x0020_0052,
    TEMPORAL_POSITION = 0x0020_0100,
    FRAME_CONTENT = 0x0020_9111,
    PLANE_POSITION = 0x0020_9113,
    PLANE_ORIENTATION = 0x0020_9116,
    TEMPORAL_INDEX = 0x0020_9128,
    TRIGGER_DELAY = 0x0020_9153,
    SAMPLES_PER_PIXEL = 0x0028_0002,
    PHOTOMETRIC = 0x0028_0004,
    FRAMES = 0x0028_0008,
    ROWS = 0x0028_0010,
    COLUMNS = 0x0028_0011,
    PIXEL_SPACING = 0x0028_0030,
    BITS_ALLOCATED = 0x0028_0100,
    BITS_STORED = 0x0028_0101,
    HIGH_BIT = 0x0028_0102,
    SIGNED = 0x0028_0103,
    PIXEL_PADDING = 0x0028_0120,
    RESCALE_INTERCEPT = 0x0028_1052,
    RESCALE_SLOPE = 0x0028_1053,
    MODALITY_LUT = 0x0028_3000,
    PIXEL_MEASURES = 0x0028_9110,
    PIXEL_TRANSFORMATION = 0x0028_9145,
    /// The creator of the private elements of block 10 in this group.
    CSA_CREATOR = 0x0029_0010,
    /// CSAImageHeaderInfo, if the creator is `SIEMENS CSA HEADER`.
    CSA_IMAGE_HEADER = 0x0029_1010,
    /// DetectorInformationSequence of nuclear medicine, which holds the position and orientation of the frames.
    DETECTORS = 0x0054_0022,
    SEGMENTATION_TYPE = 0x0062_0001,
    SEGMENTS = 0x0062_0002,
    SEGMENT_NUMBER = 0x0062_0004,
    SEGMENT_LABEL = 0x0062_0005,
    SEGMENT_DESCRIPTION = 0x0062_0006,
    SEGMENT_IDENTIFICATION = 0x0062_000A,
    REFERENCED_SEGMENT = 0x0062_000B,
    SEGMENT_COLOR = 0x0062_000D,
    /// GridFrameOffsetVector of dose grids: the distance of each frame from the first.
    FRAME_OFFSETS = 0x3004_000C,
    SHARED_GROUPS = 0x5200_9229,
    FRAME_GROUPS = 0x5200_9230,
    FLOAT_PIXEL_DATA = 0x7FE0_0008,
    DOUBLE_PIXEL_DATA = 0x7FE0_0009,
    PIXEL_DATA = 0x7FE0_0010,
}

pub(crate) const ITEM: Tag = 0xFFFE_E000;
pub(crate) const ITEM_END: Tag = 0xFFFE_E00D;
pub(crate) const SEQUENCE_END: Tag = 0xFFFE_E0DD;

/// Whether the attribute is read.
pub(crate) fn is_read(tag: Tag) -> bool {
    READ.binary_search(&tag).is_ok()
}

/// Whether the attribute is a sequence. Files with implicit value representations do not state it.
pub(crate) fn is_sequence(tag: Tag) -> bool {
    matches!(
        tag,
        MR_ECHO
            | MR_DIFFUSION
            | CARDIAC_SYNCHRONIZATION
            | FRAME_CONTENT
            | PLANE_POSITION
            | PLANE_ORIENTATION
            | MODALITY_LUT
            | PIXEL_MEASURES
            | PIXEL_TRANSFORMATION
            | SEGMENTS
            | SEGMENT_IDENTIFICATION
            | DETECTORS
            | SHARED_GROUPS
            | FRAME_GROUPS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_for_binary_search() {
        assert!(READ.is_sorted());
        assert!(is_read(PIXEL_DATA) && is_read(IMAGE_TYPE) && !is_read(0x0010_1010));
    }
}
