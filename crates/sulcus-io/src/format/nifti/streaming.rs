//! Reads a gzipped file as an image while it is inflated. Each chunk is converted as it comes, so the uncompressed file is
//! never in memory as a whole.

use super::header::NiftiHeader;
use crate::compression::{inflate_gzip_chunks, max_inflated_bytes};
use crate::error::IoErrorKind;
use crate::scan::ScanBuilder;
use crate::voxels::{BLOCK, Scale, VoxelType};

/// Reads the voxels of a gzipped file; the header gets the extensions.
pub(super) fn read_gzip(mut header: NiftiHeader, bytes: &[u8]) -> Result<(NiftiHeader, ScanBuilder), IoErrorKind> {
    header.check_file_bytes(max_inflated_bytes(bytes), true)?;
    let needed = needed_bytes(&header)?;
    let (found, before, builder) = convert(&header, bytes, needed)?;
    header.check_file_bytes(found as u64, false)?;
    header.read_extensions(before.get(header.header_bytes()..).unwrap_or_default());
    Ok((header, builder))
}

/// The size of the uncompressed file up to the last voxel.
pub(super) fn needed_bytes(header: &NiftiHeader) -> Result<usize, IoErrorKind> {
    let bytes = header.file_bytes();
    usize::try_from(bytes).map_err(|_| IoErrorKind::Memory { action: "decompress the file", bytes })
}

/// The length of the content up to the last voxel, the bytes before the first voxel, and the voxels.
type Content = (usize, Vec<u8>, ScanBuilder);

fn convert(header: &NiftiHeader, bytes: &[u8], needed: usize) -> Result<Content, IoErrorKind> {
    #[cfg(feature = "parallel")]
    if needed >= two_threads::MIN_BYTES {
        return two_threads::convert(header, bytes, needed);
    }
    let mut chunks = ChunkConverter::new(header, bytes.len())?;
    let found = inflate_gzip_chunks(bytes, needed, &mut |chunk| chunks.add(chunk))?;
    let (before, builder) = chunks.finish()?;
    Ok((found, before, builder))
}

/// For large volumes, one thread inflates while another converts. Most of the time of the second thread is spent in the
/// system, which provides the memory.
#[cfg(feature = "parallel")]
mod two_threads {
    use std::panic::resume_unwind;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// For smaller volumes a thread costs more than it saves.
    pub(super) const MIN_BYTES: usize = 1 << 22;

    pub(super) fn convert(header: &NiftiHeader, bytes: &[u8], needed: usize) -> Result<Content, IoErrorKind> {
        /// The number of chunks that may wait for conversion.
        const MAX_WAITING: usize = 4;
        let mut chunks = ChunkConverter::new(header, bytes.len())?;
        let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(MAX_WAITING);
        let (recycle, recycled) = mpsc::channel();
        thread::scope(|scope| {
            let convert = move || {
                for chunk in receiver {
                    chunks.add(&chunk);
                    // Fails when the other thread has finished and needs no more buffers.
                    let _ = recycle.send(chunk);
                }
                chunks.finish()
            };
            let converter =
                thread::Builder::new().spawn_scoped(scope, convert).map_err(|cause| IoErrorKind::System {
                    action: "start a thread to read the volume",
                    reason: cause.to_string(),
                    cause,
                })?;
            let found = inflate_gzip_chunks(bytes, needed, &mut |chunk| {
                let mut copy: Vec<u8> = recycled.try_recv().unwrap_or_default();
                copy.clear();
                copy.extend(chunk);
                // Fails only when the other thread has panicked, which `join` reports.
                let _ = sender.send(copy);
            });
            drop(sender);
            let (before, builder) = converter.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok((found?, before, builder))
        })
    }
}

/// Converts the chunks of an inflated file.
struct ChunkConverter {
    /// The bytes before the first voxel, up to [`Self::MAX_BEFORE`].
    before: Vec<u8>,
    /// How many bytes have come before the first voxel.
    passed: usize,
    first_voxel: usize,
    /// Bytes of an incomplete block. The statistics thus add the same blocks as for an uncompressed file.
    waiting: Vec<u8>,
    voxel_type: VoxelType,
    big_endian: bool,
    scale: Option<Scale>,
    /// The number of values in the file.
    values: usize,
    builder: ScanBuilder,
    error: Option<IoErrorKind>,
}

impl ChunkConverter {
    /// The header and its extensions are shorter. A header can place the voxels behind any number of bytes.
    const MAX_BEFORE: usize = 1 << 26;

    fn new(header: &NiftiHeader, compressed_bytes: usize) -> Result<Self, IoErrorKind> {
        let voxel_type = header.voxel_type();
        let values = usize::try_from(header.voxel_bytes()).unwrap_or(usize::MAX) / voxel_type.bytes();
        let mut chunks = Self {
            before: Vec::new(),
            passed: 0,
            first_voxel: usize::try_from(header.vox_offset()).unwrap_or(usize::MAX),
            waiting: Vec::new(),
            voxel_type,
            big_endian: header.is_big_endian(),
            scale: header.scale(),
            values,
            builder: ScanBuilder::new(Vec::new()),
            error: None,
        };
        // The inflated data is at least as long as the compressed data.
        chunks.reserve(compressed_bytes / voxel_type.bytes())?;
        Ok(chunks)
    }

    /// Reserves memory for this many more values. The capacity doubles as values come, so that values which the header only
    /// announces cost nothing.
    fn reserve(&mut self, more: usize) -> Result<(), IoErrorKind> {
        let data = &mut self.builder.data;
        let required = data.len().saturating_add(more);
        if required <= data.capacity() {
            return Ok(());
        }
        let size = required.max(data.capacity().saturating_mul(2)).min(self.values.max(required));
        let bytes = size.saturating_mul(size_of::<f32>()) as u64;
        let memory = |_| IoErrorKind::Memory { action: "read the voxels", bytes };
        data.try_reserve_exact(size - data.len()).map_err(memory)
    }

    fn add(&mut self, chunk: &[u8]) {
        let missing = self.first_voxel.saturating_sub(self.passed).min(chunk.len());
        let (before, voxels) = chunk.split_at(missing);
        self.passed += missing;
        let kept = missing.min(Self::MAX_BEFORE.saturating_sub(self.before.len()));
        self.before.extend(before.get(..kept).unwrap_or_default());
        self.waiting.extend(voxels);
        let block = BLOCK * self.voxel_type.bytes();
        self.convert(self.waiting.len() / block * block);
    }

    /// Converts the first bytes of `waiting`.
    fn convert(&mut self, length: usize) {
        if self.error.is_none() {
            self.error = self.reserve(length / self.voxel_type.bytes()).err();
        }
        if self.error.is_none() {
            let ready = self.waiting.get(..length).unwrap_or_default();
            self.builder.add_stored(ready, self.voxel_type, self.big_endian, self.scale);
        }
        self.waiting.drain(..length);
    }

    /// The bytes before the first voxel, and the voxels.
    fn finish(mut self) -> Result<(Vec<u8>, ScanBuilder), IoErrorKind> {
        self.convert(self.waiting.len());
        self.error.map_or(Ok((self.before, self.builder)), Err)
    }
}
