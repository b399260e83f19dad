//! JPEG-LS (ITU-T T.87) with one component, for DICOM's two JPEG-LS transfer syntaxes. Names follow the standard.

use super::{CodecError, check_size};

/// The contexts of regular samples (A.3.4) and the two contexts of run interruption.
const CONTEXTS: usize = 367;
const INTERRUPTED: usize = 365;
/// The run-length code orders (A.2.1).
const J: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

pub(super) fn decode(data: &[u8], rows: usize, columns: usize) -> Result<Vec<i32>, CodecError> {
    let (header, scan) = header(data)?;
    check_size([header.rows, header.columns], [rows, columns])?;
    let mut decoder = Decoder::new(&header, scan);
    let mut out = Vec::new();
    // Each line has one extra sample at both ends: the neighbours to the left and to the upper right.
    let mut above = vec![0_i32; columns + 2];
    let mut line = vec![0_i32; columns + 2];
    for _ in 0..rows {
        if let [.., last, beyond] = above.as_mut_slice() {
            *beyond = *last;
        }
        if let ([left, ..], [_, first, ..]) = (line.as_mut_slice(), above.as_slice()) {
            *left = *first;
        }
        decoder.line(&above, &mut line)?;
        out.extend_from_slice(line.get(1..=columns).ok_or(CodecError::Damaged)?);
        std::mem::swap(&mut above, &mut line);
    }
    Ok(out)
}

/// The parameters from the marker segments before the scan.
struct Header {
    rows: usize,
    columns: usize,
    near: i32,
    maxval: i32,
    thresholds: [i32; 3],
    reset: i32,
}

/// Reads the marker segments (C.2); returns the bytes after the last one.
fn header(data: &[u8]) -> Result<(Header, &[u8]), CodecError> {
    let mut rest = data.strip_prefix(&[0xff, 0xd8]).ok_or(CodecError::Damaged)?;
    let mut frame = None;
    let mut preset = [0_i32; 5];
    loop {
        let [0xff, marker, tail @ ..] = rest else { return Err(CodecError::Damaged) };
        if *marker == 0xff {
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*tail.first_chunk().ok_or(CodecError::Truncated)?));
        let body = tail.get(2..length).ok_or(CodecError::Truncated)?;
        rest = tail.get(length..).unwrap_or_default();
        match (marker, body) {
            (0xf7, [bits, r1, r0, c1, c0, components, ..]) => {
                if *components != 1 {
                    return Err(CodecError::Unsupported("colour"));
                }
                if !(2..=16).contains(bits) {
                    return Err(CodecError::Damaged);
                }
                let size = [u16::from_be_bytes([*r1, *r0]), u16::from_be_bytes([*c1, *c0])];
                frame = Some((*bits, size.map(usize::from)));
            }
            (0xf8, [1, values @ ..]) => {
                let (words, _) = values.as_chunks::<2>();
                preset.iter_mut().zip(words).for_each(|(p, w)| *p = i32::from(u16::from_be_bytes(*w)));
            }
            (0xf8, _) => return Err(CodecError::Unsupported("JPEG-LS with a mapping table")),
            (0xdd, restart) if restart.iter().any(|b| *b != 0) => {
                return Err(CodecError::Unsupported("JPEG-LS with restart markers"));
            }
            (0xda, [1, _, _, near, _, 0, ..]) => {
                let (bits, [rows, columns]) = frame.ok_or(CodecError::Damaged)?;
                return Ok((Header::new(bits, rows, columns, i32::from(*near), preset)?, rest));
            }
            (0xda, _) => {
                return Err(CodecError::Unsupported("JPEG-LS with several components or shifted samples"));
            }
            (0xd9, _) => return Err(CodecError::Truncated),
            _ => {}
        }
    }
}

impl Header {
    /// Missing thresholds take the defaults of C.2.4.1.1.1.
    fn new(bits: u8, rows: usize, columns: usize, near: i32, preset: [i32; 5]) -> Result<Self, CodecError> {
        let [maxval, t1, t2, t3, reset] = preset;
        let most = (1 << bits) - 1;
        let maxval = if maxval == 0 { most } else { maxval };
        if maxval < 1 || maxval > most || near > 255.min(maxval / 2) {
            return Err(CodecError::Damaged);
        }
        let clamp = |v: i32, least: i32| if v > maxval || v < least { least } else { v };
        let basic = if maxval >= 128 {
            let factor = (maxval.min(4095) + 128) / 256;
            [factor + 2 + 3 * near, factor * 4 + 3 + 5 * near, factor * 17 + 4 + 7 * near]
        } else {
            let factor = 256 / (maxval + 1);
            [2.max(3 / factor + 3 * near), 3.max(7 / factor + 5 * near), 4.max(21 / factor + 7 * near)]
        };
        let chosen = |own: i32, basic: i32, least: i32| if own == 0 { clamp(basic, least) } else { own };
        let t1 = chosen(t1, basic[0], near + 1);
        let t2 = chosen(t2, basic[1], t1);
        let t3 = chosen(t3, basic[2], t2);
        let reset = if reset == 0 { 64 } else { reset };
        let ordered = t1 > near && t2 >= t1 && t3 >= t2 && t3 <= maxval.max(near + 1) && reset >= 3;
        if !ordered {
            return Err(CodecError::Damaged);
        }
        Ok(Self { rows, columns, near, maxval, thresholds: [t1, t2, t3], reset })
    }
}

/// The adaptive state of one context.
#[derive(Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
    /// For run interruption: the number of negative errors.
    negative: i32,
}

impl Context {
    /// The Golomb parameter for this sum of errors.
    fn k(&self, sum: i32) -> u32 {
        (0..24).find(|k| i64::from(self.n) << k >= i64::from(sum)).unwrap_or(24)
    }
}

struct Decoder<'a> {
    near: i32,
    maxval: i32,
    thresholds: [i32; 3],
    reset: i32,
    range: i32,
    qbpp: u32,
    limit: u32,
    run_index: usize,
    contexts: Vec<Context>,
    bits: Bits<'a>,
}

impl<'a> Decoder<'a> {
    /// A.2.1.
    fn new(header: &Header, scan: &'a [u8]) -> Self {
        let Header { near, maxval, thresholds, reset, .. } = *header;
        let range = (maxval + 2 * near) / (2 * near + 1) + 1;
        let log2_up = |v: i32| (v - 1).max(1).ilog2() + 1;
        let bpp = log2_up(maxval + 1).max(2);
        let first = Context { a: 2.max((range + 32) / 64), b: 0, c: 0, n: 1, negative: 0 };
        Self {
            near,
            maxval,
            thresholds,
            reset,
            range,
            qbpp: log2_up(range),
            limit: 2 * (bpp + bpp.max(8)),
            run_index: 0,
            contexts: vec![first; CONTEXTS],
            bits: Bits { rest: scan, held: 0, count: 0, after_ff: false },
        }
    }

    fn line(&mut self, above: &[i32], line: &mut [i32]) -> Result<(), CodecError> {
        let end = line.len().saturating_sub(1);
        let mut x = 1;
        while x < end {
            let (Some([rc, rb, rd]), Some(ra)) =
                (above.get(x - 1..x + 2).and_then(|w| w.first_chunk::<3>()), line.get(x - 1).copied())
            else {
                return Err(CodecError::Damaged);
            };
            let gradients = [rd - rb, rb - rc, rc - ra];
            if gradients.iter().any(|g| g.abs() > self.near) {
                let value = self.regular(gradients, ra, *rb, *rc)?;
                if let Some(slot) = line.get_mut(x) {
                    *slot = value;
                }
                x += 1;
                continue;
            }
            let run = self.run(end - x)?;
            if let Some(slots) = line.get_mut(x..x + run) {
                slots.fill(ra);
            }
            x += run;
            if x < end {
                let rb = above.get(x).copied().ok_or(CodecError::Damaged)?;
                let value = self.interruption(ra, rb)?;
                if let Some(slot) = line.get_mut(x) {
                    *slot = value;
                }
                x += 1;
            }
        }
        Ok(())
    }

    /// A.3.3.
    fn quantised(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = match gradient.abs() {
            g if g >= t3 => 4,
            g if g >= t2 => 3,
            g if g >= t1 => 2,
            g if g > self.near => 1,
            _ => 0,
        };
        size * gradient.signum()
    }

    /// A.4 to A.6.
    fn regular(&mut self, gradients: [i32; 3], ra: i32, rb: i32, rc: i32) -> Result<i32, CodecError> {
        let [q1, q2, q3] = gradients.map(|g| self.quantised(g));
        let q = 81 * q1 + 9 * q2 + q3;
        let sign = if q < 0 { -1 } else { 1 };
        let at = q.unsigned_abs() as usize;
        let mut context = *self.contexts.get(at).ok_or(CodecError::Damaged)?;
        let edge = if rc >= ra.max(rb) {
            ra.min(rb)
        } else if rc <= ra.min(rb) {
            ra.max(rb)
        } else {
            ra + rb - rc
        };
        let predicted = (edge + sign * context.c).clamp(0, self.maxval);
        let k = context.k(context.a);
        let mapped = self.golomb(k, self.limit)?;
        let special = self.near == 0 && k == 0 && 2 * context.b <= -context.n;
        let error = match (mapped % 2 == 1, special) {
            (true, true) => (mapped - 1) / 2,
            (false, true) => -(mapped / 2) - 1,
            (true, false) => -(mapped + 1) / 2,
            (false, false) => mapped / 2,
        };
        context.b += error * (2 * self.near + 1);
        context.a += error.abs();
        if context.n == self.reset {
            context.a >>= 1;
            context.b >>= 1;
            context.n >>= 1;
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(1 - context.n);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        if let Some(slot) = self.contexts.get_mut(at) {
            *slot = context;
        }
        Ok(self.reconstructed(predicted, sign * error))
    }

    fn reconstructed(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = predicted + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.maxval + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.maxval)
    }

    /// The number of samples that equal the previous one (A.7.1).
    fn run(&mut self, left: usize) -> Result<usize, CodecError> {
        let mut run = 0;
        loop {
            let bits = J.get(self.run_index).copied().unwrap_or_default();
            if self.bits.take(1)? == 0 {
                run += self.bits.take(bits)? as usize;
                return if run < left { Ok(run) } else { Err(CodecError::Damaged) };
            }
            let whole = 1_usize << bits;
            if run + whole <= left {
                self.run_index = (self.run_index + 1).min(J.len() - 1);
            }
            run += whole;
            if run >= left {
                return Ok(left);
            }
        }
    }

    /// The sample that ends a run (A.7.2).
    fn interruption(&mut self, ra: i32, rb: i32) -> Result<i32, CodecError> {
        let alike = (ra - rb).abs() <= self.near;
        let kind = i32::from(alike);
        let at = INTERRUPTED + usize::from(alike);
        let mut context = *self.contexts.get(at).ok_or(CodecError::Damaged)?;
        let k = context.k(if alike { context.a + (context.n >> 1) } else { context.a });
        let used = J.get(self.run_index).copied().unwrap_or_default() + 1;
        let mapped = self.golomb(k, self.limit.saturating_sub(used))?;
        self.run_index = self.run_index.saturating_sub(1);
        let doubled = mapped + kind;
        let odd = doubled % 2 == 1;
        let size = (doubled + 1) / 2;
        let error = if (k != 0 || 2 * context.negative >= context.n) == odd { -size } else { size };
        if error < 0 {
            context.negative += 1;
        }
        context.a += (mapped + 1 - kind) >> 1;
        if context.n == self.reset {
            context.a >>= 1;
            context.n >>= 1;
            context.negative >>= 1;
        }
        context.n += 1;
        if let Some(slot) = self.contexts.get_mut(at) {
            *slot = context;
        }
        let (predicted, sign) = if alike { (ra, 1) } else { (rb, if ra > rb { -1 } else { 1 }) };
        Ok(self.reconstructed(predicted, sign * error))
    }

    /// A.5.3.
    fn golomb(&mut self, k: u32, limit: u32) -> Result<i32, CodecError> {
        let longest = limit.saturating_sub(self.qbpp + 1);
        let mut zeros = 0;
        while self.bits.take(1)? == 0 {
            zeros += 1;
            if zeros > longest {
                return Err(CodecError::Damaged);
            }
        }
        let value = if zeros < longest {
            u64::from(zeros) << k | u64::from(self.bits.take(k)?)
        } else {
            u64::from(self.bits.take(self.qbpp)?) + 1
        };
        // A mapped error is at most twice the range.
        let most = 2 * u64::from(self.range.unsigned_abs()) + 2;
        i32::try_from(value).ok().filter(|_| value <= most).ok_or(CodecError::Damaged)
    }
}

/// The bits of the scan, most significant bit first. The byte after 0xFF contributes only 7 bits (A.1).
struct Bits<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
    after_ff: bool,
}

impl Bits<'_> {
    fn take(&mut self, n: u32) -> Result<u32, CodecError> {
        while self.count < n {
            let (byte, tail) = self.rest.split_first().ok_or(CodecError::Truncated)?;
            if self.after_ff && *byte >= 0x80 {
                return Err(CodecError::Truncated);
            }
            let width = if self.after_ff { 7 } else { 8 };
            self.held = self.held << width | u64::from(*byte);
            self.count += width;
            self.after_ff = *byte == 0xff;
            self.rest = tail;
        }
        self.count -= n;
        let value = self.held >> self.count & ((1_u64 << n) - 1);
        self.held &= (1_u64 << self.count) - 1;
        Ok(value as u32)
    }
}
