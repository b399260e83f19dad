//! Display colours as DICOM stores them: CIELab with 16 bits per component (PS3.3, C.10.7.1.1), relative to the white
//! point D50.

use sulcus_volume::Rgb;

/// The reference white of the profile connection space (ICC.1:2022, 7.2.16).
const WHITE_D50: [f64; 3] = [0.9642, 1.0, 0.8249];
/// Linear sRGB to XYZ, adapted to D50 by Bradford's method (ICC's sRGB v4 profile).
const XYZ_FROM_RGB: [[f64; 3]; 3] = [
    [0.436_074_7, 0.385_064_9, 0.143_080_4],
    [0.222_504_5, 0.716_878_6, 0.060_616_9],
    [0.013_932_2, 0.097_104_5, 0.714_173_3],
];
const RGB_FROM_XYZ: [[f64; 3]; 3] = [
    [3.133_856_1, -1.616_866_7, -0.490_614_6],
    [-0.978_768_4, 1.916_141_5, 0.033_454_0],
    [0.071_945_3, -0.228_991_4, 1.405_242_7],
];
/// The point below which a line replaces the cube root (CIE 15:2004).
const EPSILON: f64 = 216.0 / 24_389.0;
const KAPPA: f64 = 24_389.0 / 27.0;

fn times(m: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum())
}

/// Converts a colour to L*, a*, b* with 16 bits each.
pub(super) fn cielab_of(Rgb(rgb): Rgb) -> [u16; 3] {
    let linear = rgb.map(|c| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    let xyz = times(&XYZ_FROM_RGB, linear);
    let [x, y, z]: [f64; 3] = std::array::from_fn(|i| {
        let t = xyz[i] / WHITE_D50[i];
        if t > EPSILON { t.cbrt() } else { (KAPPA * t + 16.0) / 116.0 }
    });
    let lab = [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)];
    let word = |v: f64| v.round().clamp(0.0, 65535.0) as u16;
    let [l, a, b] = lab;
    [word(l * 65535.0 / 100.0), word((a + 128.0) * 257.0), word((b + 128.0) * 257.0)]
}

/// Converts L*, a*, b* with 16 bits each to the nearest sRGB colour.
pub(super) fn rgb_of([l, a, b]: [u16; 3]) -> Rgb {
    let (l, a, b) = (f64::from(l) * 100.0 / 65535.0, f64::from(a) / 257.0 - 128.0, f64::from(b) / 257.0 - 128.0);
    let y = (l + 16.0) / 116.0;
    let roots = [y + a / 500.0, y, y - b / 200.0];
    let xyz: [f64; 3] = std::array::from_fn(|i| {
        let cube = roots[i].powi(3);
        WHITE_D50[i] * if cube > EPSILON { cube } else { (116.0 * roots[i] - 16.0) / KAPPA }
    });
    Rgb(times(&RGB_FROM_XYZ, xyz).map(|c| {
        let c = c.clamp(0.0, 1.0);
        let c = if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 };
        (c * 255.0).round() as u8
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_survive_the_round_trip() {
        for rgb in [[0, 0, 0], [255, 255, 255], [230, 159, 0], [86, 180, 233], [204, 121, 167], [1, 2, 250]] {
            assert_eq!(rgb_of(cielab_of(Rgb(rgb))), Rgb(rgb));
        }
        // White is (100, 0, 0); the tolerance covers the seven digits of the matrix.
        let white = cielab_of(Rgb([255; 3]));
        assert!(white.iter().zip([65535_u16, 32896, 32896]).all(|(a, b)| a.abs_diff(b) < 20), "{white:?}");
    }
}
