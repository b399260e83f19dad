//! A raster image with text.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// An 8-bit colour.
pub(crate) type Color = [u8; 3];

/// Height of a line of text in pixels.
pub(crate) const TEXT_HEIGHT: usize = 16;
const FONT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;

/// An RGB image; rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    /// An image of one colour.
    pub(crate) fn new(width: usize, height: usize, color: Color) -> Self {
        Self { width, height, pixels: vec![color; width * height] }
    }

    /// Width in pixels.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// The colour of a pixel; black outside the image.
    #[cfg(test)]
    pub(crate) fn get(&self, x: usize, y: usize) -> Color {
        self.pixels.get(y * self.width + x).copied().unwrap_or_default()
    }

    /// Sets a pixel; has no effect outside the image.
    fn set(&mut self, x: usize, y: usize, color: Color) {
        self.blend(x, y, color, 1.0);
    }

    /// Sets red (0), green (1) or blue (2) of a pixel; has no effect outside the image.
    pub(crate) fn set_component(&mut self, x: usize, y: usize, component: usize, value: u8) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
            && let Some(own) = pixel.get_mut(component)
        {
            *own = value;
        }
    }

    /// Blends a colour into a pixel, with an opacity from 0 to 1.
    pub(crate) fn blend(&mut self, x: usize, y: usize, color: Color, opacity: f32) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            for (own, new) in pixel.iter_mut().zip(color) {
                let mixed = f32::from(*own) + (f32::from(new) - f32::from(*own)) * opacity;
                *own = mixed.round().clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// Fills a rectangle.
    pub(crate) fn fill(&mut self, [x0, y0]: [usize; 2], [width, height]: [usize; 2], color: Color) {
        for y in y0..y0 + height {
            for x in x0..x0 + width {
                self.set(x, y, color);
            }
        }
    }

    /// Draws a line of text with its top left corner at (x, y). Characters that the font lacks become `?`.
    pub(crate) fn text(&mut self, [x0, y0]: [usize; 2], text: &str, color: Color) {
        let mut left = x0;
        for character in text.chars() {
            if let Some(raster) = get_raster(character, FONT, SIZE).or_else(|| get_raster('?', FONT, SIZE)) {
                for (y, row) in raster.rows().enumerate() {
                    for (x, opacity) in row.iter().enumerate() {
                        self.blend(left + x, y0 + y, color, f32::from(*opacity) / 255.0);
                    }
                }
                left += raster.width();
            }
        }
    }

    /// Copies another image into this one, with its top left corner at (x, y).
    pub(crate) fn paste(&mut self, [x0, y0]: [usize; 2], other: &Self) {
        for (index, color) in other.pixels.iter().enumerate() {
            self.set(x0 + index % other.width, y0 + index / other.width, *color);
        }
    }

    /// Images below each other.
    pub(crate) fn stack(parts: &[Self], background: Color) -> Self {
        let width = parts.iter().map(Self::width).max().unwrap_or(0);
        let mut all = Self::new(width, parts.iter().map(Self::height).sum(), background);
        let mut top = 0;
        for part in parts {
            all.paste([0, top], part);
            top += part.height;
        }
        all
    }

    /// The PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut bytes = Vec::new();
        let (width, height) = (u32::try_from(self.width), u32::try_from(self.height));
        let mut encoder = png::Encoder::new(&mut bytes, width.unwrap_or(u32::MAX), height.unwrap_or(u32::MAX));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(bytes)
    }
}

/// Width of a line of text in pixels.
pub(crate) fn text_width(text: &str) -> usize {
    text.chars().count() * get_raster_width(FONT, SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_visible_and_stays_inside_its_box() {
        let mut canvas = Canvas::new(text_width("Ag") + 10, TEXT_HEIGHT + 10, [0; 3]);
        canvas.text([5, 5], "Ag", [255; 3]);
        let mut lit = 0;
        for y in 0..canvas.height() {
            for x in 0..canvas.width() {
                if canvas.get(x, y) != [0; 3] {
                    lit += 1;
                    assert!((5..canvas.width() - 5).contains(&x) && (5..canvas.height() - 5).contains(&y));
                }
            }
        }
        assert!(lit > 40, "{lit}");
    }

    #[test]
    fn drawing_outside_has_no_effect_and_png_has_the_size() {
        let mut canvas = Canvas::new(3, 2, [9; 3]);
        canvas.set_component(3, 0, 1, 1);
        canvas.fill([2, 1], [5, 5], [7; 3]);
        assert_eq!((canvas.get(0, 1), canvas.get(2, 1)), ([9; 3], [7; 3]));
        let png = canvas.png().unwrap();
        let info = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        assert_eq!((info.info().width, info.info().height), (3, 2));
    }
}
