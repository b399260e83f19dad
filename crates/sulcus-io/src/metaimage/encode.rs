use crate::deflate;
use crate::error::Problem;
use crate::grid::{Grid, channels_together};
use crate::text::exact;
use crate::values::Values;
use crate::voxels::VoxelType;

/// The header of a file whose voxels are zlib data of so many bytes: behind it, or in the file `beside` it.
pub(crate) fn header(grid: &Grid<'_>, compressed_bytes: usize, beside: Option<&str>) -> String {
    const LPS: [f64; 3] = [-1.0, -1.0, 1.0];
    let map = grid.geometry.ras_from_voxel();
    let spacing = grid.geometry.spacing().mm();
    let join = |values: &[f64]| values.iter().map(|v| exact(*v)).collect::<Vec<_>>().join(" ");
    let lps = |v: [f64; 3]| std::array::from_fn::<f64, 3, _>(|i| LPS[i] * v[i]);
    let directions = [0, 1, 2].map(|axis| lps(map.column(axis)).map(|v| v / spacing[axis]));
    let letters: String = grid.geometry.orientation().axes().map(|axis| axis.opposite().letter()).iter().collect();
    let shape = grid.geometry.shape().map(|n| n.to_string()).join(" ");
    let mut lines = vec![
        "ObjectType = Image".into(),
        "NDims = 3".into(),
        "BinaryData = True".into(),
        format!("BinaryDataByteOrderMSB = {}", if grid.big_endian { "True" } else { "False" }),
        "CompressedData = True".into(),
        format!("CompressedDataSize = {compressed_bytes}"),
        format!("TransformMatrix = {}", join(directions.as_flattened())),
        format!("Offset = {}", join(&lps(map.apply([0.0; 3]).0))),
        "CenterOfRotation = 0 0 0".into(),
        // ITK names the side that an axis comes from.
        format!("AnatomicalOrientation = {letters}"),
        format!("ElementSpacing = {}", join(&spacing)),
        format!("DimSize = {shape}"),
    ];
    if let Some(n) = grid.channels {
        lines.push(format!("ElementNumberOfChannels = {n}"));
    }
    lines.push(format!("ElementType = {}", type_name(grid.voxel_type)));
    lines.push(format!("ElementDataFile = {}\n", beside.unwrap_or("LOCAL")));
    lines.join("\n")
}

/// The voxels as zlib data, all channels of a voxel together.
pub(crate) fn voxels(grid: &Grid<'_>) -> Result<Vec<u8>, Problem> {
    match grid.channels {
        Some(n) if n > 1 => {
            let together = channels_together(grid.values(), grid.voxel_type.bytes(), n)?;
            deflate::zlib(&Values::of_bytes(&together))
        }
        _ => deflate::zlib(&Values::of_bytes(grid.values())),
    }
}

/// The bytes of one `.mha` file: the voxels in their type, compressed. The format has no place for label names.
pub(crate) fn encode(grid: &Grid<'_>) -> Result<Vec<u8>, Problem> {
    let voxels = voxels(grid)?;
    let mut file = header(grid, voxels.len(), None).into_bytes();
    file.extend(voxels);
    Ok(file)
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
