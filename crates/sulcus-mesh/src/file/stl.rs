use std::io::{Error, ErrorKind, Result, Write};

use super::{NamedSurface, Space, header_name};
use crate::volume::{area_vector, length};

const HEADER: usize = 80;

/// Writes a surface as binary STL. The header contains the space and the unit (`SPACE=RAS UNIT=mm`), the value and, as far as it
/// fits, the name of the label.
///
/// # Errors
/// When `out` fails, or there are more triangles than the format can count.
pub fn write_stl(
    out: &mut dyn Write,
    NamedSurface { surface, entry }: NamedSurface<'_>,
    space: Space,
) -> Result<()> {
    let triangles = surface.triangles();
    let count = u32::try_from(triangles.len())
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "STL counts triangles with 32 bits"))?;
    let name = header_name(&entry.name);
    let mut header =
        format!("Sulcus SPACE={} UNIT=mm LABEL={} NAME={name}", space.name(), entry.value).into_bytes();
    let mut end = HEADER.min(header.len());
    // Not in the middle of a character.
    while header.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    header.truncate(end);
    header.resize(HEADER, b' ');
    out.write_all(&header)?;
    out.write_all(&count.to_le_bytes())?;
    for triangle in triangles {
        let corners = triangle.map(|vertex| space.coordinates(surface.vertices()[vertex as usize]));
        let vector = area_vector(corners.map(|at| at.map(f64::from)));
        let long = length(vector);
        let normal = vector.map(|v| if long > 0.0 { (v / long) as f32 } else { 0.0 });
        let mut record = [0; 50];
        let numbers = std::iter::once(normal).chain(corners).flatten();
        for (bytes, number) in record.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        out.write_all(&record)?;
    }
    Ok(())
}
