//! Writing gzip (RFC 1952) and zlib data (RFC 1950).
//!
//! Outside WebAssembly the values are deflated in blocks on rayon's threads, as pigz does: each block may refer to the
//! values before it, and ends on a whole byte, so that the blocks one after the other are one stream. A file has one
//! member, since browsers refuse a second one, and the same bytes on any number of threads.

use std::io::{self, Write};

#[cfg(not(target_family = "wasm"))]
use crate::error::Problem;
use crate::values::Values;

/// Writes one gzip member that holds `start` and the values.
pub(crate) fn write_gzip(start: &[u8], values: &Values<'_>, out: &mut dyn Write) -> io::Result<()> {
    // No flags, no time, and 255 for a system that is not said.
    out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
    let (checksum, length) = member::write(start, values, out)?;
    out.write_all(&checksum.to_le_bytes())?;
    out.write_all(&(length as u32).to_le_bytes())
}

/// The values as one gzip member.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn gzip(values: &Values<'_>) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    write_gzip(&[], values, &mut out).map_err(failed)?;
    Ok(out)
}

/// The values as zlib data.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn zlib(values: &Values<'_>) -> Result<Vec<u8>, Problem> {
    // A window of 32 KiB, and the fastest levels.
    let mut out = vec![0x78, 0x01];
    let checksum = blocks::write(&[], values, blocks::ADLER32, &mut out).map_err(failed)?.0;
    out.extend(checksum.to_be_bytes());
    Ok(out)
}

/// What kept bytes from being compressed in memory.
#[cfg(not(target_family = "wasm"))]
fn failed(source: io::Error) -> Problem {
    Problem::System { action: "compress the volume", reason: source.to_string(), source }
}

#[cfg(not(target_family = "wasm"))]
mod member {
    use super::*;

    /// Writes the deflate data; returns the checksum and the length of what it holds.
    pub(super) fn write(start: &[u8], values: &Values<'_>, out: &mut dyn Write) -> io::Result<(u32, u64)> {
        blocks::write(start, values, blocks::CRC32, out)
    }
}

#[cfg(target_family = "wasm")]
mod member {
    use super::*;

    /// Writes the deflate data; returns the checksum and the length of what it holds.
    pub(super) fn write(start: &[u8], values: &Values<'_>, out: &mut dyn Write) -> io::Result<(u32, u64)> {
        let mut content = start.to_vec();
        for range in values.blocks() {
            values.append(range, &mut content);
        }
        out.write_all(&miniz_oxide::deflate::compress_to_vec(&content, 1))?;
        Ok((crate::checksum::crc32(0, &content), content.len() as u64))
    }
}

#[cfg(not(target_family = "wasm"))]
mod blocks {
    use std::ops::Range;

    use rayon::prelude::*;
    use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Strategy};

    use super::*;

    /// The fastest that makes codes of its own for each block: a mask takes half the room that it does at level 1.
    const LEVEL: i32 = 2;
    const WINDOW_BITS: i32 = 15;
    const WINDOW_BYTES: usize = 1 << WINDOW_BITS;
    /// The empty stored block that ends a block on a whole byte.
    const FLUSH_BYTES: usize = 16;

    /// Masks are runs of one value; to look for nothing else takes less time and less room.
    fn strategy(values: &Values<'_>) -> Strategy {
        if matches!(values, Values::Uint8(_)) { Strategy::Rle } else { Strategy::Default }
    }

    /// A checksum that blocks take each for itself.
    #[derive(Clone, Copy)]
    pub(super) struct Checksum {
        start: u32,
        of: fn(u32, &[u8]) -> u32,
        /// That of two pieces, from theirs and the length of the second.
        combine: fn(u32, u32, u64) -> u32,
    }

    pub(super) const CRC32: Checksum =
        Checksum { start: 0, of: zlib_rs::crc32::crc32, combine: zlib_rs::crc32::crc32_combine };
    pub(super) const ADLER32: Checksum =
        Checksum { start: 1, of: zlib_rs::adler32::adler32, combine: zlib_rs::adler32::adler32_combine };

    struct Block {
        packed: Vec<u8>,
        checksum: u32,
        bytes: u64,
    }

    /// Writes the deflate data; returns the checksum and the length of what it holds.
    pub(super) fn write(
        start: &[u8],
        values: &Values<'_>,
        checksum: Checksum,
        out: &mut dyn Write,
    ) -> io::Result<(u32, u64)> {
        /// What waits to be written is little, and no thread waits for another for long.
        const BLOCKS_A_THREAD: usize = 4;
        /// An empty last block.
        const END: [u8; 2] = [3, 0];
        let (mut sum, mut length) = (checksum.start, 0);
        let mut put = |block: Block| {
            sum = (checksum.combine)(sum, block.checksum, block.bytes);
            length += block.bytes;
            out.write_all(&block.packed)
        };
        if !start.is_empty() {
            let mut block = Deflating::new(&[], start.len(), Strategy::Default, checksum)?;
            block.add(start, DeflateFlush::NoFlush)?;
            put(block.finish()?)?;
        }
        let ranges: Vec<Range<usize>> = values.blocks().collect();
        for some in ranges.chunks(rayon::current_num_threads().max(1) * BLOCKS_A_THREAD) {
            let packed: Vec<_> = some.par_iter().map(|range| of_values(values, range, checksum)).collect();
            packed.into_iter().try_for_each(|block| put(block?))?;
        }
        out.write_all(&END)?;
        Ok((sum, length))
    }

    /// One block of values, which are turned into bytes a piece at a time, in memory that is near.
    fn of_values(values: &Values<'_>, range: &Range<usize>, checksum: Checksum) -> io::Result<Block> {
        let step = WINDOW_BYTES / values.voxel_type().bytes();
        let mut bytes = Vec::with_capacity(WINDOW_BYTES);
        values.append(range.start.saturating_sub(step)..range.start, &mut bytes);
        let most = range.len().saturating_mul(values.voxel_type().bytes());
        let mut block = Deflating::new(&bytes, most, strategy(values), checksum)?;
        for start in range.clone().step_by(step) {
            bytes.clear();
            values.append(start..(start + step).min(range.end), &mut bytes);
            block.add(&bytes, DeflateFlush::NoFlush)?;
        }
        block.finish()
    }

    /// A block in the making.
    struct Deflating {
        deflate: Deflate,
        packed: Vec<u8>,
        checksum: Checksum,
        sum: u32,
        bytes: u64,
    }

    impl Deflating {
        /// A block of at most so many bytes, which may refer to what is `before` it.
        fn new(before: &[u8], most: usize, strategy: Strategy, checksum: Checksum) -> io::Result<Self> {
            // A new one each time: one that is used again keeps parts of its tables, so that its output would depend on
            // which thread had which block before. Negative bits are those of raw data.
            let window_bits = -WINDOW_BITS;
            let config = DeflateConfig { level: LEVEL, window_bits, strategy, ..DeflateConfig::default() };
            let mut deflate = Deflate::new_with_config(config);
            if !before.is_empty() {
                deflate.set_dictionary(before).map_err(|error| failed(error.as_str()))?;
            }
            // The bound is that of usual codes; without them a byte may take nine bits.
            let room = zlib_rs::compress_bound(most).saturating_add(most / 4 + FLUSH_BYTES);
            Ok(Self { deflate, packed: vec![0; room], checksum, sum: checksum.start, bytes: 0 })
        }

        fn add(&mut self, bytes: &[u8], flush: DeflateFlush) -> io::Result<()> {
            self.sum = (self.checksum.of)(self.sum, bytes);
            self.bytes += bytes.len() as u64;
            let written = usize::try_from(self.deflate.total_out()).unwrap_or(usize::MAX);
            let room = self.packed.get_mut(written..).unwrap_or_default();
            self.deflate.compress(bytes, room, flush).map(drop).map_err(|error| failed(error.as_str()))
        }

        /// Ends the block on a whole byte.
        fn finish(mut self) -> io::Result<Block> {
            self.add(&[], DeflateFlush::SyncFlush)?;
            let written = usize::try_from(self.deflate.total_out()).unwrap_or(usize::MAX);
            // With room left nothing is held back.
            if self.deflate.total_in() != self.bytes || written >= self.packed.len() {
                return Err(failed("its output is longer than it can be"));
            }
            self.packed.truncate(written);
            Ok(Block { packed: self.packed, checksum: self.sum, bytes: self.bytes })
        }
    }

    fn failed(what: &str) -> io::Error {
        io::Error::other(format!("zlib-rs could not deflate a block: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voxels::VoxelType;

    /// A mask-like and a noisy part, longer than a few blocks.
    fn content() -> Vec<u8> {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        (0..2_500_000).map(|i| if i % 700_000 < 350_000 { (i / 3000 % 3) as u8 } else { noise(i) & 31 }).collect()
    }

    fn written(start: &[u8], values: &Values<'_>, threads: usize) -> Vec<u8> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut out = Vec::new();
            write_gzip(start, values, &mut out).unwrap();
            out
        })
    }

    #[test]
    fn any_number_of_threads_writes_the_same_bytes() {
        let content = content();
        let values = Values::of_bytes(&content);
        let one = written(b"a header", &values, 1);
        for threads in [2, 3, 8] {
            // Memory that other data was in must not show.
            drop((0..64).map(|i| vec![i as u8 ^ threads as u8; 100_000]).collect::<Vec<_>>());
            assert!(written(b"a header", &values, threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn masks_come_back_whatever_their_runs() {
        let mut state = 1_u32;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        for largest in [1, 255, 65535] {
            let labels: Vec<u16> =
                (0..1_200_000)
                    .map(|i| {
                        if i % 500_000 < 250_000 {
                            (noise() % (largest + 1)) as u16
                        } else {
                            (i / 1000 % 2) as u16
                        }
                    })
                    .collect();
            let values = Values::of_labels(&labels);
            let file = written(b"a header", &values, 2);
            let mut back = vec![0; 8 + values.bytes()];
            assert_eq!(libdeflater::Decompressor::new().gzip_decompress(&file, &mut back), Ok(back.len()));
            let found: Vec<u16> = match values.voxel_type() {
                VoxelType::Uint8 => back[8..].iter().map(|v| u16::from(*v)).collect(),
                _ => back[8..].as_chunks::<2>().0.iter().map(|v| u16::from_le_bytes(*v)).collect(),
            };
            assert!(found == labels, "labels up to {largest}");
        }
    }

    #[test]
    fn other_inflaters_read_one_member() {
        let content = content();
        for length in [0, 1, 524_287, 524_288, 524_289, 2_500_000] {
            let expected = [b"a header".as_slice(), &content[..length]].concat();
            let file = written(b"a header", &Values::of_bytes(&content[..length]), 2);
            // libdeflate takes a single member, and compares checksum and length.
            let mut back = vec![0; expected.len() + 1];
            let n = libdeflater::Decompressor::new().gzip_decompress(&file, &mut back).unwrap();
            assert!(back[..n] == expected, "{length} bytes");
            // The browser's.
            let raw = &file[10..file.len() - 8];
            assert!(miniz_oxide::inflate::decompress_to_vec(raw).unwrap() == expected, "{length} bytes");
            let zlib = zlib(&Values::of_bytes(&content[..length])).unwrap();
            assert!(miniz_oxide::inflate::decompress_to_vec_zlib(&zlib).unwrap() == content[..length]);
        }
    }

    #[test]
    fn values_of_several_bytes_are_cut_between_values() {
        let content = content();
        let values = Values::Stored { bytes: &content[..2_400_000], voxel_type: VoxelType::Int64, big: true };
        let mut back = vec![0; 2_400_000];
        libdeflater::Decompressor::new().gzip_decompress(&written(&[], &values, 2), &mut back).unwrap();
        back.as_chunks_mut::<8>().0.iter_mut().for_each(|v| v.reverse());
        assert!(back == content[..2_400_000]);
    }
}
