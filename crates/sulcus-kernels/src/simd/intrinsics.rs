//! [`Simd`](super::Simd) by intrinsics, for any instruction set.

/// Implements [`Simd`] for a token. The token proves that the processor has the features that the intrinsics need; loads and
/// stores take an array of exactly one register.
macro_rules! simd {
    ($token:ty, $vector:ty, $lanes:literal, $registers32:literal, $load:ident, $store:ident, $splat:ident, $add:ident,
     $sub:ident, $mul:ident, $fma:ident, $pair:ident, $select:ident, $pairs:ident) => {
        // Calls of intrinsics are safe on some targets.
        #[allow(unused_unsafe, reason = "the macro serves several targets")]
        impl Simd for $token {
            type Vector = $vector;
            type Chunk = [f32; $lanes];
            const LANES: usize = $lanes;
            const HAS_32_REGISTERS: bool = $registers32;

            #[inline(always)]
            fn chunks(self, values: &[f32]) -> (&[Self::Chunk], &[f32]) {
                values.as_chunks()
            }
            #[inline(always)]
            fn chunks_mut(self, values: &mut [f32]) -> (&mut [Self::Chunk], &mut [f32]) {
                values.as_chunks_mut()
            }
            #[inline(always)]
            fn load(self, from: &Self::Chunk) -> Self::Vector {
                // SAFETY: the token proves the features; `from` is readable over the register's width.
                unsafe { $load(from.as_ptr()) }
            }
            #[inline(always)]
            fn store(self, value: Self::Vector, to: &mut Self::Chunk) {
                // SAFETY: the token proves the features; `to` is writable over the register's width.
                unsafe { $store(to.as_mut_ptr(), value) }
            }
            #[inline(always)]
            fn splat(self, value: f32) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $splat(value) }
            }
            #[inline(always)]
            fn splat_chunk(self, value: f32) -> Self::Chunk {
                [value; $lanes]
            }
            #[inline(always)]
            fn splat_pair(self, both: u64) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $pair(both.cast_signed()) }
            }
            #[inline(always)]
            fn sum_pairs(self, value: Self::Vector) -> [f32; 2] {
                // SAFETY: the token proves the features.
                unsafe { $pairs(value) }
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            fn select_positive(self, condition: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves the features.
                unsafe { $select(condition, a, b) }
            }
        }
    };
}

pub(super) use simd;
