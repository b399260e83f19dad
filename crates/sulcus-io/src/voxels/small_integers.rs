//! A fast path for unscaled integers of 8 and 16 bits, the types of nearly all scans. Single precision holds them exactly,
//! and integer statistics are several times faster than statistics in double precision.

use super::blocks::BLOCK;
use super::statistics::Statistics;
use super::voxel_type::VoxelType;

/// Appends the values to `out` and adds them to `statistics`. Returns false, without any effect, for other types.
pub(crate) fn small_integers_to_f32(
    bytes: &[u8],
    voxel_type: VoxelType,
    big_endian: bool,
    statistics: &mut Statistics,
    out: &mut Vec<f32>,
) -> bool {
    macro_rules! convert {
        ($t:ty, $from:path) => {
            for block in bytes.as_chunks::<{ size_of::<$t>() }>().0.chunks(BLOCK) {
                let (mut min, mut max, mut sum) = (<$t>::MAX, <$t>::MIN, 0_i32);
                for value in block {
                    let value = $from(*value);
                    min = min.min(value);
                    max = max.max(value);
                    // The sum of 1024 values of 16 bits cannot overflow, and a check would prevent vectorisation.
                    sum = sum.wrapping_add(i32::from(value));
                }
                statistics.add_integers(min.into(), max.into(), sum.into(), block.len());
                out.extend(block.iter().map(|value| f32::from($from(*value))));
            }
        };
    }
    match (voxel_type, big_endian) {
        (VoxelType::Uint8, _) => convert!(u8, u8::from_le_bytes),
        (VoxelType::Int8, _) => convert!(i8, i8::from_le_bytes),
        (VoxelType::Uint16, false) => convert!(u16, u16::from_le_bytes),
        (VoxelType::Uint16, true) => convert!(u16, u16::from_be_bytes),
        (VoxelType::Int16, false) => convert!(i16, i16::from_le_bytes),
        (VoxelType::Int16, true) => convert!(i16, i16::from_be_bytes),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voxels::blocks::each_block;

    #[test]
    fn fast_path_equals_the_general_conversion() {
        let bytes: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let extremes = [0x00, 0x80, 0xff, 0x7f, 0xff, 0xff, 0, 0];
        for bytes in [bytes.as_slice(), &extremes, &vec![0xff; 4096], &vec![0x80; 4096]] {
            for voxel_type in [VoxelType::Uint8, VoxelType::Int8, VoxelType::Uint16, VoxelType::Int16] {
                for big in [false, true] {
                    let (mut expected, mut found) = (Vec::new(), Vec::new());
                    let (mut slow, mut fast) = (Statistics::EMPTY, Statistics::EMPTY);
                    each_block(bytes, voxel_type, big, None, &mut |values| {
                        slow.add(values);
                        expected.extend(values.iter().map(|v| *v as f32));
                    });
                    assert!(small_integers_to_f32(bytes, voxel_type, big, &mut fast, &mut found));
                    assert_eq!((found, fast), (expected, slow), "{voxel_type:?}, big-endian {big}");
                }
            }
        }
        assert!(!small_integers_to_f32(
            &[0; 4],
            VoxelType::Float32,
            false,
            &mut Statistics::EMPTY.clone(),
            &mut Vec::new()
        ));
    }
}
