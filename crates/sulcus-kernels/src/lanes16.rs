//! Sixteen 32-bit lanes on each instruction set: one AVX-512 register, two AVX registers, four SIMD128 registers or an array. The convolution
//! micro-kernels are written against this trait.
//!
//! For training the lanes are `f32`. For inference in other precisions the operands are two bfloat16 or four 8-bit values per
//! lane, and a multiply-add is a dot product of a lane's values ([`low_precision`]).

mod low_precision;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use low_precision::Simd128Int8;
pub(crate) use low_precision::{ArrayBf16, ArrayInt8};
#[cfg(target_arch = "x86_64")]
pub(crate) use low_precision::{Avx2Int8, Avx512Bf16, Avx512Vnni, AvxVnni};

/// Sixteen lanes. Every method is inlined into a caller that enables the target features it needs.
pub(crate) trait Lanes16: Copy {
    /// How many sixteen-lane accumulators fit in the register file beside the operands of a multiply-add.
    const ACCUMULATORS: usize;

    /// # Safety
    /// The processor must have this type's instruction set.
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe fn splat(value: f32) -> Self;

    /// # Safety
    /// As [`Lanes16::splat`], and sixteen floats must be readable at `from`.
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// As [`Lanes16::splat`], and sixteen floats must be writable at `to`.
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe fn store(self, to: *mut f32);

    /// `self + a·b`. The convolutions for inference pass weights as `a` and inputs as `b`.
    ///
    /// # Safety
    /// As [`Lanes16::splat`].
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Sixteen lanes in an array.
#[derive(Clone, Copy)]
pub(crate) struct Array([f32; 16]);

#[expect(unsafe_code, reason = "vector instructions")]
impl Lanes16 for Array {
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

    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // On targets without a fused multiply-add instruction, `mul_add` calls the C library for every lane.
        const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        let mut sum = self.0;
        for ((sum, a), b) in sum.iter_mut().zip(a.0).zip(b.0) {
            *sum = if FUSED { a.mul_add(b, *sum) } else { *sum + a * b };
        }
        Self(sum)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes16;
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    /// Sixteen lanes in one register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    #[expect(unsafe_code, reason = "vector instructions")]
    impl Lanes16 for Avx512 {
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
            // SAFETY: the caller guarantees AVX-512F.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }
    }

    /// Sixteen lanes in two registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    #[expect(unsafe_code, reason = "vector instructions")]
    impl Lanes16 for Avx2 {
        const ACCUMULATORS: usize = 6;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller guarantees AVX2.
            let lanes = unsafe { _mm256_set1_ps(value) };
            Self(lanes, lanes)
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller guarantees AVX2 and sixteen floats.
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller guarantees AVX2 and sixteen floats.
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller guarantees AVX2 and FMA.
            unsafe { Self(_mm256_fmadd_ps(a.0, b.0, self.0), _mm256_fmadd_ps(a.1, b.1, self.1)) }
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::Simd128;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::Lanes16;
    use std::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, v128, v128_load, v128_store};

    /// Loads sixteen values of 32 bits from any address.
    ///
    /// # Safety
    ///
    /// `from` is readable for sixteen values.
    #[inline(always)]
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn load(from: *const f32) -> [v128; 4] {
        let from = from.cast::<v128>();
        // SAFETY: guaranteed by the caller.
        unsafe { [v128_load(from), v128_load(from.add(1)), v128_load(from.add(2)), v128_load(from.add(3))] }
    }

    /// Stores sixteen values of 32 bits to any address.
    ///
    /// # Safety
    ///
    /// `to` is writable for sixteen values.
    #[inline(always)]
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn store([a, b, c, d]: [v128; 4], to: *mut f32) {
        let to = to.cast::<v128>();
        // SAFETY: guaranteed by the caller.
        unsafe {
            v128_store(to, a);
            v128_store(to.add(1), b);
            v128_store(to.add(2), c);
            v128_store(to.add(3), d);
        }
    }

    /// Sixteen lanes in four registers. The products are rounded before they are added: a fused multiply-add is part of relaxed SIMD, which
    /// not every browser has, and whose results depend on the processor.
    #[derive(Clone, Copy)]
    pub(crate) struct Simd128([v128; 4]);

    #[expect(unsafe_code, reason = "vector instructions")]
    impl Lanes16 for Simd128 {
        // Browsers compile to processors with sixteen registers.
        const ACCUMULATORS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self([f32x4_splat(value); 4])
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: guaranteed by the caller.
            Self(unsafe { load(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: guaranteed by the caller.
            unsafe { store(self.0, to) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            Self(std::array::from_fn(|i| f32x4_add(self.0[i], f32x4_mul(a.0[i], b.0[i]))))
        }
    }
}
