//! The connected parts of a net.

use crate::net::{Net, OutOfMemory, reserved};

/// The connected parts of a net: the outer surfaces of its structures and the surfaces of their cavities.
pub(crate) struct Parts {
    /// The part of each vertex.
    pub(crate) of_vertex: Vec<u32>,
    /// The volume that the voxels of each part enclose, in voxels; negative for cavities.
    pub(crate) voxels: Vec<f64>,
}

impl Parts {
    /// Finds the parts of a net.
    pub(crate) fn new(net: &Net) -> Result<Self, OutOfMemory> {
        let mut of_vertex: Vec<u32> = reserved(net.cells.len())?;
        of_vertex.extend(0..net.cells.len() as u32);
        for quad in &net.quads {
            for [a, b] in [[0, 1], [1, 2], [2, 3]] {
                let (a, b) = (root(&mut of_vertex, quad[a]), root(&mut of_vertex, quad[b]));
                // The root of a part is its first vertex.
                of_vertex[a.max(b) as usize] = a.min(b);
            }
        }
        let mut count = 0;
        for vertex in 0..of_vertex.len() {
            let above = of_vertex[vertex] as usize;
            // Roots come before the vertices that refer to them, so that they have their number already.
            of_vertex[vertex] = if above == vertex {
                count += 1;
                count - 1
            } else {
                of_vertex[above]
            };
        }
        let mut parts = Self { of_vertex, voxels: vec![0.0; count as usize] };
        for quad in &net.quads {
            let part = parts.of_vertex[quad[0] as usize];
            parts.voxels[part as usize] += column(quad.map(|vertex| net.cells[vertex as usize]));
        }
        Ok(parts)
    }
}

fn root(above: &mut [u32], mut vertex: u32) -> u32 {
    while above[vertex as usize] != vertex {
        let next = above[above[vertex as usize] as usize];
        above[vertex as usize] = next;
        vertex = next;
    }
    vertex
}

/// The share of a face in the volume of its part: faces across x close a column of voxels that begins at x = 0.
fn column(quad: [[u32; 3]; 4]) -> f64 {
    let [a, b, c, _] = quad.map(|cell| cell.map(f64::from));
    if a[0] != b[0] || b[0] != c[0] {
        return 0.0;
    }
    let area = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1]);
    a[0] * area
}
