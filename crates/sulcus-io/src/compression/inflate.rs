//! Inflates deflate data (RFC 1951) into memory that grows with the data. A header that announces more data than there is
//! costs no memory.

use crate::error::IoErrorKind;

/// deflate cannot shrink data by more than this factor (258 bytes for two bits, zlib's technical notes).
const MAX_RATIO: u64 = 1032;

/// The number of bytes per step. They are still in the cache when their checksum is computed.
const STEP_BYTES: usize = 1 << 18;

/// The maximum distance of matches in deflate data.
const WINDOW_BYTES: usize = 1 << 15;

/// How many bytes may follow the `wanted` ones: they are inflated only for their checksum. A few hundred kilobytes of compressed
/// data can hold hundreds of megabytes of them, so without a limit a file costs any amount of time.
pub(crate) fn max_surplus(wanted: usize) -> usize {
    const MIN: usize = 1 << 28;
    wanted.max(MIN)
}

/// An upper bound of the inflated size of compressed data.
pub(crate) fn max_inflated_bytes(compressed: &[u8]) -> u64 {
    (compressed.len() as u64).saturating_mul(MAX_RATIO)
}

/// Why inflation stopped before the end of the data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum InflateError {
    Truncated,
    Damaged(&'static str),
    /// This number of bytes could not be allocated.
    Memory(usize),
    /// More than this number of bytes follow the requested ones.
    Surplus(usize),
}

/// How to treat data after the requested bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Remainder {
    /// Inflate and discard it, because the checksum at the end covers it.
    Check,
    /// Ignore it; it may be truncated.
    Ignore,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StepResult {
    Done,
    OutputFull,
    InputEmpty,
    Damaged,
}

/// Where a step writes its bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Window {
    /// After all previous bytes of the stream.
    Linear,
    /// Into a ring buffer of at least [`WINDOW_BYTES`], whose length is a power of two.
    Ring,
}

/// An inflater of raw deflate data.
pub(crate) trait Inflater {
    fn new() -> Self;

    /// Makes it ready for another stream. A file may have millions of members, so they share the memory of one inflater.
    fn reset(&mut self);

    /// Inflates `input` into `out`, starting at the index `at`; returns the numbers of bytes read and written.
    fn step(&mut self, input: &[u8], out: &mut [u8], at: usize, window: Window) -> (StepResult, usize, usize);
}

/// The inflater of this build: zlib-rs is several times faster with vector instructions, miniz_oxide is small.
#[cfg(feature = "parallel")]
pub(crate) type DefaultInflater = zlib_rs::Inflate;
#[cfg(not(feature = "parallel"))]
pub(crate) type DefaultInflater = miniz_oxide::inflate::core::DecompressorOxide;

#[cfg(feature = "parallel")]
impl Inflater for zlib_rs::Inflate {
    fn new() -> Self {
        Self::new(false, 15)
    }

    fn reset(&mut self) {
        self.reset(false);
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: usize, _: Window) -> (StepResult, usize, usize) {
        use zlib_rs::{InflateFlush, Status};
        let out = out.get_mut(at..).unwrap_or_default();
        let before = (self.total_in(), self.total_out());
        let status = self.decompress(input, out, InflateFlush::NoFlush);
        let count = |after: u64, before: u64| usize::try_from(after - before).unwrap_or_default();
        let (read, written) = (count(self.total_in(), before.0), count(self.total_out(), before.1));
        let outcome = match status {
            Ok(Status::StreamEnd) => StepResult::Done,
            Ok(_) if written == out.len() => StepResult::OutputFull,
            Ok(_) => StepResult::InputEmpty,
            Err(_) => StepResult::Damaged,
        };
        (outcome, read, written)
    }
}

#[cfg(any(test, not(feature = "parallel")))]
impl Inflater for miniz_oxide::inflate::core::DecompressorOxide {
    fn new() -> Self {
        Self::new()
    }

    fn reset(&mut self) {
        self.init();
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: usize, window: Window) -> (StepResult, usize, usize) {
        use miniz_oxide::inflate::TINFLStatus;
        use miniz_oxide::inflate::core::{decompress, inflate_flags};
        let flags = match window {
            Window::Linear => inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
            Window::Ring => 0,
        };
        let (status, read, written) = decompress(self, input, out, at, flags);
        let outcome = match status {
            TINFLStatus::Done => StepResult::Done,
            TINFLStatus::HasMoreOutput => StepResult::OutputFull,
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => StepResult::InputEmpty,
            _ => StepResult::Damaged,
        };
        (outcome, read, written)
    }
}

/// A destination of inflated bytes.
pub(crate) trait Sink {
    /// Whether it has all requested bytes.
    fn is_full(&self) -> bool;

    /// Inflates the stream at the start of `data`, and passes each chunk to `sum` as well. Returns the compressed length of
    /// the stream; `None` if the sink was full before its end and the remainder is ignored.
    fn inflate<I: Inflater>(
        &mut self,
        inflater: &mut I,
        data: &[u8],
        remainder: Remainder,
        sum: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, InflateError>;
}

/// Collects at most `wanted` bytes. It allocates at most twice their size.
pub(crate) struct BufferSink {
    bytes: Vec<u8>,
    filled: usize,
    wanted: usize,
}

impl BufferSink {
    /// A sink for data with `compressed` bytes. Apart from headers, data inflates at least to its own size.
    pub(crate) fn new(compressed: usize, wanted: usize) -> Result<Self, InflateError> {
        let mut output = Self { bytes: Vec::new(), filled: 0, wanted };
        output.enlarge(compressed.saturating_mul(2))?;
        Ok(output)
    }

    #[cfg(feature = "text-formats")]
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.filled);
        self.bytes
    }

    fn enlarge(&mut self, size: usize) -> Result<(), InflateError> {
        let size = size.max(1).min(self.wanted);
        let more = size.saturating_sub(self.bytes.len());
        self.bytes.try_reserve_exact(more).map_err(|_| InflateError::Memory(size))?;
        self.bytes.resize(size.max(self.bytes.len()), 0);
        Ok(())
    }
}

impl Sink for BufferSink {
    fn is_full(&self) -> bool {
        self.filled >= self.wanted
    }

    fn inflate<I: Inflater>(
        &mut self,
        inflater: &mut I,
        data: &[u8],
        remainder: Remainder,
        sum: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, InflateError> {
        inflater.reset();
        let (start, mut read) = (self.filled, 0);
        while !self.is_full() {
            if self.filled == self.bytes.len() {
                self.enlarge(self.filled.saturating_mul(2))?;
            }
            let end = self.filled.saturating_add(STEP_BYTES).min(self.bytes.len());
            let own = self.bytes.get_mut(start..end).unwrap_or_default();
            let at = self.filled - start;
            let input = data.get(read..).unwrap_or_default();
            let (outcome, taken, written) = inflater.step(input, own, at, Window::Linear);
            sum(own.get(at..at + written).unwrap_or_default());
            self.filled += written;
            read += taken;
            if outcome.is_end()? {
                return Ok(Some(read));
            }
        }
        if remainder == Remainder::Ignore {
            return Ok(None);
        }
        // The remainder may refer to the last bytes, so they are copied to the end of the ring.
        let mut ring = vec![0; WINDOW_BYTES];
        let last = self.bytes.get(start..self.filled).unwrap_or_default();
        let last = last.get(last.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default();
        ring.get_mut(WINDOW_BYTES - last.len()..).unwrap_or_default().copy_from_slice(last);
        let surplus = max_surplus(self.wanted);
        match inflate_ring(inflater, data, read, &mut ring, surplus, sum)? {
            Some(read) => Ok(Some(read)),
            None => Err(InflateError::Surplus(surplus)),
        }
    }
}

/// Passes the first `wanted` bytes to a function, chunk by chunk.
pub(crate) struct ChunkSink<'a> {
    wanted: usize,
    given: usize,
    give: &'a mut dyn FnMut(&[u8]),
    ring: Vec<u8>,
}

impl<'a> ChunkSink<'a> {
    pub(crate) fn new(wanted: usize, give: &'a mut dyn FnMut(&[u8])) -> Self {
        Self { wanted, given: 0, give, ring: vec![0; STEP_BYTES] }
    }

    /// The number of bytes that were passed on.
    pub(crate) fn given(&self) -> usize {
        self.given
    }
}

impl Sink for ChunkSink<'_> {
    fn is_full(&self) -> bool {
        self.given >= self.wanted
    }

    fn inflate<I: Inflater>(
        &mut self,
        inflater: &mut I,
        data: &[u8],
        _: Remainder,
        sum: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, InflateError> {
        inflater.reset();
        let Self { wanted, given, give, ring } = self;
        let surplus = max_surplus(*wanted);
        let most = (*wanted - *given).saturating_add(surplus);
        let read = inflate_ring(inflater, data, 0, ring, most, &mut |chunk| {
            sum(chunk);
            let more = chunk.len().min(*wanted - *given);
            give(chunk.get(..more).unwrap_or_default());
            *given += more;
        })?;
        if read.is_none() { Err(InflateError::Surplus(surplus)) } else { Ok(read) }
    }
}

/// Inflates to the end of the stream through a ring buffer, starting at its index 0. Returns the number of bytes of `data`
/// that have been read; `None` if the stream has more than `most` bytes.
fn inflate_ring<I: Inflater>(
    inflater: &mut I,
    data: &[u8],
    mut read: usize,
    ring: &mut [u8],
    mut most: usize,
    give: &mut dyn FnMut(&[u8]),
) -> Result<Option<usize>, InflateError> {
    let mut at = 0;
    loop {
        let input = data.get(read..).unwrap_or_default();
        let (outcome, taken, written) = inflater.step(input, ring, at, Window::Ring);
        give(ring.get(at..at + written).unwrap_or_default());
        read += taken;
        at = (at + written) % ring.len().max(1);
        if outcome.is_end()? {
            return Ok(Some(read));
        }
        match most.checked_sub(written) {
            Some(left) => most = left,
            None => return Ok(None),
        }
    }
}

impl StepResult {
    /// Whether the stream has ended; an error if it cannot continue.
    fn is_end(self) -> Result<bool, InflateError> {
        match self {
            Self::Done => Ok(true),
            Self::OutputFull => Ok(false),
            Self::InputEmpty => Err(InflateError::Truncated),
            Self::Damaged => Err(InflateError::Damaged("it is not deflate data")),
        }
    }
}

impl InflateError {
    /// The error for gzip data of which `found` bytes could be inflated.
    pub(crate) fn in_gzip(self, found: usize, expected: usize) -> IoErrorKind {
        match self {
            Self::Truncated => IoErrorKind::TruncatedGzip { found, expected: expected as u64 },
            Self::Damaged(reason) => IoErrorKind::DamagedGzip { reason, found },
            Self::Memory(bytes) => IoErrorKind::Memory { action: "decompress the file", bytes: bytes as u64 },
            Self::Surplus(surplus) => {
                IoErrorKind::TrailingData { expected: expected as u64, surplus: surplus as u64 }
            }
        }
    }
}
