//! Plain Rust.

use super::Simd;

/// Four lanes in portable Rust, compiled to SSE2 or NEON depending on the target's baseline.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Whether the target has a fused multiply-add instruction; otherwise `mul_add` is a library call.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

#[inline(always)]
fn per_lane(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type Vector = [f32; 4];
    type Chunk = [f32; 4];
    const LANES: usize = 4;
    const HAS_32_REGISTERS: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn chunks(self, values: &[f32]) -> (&[[f32; 4]], &[f32]) {
        values.as_chunks()
    }
    #[inline(always)]
    fn chunks_mut(self, values: &mut [f32]) -> (&mut [[f32; 4]], &mut [f32]) {
        values.as_chunks_mut()
    }
    #[inline(always)]
    fn load(self, from: &[f32; 4]) -> [f32; 4] {
        *from
    }
    #[inline(always)]
    fn store(self, value: [f32; 4], to: &mut [f32; 4]) {
        *to = value;
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn splat_chunk(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn splat_pair(self, both: u64) -> [f32; 4] {
        let (a, b) = (f32::from_bits(both as u32), f32::from_bits((both >> 32) as u32));
        [a, b, a, b]
    }
    #[inline(always)]
    fn sum_pairs(self, value: [f32; 4]) -> [f32; 2] {
        [value[0] + value[2], value[1] + value[3]]
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        per_lane(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        per_lane(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        per_lane(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        if FUSED { per_lane(|i| a[i].mul_add(b[i], c[i])) } else { per_lane(|i| a[i] * b[i] + c[i]) }
    }
    #[inline(always)]
    fn select_positive(self, condition: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        per_lane(|i| if condition[i] > 0.0 { a[i] } else { b[i] })
    }
}
