//! Writes gzip (RFC 1952) and zlib data (RFC 1950).
//!
//! With the feature `parallel`, the values are deflated in blocks on rayon's threads, as in pigz. Each block may refer to the
//! values before it and ends on a byte boundary, so that the concatenated blocks form one stream. A gzip file has a single
//! member, because browsers refuse several. The bytes do not depend on the number of threads.

use std::io::{self, Write};

#[cfg(feature = "text-formats")]
use crate::error::IoErrorKind;
use crate::voxels::VoxelEncoder;

/// Writes one gzip member that holds `start` and the values.
pub(crate) fn write_gzip(start: &[u8], values: &VoxelEncoder<'_>, out: &mut dyn Write) -> io::Result<()> {
    // No flags, no time, and 255 for an unknown operating system.
    out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
    let (checksum, length) = member::write(start, values, out)?;
    out.write_all(&checksum.to_le_bytes())?;
    out.write_all(&(length as u32).to_le_bytes())
}

/// The values as one gzip member.
#[cfg(feature = "text-formats")]
pub(crate) fn gzip(values: &VoxelEncoder<'_>) -> Result<Vec<u8>, IoErrorKind> {
    let mut out = Vec::new();
    write_gzip(&[], values, &mut out).map_err(failed)?;
    Ok(out)
}

/// The values as zlib data.
#[cfg(feature = "text-formats")]
pub(crate) fn zlib(values: &VoxelEncoder<'_>) -> Result<Vec<u8>, IoErrorKind> {
    // A window of 32 KiB, and one of the fastest levels.
    let mut out = vec![0x78, 0x01];
    let checksum = blocks::write(&[], values, blocks::ADLER32, &mut out).map_err(failed)?.0;
    out.extend(checksum.to_be_bytes());
    Ok(out)
}

/// A failure to compress into memory.
#[cfg(feature = "text-formats")]
fn failed(cause: io::Error) -> IoErrorKind {
    IoErrorKind::System { action: "compress the volume", reason: cause.to_string(), cause }
}

#[cfg(feature = "parallel")]
mod member {
    use super::*;

    /// Writes the deflate data; returns the checksum and the length of its content.
    pub(super) fn write(start: &[u8], values: &VoxelEncoder<'_>, out: &mut dyn Write) -> io::Result<(u32, u64)> {
        blocks::write(start, values, blocks::CRC32, out)
    }
}

#[cfg(not(feature = "parallel"))]
mod member {
    use super::*;

    /// Writes the deflate data; returns the checksum and the length of its content.
    pub(super) fn write(start: &[u8], values: &VoxelEncoder<'_>, out: &mut dyn Write) -> io::Result<(u32, u64)> {
        let mut content = start.to_vec();
        for range in values.blocks() {
            values.append(range, &mut content);
        }
        out.write_all(&miniz_oxide::deflate::compress_to_vec(&content, 1))?;
        Ok((crate::compression::checksum::crc32(0, &content), content.len() as u64))
    }
}

#[cfg(feature = "parallel")]
mod blocks {
    use std::ops::Range;

    use rayon::prelude::*;
    use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Strategy};

    use super::*;

    /// The fastest level with dynamic codes: a mask takes half the space of level 1.
    const LEVEL: i32 = 2;
    const WINDOW_BITS: i32 = 15;
    const WINDOW_BYTES: usize = 1 << WINDOW_BITS;
    /// The size of the empty stored block that ends a block on a byte boundary.
    const FLUSH_BYTES: usize = 16;

    /// Masks consist of runs of one value. Searching only for runs takes less time and gives smaller files.
    fn strategy(values: &VoxelEncoder<'_>) -> Strategy {
        if matches!(values, VoxelEncoder::Uint8(_)) { Strategy::Rle } else { Strategy::Default }
    }

    /// A checksum that is computed for each block and then combined.
    #[derive(Clone, Copy)]
    pub(super) struct Checksum {
        start: u32,
        of: fn(u32, &[u8]) -> u32,
        /// Combines the checksums of two parts, given the length of the second.
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

    /// Writes the deflate data; returns the checksum and the length of its content.
    pub(super) fn write(
        start: &[u8],
        values: &VoxelEncoder<'_>,
        checksum: Checksum,
        out: &mut dyn Write,
    ) -> io::Result<(u32, u64)> {
        /// Few blocks wait to be written, and threads wait only briefly for each other.
        const BLOCKS_PER_THREAD: usize = 4;
        /// An empty last block.
        const END: [u8; 2] = [3, 0];
        let (mut sum, mut length) = (checksum.start, 0);
        let mut put = |block: Block| {
            sum = (checksum.combine)(sum, block.checksum, block.bytes);
            length += block.bytes;
            out.write_all(&block.packed)
        };
        if !start.is_empty() {
            let mut block = BlockBuilder::new(&[], start.len(), Strategy::Default, checksum)?;
            block.add(start, DeflateFlush::NoFlush)?;
            put(block.finish()?)?;
        }
        let ranges: Vec<Range<usize>> = values.blocks().collect();
        for some in ranges.chunks(rayon::current_num_threads().max(1) * BLOCKS_PER_THREAD) {
            let packed: Vec<_> = some.par_iter().map(|range| deflate_block(values, range, checksum)).collect();
            packed.into_iter().try_for_each(|block| put(block?))?;
        }
        out.write_all(&END)?;
        Ok((sum, length))
    }

    /// Deflates one block of values. The values are converted to bytes in parts that fit into the cache.
    fn deflate_block(values: &VoxelEncoder<'_>, range: &Range<usize>, checksum: Checksum) -> io::Result<Block> {
        let step = WINDOW_BYTES / values.voxel_type().bytes();
        let mut bytes = Vec::with_capacity(WINDOW_BYTES);
        values.append(range.start.saturating_sub(step)..range.start, &mut bytes);
        let max_bytes = range.len().saturating_mul(values.voxel_type().bytes());
        let mut block = BlockBuilder::new(&bytes, max_bytes, strategy(values), checksum)?;
        for start in range.clone().step_by(step) {
            bytes.clear();
            values.append(start..(start + step).min(range.end), &mut bytes);
            block.add(&bytes, DeflateFlush::NoFlush)?;
        }
        block.finish()
    }

    /// Builds a block.
    struct BlockBuilder {
        deflate: Deflate,
        packed: Vec<u8>,
        checksum: Checksum,
        sum: u32,
        bytes: u64,
    }

    impl BlockBuilder {
        /// A block of at most `max_bytes`, which may refer to the bytes `before` it.
        fn new(before: &[u8], max_bytes: usize, strategy: Strategy, checksum: Checksum) -> io::Result<Self> {
            // A reused deflater keeps parts of its tables, so its output would depend on the previous block of its thread.
            // A negative number of bits selects raw deflate data.
            let window_bits = -WINDOW_BITS;
            let config = DeflateConfig { level: LEVEL, window_bits, strategy, ..DeflateConfig::default() };
            let mut deflate = Deflate::new_with_config(config);
            if !before.is_empty() {
                deflate.set_dictionary(before).map_err(|error| failed(error.as_str()))?;
            }
            // The bound assumes dynamic codes; with fixed codes a byte may take nine bits.
            let room = zlib_rs::compress_bound(max_bytes).saturating_add(max_bytes / 4 + FLUSH_BYTES);
            Ok(Self { deflate, packed: vec![0; room], checksum, sum: checksum.start, bytes: 0 })
        }

        fn add(&mut self, bytes: &[u8], flush: DeflateFlush) -> io::Result<()> {
            self.sum = (self.checksum.of)(self.sum, bytes);
            self.bytes += bytes.len() as u64;
            let written = usize::try_from(self.deflate.total_out()).unwrap_or(usize::MAX);
            let room = self.packed.get_mut(written..).unwrap_or_default();
            self.deflate.compress(bytes, room, flush).map(drop).map_err(|error| failed(error.as_str()))
        }

        /// Ends the block on a byte boundary.
        fn finish(mut self) -> io::Result<Block> {
            self.add(&[], DeflateFlush::SyncFlush)?;
            let written = usize::try_from(self.deflate.total_out()).unwrap_or(usize::MAX);
            // If the buffer is not full, the deflater has written everything.
            if self.deflate.total_in() != self.bytes || written >= self.packed.len() {
                return Err(failed("its output exceeds the upper bound"));
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

    /// A part that resembles a mask and a noisy part, longer than several blocks.
    fn content() -> Vec<u8> {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        (0..2_500_000).map(|i| if i % 700_000 < 350_000 { (i / 3000 % 3) as u8 } else { noise(i) & 31 }).collect()
    }

    fn written(start: &[u8], values: &VoxelEncoder<'_>, threads: usize) -> Vec<u8> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut out = Vec::new();
            write_gzip(start, values, &mut out).unwrap();
            out
        })
    }

    #[test]
    fn output_does_not_depend_on_the_number_of_threads() {
        let content = content();
        let values = VoxelEncoder::from_bytes(&content);
        let one = written(b"a header", &values, 1);
        for threads in [2, 3, 8] {
            // Fills memory with other data, which must not influence the output.
            drop((0..64).map(|i| vec![i as u8 ^ threads as u8; 100_000]).collect::<Vec<_>>());
            assert!(written(b"a header", &values, threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn masks_survive_the_round_trip() {
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
            let values = VoxelEncoder::from_labels(&labels);
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
    fn other_inflaters_read_the_single_member() {
        let content = content();
        for length in [0, 1, 524_287, 524_288, 524_289, 2_500_000] {
            let expected = [b"a header".as_slice(), &content[..length]].concat();
            let file = written(b"a header", &VoxelEncoder::from_bytes(&content[..length]), 2);
            // libdeflate reads a single member, and verifies checksum and length.
            let mut back = vec![0; expected.len() + 1];
            let n = libdeflater::Decompressor::new().gzip_decompress(&file, &mut back).unwrap();
            assert!(back[..n] == expected, "{length} bytes");
            // The inflater of the browser build.
            let raw = &file[10..file.len() - 8];
            assert!(miniz_oxide::inflate::decompress_to_vec(raw).unwrap() == expected, "{length} bytes");
            let zlib = zlib(&VoxelEncoder::from_bytes(&content[..length])).unwrap();
            assert!(miniz_oxide::inflate::decompress_to_vec_zlib(&zlib).unwrap() == content[..length]);
        }
    }

    #[test]
    fn blocks_end_between_values() {
        let content = content();
        let values =
            VoxelEncoder::Stored { bytes: &content[..2_400_000], voxel_type: VoxelType::Int64, big_endian: true };
        let mut back = vec![0; 2_400_000];
        libdeflater::Decompressor::new().gzip_decompress(&written(&[], &values, 2), &mut back).unwrap();
        back.as_chunks_mut::<8>().0.iter_mut().for_each(|v| v.reverse());
        assert!(back == content[..2_400_000]);
    }
}
