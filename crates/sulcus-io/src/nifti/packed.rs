//! A gzipped file as an image, straight from the compressed bytes: each piece is converted while it is near, and the
//! file's content is nowhere as a whole.

use super::header::NiftiHeader;
use super::read::header_of_single;
use crate::error::Problem;
use crate::info::Statistics;
use crate::read::Scan;
use crate::stored::Converted;
use crate::voxels::{BLOCK, Scale, VoxelType};
use crate::{gzip, inflate};

/// Reads the image in the bytes of a gzipped single file.
pub(crate) fn read_scan(bytes: &[u8]) -> Result<Scan, Problem> {
    let mut header = header_of_single(bytes)?;
    header.clone().into_source().check_usable()?;
    header.check_length(inflate::most_inflated(bytes), true)?;
    let wanted = header.vox_offset().saturating_add(header.voxel_bytes());
    let memory = |bytes| Problem::Memory { action: "decompress the file", bytes };
    let wanted = usize::try_from(wanted).map_err(|_| memory(wanted))?;
    let (found, before, converted) = converted(&header, bytes, wanted)?;
    header.check_length(found as u64, false)?;
    header.read_extensions(before.get(header.header_bytes()..).unwrap_or_default());
    converted.into_scan(header.into_source())
}

/// The length of the content up to the last voxel, what comes before the first, and the voxels.
type Content = (usize, Vec<u8>, Converted);

fn converted(header: &NiftiHeader, bytes: &[u8], wanted: usize) -> Result<Content, Problem> {
    #[cfg(not(target_family = "wasm"))]
    if wanted >= beside::LEAST_BYTES {
        return beside::converted(header, bytes, wanted);
    }
    let mut pieces = Pieces::of(header, bytes.len())?;
    let found = gzip::inflate_through(bytes, wanted, &mut |piece| pieces.add(piece))?;
    let (before, converted) = pieces.finish()?;
    Ok((found, before, converted))
}

/// Large volumes: one thread inflates while another converts, most of whose time the system takes to find memory.
#[cfg(not(target_family = "wasm"))]
mod beside {
    use std::panic::resume_unwind;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Below it a thread costs more than it saves.
    pub(super) const LEAST_BYTES: usize = 1 << 22;

    pub(super) fn converted(header: &NiftiHeader, bytes: &[u8], wanted: usize) -> Result<Content, Problem> {
        /// Pieces that may wait.
        const AHEAD: usize = 4;
        let mut pieces = Pieces::of(header, bytes.len())?;
        let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(AHEAD);
        let (emptied, spare) = mpsc::channel();
        thread::scope(|scope| {
            let convert = move || {
                for piece in receiver {
                    pieces.add(&piece);
                    // Nobody may want it any more.
                    let _ = emptied.send(piece);
                }
                pieces.finish()
            };
            let converter = thread::Builder::new().spawn_scoped(scope, convert).map_err(|source| {
                Problem::System { action: "start a thread to read the volume", reason: source.to_string(), source }
            })?;
            let found = gzip::inflate_through(bytes, wanted, &mut |piece| {
                let mut copy: Vec<u8> = spare.try_recv().unwrap_or_default();
                copy.clear();
                copy.extend(piece);
                // It only fails when the other thread has panicked, which is told below.
                let _ = sender.send(copy);
            });
            drop(sender);
            let (before, converted) = converter.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok((found?, before, converted))
        })
    }
}

/// What is made of a file's content as it comes.
struct Pieces {
    /// What comes before the voxels, and its length.
    before: Vec<u8>,
    first_voxel: usize,
    /// Bytes that wait for a block to be whole, so that values are put together as in a file that isn't packed.
    waiting: Vec<u8>,
    voxel_type: VoxelType,
    big_endian: bool,
    scale: Option<Scale>,
    /// How many values there will be.
    values: usize,
    converted: Converted,
    failed: Option<Problem>,
}

impl Pieces {
    fn of(header: &NiftiHeader, compressed: usize) -> Result<Self, Problem> {
        let voxel_type = header.voxel_type();
        let values = usize::try_from(header.voxel_bytes()).unwrap_or(usize::MAX) / voxel_type.bytes();
        let mut pieces = Self {
            before: Vec::new(),
            first_voxel: usize::try_from(header.vox_offset()).unwrap_or(usize::MAX),
            waiting: Vec::new(),
            voxel_type,
            big_endian: header.is_big_endian(),
            scale: header.scale(),
            values,
            converted: Converted { data: Vec::new(), statistics: Statistics::NOTHING },
            failed: None,
        };
        // Data inflate to as many bytes at least.
        pieces.reserve(compressed / voxel_type.bytes())?;
        Ok(pieces)
    }

    /// Room for so many values more. It doubles as values come, so that those which a header only announces cost nothing.
    fn reserve(&mut self, more: usize) -> Result<(), Problem> {
        let data = &mut self.converted.data;
        let least = data.len().saturating_add(more);
        if least <= data.capacity() {
            return Ok(());
        }
        let size = least.max(data.capacity().saturating_mul(2)).min(self.values.max(least));
        let bytes = size.saturating_mul(size_of::<f32>()) as u64;
        let memory = |_| Problem::Memory { action: "read the voxels", bytes };
        data.try_reserve_exact(size - data.len()).map_err(memory)
    }

    fn add(&mut self, piece: &[u8]) {
        let missing = self.first_voxel.saturating_sub(self.before.len()).min(piece.len());
        let (before, voxels) = piece.split_at(missing);
        self.before.extend(before);
        self.waiting.extend(voxels);
        let block = BLOCK * self.voxel_type.bytes();
        self.convert(self.waiting.len() / block * block);
    }

    /// Converts the first bytes of those that wait.
    fn convert(&mut self, length: usize) {
        if self.failed.is_none() {
            self.failed = self.reserve(length / self.voxel_type.bytes()).err();
        }
        if self.failed.is_none() {
            let ready = self.waiting.get(..length).unwrap_or_default();
            self.converted.add(ready, self.voxel_type, self.big_endian, self.scale);
        }
        self.waiting.drain(..length);
    }

    /// What came before the voxels, and these.
    fn finish(mut self) -> Result<(Vec<u8>, Converted), Problem> {
        self.convert(self.waiting.len());
        self.failed.map_or(Ok((self.before, self.converted)), Err)
    }
}
