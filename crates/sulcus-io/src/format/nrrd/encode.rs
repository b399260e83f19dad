use std::collections::BTreeMap;

use sulcus_volume::{Geometry, Label, LabelTable, OrientationSource};

use super::segments;
use crate::compression;
use crate::error::IoErrorKind;
use crate::format::text_header::exact;
use crate::stored::StoredVolume;
use crate::voxels::{VoxelEncoder, VoxelType};

/// The header of a file whose voxels are gzipped: after the header, or in a separate file.
pub(super) fn header(volume: &StoredVolume<'_>, table: Option<&LabelTable>, voxel_file: Option<&str>) -> String {
    let metadata = volume.metadata();
    let (geometry, channels, voxel_type) = (metadata.geometry(), metadata.fourth_axis(), metadata.voxel_type());
    let shape = geometry.shape().into_iter().chain(channels).map(|n| n.to_string());
    let mut lines = vec![
        "NRRD0005".into(),
        "# Complete NRRD file format specification at: https://teem.sourceforge.net/nrrd/format.html".into(),
        format!("type: {}", type_name(voxel_type)),
        format!("dimension: {}", 3 + usize::from(channels.is_some())),
    ];
    let (signs, space) = space(geometry);
    lines.push(space.into());
    lines.push(format!("sizes: {}", shape.collect::<Vec<_>>().join(" ")));
    let point = |v: [f64; 3]| {
        let [x, y, z] = std::array::from_fn(|i| exact(signs[i] * v[i]));
        format!("({x},{y},{z})")
    };
    let map = geometry.ras_from_voxel();
    let none = if channels.is_some() { " none" } else { "" };
    let steps = [0, 1, 2].map(|axis| point(map.column(axis))).join(" ");
    lines.push(format!("space directions: {steps}{none}"));
    let list = if channels.is_some() { " list" } else { "" };
    lines.push(format!("kinds: domain domain domain{list}"));
    if voxel_type.bytes() > 1 {
        lines.push(format!("endian: {}", if volume.is_big_endian() { "big" } else { "little" }));
    }
    lines.push("encoding: gzip".into());
    lines.push(format!("space origin: {}", point(map.apply([0.0; 3]).0)));
    if let Some(name) = voxel_file {
        lines.push(format!("data file: {name}"));
    }
    let mut text = lines.join("\n") + "\n";
    if let Some(table) = table.filter(|table| !table.entries().is_empty()) {
        text += &segments::lines(table, &extents(volume));
    }
    text + "\n"
}

/// The voxels as gzip data.
pub(super) fn voxels(volume: &StoredVolume<'_>) -> Result<Vec<u8>, IoErrorKind> {
    compression::gzip(&VoxelEncoder::from_bytes(volume.raw()))
}

/// The signs that convert RAS+ to the space of the file, and the line that names the space. If the position in the patient
/// is unknown, the file names no space, which 3D Slicer and ITK read as LPS.
fn space(geometry: &Geometry) -> ([f64; 3], &'static str) {
    let name = match geometry.source() {
        OrientationSource::None => "space dimension: 3",
        _ => "space: left-posterior-superior",
    };
    ([-1.0, -1.0, 1.0], name)
}

fn type_name(voxel_type: VoxelType) -> &'static str {
    match voxel_type {
        VoxelType::Uint8 => "unsigned char",
        VoxelType::Int8 => "signed char",
        VoxelType::Uint16 => "unsigned short",
        VoxelType::Int16 => "short",
        VoxelType::Uint32 => "unsigned int",
        VoxelType::Int32 => "int",
        VoxelType::Uint64 => "unsigned long long int",
        VoxelType::Int64 => "long long int",
        VoxelType::Float32 => "float",
        VoxelType::Float64 => "double",
    }
}

/// The first and the last voxel of each label along each axis.
fn extents(volume: &StoredVolume<'_>) -> BTreeMap<Label, [[usize; 2]; 3]> {
    let [nx, ny, _] = volume.metadata().geometry().shape();
    let mut out: BTreeMap<Label, [[usize; 2]; 3]> = BTreeMap::new();
    let mut offset = 0;
    volume.each_block(&mut |values| {
        for value in values {
            let at = [offset % nx, offset / nx % ny, offset / nx / ny];
            offset += 1;
            if *value == 0.0 {
                continue;
            }
            let ends = out.entry(*value as Label).or_insert(at.map(|v| [v, v]));
            for (ends, v) in ends.iter_mut().zip(at) {
                *ends = [ends[0].min(v), ends[1].max(v)];
            }
        }
    });
    out
}
