//! Lanes of two bfloat16 or four 8-bit operands. Sums have 32 bits: `f32` for bfloat16, `i32` for integers. All travel through
//! memory as the bits of `f32`.

use super::Lanes16;

/// Sixteen pairs of bfloat16 values in an array.
#[derive(Clone, Copy)]
pub(crate) struct ArrayBf16([f32; 16]);

/// Sixteen groups of four 8-bit integers, or sixteen `i32`, in an array.
#[derive(Clone, Copy)]
pub(crate) struct ArrayInt8([u32; 16]);

#[expect(unsafe_code, reason = "vector instructions")]
impl Lanes16 for ArrayBf16 {
    const ACCUMULATORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller guarantees sixteen floats.
        Self(unsafe { from.cast::<[f32; 16]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller guarantees sixteen floats.
        unsafe { to.cast::<[f32; 16]>().write(self.0) }
    }

    /// The product of two bfloat16 values is exact in single precision, so only the sums are rounded.
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        let low = |lane: f32| f32::from_bits(lane.to_bits() << 16);
        let high = |lane: f32| f32::from_bits(lane.to_bits() & 0xffff_0000);
        let mut sum = self.0;
        for ((sum, a), b) in sum.iter_mut().zip(a.0).zip(b.0) {
            *sum += high(a) * high(b);
            *sum += low(a) * low(b);
        }
        Self(sum)
    }
}

#[expect(unsafe_code, reason = "vector instructions")]
impl Lanes16 for ArrayInt8 {
    const ACCUMULATORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value.to_bits(); 16])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller guarantees sixteen values of 32 bits.
        Self(unsafe { from.cast::<[u32; 16]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller guarantees sixteen values of 32 bits.
        unsafe { to.cast::<[u32; 16]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        let mut sum = self.0;
        for ((sum, weights), inputs) in sum.iter_mut().zip(a.0).zip(b.0) {
            for (weight, input) in weights.to_le_bytes().into_iter().zip(inputs.to_le_bytes()) {
                let product = i32::from(weight.cast_signed()) * i32::from(input);
                *sum = sum.wrapping_add(product.cast_unsigned());
            }
        }
        Self(sum)
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::Simd128Int8;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use crate::lanes16::{Lanes16, wasm as registers};
    use std::arch::wasm32::{
        i16x8_shl, i16x8_shr, i32x4_add, i32x4_dot_i16x8, i32x4_splat, u16x8_shr, u16x8_splat, v128, v128_and,
    };

    /// Sixteen groups of four 8-bit integers, or sixteen `i32`, in four registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Simd128Int8([v128; 4]);

    #[expect(unsafe_code, reason = "vector instructions")]
    impl Lanes16 for Simd128Int8 {
        const ACCUMULATORS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self([i32x4_splat(value.to_bits().cast_signed()); 4])
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: guaranteed by the caller.
            Self(unsafe { registers::load(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: guaranteed by the caller.
            unsafe { registers::store(self.0, to) }
        }

        /// The bytes of a lane are multiplied as two pairs of 16-bit integers, the even ones and the odd ones, which is exact.
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(std::array::from_fn(|i| {
                let (weights, inputs) = (a.0[i], b.0[i]);
                let (even_weights, odd_weights) = (i16x8_shr(i16x8_shl(weights, 8), 8), i16x8_shr(weights, 8));
                let (even_inputs, odd_inputs) = (v128_and(inputs, u16x8_splat(0xff)), u16x8_shr(inputs, 8));
                let even = i32x4_dot_i16x8(even_weights, even_inputs);
                let odd = i32x4_dot_i16x8(odd_weights, odd_inputs);
                i32x4_add(self.0[i], i32x4_add(even, odd))
            }))
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2Int8, Avx512Bf16, Avx512Vnni, AvxVnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::lanes16::Lanes16;
    use std::arch::x86_64::{
        __m256i, __m512, __m512bh, __m512i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_storeu_si256,
        _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_storeu_ps, _mm512_storeu_si512,
    };

    /// Sixteen pairs of bfloat16 values in one register, with AVX512-BF16.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Bf16(__m512);

    #[expect(unsafe_code, reason = "vector instructions")]
    impl Lanes16 for Avx512Bf16 {
        const ACCUMULATORS: usize = 24;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller guarantees AVX-512F.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller guarantees AVX-512F and sixteen floats.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller guarantees AVX-512F and sixteen floats.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the types have the same size and any bits are valid; the caller guarantees AVX512-BF16.
            unsafe {
                let [a, b] = [a.0, b.0].map(|lanes| std::mem::transmute::<__m512, __m512bh>(lanes));
                Self(_mm512_dpbf16_ps(self.0, a, b))
            }
        }
    }

    /// Sixteen groups of four 8-bit integers in one register, with AVX512-VNNI.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Vnni(__m512i);

    #[expect(unsafe_code, reason = "vector instructions")]
    impl Lanes16 for Avx512Vnni {
        const ACCUMULATORS: usize = 24;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller guarantees AVX-512F.
            Self(unsafe { _mm512_set1_epi32(value.to_bits().cast_signed()) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller guarantees AVX-512F and 64 bytes.
            Self(unsafe { _mm512_loadu_si512(from.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller guarantees AVX-512F and 64 bytes.
            unsafe { _mm512_storeu_si512(to.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller guarantees AVX512-VNNI.
            Self(unsafe { _mm512_dpbusd_epi32(self.0, b.0, a.0) })
        }
    }

    /// Sixteen groups of four 8-bit integers in two registers, with AVX-VNNI.
    #[derive(Clone, Copy)]
    pub(crate) struct AvxVnni(__m256i, __m256i);

    /// The same with AVX2, which adds pairs of products in 16 bits: exact for weights of at most 64 in absolute value.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Int8(__m256i, __m256i);

    macro_rules! two_registers {
        ($type:ident, $features:literal, |$sum:ident, $weights:ident, $inputs:ident| $sum_of_products:expr) => {
            #[expect(unsafe_code, reason = "vector instructions")]
            impl Lanes16 for $type {
                const ACCUMULATORS: usize = 6;

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the caller guarantees AVX2.
                    let lanes = unsafe { _mm256_set1_epi32(value.to_bits().cast_signed()) };
                    Self(lanes, lanes)
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller guarantees AVX2 and 64 bytes.
                    unsafe { Self(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller guarantees AVX2 and 64 bytes.
                    unsafe {
                        _mm256_storeu_si256(to.cast(), self.0);
                        _mm256_storeu_si256(to.add(8).cast(), self.1);
                    }
                }

                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    #[inline]
                    #[target_feature(enable = $features)]
                    fn half($sum: __m256i, $weights: __m256i, $inputs: __m256i) -> __m256i {
                        $sum_of_products
                    }
                    // SAFETY: the caller guarantees these instructions.
                    unsafe { Self(half(self.0, a.0, b.0), half(self.1, a.1, b.1)) }
                }
            }
        };
    }

    two_registers!(AvxVnni, "avx2,avxvnni", |sum, weights, inputs| _mm256_dpbusd_avx_epi32(sum, inputs, weights));
    two_registers!(Avx2Int8, "avx2", |sum, weights, inputs| {
        let pairs = _mm256_maddubs_epi16(inputs, weights);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    });
}
