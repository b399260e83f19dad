//! CRC-32, the checksum of gzip members (RFC 1952).

#[cfg(not(feature = "parallel"))]
pub(crate) use self::table::crc32;
#[cfg(feature = "parallel")]
pub(crate) use zlib_rs::crc32::crc32;

/// A small implementation, for the browser.
#[cfg(any(test, not(feature = "parallel")))]
mod table {
    /// Continues the checksum `start` with `bytes`, eight bytes at a time (Kounavis & Berry 2005). The tables are computed
    /// when needed: as constants they would be a sixth of the viewer's size.
    pub(crate) fn crc32(start: u32, bytes: &[u8]) -> u32 {
        const POLYNOMIAL: u32 = 0xedb8_8320;
        let mut tables = [[0_u32; 256]; 8];
        for (byte, entry) in (0..).zip(&mut tables[0]) {
            *entry = (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 });
        }
        for i in 1..8 {
            let last = tables[i - 1];
            let first = tables[0];
            for (entry, crc) in tables[i].iter_mut().zip(last) {
                *entry = crc >> 8 ^ first[usize::from(crc as u8)];
            }
        }
        let at = |table: usize, byte: u32| tables[table][usize::from(byte as u8)];
        let (eights, rest) = bytes.as_chunks::<8>();
        let crc = eights.iter().fold(!start, |crc, &[a, b, c, d, e, f, g, h]| {
            let low = crc ^ u32::from_le_bytes([a, b, c, d]);
            let high = u32::from_le_bytes([e, f, g, h]);
            at(7, low)
                ^ at(6, low >> 8)
                ^ at(5, low >> 16)
                ^ at(4, low >> 24)
                ^ at(3, high)
                ^ at(2, high >> 8)
                ^ at(1, high >> 16)
                ^ at(0, high >> 24)
        });
        !rest.iter().fold(crc, |crc, byte| crc >> 8 ^ at(0, crc ^ u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::{crc32, table};

    #[test]
    fn both_implementations_agree_with_libdeflate_whole_and_in_parts() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| ((i * i) >> 3) as u8).collect();
        for length in [0, 1, 7, 8, 9, 1000] {
            let (whole, (a, b)) = (&bytes[..length], bytes[..length].split_at(length / 3));
            let mut reference = libdeflater::Crc::new();
            reference.update(whole);
            for ours in [crc32, table::crc32] {
                assert_eq!(ours(0, whole), reference.sum());
                assert_eq!(ours(ours(0, a), b), reference.sum());
            }
        }
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
    }
}
