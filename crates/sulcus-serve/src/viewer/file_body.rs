//! An opened file as the body of a response.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

/// Number of bytes per read.
const CHUNK: usize = 1 << 18;
/// Number of chunks that are read in advance.
const CHUNKS_AHEAD: usize = 2;

/// A file that several responses can read at the same time.
#[derive(Debug, Clone)]
pub(super) struct SharedFile {
    file: Arc<File>,
    length: u64,
}

impl SharedFile {
    /// Takes an opened file with its current length.
    ///
    /// # Errors
    /// If it is not a regular file: other files have no length, and reading from them affects other readers.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"));
        }
        Ok(Self { file: Arc::new(file), length: metadata.len() })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The whole file, read on a thread while the client receives it.
    pub(super) fn body(&self) -> FileBody {
        let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let Self { file, length } = self.clone();
        tokio::task::spawn_blocking(move || {
            let mut offset = 0;
            while offset < length {
                let chunk = read_chunk(&file, offset, length);
                offset += chunk.as_ref().map_or(length, |bytes| bytes.len() as u64);
                // The client has disconnected.
                if send.blocking_send(chunk).is_err() {
                    break;
                }
            }
        });
        FileBody { chunks, left: length }
    }
}

fn read_chunk(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let wanted = usize::try_from(length - offset).unwrap_or(usize::MAX).min(CHUNK);
    let mut chunk = vec![0; wanted];
    let read = loop {
        match read_at(file, &mut chunk, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The file was truncated after it was opened.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => break read?,
        }
    };
    chunk.truncate(read);
    Ok(chunk.into())
}

#[cfg(unix)]
fn read_at(file: &File, chunk: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, chunk, offset)
}

#[cfg(windows)]
fn read_at(file: &File, chunk: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, chunk, offset)
}

/// The body that [`SharedFile::body`] returns.
#[derive(Debug)]
pub(super) struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let chunk = ready!(self.chunks.poll_recv(cx));
        Poll::Ready(chunk.map(|chunk| {
            let bytes = chunk?;
            self.left = self.left.saturating_sub(bytes.len() as u64);
            Ok(Frame::data(bytes))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
