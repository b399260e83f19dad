use crate::compression;
use crate::error::IoErrorKind;
use crate::format::text_header::{channels_first, exact};
use crate::stored::StoredVolume;
use crate::voxels::{VoxelEncoder, VoxelType};

/// The header of a file with this number of bytes of zlib data: after the header, or in a separate file.
pub(super) fn header(volume: &StoredVolume<'_>, compressed_bytes: usize, voxel_file: Option<&str>) -> String {
    const LPS: [f64; 3] = [-1.0, -1.0, 1.0];
    let metadata = volume.metadata();
    let geometry = metadata.geometry();
    let map = geometry.ras_from_voxel();
    let spacing = geometry.spacing().mm();
    let join = |values: &[f64]| values.iter().map(|v| exact(*v)).collect::<Vec<_>>().join(" ");
    let lps = |v: [f64; 3]| std::array::from_fn::<f64, 3, _>(|i| LPS[i] * v[i]);
    let directions = [0, 1, 2].map(|axis| lps(map.column(axis)).map(|v| v / spacing[axis]));
    let letters: String = geometry.orientation().axes().map(|axis| axis.opposite().letter()).iter().collect();
    let shape = geometry.shape().map(|n| n.to_string()).join(" ");
    let mut lines = vec![
        "ObjectType = Image".into(),
        "NDims = 3".into(),
        "BinaryData = True".into(),
        format!("BinaryDataByteOrderMSB = {}", if volume.is_big_endian() { "True" } else { "False" }),
        "CompressedData = True".into(),
        format!("CompressedDataSize = {compressed_bytes}"),
        format!("TransformMatrix = {}", join(directions.as_flattened())),
        format!("Offset = {}", join(&lps(map.apply([0.0; 3]).0))),
        "CenterOfRotation = 0 0 0".into(),
        // In ITK the letters name the side from which an axis starts.
        format!("AnatomicalOrientation = {letters}"),
        format!("ElementSpacing = {}", join(&spacing)),
        format!("DimSize = {shape}"),
    ];
    if let Some(n) = metadata.fourth_axis() {
        lines.push(format!("ElementNumberOfChannels = {n}"));
    }
    lines.push(format!("ElementType = {}", type_name(metadata.voxel_type())));
    lines.push(format!("ElementDataFile = {}\n", voxel_file.unwrap_or("LOCAL")));
    lines.join("\n")
}

/// The voxels as zlib data, with the channels as the fastest axis.
pub(super) fn voxels(volume: &StoredVolume<'_>) -> Result<Vec<u8>, IoErrorKind> {
    match volume.metadata().fourth_axis() {
        Some(n) if n > 1 => {
            let interleaved = channels_first(volume.raw(), volume.metadata().voxel_type().bytes(), n)?;
            compression::zlib(&VoxelEncoder::from_bytes(&interleaved))
        }
        _ => compression::zlib(&VoxelEncoder::from_bytes(volume.raw())),
    }
}

fn type_name(voxel_type: VoxelType) -> &'static str {
    match voxel_type {
        VoxelType::Uint8 => "MET_UCHAR",
        VoxelType::Int8 => "MET_CHAR",
        VoxelType::Uint16 => "MET_USHORT",
        VoxelType::Int16 => "MET_SHORT",
        VoxelType::Uint32 => "MET_UINT",
        VoxelType::Int32 => "MET_INT",
        VoxelType::Uint64 => "MET_ULONG_LONG",
        VoxelType::Int64 => "MET_LONG_LONG",
        VoxelType::Float32 => "MET_FLOAT",
        VoxelType::Float64 => "MET_DOUBLE",
    }
}
