//! gzip data (RFC 1952), read. Their checksum and length are compared to the end of each member that holds a byte that
//! was asked for.

use crate::checksum::crc32;
use crate::error::Problem;
use crate::inflate::{Fault, Inflater, Output, Passing, Rest, Target, Usual};

pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Up to `most` bytes from the start of gzip data, which may itself be only the start of a file.
pub(crate) fn inflate_start(compressed: &[u8], most: usize) -> Result<Vec<u8>, Problem> {
    /// Of the shortest header there is.
    const EXPECTED: usize = 348;
    match inflate_with::<Usual>(compressed, most, Rest::Leave) {
        (bytes, Some(fault)) if bytes.is_empty() => Err(fault.in_gzip(0, EXPECTED)),
        (bytes, _) => Ok(bytes),
    }
}

/// The first `wanted` bytes of gzip data of one or more members; fewer when whole, sound data ends before that.
pub(crate) fn inflate(compressed: &[u8], wanted: usize) -> Result<Vec<u8>, Problem> {
    match inflate_with::<Usual>(compressed, wanted, Rest::Check) {
        (bytes, None) => Ok(bytes),
        (bytes, Some(fault)) => Err(fault.in_gzip(bytes.len(), wanted)),
    }
}

/// Hands on the first `wanted` bytes as they come, fewer when whole, sound data ends before that; returns how many there
/// were. They are inflated again each time, and none is kept.
pub(crate) fn inflate_through(
    compressed: &[u8],
    wanted: usize,
    give: &mut dyn FnMut(&[u8]),
) -> Result<usize, Problem> {
    let mut through = Passing { wanted, given: 0, give };
    let whole = members::<Usual, _>(compressed, &mut through, Rest::Check);
    whole.map_err(|fault| fault.in_gzip(through.given, wanted))?;
    Ok(through.given)
}

/// What could be inflated, and what stopped it but the end of the data or of what was wanted.
fn inflate_with<I: Inflater>(compressed: &[u8], wanted: usize, rest: Rest) -> (Vec<u8>, Option<Fault>) {
    match Output::new(compressed.len(), wanted) {
        Err(fault) => (Vec::new(), Some(fault)),
        Ok(mut out) => {
            let fault = members::<I, _>(compressed, &mut out, rest).err();
            (out.into_bytes(), fault)
        }
    }
}

/// Gives `out` what member after member holds. What follows the last member and is no member is padding.
fn members<I: Inflater, T: Target>(mut data: &[u8], out: &mut T, rest: Rest) -> Result<(), Fault> {
    while is_gzip(data) && !out.is_full() {
        let body = skip_member_header(data).ok_or(Fault::Truncated)?;
        if data.get(2) != Some(&8) {
            return Err(Fault::Damaged("the method is not deflate"));
        }
        let (mut checksum, mut length) = (0, 0_u32);
        let read = out.take::<I>(body, rest, &mut |bytes| {
            checksum = crc32(checksum, bytes);
            length = length.wrapping_add(bytes.len() as u32);
        })?;
        let Some(read) = read else { return Ok(()) };
        let trailer = body.get(read..).and_then(|b| b.split_first_chunk::<8>());
        let ([c0, c1, c2, c3, l0, l1, l2, l3], after) = trailer.ok_or(Fault::Truncated)?;
        if u32::from_le_bytes([*l0, *l1, *l2, *l3]) != length {
            return Err(Fault::Damaged("its length is not the one recorded"));
        }
        if u32::from_le_bytes([*c0, *c1, *c2, *c3]) != checksum {
            return Err(Fault::Damaged("its checksum is wrong"));
        }
        data = after;
    }
    Ok(())
}

/// What follows the header of a gzip member, or `None` when the data ends inside it.
fn skip_member_header(member: &[u8]) -> Option<&[u8]> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CRC: u8 = 2;
    let flags = *member.get(3)?;
    let mut rest = member.get(10..)?;
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|b| *b == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use miniz_oxide::inflate::core::DecompressorOxide;

    use super::*;

    /// Data that shrink to a half, in which matches reach back far.
    fn content(length: usize) -> Vec<u8> {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        (0..length).map(|i| if i % 40_000 < 20_000 { noise(i % 30_000) } else { noise(i) & 3 }).collect()
    }

    fn member(content: &[u8]) -> Vec<u8> {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut out = vec![0; compressor.gzip_compress_bound(content.len())];
        let length = compressor.gzip_compress(content, &mut out).unwrap();
        out.truncate(length);
        out
    }

    /// What is handed on.
    fn passing<I: Inflater>(compressed: &[u8], wanted: usize) -> (Vec<u8>, Option<Fault>) {
        let mut bytes = Vec::new();
        let mut through = Passing { wanted, given: 0, give: &mut |piece| bytes.extend(piece) };
        let fault = members::<I, _>(compressed, &mut through, Rest::Check).err();
        (bytes, fault)
    }

    /// Both inflaters, which must say the same.
    #[track_caller]
    fn both(compressed: &[u8], wanted: usize, rest: Rest) -> (Vec<u8>, Option<Fault>) {
        let usual = inflate_with::<Usual>(compressed, wanted, rest);
        assert_eq!(inflate_with::<DecompressorOxide>(compressed, wanted, rest), usual, "{wanted} bytes");
        if rest == Rest::Check {
            assert_eq!(passing::<Usual>(compressed, wanted), usual, "{wanted} bytes");
            assert_eq!(passing::<DecompressorOxide>(compressed, wanted), usual, "{wanted} bytes");
        }
        usual
    }

    #[test]
    fn as_many_bytes_as_are_wanted_come_of_one_member_or_of_several() {
        let content = content(1_000_000);
        let one = member(&content);
        let several = content.chunks(70_000).flat_map(member).collect::<Vec<_>>();
        for compressed in [one, several] {
            for wanted in [1, 348, 70_000, 140_000, 262_144, 999_999, 1_000_000] {
                let expected = (content[..wanted].to_vec(), None);
                assert_eq!(both(&compressed, wanted, Rest::Check), expected);
                assert_eq!(both(&compressed, wanted, Rest::Leave), expected);
            }
            assert_eq!(both(&compressed, 2_000_000, Rest::Check), (content.clone(), None));
        }
        // What shrinks a thousandfold, so that memory grows often.
        let zeros = vec![0; 3_000_000];
        assert_eq!(both(&member(&zeros), 3_000_000, Rest::Check), (zeros, None));
    }

    /// The checksum was once not looked at where a member held more than was asked for.
    #[test]
    fn a_member_is_checked_to_its_end_whatever_is_wanted_of_it() {
        let content = content(300_000);
        let sound = member(&content);
        for (from_end, reason) in [(8, "its checksum is wrong"), (4, "its length is not the one recorded")] {
            let mut damaged = sound.clone();
            let at = damaged.len() - from_end;
            damaged[at] ^= 1;
            for wanted in [1, 1000, 262_144, 299_999, 300_000, 300_001] {
                let (bytes, fault) = both(&damaged, wanted, Rest::Check);
                assert_eq!((bytes.len(), fault), (wanted.min(300_000), Some(Fault::Damaged(reason))));
                // The start of a file alone says nothing of its end.
                assert!(wanted > 299_999 || both(&damaged, wanted, Rest::Leave).1.is_none());
            }
            // A member that nothing is wanted of is not looked at.
            let followed = [sound.clone(), damaged].concat();
            assert_eq!(both(&followed, 300_000, Rest::Check).1, None);
            assert_eq!(both(&followed, 300_001, Rest::Check).1, Some(Fault::Damaged(reason)));
        }
        for cut in [1, 8, 9, 5000] {
            let (_, fault) = both(&sound[..sound.len() - cut], 1000, Rest::Check);
            assert_eq!(fault, Some(Fault::Truncated), "cut by {cut}");
        }
        let middle = sound.len() / 2;
        let mut damaged = sound;
        damaged[middle] ^= 0x10;
        assert!(matches!(both(&damaged, 1000, Rest::Check).1, Some(Fault::Damaged(_) | Fault::Truncated)));
    }
}
