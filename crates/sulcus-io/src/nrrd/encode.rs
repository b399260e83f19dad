use std::collections::BTreeMap;

use sulcus_volume::{Geometry, Label, LabelTable, OrientationSource};

use super::segments;
use crate::deflate;
use crate::error::Problem;
use crate::grid::Grid;
use crate::text::exact;
use crate::values::Values;
use crate::voxels::{VoxelType, each_block};

/// The header of a file whose voxels are gzip data: behind it, or in the file `beside` it.
pub(crate) fn header(grid: &Grid<'_>, table: Option<&LabelTable>, beside: Option<&str>) -> String {
    let geometry = &grid.geometry;
    let shape = geometry.shape().into_iter().chain(grid.channels).map(|n| n.to_string());
    let mut lines = vec![
        "NRRD0005".into(),
        "# Complete NRRD file format specification at: https://teem.sourceforge.net/nrrd/format.html".into(),
        format!("type: {}", type_name(grid.voxel_type)),
        format!("dimension: {}", 3 + usize::from(grid.channels.is_some())),
    ];
    let (signs, space) = space(geometry);
    lines.push(space.into());
    lines.push(format!("sizes: {}", shape.collect::<Vec<_>>().join(" ")));
    let point = |v: [f64; 3]| {
        let [x, y, z] = std::array::from_fn(|i| exact(signs[i] * v[i]));
        format!("({x},{y},{z})")
    };
    let map = geometry.ras_from_voxel();
    let none = if grid.channels.is_some() { " none" } else { "" };
    let steps = [0, 1, 2].map(|axis| point(map.column(axis))).join(" ");
    lines.push(format!("space directions: {steps}{none}"));
    let list = if grid.channels.is_some() { " list" } else { "" };
    lines.push(format!("kinds: domain domain domain{list}"));
    if grid.voxel_type.bytes() > 1 {
        lines.push(format!("endian: {}", if grid.big_endian { "big" } else { "little" }));
    }
    lines.push("encoding: gzip".into());
    lines.push(format!("space origin: {}", point(map.apply([0.0; 3]).0)));
    if let Some(name) = beside {
        lines.push(format!("data file: {name}"));
    }
    let mut text = lines.join("\n") + "\n";
    if let Some(table) = table.filter(|table| !table.entries().is_empty()) {
        text += &segments::lines(table, &extents(grid));
    }
    text + "\n"
}

/// The voxels as gzip data.
pub(crate) fn voxels(grid: &Grid<'_>) -> Result<Vec<u8>, Problem> {
    deflate::gzip(&Values::of_bytes(grid.values()))
}

/// The bytes of one `.nrrd` file: the voxels in their type, gzipped, on the grid to the last bit; the names and colours
/// of `table` as 3D Slicer's segments.
pub(crate) fn encode(grid: &Grid<'_>, table: Option<&LabelTable>) -> Result<Vec<u8>, Problem> {
    let mut file = header(grid, table, None).into_bytes();
    file.extend(voxels(grid)?);
    Ok(file)
}

/// What makes RAS+ the file's space, and the line that names it. A grid whose place in the patient is unknown gets no
/// name of a space, which 3D Slicer and ITK read as LPS.
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

/// The first and last voxel of each label, axis by axis.
fn extents(grid: &Grid<'_>) -> BTreeMap<Label, [[usize; 2]; 3]> {
    let [nx, ny, _] = grid.geometry.shape();
    let mut out: BTreeMap<Label, [[usize; 2]; 3]> = BTreeMap::new();
    let mut offset = 0;
    each_block(grid.values(), grid.voxel_type, grid.big_endian, None, &mut |values| {
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
