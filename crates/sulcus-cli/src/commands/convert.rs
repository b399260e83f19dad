//! `sulcus convert`: another format, another orientation, another grid, other names; or a label table.
//!
//! Values are only interpolated where a voxel of the new grid lies between voxels of the old one. Everything else moves
//! them as they are stored, in their own type and scale.

use std::path::Path;

use sulcus_io::dicom;
use sulcus_io::{StoredVolume, Texts, VolumeMetadata, VoxelType};
use sulcus_volume::{
    Geometry, Image, Interpolation, LabelMap, LabelTable, OrientationSource, Regrid, Reorientation, Spacing,
};

use super::label_names;
use crate::args::ConvertArgs;
use crate::error::{CliError, Context, with_causes};
use crate::ui::{Ui, count};
use crate::{files, scans};

pub(crate) fn run(args: &ConvertArgs, ui: Ui) -> Result<(), CliError> {
    check_usage(args)?;
    if label_names::is_table(&args.output) {
        return label_names::write_table(args, ui);
    }
    let volume = scans::read_stored_telling(&args.input, own_series(args), ui)
        .map_err(|error| CliError::failed(with_causes(&error)))?;
    let target = target(args, volume.metadata().geometry())?;
    let placed = volume.metadata().geometry().source() != OrientationSource::None;
    // NIfTI and NRRD can leave it open, where nothing is moved.
    let stays_open = target.is_none() && !label_names::has_no_place(&args.output);
    if !placed && !stays_open {
        ui.warn(format_args!(
            "the file does not say how the patient lies (no direction of its axes): left and right are a guess, and the \
             output may not say so: {}",
            args.input.display()
        ));
    }
    let mut names = volume.metadata().label_table().cloned();
    let mut converted = match target {
        None => volume,
        Some(target) => onto(volume, &target, args, ui)?,
    };
    if let Some(table) = &args.names {
        let (labels, source) = converted.into_labels().map_err(|error| {
            CliError::failed(format_args!("only a label map takes names (--names): {}", with_causes(&error)))
        })?;
        names = Some(label_names::given(table, &labels, names.as_ref(), ui)?);
        converted = label_volume(&source, labels.geometry(), &labels)?;
    }
    if names.is_some() && label_names::has_no_place(&args.output) {
        ui.warn(format_args!("MetaImage has no place for the names of labels: {}", args.output.display()));
    }
    files::ensure_writable(&files::folder_of(&args.output))?;
    if scans::is_dicom_name(&args.output) {
        return segmentation(converted, &names.unwrap_or_default(), args, ui);
    }
    let texts = if args.keep_texts { Texts::Keep } else { Texts::Drop };
    sulcus_io::write_stored(&args.output, &converted, names.as_ref(), texts)
        .map_err(|error| CliError::failed(with_causes(&error)))?;
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
            "a DICOM segmentation belongs to a series, and --like names none: {}",
            args.output.display()
        ))
        .hint("name the folder of the DICOM series with --like"));
    };
    let like = reference_source(reference, args)?;
    let (labels, source) = converted.into_labels().map_err(|error| CliError::failed(with_causes(&error)))?;
    let making = scans::Making { models: &[], keep_patient: false };
    scans::write_mask(&args.output, &labels, &like, table, &making).map_err(CliError::failed)?;
    ui.note(describe(&args.output, &source));
    Ok(())
}

/// The series of IN that was named.
fn own_series(args: &ConvertArgs) -> Option<&str> {
    args.series.as_deref().filter(|_| is_series(&args.input))
}

fn is_series(path: &Path) -> bool {
    scans::is_dicom(path) && !sulcus_dicom::is_segmentation(path)
}

/// What `--like` says; where IN is no series, `--series` is one of REF.
fn reference_source(reference: &Path, args: &ConvertArgs) -> Result<VolumeMetadata, CliError> {
    let read = match args.series.as_deref() {
        Some(uid) if is_series(reference) && !is_series(&args.input) => {
            dicom::read_series_metadata(reference, Some(uid))
        }
        _ => sulcus_io::read_metadata(reference),
    };
    read.map_err(|error| CliError::failed(with_causes(&error)))
}

fn check_usage(args: &ConvertArgs) -> Result<(), CliError> {
    if !ENDINGS.iter().any(|ending| args.output.to_string_lossy().to_ascii_lowercase().ends_with(ending)) {
        return Err(CliError::usage(format_args!(
            "OUT must end in one of {}, found {}",
            ENDINGS.join(", "),
            args.output.display()
        )));
    }
    if args.output.is_dir() {
        return Err(CliError::usage(format_args!("OUT is a folder, name a file: {}", args.output.display())));
    }
    // A pair has a second file, which may be the one that was given.
    let written = sulcus_io::output_files(&args.output);
    if args.series.is_some() && !is_series(&args.input) && !args.like.as_ref().is_some_and(|path| is_series(path))
    {
        return Err(CliError::usage(format_args!(
            "--series names a series of a DICOM folder, and neither IN nor REF is one: {}",
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

/// Endings of files that can be written.
const ENDINGS: &[&str] = &[
    ".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".txt",
    ".label", ".ctbl", ".csv", ".json",
];

/// The grid that was asked for; none when it is to stay as it is.
fn target(args: &ConvertArgs, own: &Geometry) -> Result<Option<Geometry>, CliError> {
    if let Some(reference) = &args.like {
        return Ok(Some(*reference_source(reference, args)?.geometry()));
    }
    let turned = args.orient.map(|to| Reorientation::between(own.orientation(), to).geometry(own));
    let Some(spacing) = &args.spacing else { return Ok(turned) };
    let wrong = || CliError::usage("--spacing takes three sizes in millimetres, such as 1,1,1");
    let mm = <[f64; 3]>::try_from(spacing.as_slice()).map_err(|_| wrong())?;
    let spacing = Spacing::new(mm).map_err(|_| wrong())?;
    let respaced = turned.as_ref().unwrap_or(own).respaced(spacing);
    respaced.map(Some).context("making the new grid")
}

/// What the values are, and how it is known.
struct Kind {
    labels: bool,
    why: String,
}

fn kind(args: &ConvertArgs, volume: &StoredVolume<'_>) -> Kind {
    /// No scan has so few intensities.
    const MOST_LABELS: usize = 32;
    if args.labels {
        return Kind { labels: true, why: "as --labels says".into() };
    }
    if args.names.is_some() {
        return Kind { labels: true, why: "as --names says".into() };
    }
    if volume.metadata().is_label_map() {
        return Kind { labels: true, why: "as the file says".into() };
    }
    if let Ok((map, _)) = volume.clone().into_labels() {
        let values = map.counts().len();
        if values <= MOST_LABELS {
            return Kind { labels: true, why: format!("it has {} and no others", count(values, "whole value")) };
        }
    }
    Kind { labels: false, why: "it is no label map".into() }
}

/// The values on another grid.
fn onto(
    volume: StoredVolume<'static>,
    target: &Geometry,
    args: &ConvertArgs,
    ui: Ui,
) -> Result<StoredVolume<'static>, CliError> {
    let regrid = Regrid::new(volume.metadata().geometry(), target);
    let kind = kind(args, &volume);
    // Beyond the scan there is no label, and nothing brighter than its darkest voxel.
    let outside = match args.outside {
        Some(value) => value,
        None if kind.labels => 0.0,
        None => volume.info().min.unwrap_or_default(),
    };
    if regrid.moves_whole_voxels() {
        return moved(&volume, &regrid, outside);
    }
    let wanted = args.interpolation.map(Interpolation::from);
    let interpolation = wanted.unwrap_or(if kind.labels { Interpolation::Nearest } else { Interpolation::Linear });
    let what = if kind.labels { "label map" } else { "image" };
    let how = match interpolation {
        Interpolation::Nearest => "each voxel takes the nearest value",
        Interpolation::Linear if kind.labels => "labels are interpolated linearly one by one, the greatest counts",
        Interpolation::Linear => "linear interpolation, written as float32",
        Interpolation::Cubic => "cubic interpolation (spline of order 3), written as float32",
    };
    ui.note(format_args!("resampled as {what} ({}): {how}", kind.why));
    match (interpolation, kind.labels) {
        (Interpolation::Nearest, _) => moved(&volume, &regrid, outside),
        (Interpolation::Cubic, true) => Err(CliError::usage(
            "cubic interpolation makes labels out of nothing; use --interpolation nearest or linear on a label map",
        )),
        (Interpolation::Linear, true) => voted(volume, target),
        (interpolation, false) => interpolated(volume, target, interpolation, outside as f32),
    }
}

/// Each voxel takes the stored value of the nearest one, whatever its type.
fn moved(volume: &StoredVolume<'_>, regrid: &Regrid, outside: f64) -> Result<StoredVolume<'static>, CliError> {
    let (source, bytes) = (volume.metadata(), volume.bytes());
    let (slope, intercept) = volume.slope_and_intercept().unwrap_or((1.0, 0.0));
    let fill = stored_value(source.voxel_type(), (outside - intercept) / slope);
    let voxels = source.geometry().voxels();
    let taken = match source.voxel_type().bytes() {
        1 => taken::<1>(&bytes, voxels, regrid, fill),
        2 => taken::<2>(&bytes, voxels, regrid, fill),
        4 => taken::<4>(&bytes, voxels, regrid, fill),
        _ => taken::<8>(&bytes, voxels, regrid, fill),
    }?;
    let new = source.on_grid(regrid.target()).context("making the new header")?;
    let new = StoredVolume::new(new, taken).context("putting the values on the new grid")?;
    match volume.slope_and_intercept() {
        Some((slope, intercept)) => new.scaled(slope, intercept).context("keeping slope and intercept"),
        None => Ok(new),
    }
}

fn taken<const N: usize>(
    bytes: &[u8],
    voxels: usize,
    regrid: &Regrid,
    fill: [u8; 8],
) -> Result<Vec<u8>, CliError> {
    let (values, _) = bytes.as_chunks::<N>();
    // Little-endian: the first bytes of the widest form are the narrower one.
    let fill: [u8; N] = std::array::from_fn(|i| fill.get(i).copied().unwrap_or_default());
    let mut out = Vec::new();
    for channel in values.chunks_exact(voxels.max(1)) {
        out.extend(regrid.nearest(channel, fill).context("resampling")?.as_flattened());
    }
    Ok(out)
}

/// The stored form of a value, as near as the type comes to it, little-endian.
fn stored_value(voxel_type: VoxelType, value: f64) -> [u8; 8] {
    let whole = value.round();
    match voxel_type {
        VoxelType::Float32 => u64::from((value as f32).to_bits()).to_le_bytes(),
        VoxelType::Float64 => value.to_le_bytes(),
        // Casts from floats stop at the ends of the type; the bits of the wider one begin with the narrower one's.
        VoxelType::Uint8 => u64::from(whole as u8).to_le_bytes(),
        VoxelType::Uint16 => u64::from(whole as u16).to_le_bytes(),
        VoxelType::Uint32 => u64::from(whole as u32).to_le_bytes(),
        VoxelType::Int8 => i64::from(whole as i8).to_le_bytes(),
        VoxelType::Int16 => i64::from(whole as i16).to_le_bytes(),
        VoxelType::Int32 => i64::from(whole as i32).to_le_bytes(),
        VoxelType::Int64 => (whole as i64).to_le_bytes(),
        _ => (whole as u64).to_le_bytes(),
    }
}

fn voted(volume: StoredVolume<'static>, target: &Geometry) -> Result<StoredVolume<'static>, CliError> {
    let (labels, source) = volume.into_labels().map_err(|error| CliError::failed(with_causes(&error)))?;
    let labels: LabelMap = labels.onto_smoothly(target).context("resampling")?;
    label_volume(&source, target, &labels)
}

/// Labels as a volume, in the smallest type that holds them.
fn label_volume(
    source: &VolumeMetadata,
    target: &Geometry,
    labels: &LabelMap,
) -> Result<StoredVolume<'static>, CliError> {
    let small = labels.data().iter().all(|label| u8::try_from(*label).is_ok());
    let (voxel_type, bytes): (_, Vec<u8>) = if small {
        (VoxelType::Uint8, labels.data().iter().map(|label| *label as u8).collect())
    } else {
        (VoxelType::Uint16, labels.data().iter().flat_map(|label| label.to_le_bytes()).collect())
    };
    put_on_grid(source, target, voxel_type, bytes)
}

fn interpolated(
    volume: StoredVolume<'static>,
    target: &Geometry,
    interpolation: Interpolation,
    outside: f32,
) -> Result<StoredVolume<'static>, CliError> {
    let scan = volume.into_scan().map_err(|error| CliError::failed(with_causes(&error)))?;
    let image: Image = scan.image.onto(target, interpolation, outside).context("resampling")?;
    let bytes = image.data().iter().flat_map(|value| value.to_le_bytes()).collect();
    put_on_grid(&scan.metadata, target, VoxelType::Float32, bytes)
}

fn put_on_grid(
    source: &VolumeMetadata,
    target: &Geometry,
    voxel_type: VoxelType,
    bytes: Vec<u8>,
) -> Result<StoredVolume<'static>, CliError> {
    let channels = source.channels();
    let new = source.on_grid(target).context("making the new header")?.with_values(voxel_type, channels);
    StoredVolume::new(new, bytes).context("putting the values on the new grid")
}

fn describe(path: &Path, source: &VolumeMetadata) -> String {
    let times = |values: Vec<String>| values.join(" × ");
    format!(
        "{}: {} voxels of {} mm, {}, {}",
        path.display(),
        times(source.file_shape().iter().map(usize::to_string).collect()),
        times(source.geometry().spacing().mm().iter().map(|mm| super::plan::short(*mm)).collect()),
        source.geometry().orientation(),
        source.voxel_type().name()
    )
}
