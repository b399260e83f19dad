use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::compression::is_gzip;
use crate::error::{IoError, IoErrorKind};
use crate::format::{self, Header, VoxelFile};
use crate::system_error::io_error_kind;

const ACTION: &str = "read the volume";

/// An open file whose start has been read, so that its header can be checked before the rest is read.
pub(super) struct InputFile<'a> {
    pub(super) path: &'a Path,
    file: File,
    start: Vec<u8>,
    /// The length; `u64::MAX` if it is unknown.
    length: u64,
}

impl<'a> InputFile<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, IoError> {
        const START_BYTES: u64 = 1 << 16;
        let fail = |cause| IoError::in_file(path, io_error_kind(ACTION, path, cause));
        let metadata = fs::metadata(path).map_err(fail)?;
        if metadata.is_dir() {
            return Err(IoError::in_file(path, IoErrorKind::Folder { action: ACTION }));
        }
        let mut file = File::open(path).map_err(fail)?;
        let mut start = Vec::new();
        file.by_ref().take(START_BYTES).read_to_end(&mut start).map_err(fail)?;
        if start.is_empty() {
            return Err(IoError::in_file(path, IoErrorKind::Empty));
        }
        // A pipe has no known length.
        let length = if metadata.is_file() { metadata.len() } else { u64::MAX };
        Ok(Self { path, file, start, length })
    }

    /// Detects the format and parses the header.
    pub(super) fn header(&mut self) -> Result<Box<dyn Header>, IoError> {
        let format = format::detect(&self.start).map_err(|kind| self.error(kind))?;
        self.extend_start(format.max_header_bytes())?;
        format.parse(&self.start).map_err(|kind| self.error(kind))
    }

    /// Checks that the file can contain the voxels that the header announces, before they are read.
    pub(super) fn check_length(&self, header: &dyn Header, file: VoxelFile) -> Result<(), IoError> {
        if is_gzip(&self.start) {
            return Ok(());
        }
        header.check_length(file, self.length).map_err(|kind| self.error(kind))
    }

    /// Reads the rest of the file; returns the whole content.
    pub(super) fn read_all(self) -> Result<Vec<u8>, IoError> {
        let Self { path, mut file, start: mut bytes, length } = self;
        let rest = length.saturating_sub(bytes.len() as u64);
        if length < u64::MAX {
            let memory = |_| IoError::in_file(path, IoErrorKind::Memory { action: ACTION, bytes: length });
            bytes.try_reserve_exact(usize::try_from(rest).unwrap_or(usize::MAX)).map_err(memory)?;
        }
        let read = file.read_to_end(&mut bytes);
        read.map_err(|cause| IoError::in_file(path, io_error_kind(ACTION, path, cause)))?;
        Ok(bytes)
    }

    /// Adds the path to an error.
    pub(super) fn error(&self, kind: IoErrorKind) -> IoError {
        IoError::in_file(self.path, kind)
    }

    /// Reads until the start has this number of bytes, or the file ends.
    fn extend_start(&mut self, bytes: usize) -> Result<(), IoError> {
        let missing = bytes.saturating_sub(self.start.len()) as u64;
        let read = self.file.by_ref().take(missing).read_to_end(&mut self.start);
        read.map(drop).map_err(|cause| self.error(io_error_kind(ACTION, self.path, cause)))
    }
}
