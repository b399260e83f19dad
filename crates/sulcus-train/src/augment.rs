use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How training slices are varied. Image and mask get the same geometric change; intensities change in the image
/// alone.
///
/// Rotation and scaling act on pixels, not millimetres: with pixels that are not square a rotation shears a little.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Share of the slices that are rotated, shifted and scaled; the rest keep their sharp voxels, as scans have at
    /// prediction.
    pub affine_probability: f64,
    /// Rotations are drawn from ± this many degrees.
    pub rotation_degrees: f64,
    /// Shifts along each axis are drawn from ± this share of the patch's edge.
    pub translation: f64,
    /// Sizes are drawn from 1 ± this.
    pub scaling: f64,
    /// Mirroring, each axis for half of the slices.
    pub flips: Flips,
    /// Shifts of intensity are drawn from ± this many standard deviations of the slice.
    pub brightness: f64,
    /// Factors of the distance from the slice's mean are drawn from 1 ± this.
    pub contrast: f64,
}

/// Along which axes of a slice mirroring is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flips {
    /// Both for a single structure, none for several: those are often told apart by the side they lie on, which a
    /// mirror image gets wrong.
    Auto,
    /// None.
    None,
    /// Along the rows, which run along W.
    Horizontal,
    /// Along the columns, which run along H.
    Vertical,
    /// Both.
    Both,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            affine_probability: 0.8,
            rotation_degrees: 10.0,
            translation: 0.1,
            scaling: 0.1,
            flips: Flips::Auto,
            brightness: 0.2,
            contrast: 0.2,
        }
    }
}

impl Augmentation {
    /// Slices as they are.
    pub fn none() -> Self {
        Self {
            affine_probability: 0.0,
            rotation_degrees: 0.0,
            translation: 0.0,
            scaling: 0.0,
            flips: Flips::None,
            brightness: 0.0,
            contrast: 0.0,
        }
    }

    /// Checks the ranges.
    pub(crate) fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, max: f64| {
            let fits = (0.0..=max).contains(&value);
            if fits {
                Ok(())
            } else {
                Err(format!("augmentation: `{name}` must lie in 0 to {max}, found {value}"))
            }
        };
        within("affine_probability", self.affine_probability, 1.0)?;
        within("rotation_degrees", self.rotation_degrees, 180.0)?;
        within("translation", self.translation, 1.0)?;
        within("scaling", self.scaling, 0.9)?;
        within("brightness", self.brightness, 10.0)?;
        within("contrast", self.contrast, 1.0)
    }

    /// Draws one variation.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Variation {
        let mut around = |half_width: f64| half_width * (2.0 * rng.random::<f64>() - 1.0);
        // All numbers are drawn always, so that changing one setting leaves the others' draws alone.
        let angle = around(self.rotation_degrees).to_radians();
        let shift = [around(self.translation), around(self.translation)];
        let scale = 1.0 + around(self.scaling);
        let brightness = around(self.brightness) as f32;
        let contrast = 1.0 + around(self.contrast) as f32;
        let moved = rng.random::<f64>() < self.affine_probability;
        let coins = [rng.random::<bool>(), rng.random::<bool>()];
        let [vertical, horizontal] = match self.flips {
            Flips::Auto | Flips::None => [false, false],
            Flips::Horizontal => [false, coins[1]],
            Flips::Vertical => [coins[0], false],
            Flips::Both => coins,
        };
        let (angle, shift, scale) = if moved { (angle, shift, scale) } else { (0.0, [0.0; 2], 1.0) };
        Variation { angle, shift, scale, vertical, horizontal, brightness, contrast }
    }
}

/// One variation, drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Variation {
    angle: f64,
    /// Along H and W, in shares of the patch's edge.
    shift: [f64; 2],
    scale: f64,
    vertical: bool,
    horizontal: bool,
    brightness: f32,
    contrast: f32,
}

/// A slice to cut from.
///
/// # Shapes
/// Each channel `[H, W]`, classes `[H, W]`.
pub(crate) struct Slice<'a> {
    pub(crate) channels: Vec<&'a [f32]>,
    pub(crate) classes: &'a [u8],
    pub(crate) shape: [usize; 2],
}

impl Variation {
    /// Cuts a patch out of a slice, varied. `corner` is where the patch's first pixel lies in the slice, along H and
    /// W; what lies outside the slice becomes 0, background.
    ///
    /// # Shapes
    /// `image` `[C, H, W]` and `classes` `[H, W]` of the patch, whose H and W are `patch`.
    pub(crate) fn cut(
        &self,
        slice: &Slice<'_>,
        patch: [usize; 2],
        corner: [i64; 2],
        image: &mut [f32],
        classes: &mut [u8],
    ) {
        let [height, width] = patch;
        let centre = [(height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0];
        let (sin, cos) = self.angle.sin_cos();
        let mirror = |v: f64, flipped: bool| if flipped { -v } else { v };
        // Where in the slice a pixel of the patch is looked up: the variation's inverse.
        let source = |row: usize, column: usize| {
            let r = mirror(row as f64 - centre[0], self.vertical) - self.shift[0] * height as f64;
            let c = mirror(column as f64 - centre[1], self.horizontal) - self.shift[1] * width as f64;
            [
                (cos * r - sin * c) / self.scale + centre[0] + corner[0] as f64,
                (sin * r + cos * c) / self.scale + centre[1] + corner[1] as f64,
            ]
        };
        for row in 0..height {
            for column in 0..width {
                let here = row * width + column;
                let at = source(row, column);
                for (channel, values) in slice.channels.iter().enumerate() {
                    if let Some(out) = image.get_mut(channel * height * width + here) {
                        *out = linear(values, slice.shape, at);
                    }
                }
                if let Some(out) = classes.get_mut(here) {
                    *out = pixel(slice.classes, slice.shape, at.map(|v| (v + 0.5).floor() as i64));
                }
            }
        }
        for channel in image.chunks_exact_mut((height * width).max(1)) {
            self.change_intensities(channel);
        }
    }

    fn change_intensities(&self, values: &mut [f32]) {
        if self.brightness == 0.0 && self.contrast == 1.0 {
            return;
        }
        let n = values.len().max(1) as f32;
        let mean = values.iter().sum::<f32>() / n;
        let sd = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n).sqrt();
        let offset = mean + self.brightness * sd;
        values.iter_mut().for_each(|v| *v = (*v - mean) * self.contrast + offset);
    }
}

/// The pixel at row and column, or 0 outside.
fn pixel<T: Copy + Default>(values: &[T], [height, width]: [usize; 2], [row, column]: [i64; 2]) -> T {
    match (usize::try_from(row), usize::try_from(column)) {
        (Ok(r), Ok(c)) if r < height && c < width => values.get(r * width + c).copied().unwrap_or_default(),
        _ => T::default(),
    }
}

fn linear(values: &[f32], shape: [usize; 2], [row, column]: [f64; 2]) -> f32 {
    let (r, c) = (row.floor(), column.floor());
    let (fr, fc) = ((row - r) as f32, (column - c) as f32);
    let at = |dr: i64, dc: i64| pixel(values, shape, [r as i64 + dr, c as i64 + dc]);
    if fr == 0.0 && fc == 0.0 {
        return at(0, 0);
    }
    (at(0, 0) * (1.0 - fc) + at(0, 1) * fc) * (1.0 - fr) + (at(1, 0) * (1.0 - fc) + at(1, 1) * fc) * fr
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const SHAPE: [usize; 2] = [24, 32];

    /// A mask with two structures side by side, and an image that is 1 inside them.
    fn drawn() -> (Vec<f32>, Vec<u8>) {
        let mut classes = vec![0_u8; SHAPE[0] * SHAPE[1]];
        for (i, class) in classes.iter_mut().enumerate() {
            let (r, c) = (i / SHAPE[1], i % SHAPE[1]);
            if (5..15).contains(&r) && (4..20).contains(&c) {
                *class = if c < 12 { 1 } else { 2 };
            }
        }
        (classes.iter().map(|c| f32::from(u8::from(*c > 0))).collect(), classes)
    }

    fn cut(augmentation: &Augmentation, stream: u64, corner: [i64; 2]) -> (Vec<f32>, Vec<u8>) {
        let (image, classes) = drawn();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        rng.set_stream(stream);
        let slice = Slice { channels: vec![&image], classes: &classes, shape: SHAPE };
        let (mut out, mut mask) = (vec![f32::NAN; image.len()], vec![9; image.len()]);
        augmentation.draw(&mut rng).cut(&slice, SHAPE, corner, &mut out, &mut mask);
        (out, mask)
    }

    #[test]
    fn with_all_parameters_zero_nothing_changes() {
        let (image, classes) = drawn();
        assert_eq!(cut(&Augmentation::none(), 3, [0, 0]), (image, classes));
    }

    #[test]
    fn a_corner_outside_the_slice_pads_with_zeros() {
        let (image, classes) = cut(&Augmentation::none(), 0, [-2, 3]);
        assert!(image[..2 * SHAPE[1]].iter().all(|v| *v == 0.0));
        let (whole, _) = drawn();
        assert_eq!(image[7 * SHAPE[1] + 1], whole[5 * SHAPE[1] + 4]);
        assert_eq!(classes[7 * SHAPE[1]..8 * SHAPE[1]].iter().filter(|c| **c > 0).count(), 16);
    }

    /// The image is the mask drawn as intensity. After any geometric change the nearest pixel (mask) and the mean of
    /// four (image) still agree, but for pixels at the rectangle's turned corners; a shift of one by a pixel against
    /// the other would show along a whole side of at least ten pixels.
    #[test]
    fn image_and_mask_move_together() {
        const CORNER_PIXELS: usize = 6;
        let geometric = Augmentation { brightness: 0.0, contrast: 0.0, flips: Flips::Both, ..Default::default() };
        let geometric = Augmentation { affine_probability: 1.0, ..geometric };
        let mut moved = 0;
        for stream in 0..50 {
            let (image, mask) = cut(&geometric, stream, [0, 0]);
            let inside = mask.iter().filter(|c| **c > 0).count();
            assert!((60..260).contains(&inside), "{inside} pixels of 160");
            let apart = image.iter().zip(&mask).filter(|(v, c)| (**v > 0.5) != (**c > 0)).count();
            assert!(apart <= CORNER_PIXELS, "{apart} pixels differ in variation {stream}");
            moved += usize::from(mask != drawn().1);
        }
        assert_eq!(moved, 50);
    }

    #[test]
    fn intensities_change_in_the_image_alone() {
        let tint = Augmentation { brightness: 0.2, contrast: 0.2, ..Augmentation::none() };
        let (image, classes) = cut(&tint, 1, [0, 0]);
        assert_eq!(classes, drawn().1);
        assert_ne!(image, drawn().0);
        // A linear change keeps equal pixels equal.
        let background = image[0];
        assert!(image.iter().zip(&classes).filter(|(_, c)| **c == 0).all(|(v, _)| *v == background));
    }

    #[test]
    fn a_seed_fixes_the_variation() {
        let all = Augmentation { flips: Flips::Both, ..Default::default() };
        assert_eq!(cut(&all, 11, [0, 0]), cut(&all, 11, [0, 0]));
        assert_ne!(cut(&all, 11, [0, 0]), cut(&all, 12, [0, 0]));
    }

    #[test]
    fn ranges_that_make_no_sense_are_named() {
        let odd = Augmentation { translation: -0.1, ..Default::default() };
        assert_eq!(odd.check().unwrap_err(), "augmentation: `translation` must lie in 0 to 1, found -0.1");
        assert!(Augmentation { contrast: f64::NAN, ..Default::default() }.check().is_err());
    }
}
