use sulcus_volume::{Geometry, Image, OrientationSource, RasFromVoxel, Spacing, VolumeError};

use crate::SulcusStatus;
use crate::ffi::{FfiError, OutPointer, array, borrowed, call, slice};

/// World coordinates whose positive axes are right, anterior and superior (NIfTI, this library).
pub const SULCUS_WORLD_RAS: u32 = 0;
/// World coordinates whose positive axes are left, posterior and superior (DICOM, ITK).
pub const SULCUS_WORLD_LPS: u32 = 1;

/// A scan in the caller's memory. The library only reads it. This struct does not grow.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusScan {
    /// The intensities, with the first axis fastest: voxel (x, y, z) of channel c is at ((c * nz + z) * ny + y) * nx + x.
    pub voxels: *const f32,
    /// The number of intensities: the product of the shape.
    pub length: usize,
    /// The lengths of the axes x, y, z and, with rank 4, the number of channels.
    pub shape: *const usize,
    /// 3, or 4 with channels.
    pub rank: usize,
    /// The 4x4 matrix from voxel indices to RAS millimetres (right, anterior and superior are positive), as 16 numbers row
    /// by row; the last row is 0 0 0 1. `sulcus_ras_from_directions` computes it.
    pub ras_from_voxel: *const f64,
}

/// A voxel grid in the patient. This struct does not grow.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusGrid {
    /// The numbers of voxels along x, y, z.
    pub shape: [usize; 3],
    /// The voxel sizes along x, y, z.
    pub spacing_mm: [f64; 3],
    /// The 4x4 matrix from voxel indices to RAS millimetres, row by row.
    pub ras_from_voxel: [f64; 16],
    /// 0 when the file has no orientation, so that left and right are a guess; 1 otherwise.
    pub orientation_known: u32,
}

impl From<&Geometry> for SulcusGrid {
    fn from(geometry: &Geometry) -> Self {
        Self {
            shape: geometry.shape(),
            spacing_mm: geometry.spacing().mm(),
            ras_from_voxel: flat(geometry.ras_from_voxel()),
            orientation_known: u32::from(geometry.source() != OrientationSource::None),
        }
    }
}

/// The 4×4 matrix, row by row.
pub(crate) fn flat(ras_from_voxel: &RasFromVoxel) -> [f64; 16] {
    let rows = ras_from_voxel.matrix();
    std::array::from_fn(|i| rows[i / 4][i % 4])
}

/// Copies the caller's scan.
///
/// # Safety
/// Each pointer is null, or points to as many values as the struct says.
pub(crate) unsafe fn image(scan: *const SulcusScan) -> Result<Image, FfiError> {
    // SAFETY: as the caller promises.
    let SulcusScan { voxels, length, shape, rank, ras_from_voxel } = *unsafe { borrowed(scan, "scan") }?;
    if !(3..=4).contains(&rank) {
        return Err(FfiError::argument(format!(
            "a scan has rank 3 (x, y, z) or 4 (x, y, z, channels), found rank {rank}"
        )));
    }
    // SAFETY: as the caller promises.
    let (edges, channels) = match *unsafe { slice(shape, rank, "shape") }? {
        [x, y, z] => ([x, y, z], 1),
        [x, y, z, channels] => ([x, y, z], channels),
        _ => return Err(FfiError::argument("a scan has rank 3 or 4")),
    };
    // SAFETY: as the caller promises.
    let matrix = unsafe { array::<16>(ras_from_voxel, "ras_from_voxel") }?;
    let geometry = Geometry::new(edges, transform(&matrix)?, OrientationSource::Directions)?;
    // This check comes before any voxel is read through the pointer.
    let expected = geometry.voxels().saturating_mul(channels);
    if channels == 0 || expected != length {
        return Err(VolumeError::Length { shape: edges, channels, expected, found: length }.into());
    }
    // SAFETY: as the caller promises.
    let voxels = unsafe { slice(voxels, length, "voxels") }?;
    let mut copy = Vec::new();
    copy.try_reserve_exact(length).map_err(|_| {
        FfiError::new(
            SulcusStatus::OutOfMemory,
            format!("there is not enough memory for {length} voxels of 4 bytes"),
        )
    })?;
    copy.extend_from_slice(voxels);
    Ok(Image::new(geometry, channels, copy)?)
}

fn transform(matrix: &[f64; 16]) -> Result<RasFromVoxel, FfiError> {
    let rows: [[f64; 4]; 4] = std::array::from_fn(|row| std::array::from_fn(|column| matrix[4 * row + column]));
    let [a, b, c, last] = rows;
    // A matrix in column-major order has its translation here.
    if last != [0.0, 0.0, 0.0, 1.0] {
        return Err(FfiError::argument(format!(
            "the last row of `ras_from_voxel` must be [0, 0, 0, 1], found {last:?}; the matrix is read row by row"
        )));
    }
    Ok(RasFromVoxel::new([a, b, c])?)
}

/// Tolerance for the length of a direction vector. Files write directions with few digits.
const UNIT_TOLERANCE: f64 = 1e-3;

/// Computes the matrix of a `SulcusScan` from the voxel sizes, the directions of the axes and the position of the first
/// voxel, as DICOM and ITK have them.
///
/// `spacing_mm` has 3 numbers, `origin_mm` 3, `directions` 9: a 3x3 matrix row by row, whose columns are the directions of
/// the axes x, y, z, each of length 1 (ITK's GetDirection). `world` is the coordinate system of origin and directions:
/// SULCUS_WORLD_RAS or SULCUS_WORLD_LPS. `ras_from_voxel` receives 16 numbers. Any thread may call it.
///
/// # Safety
/// The pointers point to as many numbers as stated above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_ras_from_directions(
    spacing_mm: *const f64,
    directions: *const f64,
    origin_mm: *const f64,
    world: u32,
    ras_from_voxel: *mut f64,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises; an array is as aligned as its elements.
        let out = unsafe { OutPointer::new(ras_from_voxel.cast::<[f64; 16]>(), "ras_from_voxel") }?;
        // SAFETY: as the caller promises.
        let spacing_mm = Spacing::new(unsafe { array(spacing_mm, "spacing_mm") }?)?.mm();
        // SAFETY: as the caller promises.
        let directions: [f64; 9] = unsafe { array(directions, "directions") }?;
        // SAFETY: as the caller promises.
        let origin_mm: [f64; 3] = unsafe { array(origin_mm, "origin_mm") }?;
        let signs = match world {
            SULCUS_WORLD_RAS => [1.0; 3],
            SULCUS_WORLD_LPS => [-1.0, -1.0, 1.0],
            other => {
                return Err(FfiError::argument(format!(
                    "the world must be SULCUS_WORLD_RAS (0) or SULCUS_WORLD_LPS (1), found {other}"
                )));
            }
        };
        for axis in 0..3 {
            let length = (0..3).map(|row| directions[3 * row + axis].powi(2)).sum::<f64>().sqrt();
            if !(1.0 - UNIT_TOLERANCE..=1.0 + UNIT_TOLERANCE).contains(&length) {
                return Err(FfiError::argument(format!(
                    "the direction of axis {axis}, a column of `directions`, must have length 1, found {length}"
                )));
            }
        }
        let rows = std::array::from_fn(|row| {
            let along = |axis: usize| signs[row] * directions[3 * row + axis] * spacing_mm[axis];
            [along(0), along(1), along(2), signs[row] * origin_mm[row]]
        });
        out.write(flat(&RasFromVoxel::new(rows)?));
        Ok(())
    })
}
