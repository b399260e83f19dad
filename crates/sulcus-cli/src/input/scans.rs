//! Scans and masks of every format. A DICOM folder may contain several series, of which one can be selected.

use std::path::{Path, PathBuf};

use sulcus_dicom::SegmentationOptions;
use sulcus_io::dicom::{self, SeriesScan};
use sulcus_io::{IoError, Scan, StoredVolume, VolumeMetadata};
use sulcus_volume::{LabelMap, LabelTable};

use crate::error::{CaseError, CliError};
use crate::output::Ui;

/// Whether the path is a DICOM file, or a folder with DICOM files.
pub(crate) fn is_dicom(path: &Path) -> bool {
    if path.is_dir() { sulcus_dicom::holds_dicom(path) } else { sulcus_dicom::is_dicom_file(path) }
}

/// Reads the headers of a scan, of a DICOM folder those of this series.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn read_metadata(path: &Path, series: Option<&str>) -> Result<VolumeMetadata, IoError> {
    if series.is_some() && is_dicom(path) {
        return dicom::read_series_metadata(path, series);
    }
    sulcus_io::read_metadata(path)
}

/// Refuses `--series` for a path that is not a DICOM series.
///
/// # Errors
/// Wrong usage.
pub(crate) fn check_series(path: &Path, series: Option<&str>) -> Result<(), CliError> {
    if series.is_none() || is_dicom(path) {
        return Ok(());
    }
    Err(CliError::usage(format_args!(
        "--series names a series of a DICOM folder, but this path is not DICOM: {}",
        path.display()
    )))
}

/// Reads a scan from a file or a DICOM folder. Prints and returns what the DICOM reader decided, such as which of several series
/// it took.
///
/// # Errors
/// When the scan cannot be read, or the folder has no series with the UID `series`.
pub(crate) fn read_scan(path: &Path, series: Option<&str>, ui: Ui) -> Result<(Scan, Vec<String>), IoError> {
    if !(path.is_dir() || sulcus_dicom::is_dicom_file(path)) {
        return Ok((sulcus_io::read_scan(path)?, Vec::new()));
    }
    let SeriesScan { scan, notes, .. } = dicom::read_series(path, series)?;
    notes.iter().for_each(|text| ui.note(text));
    Ok((scan, notes))
}

/// Reads a volume in the voxel type of its file; a DICOM series as [`read_scan`] does.
///
/// # Errors
/// As [`read_scan`].
pub(crate) fn read_stored(path: &Path, series: Option<&str>, ui: Ui) -> Result<StoredVolume<'static>, IoError> {
    if !is_dicom(path) || sulcus_dicom::is_segmentation(path) {
        return sulcus_io::read_stored(path);
    }
    let (volume, notes) = dicom::read_series_stored(path, series)?;
    notes.iter().for_each(|text| ui.note(text));
    Ok(volume)
}

/// What the file of a mask records about its origin, where the format has a place for it.
pub(crate) struct MaskOrigin<'a> {
    /// The models that segmented the scan.
    pub(crate) models: &'a [PathBuf],
    /// Whether the patient's data are copied from the scan.
    pub(crate) keep_patient: bool,
}

/// Writes a mask; as a DICOM segmentation when the name ends in `.dcm`.
///
/// # Errors
/// If the file cannot be written, or a DICOM segmentation is requested for a scan that is not a DICOM series.
pub(crate) fn write_mask(
    path: &Path,
    labels: &LabelMap,
    source: &VolumeMetadata,
    table: &LabelTable,
    origin: &MaskOrigin<'_>,
) -> Result<(), CaseError> {
    if !is_dicom_name(path) {
        return sulcus_io::write_labels(path, labels, source, table).map_err(|error| CaseError::caused_by(&error));
    }
    let Some(series) = source.series() else {
        return Err(CaseError::new(format_args!(
            "a DICOM segmentation refers to the series that it was made from, but the scan is not a DICOM series; give the \
             folder of the series, or write .nii.gz: {}",
            path.display()
        )));
    };
    let names: Vec<_> = origin.models.iter().filter_map(|m| m.file_stem()).map(|n| n.to_string_lossy()).collect();
    let mut options = SegmentationOptions::new(env!("CARGO_PKG_VERSION"));
    if !names.is_empty() {
        options = options.by_model(names.join(" + "));
    }
    if origin.keep_patient {
        options = options.with_patient();
    }
    dicom::write_segmentation(path, labels, series, table, &options).map_err(|error| CaseError::caused_by(&error))
}

/// Whether a file of this name is written as DICOM.
pub(crate) fn is_dicom_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"))
}
