//! Working memory that outlives a call, so that a training step does not fault in fresh pages for every layer.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Sixteen lanes on one cache line: what the kernels count in.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; 16]);

/// Floats of one [`Line`].
pub(crate) const LINE: usize = 16;

/// The pool keeps at most this many lines between calls (48 MiB).
const KEPT_LINES: usize = (48 << 20) / size_of::<Line>();

static POOL: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

/// A borrowed piece of working memory, aligned to a cache line. It holds what the last user left there.
pub(crate) struct Scratch {
    lines: Vec<Line>,
    floats: usize,
}

impl Scratch {
    /// At least `floats` floats: the smallest kept piece that is large enough, else a new one.
    pub(crate) fn take(floats: usize) -> Self {
        let needed = floats.div_ceil(LINE);
        let kept = {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            let best = pool
                .iter()
                .enumerate()
                .filter(|(_, piece)| piece.len() >= needed)
                .min_by_key(|(_, piece)| piece.len())
                .map(|(index, _)| index);
            best.map(|index| pool.swap_remove(index))
        };
        let lines = kept.unwrap_or_else(|| vec![Line([0.0; LINE]); needed]);
        Self { lines, floats }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let piece = std::mem::take(&mut self.lines);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.push(piece);
        let mut held: usize = pool.iter().map(Vec::len).sum();
        // The smallest pieces go first: the large ones are what is worth keeping, unless one alone is too large.
        pool.retain(|piece| piece.len() <= KEPT_LINES);
        held = held.min(pool.iter().map(Vec::len).sum());
        while held > KEPT_LINES {
            let Some((index, length)) = pool.iter().map(Vec::len).enumerate().min_by_key(|&(_, length)| length)
            else {
                break;
            };
            pool.swap_remove(index);
            held -= length;
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.lines.as_flattened_floats()[..self.floats]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        let floats = self.floats;
        &mut self.lines.as_flattened_floats_mut()[..floats]
    }
}

/// Lines seen as their floats.
trait AsFloats {
    fn as_flattened_floats(&self) -> &[f32];
    fn as_flattened_floats_mut(&mut self) -> &mut [f32];
}

impl AsFloats for [Line] {
    #[expect(unsafe_code, reason = "a slice of cache lines is seen as its floats")]
    fn as_flattened_floats(&self) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` around sixteen floats and as large as they are: no padding, same provenance.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<f32>(), self.len() * LINE) }
    }

    #[expect(unsafe_code, reason = "a slice of cache lines is seen as its floats")]
    fn as_flattened_floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the exclusive borrow is handed on.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast::<f32>(), self.len() * LINE) }
    }
}

/// A pointer that several threads write through, each to elements of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(*mut f32);

#[expect(unsafe_code, reason = "threads write disjoint elements of one tensor")]
// SAFETY: the pointer is only dereferenced in `unsafe` blocks that argue why no two threads touch one element.
unsafe impl Send for SharedMut {}
#[expect(unsafe_code, reason = "threads write disjoint elements of one tensor")]
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    pub(crate) fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub(crate) fn pointer(self) -> *mut f32 {
        self.0
    }

    /// The pointer `floats` further on, which must lie within the slice it came from before it is used.
    pub(crate) fn offset(self, floats: usize) -> Self {
        Self(self.0.wrapping_add(floats))
    }
}
