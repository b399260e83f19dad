//! SIMD128 of WebAssembly. Modules with these instructions run only where they exist, so nothing is detected.

use std::arch::wasm32::*;

use super::Simd;
use super::intrinsics::simd;

/// The token for SIMD128.
#[derive(Clone, Copy)]
pub(crate) struct Simd128(());

impl Simd128 {
    pub(super) fn new() -> Self {
        Self(())
    }
}

#[inline(always)]
unsafe fn load(from: *const f32) -> v128 {
    // SAFETY: the caller guarantees four floats. Registers are loaded from any address.
    unsafe { v128_load(from.cast()) }
}

#[inline(always)]
unsafe fn store(to: *mut f32, value: v128) {
    // SAFETY: the caller guarantees four floats. Registers are stored to any address.
    unsafe { v128_store(to.cast(), value) }
}

/// Rounded twice; see the lanes of the convolutions.
#[inline(always)]
fn multiply_add(a: v128, b: v128, c: v128) -> v128 {
    f32x4_add(f32x4_mul(a, b), c)
}

#[inline(always)]
fn select(condition: v128, a: v128, b: v128) -> v128 {
    v128_bitselect(a, b, f32x4_gt(condition, f32x4_splat(0.0)))
}

#[inline(always)]
fn sums(value: v128) -> [f32; 2] {
    [
        f32x4_extract_lane::<0>(value) + f32x4_extract_lane::<2>(value),
        f32x4_extract_lane::<1>(value) + f32x4_extract_lane::<3>(value),
    ]
}

simd!(
    Simd128,
    v128,
    4,
    false,
    load,
    store,
    f32x4_splat,
    f32x4_add,
    f32x4_sub,
    f32x4_mul,
    multiply_add,
    i64x2_splat,
    select,
    sums
);
