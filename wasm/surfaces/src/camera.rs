//! How surfaces are projected: in parallel, so that lengths can be compared everywhere in the picture.

/// The direction of the light in the picture (right, up, toward the viewer), of length 1.
const LIGHT: [f32; 3] = [-0.36, 0.48, 0.8];
/// The brightness of what the light does not reach.
const AMBIENT: f32 = 0.3;

/// A view of surfaces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// The directions to the right, up, and toward the viewer in RAS.
    pub axes: [[f32; 3]; 3],
    /// The position in the middle of the picture, in RAS+ millimetres.
    pub center_mm: [f32; 3],
    /// The length of a millimetre in pixels.
    pub pixels_per_mm: f32,
}

/// A vertex in a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Projected {
    /// In pixels from the left.
    pub(crate) x: f32,
    /// In pixels from the top.
    pub(crate) y: f32,
    /// In millimetres toward the viewer.
    pub(crate) near: f32,
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

impl Camera {
    /// The camera from 13 numbers: its axes, its centre, and the pixels of a millimetre.
    pub fn from_numbers(numbers: &[f32]) -> Option<Self> {
        let (axes, rest) = numbers.split_at_checked(9)?;
        let [x, y, z, pixels_per_mm] = *rest else { return None };
        let axes = axes.as_chunks::<3>().0.try_into().ok()?;
        let usable = numbers.iter().all(|n| n.is_finite()) && pixels_per_mm > 0.0;
        usable.then_some(Self { axes, center_mm: [x, y, z], pixels_per_mm })
    }

    pub(crate) fn project(&self, [width, height]: [usize; 2], position: [f32; 3]) -> Projected {
        let from_center = std::array::from_fn(|axis| position[axis] - self.center_mm[axis]);
        let [right, up, near] = self.axes.map(|axis| dot(axis, from_center));
        Projected {
            x: width as f32 / 2.0 + right * self.pixels_per_mm,
            y: height as f32 / 2.0 - up * self.pixels_per_mm,
            near,
        }
    }

    /// The brightness of a surface with a normal of length 1, from 0 to 1.
    pub(crate) fn brightness(&self, normal: [f32; 3]) -> f32 {
        let light = dot(self.axes.map(|axis| dot(axis, normal)), LIGHT);
        AMBIENT + (1.0 - AMBIENT) * light.max(0.0)
    }
}
