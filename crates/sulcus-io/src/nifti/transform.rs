use ::nifti::NiftiHeader as Fields;
use sulcus_volume::{OrientationSource, RasFromVoxel};

use crate::error::Problem;

/// nibabel's threshold on w² = 1 − x² − y² − z² below which a quaternion is a half turn: three units of single
/// precision, in which the header stores x, y and z.
const HALF_TURN: f64 = 3.0 * f32::EPSILON as f64;

/// The codes that NIfTI-1 knows for sform and qform, but for 0; nibabel takes any other for 0.
fn is_coded(code: i16) -> bool {
    (1..=5).contains(&code)
}

/// The map to the patient as nibabel chooses it: sform, else qform, else voxel sizes with the first axis flipped and
/// the middle of the volume at the origin.
pub(crate) fn ras_from_voxel(
    fields: &Fields,
    shape: [usize; 3],
) -> Result<(RasFromVoxel, OrientationSource), Problem> {
    let (form, rows, source) = if is_coded(fields.sform_code) {
        let rows = [fields.srow_x, fields.srow_y, fields.srow_z].map(|r| r.map(f64::from));
        ("sform", rows, OrientationSource::Sform)
    } else if is_coded(fields.qform_code) {
        ("qform", from_quaternion(fields)?, OrientationSource::Qform)
    } else {
        ("pixdim", from_sizes(known_sizes_mm(fields), shape), OrientationSource::None)
    };
    let map = RasFromVoxel::new(rows).map_err(|source| Problem::Transform { form, source: Box::new(source) })?;
    Ok((map, source))
}

/// pixdim as nibabel mends it: magnitudes, and 1 for 0.
fn voxel_sizes_mm(fields: &Fields) -> [f64; 3] {
    let [_, x, y, z, ..] = fields.pixdim;
    [x, y, z].map(|size| if size == 0.0 { 1.0 } else { f64::from(size.abs()) })
}

/// Voxel sizes where nothing else places the volume: along an axis that the file lacks, 1, as nibabel has it.
fn known_sizes_mm(fields: &Fields) -> [f64; 3] {
    let mut sizes = voxel_sizes_mm(fields);
    sizes.iter_mut().skip(usize::from(fields.dim[0])).for_each(|size| *size = 1.0);
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

/// The qform: rotation × voxel sizes (the third negated where pixdim[0] says so), then the offset.
fn from_quaternion(fields: &Fields) -> Result<[[f64; 4]; 3], Problem> {
    let [x, y, z] = [fields.quatern_b, fields.quatern_c, fields.quatern_d].map(f64::from);
    let w2 = 1.0 - (x * x + y * y + z * z);
    let w = if w2.abs() < HALF_TURN {
        0.0
    } else if w2 > 0.0 {
        w2.sqrt()
    } else {
        return Err(Problem::Header {
            action: "read",
            expected: "a qform quaternion (b, c, d) no longer than 1".into(),
            found: format!("({}, {}, {})", fields.quatern_b, fields.quatern_c, fields.quatern_d),
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
    let [handedness, ..] = fields.pixdim;
    let sizes = [sx, sy, if handedness == -1.0 { -sz } else { sz }];
    let offset = [fields.quatern_x, fields.quatern_y, fields.quatern_z].map(f64::from);
    let mut rows = [[0.0; 4]; 3];
    for ((row, directions), offset) in rows.iter_mut().zip(rotation).zip(offset) {
        *row = [directions[0] * sizes[0], directions[1] * sizes[1], directions[2] * sizes[2], offset];
    }
    Ok(rows)
}
