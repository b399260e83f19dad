//! Between sixteen channels side by side and one channel after another.

use crate::scratch::{LINE, SharedMut};

/// Rows of `target` (`[positions][16]`) from `used` channels that lie `plane` floats apart; the other lanes become zero.
pub(super) fn interleave(source: &[f32], plane: usize, used: usize, target: &mut [f32]) {
    let count = target.len() / LINE;
    for lane in 0..LINE {
        if lane < used {
            let channel = &source[lane * plane..][..count];
            for (target, value) in target.chunks_exact_mut(LINE).zip(channel) {
                target[lane] = *value;
            }
        } else {
            for target in target.chunks_exact_mut(LINE) {
                target[lane] = 0.0;
            }
        }
    }
}

/// Writes `sums` (`[positions][16]`) to `channels`, every `step`-th element from `offset` on.
///
/// # Safety
///
/// Each of at most sixteen `channels` can be written at `offset + step·p` for every position, and nobody else does.
#[expect(unsafe_code, reason = "channels of one tensor are written by several threads")]
pub(super) unsafe fn scatter(sums: &[f32], channels: &[SharedMut], offset: usize, step: usize) {
    for (lane, &channel) in channels.iter().enumerate() {
        for (position, sums) in sums.chunks_exact(LINE).enumerate() {
            // SAFETY: the caller vouches for the element.
            unsafe { channel.pointer().add(offset + step * position).write(sums[lane]) };
        }
    }
}
