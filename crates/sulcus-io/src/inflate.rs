//! Inflating (RFC 1951) into memory that grows with the data, so that a header which announces more than there is costs
//! nothing.

use crate::error::Problem;

/// deflate cannot shrink data by more than this factor (258 bytes for two bits, zlib's technical notes).
const MAX_RATIO: u64 = 1032;

/// Bytes that are made at a time: they are still near when their checksum is taken.
const STEP_BYTES: usize = 1 << 18;

/// How far back deflate data refer.
const WINDOW_BYTES: usize = 1 << 15;

/// The most bytes that compressed data of this length can hold.
pub(crate) fn most_inflated(compressed: &[u8]) -> u64 {
    (compressed.len() as u64).saturating_mul(MAX_RATIO)
}

/// Why inflating stopped before the data's end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Truncated,
    Damaged(&'static str),
    /// The memory for so many bytes is not to be had.
    Memory(usize),
}

/// What becomes of data beyond what was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rest {
    /// They are inflated too and dropped, since the checksum at their end is that of all.
    Check,
    /// They may not even be there.
    Leave,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    Done,
    OutputFull,
    InputEmpty,
    Damaged,
}

/// Where a step puts its bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Window {
    /// Behind all that the stream held so far.
    Whole,
    /// Into a ring that holds the last [`WINDOW_BYTES`] at least; its length is a power of two.
    Ring,
}

/// An inflater of raw deflate data.
pub(crate) trait Inflater {
    fn new() -> Self;

    /// Inflates `input` into `out` from `at` on; returns how many bytes it took and gave.
    fn step(&mut self, input: &[u8], out: &mut [u8], at: usize, window: Window) -> (Outcome, usize, usize);
}

/// The one that is used: several times as fast where there are vector instructions, small in the browser.
#[cfg(not(target_family = "wasm"))]
pub(crate) type Usual = zlib_rs::Inflate;
#[cfg(target_family = "wasm")]
pub(crate) type Usual = miniz_oxide::inflate::core::DecompressorOxide;

#[cfg(not(target_family = "wasm"))]
impl Inflater for zlib_rs::Inflate {
    fn new() -> Self {
        Self::new(false, 15)
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: usize, _: Window) -> (Outcome, usize, usize) {
        use zlib_rs::{InflateFlush, Status};
        let out = out.get_mut(at..).unwrap_or_default();
        let before = (self.total_in(), self.total_out());
        let status = self.decompress(input, out, InflateFlush::NoFlush);
        let count = |after: u64, before: u64| usize::try_from(after - before).unwrap_or_default();
        let (read, written) = (count(self.total_in(), before.0), count(self.total_out(), before.1));
        let outcome = match status {
            Ok(Status::StreamEnd) => Outcome::Done,
            Ok(_) if written == out.len() => Outcome::OutputFull,
            Ok(_) => Outcome::InputEmpty,
            Err(_) => Outcome::Damaged,
        };
        (outcome, read, written)
    }
}

#[cfg(any(test, target_family = "wasm"))]
impl Inflater for miniz_oxide::inflate::core::DecompressorOxide {
    fn new() -> Self {
        Self::new()
    }

    fn step(&mut self, input: &[u8], out: &mut [u8], at: usize, window: Window) -> (Outcome, usize, usize) {
        use miniz_oxide::inflate::TINFLStatus;
        use miniz_oxide::inflate::core::{decompress, inflate_flags};
        let flags = match window {
            Window::Whole => inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
            Window::Ring => 0,
        };
        let (status, read, written) = decompress(self, input, out, at, flags);
        let outcome = match status {
            TINFLStatus::Done => Outcome::Done,
            TINFLStatus::HasMoreOutput => Outcome::OutputFull,
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => Outcome::InputEmpty,
            _ => Outcome::Damaged,
        };
        (outcome, read, written)
    }
}

/// What takes inflated bytes.
pub(crate) trait Target {
    /// Whether it has all that it wants.
    fn is_full(&self) -> bool;

    /// Takes the stream that `data` begin with; each piece is handed to `sum` as well. Returns how many of the bytes the
    /// stream has, or none where the target was full before its end and the rest is left.
    fn take<I: Inflater>(
        &mut self,
        data: &[u8],
        rest: Rest,
        sum: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, Fault>;
}

/// Bytes that stay: at most `wanted`, and never more than twice the memory that they need.
pub(crate) struct Output {
    bytes: Vec<u8>,
    filled: usize,
    wanted: usize,
}

impl Output {
    /// For data that are `compressed` bytes long. They inflate to as many at least, but for their headers.
    pub(crate) fn new(compressed: usize, wanted: usize) -> Result<Self, Fault> {
        let mut output = Self { bytes: Vec::new(), filled: 0, wanted };
        output.enlarge(compressed.saturating_mul(2))?;
        Ok(output)
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.filled);
        self.bytes
    }

    fn enlarge(&mut self, size: usize) -> Result<(), Fault> {
        let size = size.max(1).min(self.wanted);
        let more = size.saturating_sub(self.bytes.len());
        self.bytes.try_reserve_exact(more).map_err(|_| Fault::Memory(size))?;
        self.bytes.resize(size.max(self.bytes.len()), 0);
        Ok(())
    }
}

impl Target for Output {
    fn is_full(&self) -> bool {
        self.filled >= self.wanted
    }

    fn take<I: Inflater>(
        &mut self,
        data: &[u8],
        rest: Rest,
        sum: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, Fault> {
        let mut inflater = I::new();
        let (start, mut read) = (self.filled, 0);
        while !self.is_full() {
            if self.filled == self.bytes.len() {
                self.enlarge(self.filled.saturating_mul(2))?;
            }
            let end = self.filled.saturating_add(STEP_BYTES).min(self.bytes.len());
            let own = self.bytes.get_mut(start..end).unwrap_or_default();
            let at = self.filled - start;
            let input = data.get(read..).unwrap_or_default();
            let (outcome, taken, written) = inflater.step(input, own, at, Window::Whole);
            sum(own.get(at..at + written).unwrap_or_default());
            self.filled += written;
            read += taken;
            if outcome.is_end()? {
                return Ok(Some(read));
            }
        }
        if rest == Rest::Leave {
            return Ok(None);
        }
        // What follows may refer to the last bytes, which end where the ring begins anew.
        let mut ring = vec![0; WINDOW_BYTES];
        let last = self.bytes.get(start..self.filled).unwrap_or_default();
        let last = last.get(last.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default();
        ring.get_mut(WINDOW_BYTES - last.len()..).unwrap_or_default().copy_from_slice(last);
        through(&mut inflater, data, read, &mut ring, sum).map(Some)
    }
}

/// Bytes that are looked at as they come, the first `wanted` of them, and kept nowhere.
pub(crate) struct Passing<'a> {
    pub(crate) wanted: usize,
    pub(crate) given: usize,
    pub(crate) give: &'a mut dyn FnMut(&[u8]),
}

impl Target for Passing<'_> {
    fn is_full(&self) -> bool {
        self.given >= self.wanted
    }

    fn take<I: Inflater>(
        &mut self,
        data: &[u8],
        _: Rest,
        sum: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, Fault> {
        let mut ring = vec![0; STEP_BYTES];
        let read = through(&mut I::new(), data, 0, &mut ring, &mut |piece| {
            sum(piece);
            let more = piece.len().min(self.wanted - self.given);
            (self.give)(piece.get(..more).unwrap_or_default());
            self.given += more;
        });
        read.map(Some)
    }
}

/// Inflates to the stream's end by way of a ring, from its beginning on; returns how many bytes of `data` are read.
fn through<I: Inflater>(
    inflater: &mut I,
    data: &[u8],
    mut read: usize,
    ring: &mut [u8],
    give: &mut dyn FnMut(&[u8]),
) -> Result<usize, Fault> {
    let mut at = 0;
    loop {
        let input = data.get(read..).unwrap_or_default();
        let (outcome, taken, written) = inflater.step(input, ring, at, Window::Ring);
        give(ring.get(at..at + written).unwrap_or_default());
        read += taken;
        at = (at + written) % ring.len().max(1);
        if outcome.is_end()? {
            return Ok(read);
        }
    }
}

impl Outcome {
    /// Whether the stream has ended; what keeps it from going on is a fault.
    fn is_end(self) -> Result<bool, Fault> {
        match self {
            Self::Done => Ok(true),
            Self::OutputFull => Ok(false),
            Self::InputEmpty => Err(Fault::Truncated),
            Self::Damaged => Err(Fault::Damaged("it is not deflate data")),
        }
    }
}

impl Fault {
    /// A fault of a file of gzip data, of which `found` bytes could be inflated.
    pub(crate) fn in_gzip(self, found: usize, expected: usize) -> Problem {
        match self {
            Self::Truncated => Problem::TruncatedGzip { found, expected: expected as u64 },
            Self::Damaged(reason) => Problem::DamagedGzip { reason, found },
            Self::Memory(bytes) => Problem::Memory { action: "decompress the file", bytes: bytes as u64 },
        }
    }
}
