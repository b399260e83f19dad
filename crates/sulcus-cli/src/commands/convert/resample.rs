//! The values of a volume on another grid.

use sulcus_io::{StoredVolume, VolumeMetadata, VoxelType};
use sulcus_runtime::machine_memory_bytes;
use sulcus_volume::{Geometry, GridResampler, Image, Interpolation, LabelMap, VolumeError};

use super::content_kind::content_kind;
use crate::args::ConvertArgs;
use crate::error::{CliError, Context};
use crate::output::Ui;

/// Puts the values on another grid.
///
/// # Errors
/// When the interpolation does not suit the values, or resampling fails.
pub(super) fn onto(
    volume: StoredVolume<'static>,
    target: &Geometry,
    args: &ConvertArgs,
    ui: Ui,
) -> Result<StoredVolume<'static>, CliError> {
    check_memory(target, volume.metadata().channels())?;
    let resampler = GridResampler::new(volume.metadata().geometry(), target);
    let kind = content_kind(args, &volume);
    // Outside the volume there is background.
    let outside = match args.outside {
        Some(value) => value,
        None if kind.labels => 0.0,
        None => volume.info().min.unwrap_or_default(),
    };
    if resampler.is_voxel_aligned() {
        return nearest(&volume, &resampler, outside);
    }
    let wanted = args.interpolation.map(Interpolation::from);
    let interpolation = wanted.unwrap_or(if kind.labels { Interpolation::Nearest } else { Interpolation::Linear });
    let what = if kind.labels { "label map" } else { "image" };
    let how = match interpolation {
        Interpolation::Nearest => "each voxel takes the nearest value",
        Interpolation::Linear if kind.labels => "labels are interpolated linearly one by one, the greatest wins",
        Interpolation::Linear => "linear interpolation, written as float32",
        Interpolation::Cubic => "cubic interpolation (spline of order 3), written as float32",
    };
    ui.note(format_args!("resampled as {what} ({}): {how}", kind.why));
    match (interpolation, kind.labels) {
        (Interpolation::Nearest, _) => nearest(&volume, &resampler, outside),
        (Interpolation::Cubic, true) => Err(CliError::usage(
            "cubic interpolation does not apply to a label map; use --interpolation nearest or linear",
        )),
        (Interpolation::Linear, true) => label_by_label(volume, target),
        (interpolation, false) => interpolated(volume, target, interpolation, outside as f32),
    }
}

/// Refuses a grid that is larger than the memory of this machine: the system would end the process.
fn check_memory(target: &Geometry, channels: usize) -> Result<(), CliError> {
    let values = (target.voxels() as u64).saturating_mul(channels as u64);
    // The values, and the bytes of the file.
    let bytes = values.saturating_mul(2 * size_of::<f32>() as u64);
    match machine_memory_bytes() {
        Some(machine) if bytes > machine => Err(VolumeError::Memory { bytes }).context("resampling"),
        _ => Ok(()),
    }
}

/// Copies the stored value of the nearest voxel, of any type.
fn nearest(
    volume: &StoredVolume<'_>,
    resampler: &GridResampler,
    outside: f64,
) -> Result<StoredVolume<'static>, CliError> {
    let (source, bytes) = (volume.metadata(), volume.bytes());
    let (slope, intercept) = volume.slope_and_intercept().unwrap_or((1.0, 0.0));
    let fill = stored_value(source.voxel_type(), (outside - intercept) / slope);
    let voxels = source.geometry().voxels();
    let values = match source.voxel_type().bytes() {
        1 => nearest_bytes::<1>(&bytes, voxels, resampler, fill),
        2 => nearest_bytes::<2>(&bytes, voxels, resampler, fill),
        4 => nearest_bytes::<4>(&bytes, voxels, resampler, fill),
        _ => nearest_bytes::<8>(&bytes, voxels, resampler, fill),
    }?;
    let new = source.on_grid(resampler.target()).context("making the new header")?;
    let new = StoredVolume::new(new, values).context("putting the values on the new grid")?;
    match volume.slope_and_intercept() {
        Some((slope, intercept)) => new.scaled(slope, intercept).context("keeping slope and intercept"),
        None => Ok(new),
    }
}

fn nearest_bytes<const N: usize>(
    bytes: &[u8],
    voxels: usize,
    resampler: &GridResampler,
    fill: [u8; 8],
) -> Result<Vec<u8>, CliError> {
    let (values, _) = bytes.as_chunks::<N>();
    // In little-endian order, the narrower type is the first bytes of the widest.
    let fill: [u8; N] = std::array::from_fn(|i| fill.get(i).copied().unwrap_or_default());
    let mut out = Vec::new();
    for channel in values.chunks_exact(voxels.max(1)) {
        out.extend(resampler.nearest(channel, fill).context("resampling")?.as_flattened());
    }
    Ok(out)
}

/// The nearest value of a type, in little-endian bytes.
fn stored_value(voxel_type: VoxelType, value: f64) -> [u8; 8] {
    let whole = value.round();
    match voxel_type {
        VoxelType::Float32 => u64::from((value as f32).to_bits()).to_le_bytes(),
        VoxelType::Float64 => value.to_le_bytes(),
        // Casts from floats saturate at the limits of the type.
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

/// Interpolates each label separately and takes the greatest.
fn label_by_label(volume: StoredVolume<'static>, target: &Geometry) -> Result<StoredVolume<'static>, CliError> {
    let (labels, source) = volume.into_labels().map_err(|error| CliError::caused_by(&error))?;
    let labels: LabelMap = labels.resample_linear_to(target).context("resampling")?;
    label_volume(&source, target, &labels)
}

/// Labels as a volume, in the smallest type that holds them.
///
/// # Errors
/// When the header cannot describe the grid.
pub(super) fn label_volume(
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
    let scan = volume.into_scan().map_err(|error| CliError::caused_by(&error))?;
    let image: Image = scan.image.resample_to(target, interpolation, outside).context("resampling")?;
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
