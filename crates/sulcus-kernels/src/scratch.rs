//! A pool of working buffers. It keeps them between calls, so that a training step does not page-fault in fresh memory for
//! every layer.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Sixteen floats on one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct CacheLine([f32; LANES]);

/// The number of floats in a vector of the convolutions, in a cache line and in a panel of output channels.
pub(crate) const LANES: usize = 16;

/// The pool keeps at most this many cache lines between calls (48 MiB).
const MAX_POOLED_LINES: usize = (48 << 20) / size_of::<CacheLine>();

static POOL: Mutex<Vec<Vec<CacheLine>>> = Mutex::new(Vec::new());

/// A working buffer, aligned to a cache line, that goes back to the pool when dropped. Its initial content is unspecified.
pub(crate) struct Scratch {
    lines: Vec<CacheLine>,
    floats: usize,
}

impl Scratch {
    /// A buffer of `floats` floats: the smallest pooled buffer that is large enough, or a new one.
    pub(crate) fn take(floats: usize) -> Self {
        let needed = floats.div_ceil(LANES);
        let pooled = {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            let best = pool
                .iter()
                .enumerate()
                .filter(|(_, buffer)| buffer.len() >= needed)
                .min_by_key(|(_, buffer)| buffer.len())
                .map(|(index, _)| index);
            best.map(|index| pool.swap_remove(index))
        };
        let lines = pooled.unwrap_or_else(|| vec![CacheLine([0.0; LANES]); needed]);
        Self { lines, floats }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.lines);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.push(buffer);
        let mut held: usize = pool.iter().map(Vec::len).sum();
        // The smallest buffers are dropped first, because large ones save most. A buffer above the limit is never pooled.
        pool.retain(|buffer| buffer.len() <= MAX_POOLED_LINES);
        held = held.min(pool.iter().map(Vec::len).sum());
        while held > MAX_POOLED_LINES {
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

/// Cache lines viewed as their floats.
trait AsFloats {
    fn as_flattened_floats(&self) -> &[f32];
    fn as_flattened_floats_mut(&mut self) -> &mut [f32];
}

impl AsFloats for [CacheLine] {
    #[expect(unsafe_code, reason = "a slice of cache lines is viewed as its floats")]
    fn as_flattened_floats(&self) -> &[f32] {
        // SAFETY: `CacheLine` is `repr(C)` around sixteen floats and has no padding.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<f32>(), self.len() * LANES) }
    }

    #[expect(unsafe_code, reason = "a slice of cache lines is viewed as its floats")]
    fn as_flattened_floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the result holds the exclusive borrow.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast::<f32>(), self.len() * LANES) }
    }
}

/// A pointer through which several threads write to disjoint elements of one tensor.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T = f32>(*mut T);

#[expect(unsafe_code, reason = "threads write disjoint elements of one tensor")]
// SAFETY: the pointer is dereferenced only in `unsafe` blocks that state why no two threads access the same element.
unsafe impl<T: Send> Send for SharedMut<T> {}
#[expect(unsafe_code, reason = "threads write disjoint elements of one tensor")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    pub(crate) fn pointer(self) -> *mut T {
        self.0
    }

    /// The pointer moved by `count` elements. It must point into the original slice when it is dereferenced.
    pub(crate) fn offset(self, count: usize) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

/// Floats aligned to a cache line that are kept, such as packed weights.
#[derive(Debug, Clone)]
pub(crate) struct AlignedFloats {
    lines: Vec<CacheLine>,
    floats: usize,
}

impl AlignedFloats {
    /// `floats` zeros.
    pub(crate) fn zeros(floats: usize) -> Self {
        Self { lines: vec![CacheLine([0.0; LANES]); floats.div_ceil(LANES)], floats }
    }
}

impl Deref for AlignedFloats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.lines.as_flattened_floats()[..self.floats]
    }
}

impl DerefMut for AlignedFloats {
    fn deref_mut(&mut self) -> &mut [f32] {
        let floats = self.floats;
        &mut self.lines.as_flattened_floats_mut()[..floats]
    }
}
