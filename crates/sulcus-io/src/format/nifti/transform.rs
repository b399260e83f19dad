use sulcus_volume::{OrientationSource, RasFromVoxel};

use super::fields::Fields;
use super::layout::{Key, Version};
use crate::error::IoErrorKind;

/// nibabel's threshold for w² = 1 − x² − y² − z², below which a quaternion is a half turn: three times the precision in
/// which the header stores x, y and z.
fn half_turn(version: Version) -> f64 {
    match version {
        Version::One => 3.0 * f64::from(f32::EPSILON),
        Version::Two => 3.0 * f64::EPSILON,
    }
}

/// Whether the code of an sform or qform is valid. nibabel treats any other code as 0.
fn is_valid_code(code: i64) -> bool {
    (1..=5).contains(&code)
}

/// The transform to the patient, chosen as in nibabel: the sform, otherwise the qform, otherwise the voxel sizes with the
/// first axis flipped and the centre of the volume at the origin.
pub(crate) fn ras_from_voxel(
    fields: &Fields,
    shape: [usize; 3],
) -> Result<(RasFromVoxel, OrientationSource), IoErrorKind> {
    let (form, rows, source) = if is_valid_code(fields.int(Key::SformCode, 0)) {
        let [x0, x1, x2, x3, y0, y1, y2, y3, z0, z1, z2, z3] = fields.floats(Key::Srow);
        let rows = [[x0, x1, x2, x3], [y0, y1, y2, y3], [z0, z1, z2, z3]];
        ("sform", rows, OrientationSource::Sform)
    } else if is_valid_code(fields.int(Key::QformCode, 0)) {
        ("qform", from_quaternion(fields)?, OrientationSource::Qform)
    } else {
        ("pixdim", from_sizes(known_sizes_mm(fields), shape), OrientationSource::None)
    };
    let map = RasFromVoxel::new(rows).map_err(|cause| IoErrorKind::Transform { form, cause: Box::new(cause) })?;
    Ok((map, source))
}

/// The voxel sizes in pixdim, corrected as in nibabel: their magnitudes, and 1 instead of 0.
fn voxel_sizes_mm(fields: &Fields) -> [f64; 3] {
    let [_, sizes @ ..]: [f64; 4] = fields.floats(Key::Pixdim);
    sizes.map(|size| if size == 0.0 { 1.0 } else { size.abs() })
}

/// The voxel sizes if nothing else places the volume: 1 along axes that the file does not have, as in nibabel.
fn known_sizes_mm(fields: &Fields) -> [f64; 3] {
    let mut sizes = voxel_sizes_mm(fields);
    sizes.iter_mut().skip(usize::try_from(fields.int(Key::Dim, 0)).unwrap_or(0)).for_each(|size| *size = 1.0);
    sizes
}

/// nibabel's `shape_zoom_affine`.
fn from_sizes(sizes_mm: [f64; 3], shape: [usize; 3]) -> [[f64; 4]; 3] {
    let mut rows = [[0.0; 4]; 3];
    for (axis, row) in rows.iter_mut().enumerate() {
        let step = if axis == 0 { -sizes_mm[axis] } else { sizes_mm[axis] };
        row[axis] = step;
        row[3] = -step * (shape[axis].saturating_sub(1)) as f64 / 2.0;
    }
    rows
}

/// The qform: rotation × voxel sizes, then the offset. The third size is negated if pixdim[0] is −1.
fn from_quaternion(fields: &Fields) -> Result<[[f64; 4]; 3], IoErrorKind> {
    let [x, y, z] = fields.floats(Key::Quatern);
    let w2 = 1.0 - (x * x + y * y + z * z);
    let w = if w2.abs() < half_turn(fields.version()) {
        0.0
    } else if w2 > 0.0 {
        w2.sqrt()
    } else {
        return Err(IoErrorKind::Header {
            action: "read",
            expected: "a qform quaternion (b, c, d) no longer than 1".into(),
            found: format!("({}, {}, {})", x as f32, y as f32, z as f32),
            hint: "the orientation is damaged: set sform or qform again before using the file",
        });
    };
    let scale = 2.0 / (w * w + x * x + y * y + z * z);
    let rotation = [
        [1.0 - (y * y + z * z) * scale, (x * y - w * z) * scale, (x * z + w * y) * scale],
        [(x * y + w * z) * scale, 1.0 - (x * x + z * z) * scale, (y * z - w * x) * scale],
        [(x * z - w * y) * scale, (y * z + w * x) * scale, 1.0 - (x * x + y * y) * scale],
    ];
    let [sx, sy, sz] = voxel_sizes_mm(fields);
    let handedness = fields.float(Key::Pixdim, 0);
    let sizes = [sx, sy, if handedness == -1.0 { -sz } else { sz }];
    let offset: [f64; 3] = fields.floats(Key::Qoffset);
    let mut rows = [[0.0; 4]; 3];
    for ((row, directions), offset) in rows.iter_mut().zip(rotation).zip(offset) {
        *row = [directions[0] * sizes[0], directions[1] * sizes[1], directions[2] * sizes[2], offset];
    }
    Ok(rows)
}

/// Writes the transform as a qform with code 1. The caller checks whether the rotation and the voxel sizes represent it.
pub(crate) fn set_qform(fields: &mut Fields, map: &RasFromVoxel) {
    let sizes = map.spacing().mm();
    let mut columns = [0, 1, 2].map(|axis| map.column(axis).map(|v| v / sizes[axis]));
    let [a, b, c] = columns;
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let left_handed = cross.iter().zip(c).map(|(x, y)| x * y).sum::<f64>() < 0.0;
    if left_handed {
        columns[2] = c.map(|v| -v);
    }
    let [bcd @ .., _] = quaternion(&columns);
    fields.set_floats(Key::Pixdim, 0, &[if left_handed { -1.0 } else { 1.0 }]);
    fields.set_floats(Key::Quatern, 0, &bcd);
    fields.set_floats(Key::Qoffset, 0, &map.rows().map(|row| row[3]));
    fields.set_int(Key::QformCode, 0, 1);
}

/// The quaternion (b, c, d, a) with a ≥ 0 of the rotation with these columns, computed from its largest component (Shepperd
/// 1978).
fn quaternion(columns: &[[f64; 3]; 3]) -> [f64; 4] {
    let r = |row: usize, column: usize| columns[column][row];
    let (xx, yy, zz) = (r(0, 0), r(1, 1), r(2, 2));
    let squares = [1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz, 1.0 + xx + yy + zz];
    let largest = (0..4).max_by(|i, j| squares[*i].total_cmp(&squares[*j])).unwrap_or(3);
    let q = match largest {
        0 => [squares[0], r(0, 1) + r(1, 0), r(0, 2) + r(2, 0), r(2, 1) - r(1, 2)],
        1 => [r(0, 1) + r(1, 0), squares[1], r(1, 2) + r(2, 1), r(0, 2) - r(2, 0)],
        2 => [r(0, 2) + r(2, 0), r(1, 2) + r(2, 1), squares[2], r(1, 0) - r(0, 1)],
        _ => [r(2, 1) - r(1, 2), r(0, 2) - r(2, 0), r(1, 0) - r(0, 1), squares[3]],
    };
    let length = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sign = if q[3] < 0.0 { -1.0 } else { 1.0 };
    q.map(|v| sign * v / length)
}
