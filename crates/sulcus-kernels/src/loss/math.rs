//! Exponential and logarithm that the compiler vectorises.

/// eˣ for x ≤ 0 to seven digits, 0 below −87: Cody & Waite's range reduction and a polynomial of degree 6. NaN gives NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding 1.5 · 2²³ rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    // ln 2 is split into two parts; the product with the first part is exact.
    let r = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let series = 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let value = series * (r * r) + r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let scaled = value * f32::from_bits(exponent << 23);
    if x < -87.0 { 0.0 } else { scaled }
}

/// ln x for x ≥ 1 to seven digits: x = 2ᵏ m, and the series of ln m = 2 artanh((m − 1) / (m + 1)). NaN gives NaN.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    // The bits of √½; m lies between √½ and √2.
    const LOW: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(LOW);
    let power = (bits.cast_signed() >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(LOW));
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    let series = 1.0 / 9.0;
    let series = series * square + 1.0 / 7.0;
    let series = series * square + 1.0 / 5.0;
    let series = series * square + 1.0 / 3.0;
    let of_m = 2.0 * (t + t * square * series);
    // The last term is 0 for numbers and NaN for NaN.
    power * 0.693_359_4 + (of_m - power * 2.121_944_4e-4) + x * 0.0
}
