//! `sulcus convert`: writes a volume in another format, orientation or grid or with other label names, or writes a label table.
//!
//! Values are interpolated only where voxels of the new grid lie between voxels of the old one. Otherwise they are copied as
//! they are stored, with their type and scale.

mod content_kind;
mod label_names;
mod resample;

use std::path::Path;

use sulcus_io::dicom;
use sulcus_io::{StoredVolume, Texts, VolumeMetadata};
use sulcus_volume::{Geometry, GridUnit, LabelTable, OrientationSource, Reorientation, Spacing};

use crate::args::ConvertArgs;
use crate::error::{CliError, with_causes};
use crate::files;
use crate::input::scans;
use crate::memory;
use crate::output::{Ui, join, rounded};

pub(crate) fn run(args: &ConvertArgs, ui: Ui) -> Result<(), CliError> {
    check_usage(args)?;
    if label_names::is_table(&args.output) {
        return label_names::write_table(args, ui);
    }
    memory::check_volume(&args.input, 0)?;
    let volume =
        scans::read_stored(&args.input, own_series(args), ui).map_err(|error| CliError::caused_by(&error))?;
    let target = target(args, volume.metadata().geometry())?;
    let is_oriented = volume.metadata().geometry().source() != OrientationSource::None;
    // On the same grid, NIfTI and NRRD can record that the orientation is unknown.
    let stays_unknown = target.is_none() && label_names::can_store(&args.output);
    if !is_oriented && !stays_unknown {
        ui.warn(format_args!(
            "the file does not define the orientation (it has no axis directions): left and right are a guess, which the \
             output may not record: {}",
            args.input.display()
        ));
    }
    let is_picture = volume.metadata().geometry().is_picture();
    if !is_picture && is_picture_name(&args.output) {
        ui.warn(format_args!(
            "a picture cannot store where the voxels are in the patient; its columns and rows are x and y of the scan: {}",
            args.output.display()
        ));
    }
    if target.is_none() && volume.metadata().geometry().unit() == GridUnit::Pixel && !is_picture_name(&args.output)
    {
        ui.warn(format_args!(
            "the picture does not state the size of its pixels; the output states voxels of 1 mm: {}",
            args.output.display()
        ));
    }
    let mut names = volume.metadata().label_table().cloned();
    let mut converted = match target {
        None => volume,
        Some(target) => resample::onto(volume, &target, args, ui)?,
    };
    if let Some(table) = &args.names {
        let (labels, source) = converted.into_labels().map_err(|error| {
            CliError::failed(format_args!("--names applies to label maps only: {}", with_causes(&error)))
        })?;
        let (labels, table) = label_names::named(labels, names.as_ref(), table, args, ui)?;
        names = Some(table);
        converted = resample::label_volume(&source, labels.geometry(), &labels)?;
    }
    if names.is_some() && !label_names::can_store(&args.output) {
        ui.warn(format_args!("the format cannot store the names of labels: {}", args.output.display()));
    }
    files::ensure_writable(&files::folder_of(&args.output))?;
    if scans::is_dicom_name(&args.output) {
        return segmentation(converted, &names.unwrap_or_default(), args, ui);
    }
    let texts = if args.keep_texts { Texts::Keep } else { Texts::Drop };
    sulcus_io::write_stored(&args.output, &converted, names.as_ref(), texts)
        .map_err(|error| CliError::caused_by(&error))?;
    ui.note(describe(&args.output, converted.metadata()));
    Ok(())
}

/// Writes a label map as a segmentation of the series that `--like` names.
fn segmentation(
    converted: StoredVolume<'_>,
    table: &LabelTable,
    args: &ConvertArgs,
    ui: Ui,
) -> Result<(), CliError> {
    let Some(reference) = args.like.as_ref().filter(|path| path.is_dir() || sulcus_dicom::is_dicom_file(path))
    else {
        return Err(CliError::usage(format_args!(
            "a DICOM segmentation belongs to a series, but --like names none: {}",
            args.output.display()
        ))
        .hint("give the folder of the DICOM series with --like"));
    };
    let like = reference_source(reference, args)?;
    let (labels, source) = converted.into_labels().map_err(|error| CliError::caused_by(&error))?;
    let origin = scans::MaskOrigin { models: &[], keep_patient: false };
    scans::write_mask(&args.output, &labels, &like, table, &origin)?;
    ui.note(describe(&args.output, &source));
    Ok(())
}

/// The selected series of IN.
fn own_series(args: &ConvertArgs) -> Option<&str> {
    args.series.as_deref().filter(|_| is_series(&args.input))
}

fn is_series(path: &Path) -> bool {
    scans::is_dicom(path) && !sulcus_dicom::is_segmentation(path)
}

/// The volume of `--like`; where IN is not a series, `--series` selects a series of REF.
fn reference_source(reference: &Path, args: &ConvertArgs) -> Result<VolumeMetadata, CliError> {
    let read = match args.series.as_deref() {
        Some(uid) if is_series(reference) && !is_series(&args.input) => {
            dicom::read_series_metadata(reference, Some(uid))
        }
        _ => sulcus_io::read_metadata(reference),
    };
    read.map_err(|error| CliError::caused_by(&error))
}

fn check_usage(args: &ConvertArgs) -> Result<(), CliError> {
    if !EXTENSIONS.iter().any(|extension| args.output.to_string_lossy().to_ascii_lowercase().ends_with(extension))
    {
        return Err(CliError::usage(format_args!(
            "OUT must end in one of {}, found {}",
            EXTENSIONS.join(", "),
            args.output.display()
        )));
    }
    if args.output.is_dir() {
        return Err(CliError::usage(format_args!("OUT is a folder, expected a file: {}", args.output.display())));
    }
    // A volume of two files has a second output file, which may be the input.
    let written = sulcus_io::output_files(&args.output);
    if args.series.is_some() && !is_series(&args.input) && !args.like.as_ref().is_some_and(|path| is_series(path))
    {
        return Err(CliError::usage(format_args!(
            "--series names a series of a DICOM folder, but neither IN nor REF is one: {}",
            args.input.display()
        )));
    }
    let read = [
        ("the input", Some(&args.input)),
        ("the reference", args.like.as_ref()),
        ("the table", args.names.as_ref()),
    ];
    for (what, path) in read {
        let of_path = path.into_iter().flat_map(|path| sulcus_io::input_files(path)).collect::<Vec<_>>();
        if of_path.iter().any(|path| written.iter().any(|file| files::same_file(path, file))) {
            return Err(CliError::usage(format_args!(
                "the output would overwrite {what}: {}",
                args.output.display()
            ))
            .hint("write to another name and rename it afterwards"));
        }
    }
    Ok(())
}

/// Extensions of the files that can be written.
const EXTENSIONS: &[&str] = &[
    ".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif",
    ".tiff", ".dcm", ".txt", ".label", ".ctbl", ".csv", ".json",
];

/// Whether a file of this name is written as a picture.
fn is_picture_name(path: &Path) -> bool {
    sulcus_io::mask_ending(path) != ".nii.gz"
}

/// The requested grid; `None` where the grid stays the same.
fn target(args: &ConvertArgs, own: &Geometry) -> Result<Option<Geometry>, CliError> {
    if let Some(reference) = &args.like {
        return Ok(Some(*reference_source(reference, args)?.geometry()));
    }
    let reoriented = args.orient.map(|to| Reorientation::between(own.orientation(), to).geometry(own));
    let Some(spacing) = &args.spacing else { return Ok(reoriented) };
    if own.unit() == GridUnit::Pixel {
        return Err(CliError::usage(format_args!(
            "--spacing takes sizes in millimetres, but the picture does not state the size of its pixels: {}",
            args.input.display()
        )));
    }
    let wrong = || CliError::usage("--spacing takes three sizes in millimetres, such as 1,1,1");
    let mm = <[f64; 3]>::try_from(spacing.as_slice()).map_err(|_| wrong())?;
    let spacing = Spacing::new(mm).map_err(|_| wrong())?;
    let from = reoriented.as_ref().unwrap_or(own);
    from.respaced(spacing).map(Some).map_err(|error| {
        let error = CliError::failed(format_args!(
            "resampling {} voxels of {} mm to {} mm: {}",
            join(&from.shape(), " × "),
            from.spacing().mm().map(rounded).join(" × "),
            mm.map(|mm| mm.to_string()).join(" × "),
            with_causes(&error)
        ));
        error.hint("choose larger voxels with --spacing; `sulcus info IN` shows the voxel size in the header, which may be wrong")
    })
}

fn describe(path: &Path, source: &VolumeMetadata) -> String {
    if source.geometry().unit() == GridUnit::Pixel {
        let shape = join(source.file_shape(), " × ");
        return format!("{}: {shape} pixels, {}", path.display(), source.voxel_type().name());
    }
    format!(
        "{}: {} voxels of {} mm, {}, {}",
        path.display(),
        join(source.file_shape(), " × "),
        source.geometry().spacing().mm().map(rounded).join(" × "),
        source.geometry().orientation(),
        source.voxel_type().name()
    )
}
