//! Scans and masks of every format: reading with the series that was asked for, writing with what only some formats say.

use std::path::Path;

use sulcus_dicom::SegmentationOptions;
use sulcus_io::dicom;
use sulcus_io::{IoError, Scan, StoredVolume, VolumeMetadata};
use sulcus_volume::{LabelMap, LabelTable};

use crate::error::{CliError, with_causes};
use crate::ui::Ui;

/// Whether the path is a DICOM file, or a folder with such.
pub(crate) fn is_dicom(path: &Path) -> bool {
    if path.is_dir() { sulcus_dicom::holds_dicom(path) } else { sulcus_dicom::is_dicom_file(path) }
}

/// That a path can have several series, where one is named.
pub(crate) fn check_series(path: &Path, series: Option<&str>) -> Result<(), CliError> {
    if series.is_none() || is_dicom(path) {
        return Ok(());
    }
    Err(CliError::usage(format_args!(
        "--series names a series of a DICOM folder, and this is none: {}",
        path.display()
    )))
}

/// Reads a scan: a file, or a folder with DICOM, of which `series` names one by its UID. What the reader decided is told.
pub(crate) fn read_telling(path: &Path, series: Option<&str>, ui: Ui) -> Result<Scan, IoError> {
    if !(path.is_dir() || sulcus_dicom::is_dicom_file(path)) {
        return sulcus_io::read_scan(path);
    }
    let read = dicom::read_series(path, series)?;
    read.notes.iter().for_each(|text| ui.note(text));
    Ok(read.scan)
}

/// Reads a volume in the type of its file, of DICOM as [`read_telling`] does.
pub(crate) fn read_stored_telling(
    path: &Path,
    series: Option<&str>,
    ui: Ui,
) -> Result<StoredVolume<'static>, IoError> {
    if !is_dicom(path) || sulcus_dicom::is_segmentation(path) {
        return sulcus_io::read_stored(path);
    }
    let (volume, notes) = dicom::read_series_stored(path, series)?;
    notes.iter().for_each(|text| ui.note(text));
    Ok(volume)
}

/// What a mask's file says of how it came about, where its format has a place for that.
pub(crate) struct Making<'a> {
    /// The models that found the structures.
    pub(crate) models: &'a [std::path::PathBuf],
    /// Whether the patient's name and the like are copied from the scan.
    pub(crate) keep_patient: bool,
}

/// Writes a mask; as a DICOM segmentation when the name ends in `.dcm`.
pub(crate) fn write_mask(
    path: &Path,
    labels: &LabelMap,
    source: &VolumeMetadata,
    table: &LabelTable,
    making: &Making<'_>,
) -> Result<(), String> {
    if !is_dicom_name(path) {
        return sulcus_io::write_labels(path, labels, source, table).map_err(|e| with_causes(&e));
    }
    let Some(series) = source.series() else {
        return Err(format!(
            "a DICOM segmentation refers to the series that it was made from, and the scan is no DICOM series; \
             give the series' folder, or write .nii.gz: {}",
            path.display()
        ));
    };
    let names: Vec<_> = making.models.iter().filter_map(|m| m.file_stem()).map(|n| n.to_string_lossy()).collect();
    let mut options = SegmentationOptions::new(env!("CARGO_PKG_VERSION"));
    if !names.is_empty() {
        options = options.by_model(names.join(" + "));
    }
    if making.keep_patient {
        options = options.with_patient();
    }
    dicom::write_segmentation(path, labels, series, table, &options).map_err(|e| with_causes(&e))
}

/// Whether a file of this name is written as DICOM.
pub(crate) fn is_dicom_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"))
}
