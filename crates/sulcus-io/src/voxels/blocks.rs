use super::voxel_type::VoxelType;
use crate::error::IoErrorKind;

/// The conversion from stored to real values: `slope · stored + intercept`. It is never the identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
}

impl Scale {
    /// Follows nibabel: with a slope of 0, or one that is not finite, the values are unscaled and the intercept is ignored.
    pub(crate) fn from_header(slope: f64, intercept: f64) -> Result<Option<Self>, IoErrorKind> {
        if slope == 0.0 || !slope.is_finite() {
            return Ok(None);
        }
        if !intercept.is_finite() {
            return Err(IoErrorKind::Header {
                action: "read",
                expected: format!("a finite intercept (scl_inter) with the slope {slope}"),
                found: intercept.to_string(),
                hint: "the header is damaged: set scl_inter (0 in most files) before using it",
            });
        }
        let scale = Self { slope, intercept };
        Ok((scale.slope != 1.0 || scale.intercept != 0.0).then_some(scale))
    }

    pub(crate) fn apply(self, stored: f64) -> f64 {
        stored * self.slope + self.intercept
    }
}

/// The number of values that are processed at a time. A block fits into the first-level cache.
pub(crate) const BLOCK: usize = 1024;

/// Passes the values of `bytes` to `f` in blocks of [`BLOCK`] values, in double precision and scaled. The last block may
/// be shorter. Code that processes voxels is written once for these blocks, instead of once for each voxel type.
pub(crate) fn each_block(
    bytes: &[u8],
    voxel_type: VoxelType,
    big_endian: bool,
    scale: Option<Scale>,
    f: &mut dyn FnMut(&[f64]),
) {
    let mut values = [0.0; BLOCK];
    let mut reversed = [0; BLOCK * 8];
    for block in bytes.chunks(BLOCK * voxel_type.bytes()) {
        let little = if big_endian { to_little_endian(block, voxel_type.bytes(), &mut reversed) } else { block };
        let n = block.len() / voxel_type.bytes();
        let Some(values) = values.get_mut(..n) else { continue };
        to_f64(little, voxel_type, values);
        if let Some(scale) = scale {
            values.iter_mut().for_each(|v| *v = scale.apply(*v));
        }
        f(values);
    }
}

fn to_little_endian<'a>(block: &[u8], value_bytes: usize, out: &'a mut [u8]) -> &'a [u8] {
    let Some(out) = out.get_mut(..block.len()) else { return &[] };
    out.copy_from_slice(block);
    reverse_bytes(out, value_bytes);
    out
}

/// Reverses the byte order of each value.
pub(crate) fn reverse_bytes(bytes: &mut [u8], value_bytes: usize) {
    fn all<const N: usize>(bytes: &mut [u8]) {
        bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|value| value.reverse());
    }
    match value_bytes {
        2 => all::<2>(bytes),
        4 => all::<4>(bytes),
        8 => all::<8>(bytes),
        _ => {}
    }
}

/// Converts little-endian values to double precision. Only 64-bit integers beyond 2^53 are rounded, as by NumPy.
fn to_f64(bytes: &[u8], voxel_type: VoxelType, out: &mut [f64]) {
    macro_rules! convert {
        ($t:ty) => {{
            let (values, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
            out.iter_mut().zip(values).for_each(|(out, v)| *out = <$t>::from_le_bytes(*v) as f64);
        }};
    }
    match voxel_type {
        VoxelType::Uint8 => convert!(u8),
        VoxelType::Int8 => convert!(i8),
        VoxelType::Uint16 => convert!(u16),
        VoxelType::Int16 => convert!(i16),
        VoxelType::Uint32 => convert!(u32),
        VoxelType::Int32 => convert!(i32),
        VoxelType::Uint64 => convert!(u64),
        VoxelType::Int64 => convert!(i64),
        VoxelType::Float32 => convert!(f32),
        VoxelType::Float64 => convert!(f64),
    }
}

/// An empty vector with capacity for `n` values, or an error if the allocation fails.
pub(crate) fn reserve<T>(n: usize) -> Result<Vec<T>, IoErrorKind> {
    let mut out = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>()) as u64;
    out.try_reserve_exact(n).map_err(|_| IoErrorKind::Memory { action: "read the voxels", bytes })?;
    Ok(out)
}
