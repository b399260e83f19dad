//! Rows of values: conversion to single precision with the transform of their channel, and back to storage.

use super::tensor::{ChannelTransform, Quantization, Values};
use crate::simd::{Simd, copy};

/// The number of values that are converted at a time.
const STEP: usize = 16;

/// Converts a row to single precision and applies the transform of its channel. Both have the same length.
#[inline(always)]
pub(super) fn load_row<S: Simd>(
    simd: S,
    source: Values<'_>,
    transform: Option<ChannelTransform>,
    target: &mut [f32],
) {
    match source {
        Values::F32(source) => match transform {
            None => copy(simd, source, target),
            Some(transform) => transform_row(simd, source, transform, target),
        },
        Values::Bf16(source) => {
            convert(source, target, |bits| f32::from_bits(u32::from(bits) << 16));
            transform_in_place(simd, transform, target);
        }
        Values::U8(source) => {
            convert(source, target, f32::from);
            transform_in_place(simd, transform, target);
        }
    }
}

/// Converts each value. The fixed length of the inner loop lets the compiler use full registers.
#[inline(always)]
fn convert<T: Copy, U>(source: &[T], target: &mut [U], value: impl Fn(T) -> U) {
    let (chunks, rest) = target.as_chunks_mut::<STEP>();
    let (sources, source_rest) = source.as_chunks::<STEP>();
    for (target, source) in chunks.iter_mut().zip(sources) {
        for (target, source) in target.iter_mut().zip(source) {
            *target = value(*source);
        }
    }
    for (target, source) in rest.iter_mut().zip(source_rest) {
        *target = value(*source);
    }
}

/// `leaky_relu(x · scale + shift)` of one register.
#[inline(always)]
fn transform_vector<S: Simd>(simd: S, x: S::Vector, [scale, shift, slope]: [S::Vector; 3]) -> S::Vector {
    let value = simd.fma(x, scale, shift);
    simd.select_positive(value, value, simd.mul(value, slope))
}

#[inline(always)]
fn transform_row<S: Simd>(simd: S, source: &[f32], transform: ChannelTransform, target: &mut [f32]) {
    let factors = [transform.scale, transform.shift, transform.slope].map(|factor| simd.splat(factor));
    let source = &source[..target.len()];
    let (chunks, rest) = simd.chunks(source);
    if let Some(last) = target.len().checked_sub(S::LANES) {
        let (targets, _) = simd.chunks_mut(target);
        for (target, source) in targets.iter_mut().zip(chunks) {
            simd.store(transform_vector(simd, simd.load(source), factors), target);
        }
        // The last register may overlap the one before it.
        if let ([source], [target]) = (simd.chunks(&source[last..]).0, simd.chunks_mut(&mut target[last..]).0) {
            simd.store(transform_vector(simd, simd.load(source), factors), target);
        }
    } else {
        simd.store_partial(transform_vector(simd, simd.load_partial(rest, 0.0), factors), target);
    }
}

/// Applies the transform of a channel to values that are already in single precision.
#[inline(always)]
pub(super) fn transform_in_place<S: Simd>(simd: S, transform: Option<ChannelTransform>, values: &mut [f32]) {
    let Some(transform) = transform else { return };
    let factors = [transform.scale, transform.shift, transform.slope].map(|factor| simd.splat(factor));
    let (chunks, rest) = simd.chunks_mut(values);
    for chunk in chunks {
        simd.store(transform_vector(simd, simd.load(chunk), factors), chunk);
    }
    if !rest.is_empty() {
        let value = transform_vector(simd, simd.load_partial(rest, 0.0), factors);
        simd.store_partial(value, rest);
    }
}

/// The bits of the bfloat16 value that is nearest to `value`; ties go to the even one. NaN stays NaN.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // Rounding could carry a NaN into the sign; a quiet NaN is made of it instead.
    (if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// A [`Quantization`] in the form that needs few instructions for a value.
#[derive(Clone, Copy)]
pub(super) struct Quantizer {
    pub(super) inverse: f32,
    pub(super) scale: f32,
    /// The smallest and the largest number of steps from 0.
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) zero_point: u32,
}

impl Quantizer {
    /// 1.5 · 2²³. Adding it to a small number rounds that to an integer, half to even, in the processor's default mode, and leaves the
    /// integer in the lowest bits.
    pub(super) const ROUND: f32 = 12_582_912.0;

    #[inline(always)]
    pub(super) fn new(quantization: Quantization) -> Self {
        let Quantization { scale, zero_point } = quantization;
        let (low, high) = (-f32::from(zero_point), 255.0 - f32::from(zero_point));
        Self { inverse: 1.0 / scale, scale, low, high, zero_point: u32::from(zero_point) }
    }

    /// The steps of a value from 0 plus [`Self::ROUND`], saturated. NaN becomes the smallest integer.
    #[inline(always)]
    fn rounded(self, value: f32) -> f32 {
        let steps = value * self.inverse;
        let steps = if steps > self.low { steps } else { self.low };
        let steps = if steps < self.high { steps } else { self.high };
        steps + Self::ROUND
    }

    /// The integer of a value.
    #[inline(always)]
    pub(super) fn integer(self, value: f32) -> u32 {
        self.rounded(value).to_bits().wrapping_add(self.zero_point) & 0xff
    }

    /// The value that the integer of a value stands for.
    #[inline(always)]
    pub(super) fn nearest(self, value: f32) -> f32 {
        (self.rounded(value) - Self::ROUND) * self.scale
    }
}

/// Quantizes a row.
#[inline(always)]
pub(super) fn quantize_row(source: &[f32], quantization: Quantization, target: &mut [u8]) {
    let quantizer = Quantizer::new(quantization);
    convert(source, target, |value| quantizer.integer(value) as u8);
}

/// Rounds a row to bfloat16.
#[inline(always)]
pub(super) fn bf16_row(source: &[f32], target: &mut [u16]) {
    convert(source, target, to_bf16);
}
