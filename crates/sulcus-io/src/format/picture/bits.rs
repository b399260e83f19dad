//! Values of fewer than eight bits.

/// Appends the values of rows of 1, 2 or 4 bits, each as a byte. The first value is in the highest bits, and a row starts at a byte.
pub(super) fn unpack(rows: &[u8], bits: u8, columns: usize, out: &mut Vec<u8>) {
    let per_byte = 8 / usize::from(bits.max(1));
    let mask = u8::MAX >> (8 - bits);
    for row in rows.chunks_exact(columns.div_ceil(per_byte).max(1)) {
        let of_byte = |byte: &u8| {
            let byte = *byte;
            (1..=per_byte).map(move |i| byte >> (8 - usize::from(bits) * i) & mask)
        };
        out.extend(row.iter().flat_map(of_byte).take(columns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_value_is_in_the_highest_bits() {
        let unpacked = |rows: &[u8], bits, columns| {
            let mut out = Vec::new();
            unpack(rows, bits, columns, &mut out);
            out
        };
        assert_eq!(unpacked(&[0b1010_0000, 0b0110_0000], 1, 3), [1, 0, 1, 0, 1, 1]);
        assert_eq!(unpacked(&[0b1101_1000], 2, 3), [3, 1, 2]);
        assert_eq!(unpacked(&[0x5a, 0xf0], 4, 3), [5, 10, 15]);
    }
}
