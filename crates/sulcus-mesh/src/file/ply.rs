use std::io::{Error, ErrorKind, Result, Write};

use sulcus_volume::Rgb;

use super::{NamedSurface, Space, header_name};

/// Writes surfaces as one binary PLY file, whose vertices have the colour of their label. Comments contain the space (`SPACE=RAS`),
/// the unit, and for each label its value, its numbers of vertices and triangles in the order of the file, and its name.
///
/// # Errors
/// When `out` fails, or there are more vertices than the format can count.
pub fn write_ply(out: &mut dyn Write, surfaces: &[NamedSurface<'_>], space: Space) -> Result<()> {
    let vertices: usize = surfaces.iter().map(|s| s.surface.vertices().len()).sum();
    let triangles: usize = surfaces.iter().map(|s| s.surface.triangles().len()).sum();
    if i32::try_from(vertices).is_err() {
        return Err(Error::new(ErrorKind::InvalidInput, "PLY counts vertices with 31 bits"));
    }
    let mut header = format!(
        "ply\nformat binary_little_endian 1.0\ncomment Sulcus\ncomment SPACE={}\ncomment UNIT=mm\n",
        space.name()
    );
    for NamedSurface { surface, entry } in surfaces {
        header += &format!(
            "comment LABEL={} VERTICES={} TRIANGLES={} NAME={}\n",
            entry.value,
            surface.vertices().len(),
            surface.triangles().len(),
            header_name(&entry.name)
        );
    }
    header += &format!("element vertex {vertices}\n");
    for property in ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"] {
        header += &format!("property {property}\n");
    }
    header += &format!("element face {triangles}\nproperty list uchar int vertex_indices\nend_header\n");
    out.write_all(header.as_bytes())?;
    for NamedSurface { surface, entry } in surfaces {
        let Rgb(color) = entry.color;
        for position in surface.vertices() {
            let [x, y, z] = space.coordinates(*position).map(f32::to_le_bytes);
            let mut record = [0; 15];
            let bytes = [x, y, z].into_iter().flatten().chain(color);
            record.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            out.write_all(&record)?;
        }
    }
    let mut first = 0;
    for NamedSurface { surface, .. } in surfaces {
        for triangle in surface.triangles() {
            let [a, b, c] = triangle.map(|vertex| (vertex + first).to_le_bytes());
            let mut record = [3; 13];
            let bytes = [a, b, c].into_iter().flatten();
            record[1..].iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            out.write_all(&record)?;
        }
        first += surface.vertices().len() as u32;
    }
    Ok(())
}
