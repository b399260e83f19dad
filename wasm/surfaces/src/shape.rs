//! A surface with the normals of its vertices.

use sulcus_mesh::Surface;

/// A surface that can be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    surface: Surface,
    normals: Vec<[f32; 3]>,
}

impl Shape {
    /// Computes the normals of the vertices: the mean of the normals of the triangles around them, weighted by area.
    pub fn new(surface: Surface) -> Self {
        let mut normals = vec![[0.0_f32; 3]; surface.vertices().len()];
        for triangle in surface.triangles() {
            let [a, b, c] = triangle.map(|vertex| surface.vertices()[vertex as usize]);
            let [u, v]: [[f32; 3]; 2] = [b, c].map(|end| std::array::from_fn(|i| end[i] - a[i]));
            let vector = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
            for vertex in triangle {
                let normal = &mut normals[*vertex as usize];
                *normal = std::array::from_fn(|i| normal[i] + vector[i]);
            }
        }
        for normal in &mut normals {
            let length = normal.iter().map(|v| v * v).sum::<f32>().sqrt();
            if length > 0.0 {
                *normal = normal.map(|v| v / length);
            }
        }
        Self { surface, normals }
    }

    /// The surface.
    pub fn surface(&self) -> &Surface {
        &self.surface
    }

    /// The normals of the vertices in RAS, of length 1 and outward.
    pub fn normals(&self) -> &[[f32; 3]] {
        &self.normals
    }
}
