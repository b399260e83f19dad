//! The size of a pixel, from the density that a picture's file states.
//!
//! Cameras, screens and image editors fill the density with a default: 72 or 96 dots per inch for screens, 150 or 300 for print. Such
//! a value says how large the picture is to be shown, and nothing about what it shows. Software of scanners and microscopes writes
//! the size of a pixel on the object into the same field. The two are told apart by the value: the usual densities of screens and
//! printers are no pixel size.

/// Millimetres per inch.
const INCH_MM: f64 = 25.4;

/// Dots per inch of screens and printers. 1 is what encoders write that set nothing.
const USUAL_DPI: [f64; 24] = [
    1.0, 72.0, 75.0, 90.0, 96.0, 100.0, 120.0, 144.0, 150.0, 180.0, 192.0, 200.0, 216.0, 220.0, 240.0, 250.0,
    288.0, 300.0, 350.0, 360.0, 400.0, 600.0, 720.0, 1200.0,
];

/// A stated number of pixels per length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Density {
    /// The size of a pixel.
    mm: f64,
    /// How far the stated number may be from the exact one, as a fraction of it.
    rounding: f64,
}

impl Density {
    fn new(pixels: f64, unit_mm: f64, rounding: f64) -> Self {
        Self { mm: unit_mm / pixels, rounding: rounding / pixels }
    }

    /// A whole number of pixels per metre, as PNG states it. Some encoders truncate instead of rounding.
    pub(super) fn per_metre(pixels: u32) -> Self {
        Self::new(f64::from(pixels), 1000.0, 1.0)
    }

    /// A whole number of pixels per inch, as JFIF states it.
    pub(super) fn per_inch(pixels: u16) -> Self {
        Self::new(f64::from(pixels), INCH_MM, 0.5)
    }

    /// A whole number of pixels per centimetre, as JFIF states it.
    pub(super) fn per_centimetre(pixels: u16) -> Self {
        Self::new(f64::from(pixels), 10.0, 0.5)
    }

    /// A fraction of pixels per `unit_mm` millimetres, as TIFF states it.
    pub(super) fn fraction(numerator: u32, denominator: u32, unit_mm: f64) -> Self {
        let pixels = f64::from(numerator) / f64::from(denominator);
        Self::new(pixels, unit_mm, pixels * 1e-4)
    }

    /// The size of a pixel in millimetres; `None` for the density of a screen or printer, and for a value without meaning.
    fn pixel_mm(self) -> Option<f64> {
        let dpi = INCH_MM / self.mm;
        let usual = USUAL_DPI.iter().any(|usual| (dpi / usual - 1.0).abs() <= self.rounding);
        (!usual && self.mm.is_finite() && self.mm > 0.0).then_some(self.mm)
    }
}

/// The size of a pixel along x and y in millimetres, if both densities state one.
pub(super) fn pixel_mm(density: [Density; 2]) -> Option<[f64; 2]> {
    let [x, y] = density.map(Density::pixel_mm);
    Some([x?, y?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_of_screens_and_printers_are_no_pixel_size() {
        // 72, 96 and 300 dots per inch, as each format rounds them.
        for per_metre in [2834, 2835, 3779, 3780, 11811, 0] {
            assert_eq!(Density::per_metre(per_metre).pixel_mm(), None, "{per_metre}");
        }
        assert!([72, 96, 300, 1, 0].iter().all(|dpi| Density::per_inch(*dpi).pixel_mm().is_none()));
        assert!([28, 38, 118].iter().all(|n| Density::per_centimetre(*n).pixel_mm().is_none()));
        assert_eq!(Density::fraction(72, 1, INCH_MM).pixel_mm(), None);
        assert_eq!(Density::fraction(28346, 1000, 10.0).pixel_mm(), None);
        assert_eq!(Density::fraction(1, 0, INCH_MM).pixel_mm(), None);
        assert_eq!(Density::fraction(0, 0, INCH_MM).pixel_mm(), None);
    }

    #[test]
    fn other_densities_are_pixel_sizes() {
        let close = |density: Density, mm: f64| (density.pixel_mm().unwrap() / mm - 1.0).abs() < 1e-9;
        assert!(close(Density::per_metre(10_000), 0.1));
        assert!(close(Density::per_metre(6993), 1000.0 / 6993.0));
        assert!(close(Density::fraction(20_000, 1, 10.0), 0.0005));
        assert!(close(Density::per_centimetre(100), 0.1));
        assert_eq!(pixel_mm([Density::per_metre(10_000), Density::per_metre(2835)]), None);
    }
}
