//! Draws surfaces without a GPU: a depth buffer and Gouraud shading.

use crate::camera::{Camera, Projected};
use crate::shape::Shape;

/// A picture that is being drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    size: [usize; 2],
    /// RGBA.
    pixels: Vec<u8>,
    nearest: Vec<f32>,
}

impl Picture {
    /// A black picture of a width and a height.
    pub fn new(size: [usize; 2]) -> Self {
        let pixels = size[0] * size[1];
        Self { size, pixels: [0, 0, 0, 255].repeat(pixels), nearest: vec![f32::NEG_INFINITY; pixels] }
    }

    /// The pixels, `[height, width, 4]`, RGBA.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Draws a surface in a colour.
    pub fn draw(&mut self, shape: &Shape, camera: &Camera, color: [u8; 3]) {
        let vertices = shape.surface().vertices().iter().zip(shape.normals());
        let vertices: Vec<(Projected, f32)> = vertices
            .map(|(position, normal)| (camera.project(self.size, *position), camera.brightness(*normal)))
            .collect();
        let color = color.map(f32::from);
        for triangle in shape.surface().triangles() {
            let corners = triangle.map(|vertex| vertices[vertex as usize]);
            self.fill(corners.map(|(at, _)| at), corners.map(|(_, brightness)| brightness), color);
        }
    }

    fn fill(&mut self, corners: [Projected; 3], brightness: [f32; 3], color: [f32; 3]) {
        let Some(weights) = Weights::new(corners) else { return };
        let [width, height] = self.size;
        let [xs, ys] = [corners.map(|at| at.x), corners.map(|at| at.y)];
        let columns = covered(xs, width);
        for row in covered(ys, height) {
            for column in columns.clone() {
                let Some(w) = weights.at(column as f32 + 0.5, row as f32 + 0.5) else { continue };
                let mix = |values: [f32; 3]| w[0] * values[0] + w[1] * values[1] + w[2] * values[2];
                let near = mix(corners.map(|at| at.near));
                let index = row * width + column;
                if near <= self.nearest[index] {
                    continue;
                }
                self.nearest[index] = near;
                let bright = mix(brightness);
                let pixel = &mut self.pixels[4 * index..4 * index + 3];
                pixel.iter_mut().zip(color).for_each(|(to, full)| *to = (full * bright + 0.5) as u8);
            }
        }
    }
}

/// The pixels whose centres lie between the smallest and the largest of three positions.
fn covered(positions: [f32; 3], pixels: usize) -> std::ops::Range<usize> {
    let low = positions.into_iter().fold(f32::MAX, f32::min) - 0.5;
    let high = positions.into_iter().fold(f32::MIN, f32::max) - 0.5;
    // Numbers below 0 become 0.
    let start = low.ceil() as usize;
    start..((high.floor() + 1.0) as usize).clamp(start.min(pixels), pixels).max(start)
}

/// The barycentric coordinates of positions in a triangle that faces the viewer.
struct Weights {
    corners: [Projected; 3],
    doubled_area: f32,
}

impl Weights {
    /// `None` for a triangle that is seen from inside or from its edge.
    fn new(corners: [Projected; 3]) -> Option<Self> {
        let [a, b, c] = corners;
        // Counterclockwise triangles have a negative area, since y grows downward.
        let doubled_area = -side(a, b, c.x, c.y);
        (doubled_area > 0.0).then_some(Self { corners, doubled_area })
    }

    fn at(&self, x: f32, y: f32) -> Option<[f32; 3]> {
        let [a, b, c] = self.corners;
        let parts = [-side(b, c, x, y), -side(c, a, x, y), -side(a, b, x, y)];
        parts.iter().all(|part| *part >= 0.0).then(|| parts.map(|part| part / self.doubled_area))
    }
}

/// Positive if a position lies to the right of the line from `a` to `b` in a picture whose y grows downward.
fn side(a: Projected, b: Projected, x: f32, y: f32) -> f32 {
    (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x)
}

/// The position of a surface that is seen at a place in a picture: in RAS+ millimetres, and how near it is.
pub(crate) fn hit(shape: &Shape, camera: &Camera, size: [usize; 2], [x, y]: [f32; 2]) -> Option<([f32; 3], f32)> {
    let mut best: Option<([f32; 3], f32)> = None;
    for triangle in shape.surface().triangles() {
        let positions = triangle.map(|vertex| shape.surface().vertices()[vertex as usize]);
        let corners = positions.map(|position| camera.project(size, position));
        let Some(w) = Weights::new(corners).and_then(|weights| weights.at(x, y)) else { continue };
        let mix = |values: [f32; 3]| w[0] * values[0] + w[1] * values[1] + w[2] * values[2];
        let near = mix(corners.map(|at| at.near));
        if best.is_none_or(|(_, other)| near > other) {
            best = Some((std::array::from_fn(|axis| mix(positions.map(|position| position[axis]))), near));
        }
    }
    best
}
