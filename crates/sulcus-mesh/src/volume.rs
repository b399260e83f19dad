//! Gives each part of a smoothed surface the volume of its voxels.

use crate::net::{Net, OutOfMemory, reserved};
use crate::parts::Parts;
use crate::smoothing::{Position, corner};

/// The relative error of the volume that is left.
const TOLERANCE: f64 = 1e-4;
/// A part whose volume differs by more than this after all rounds gets back the faces of its voxels.
const MAX_DIFFERENCE: f64 = 0.01;
/// The most that a round moves the surface, in voxels. One that collapsed grows in several rounds.
const MAX_STEP: f64 = 0.1;
const ROUNDS: usize = 24;

/// Twice the area of a triangle as a vector along its normal.
pub(crate) fn area_vector([a, b, c]: [[f64; 3]; 3]) -> [f64; 3] {
    let [u, v]: [[f64; 3]; 2] = [b, c].map(|end| std::array::from_fn(|i| end[i] - a[i]));
    [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]
}

pub(crate) fn length(vector: [f64; 3]) -> f64 {
    vector.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The area and the volume of each part, in voxels.
struct Sizes {
    area: f64,
    volume: f64,
}

/// Moves each part along its normals until it encloses the volume of its voxels.
pub(crate) fn restore(
    positions: &mut [Position],
    triangles: &[[u32; 3]],
    net: &Net,
    parts: &Parts,
) -> Result<(), OutOfMemory> {
    let mut normals: Vec<Position> = reserved(positions.len())?;
    normals.resize(positions.len(), [0.0; 3]);
    let part_of = |vertex: u32| parts.of_vertex[vertex as usize] as usize;
    for round in 0..=ROUNDS {
        normals.fill([0.0; 3]);
        let mut sizes: Vec<Sizes> = parts.voxels.iter().map(|_| Sizes { area: 0.0, volume: 0.0 }).collect();
        for triangle in triangles {
            let corners = triangle.map(|vertex| positions[vertex as usize].map(f64::from));
            let vector = area_vector(corners);
            let size = &mut sizes[part_of(triangle[0])];
            size.area += length(vector) / 2.0;
            size.volume += corners[0].iter().zip(vector).map(|(at, n)| at * n).sum::<f64>() / 6.0;
            for vertex in triangle {
                let normal = &mut normals[*vertex as usize];
                *normal = std::array::from_fn(|axis| normal[axis] + vector[axis] as f32);
            }
        }
        let missing = |part: usize| parts.voxels[part] - sizes[part].volume;
        if round == ROUNDS {
            for (vertex, position) in positions.iter_mut().enumerate() {
                let part = parts.of_vertex[vertex] as usize;
                if missing(part).abs() > MAX_DIFFERENCE * parts.voxels[part].abs() {
                    *position = corner(net.cells[vertex]);
                }
            }
            break;
        }
        let step = |part: usize| {
            let missing = missing(part);
            let is_done = missing.abs() <= TOLERANCE * parts.voxels[part].abs();
            // A collapsed part has no area; its step is the largest.
            let wanted = missing / sizes[part].area.max(f64::MIN_POSITIVE);
            if is_done { 0.0 } else { wanted.clamp(-MAX_STEP, MAX_STEP) }
        };
        let steps: Vec<f64> = (0..sizes.len()).map(step).collect();
        if steps.iter().all(|step| *step == 0.0) {
            break;
        }
        for (vertex, position) in positions.iter_mut().enumerate() {
            let (step, normal) = (steps[parts.of_vertex[vertex] as usize], normals[vertex].map(f64::from));
            let long = length(normal);
            if step != 0.0 && long > 0.0 {
                *position = std::array::from_fn(|axis| position[axis] + (step * normal[axis] / long) as f32);
            }
        }
    }
    Ok(())
}
