//! Taubin's λ|μ filter on a net, constrained to the cells as in Gibson's surface nets.

use crate::net::{Net, OutOfMemory, reserved};

/// How much a surface is smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smoothing {
    passes: u32,
}

impl Smoothing {
    /// None: the surface consists of the faces of the voxels.
    pub const NONE: Self = Self { passes: 0 };
    /// The largest number of passes. More would amplify the shape itself, since the filter's gain is a little above 1 there.
    pub const MAX_PASSES: u32 = 100;

    /// This number of passes, at most [`Smoothing::MAX_PASSES`]. With 0 the surface consists of the faces of the voxels.
    pub fn of_passes(passes: u32) -> Self {
        Self { passes: passes.min(Self::MAX_PASSES) }
    }

    /// The number of passes.
    pub fn passes(self) -> u32 {
        self.passes
    }
}

/// 20 passes, which remove the steps of the voxels.
impl Default for Smoothing {
    fn default() -> Self {
        Self { passes: 20 }
    }
}

/// Taubin's λ and μ for a pass band that ends at 0.1.
const FACTORS: [f32; 2] = [0.6307, -0.6732];

/// A position in voxels, from the first voxel of the label on.
pub(crate) type Position = [f32; 3];

/// The corner of the voxels in the middle of a cell.
pub(crate) fn corner(cell: [u32; 3]) -> Position {
    cell.map(|index| index as f32 - 0.5)
}

/// The positions of the vertices of a net.
pub(crate) fn smoothed(net: &Net, smoothing: Smoothing) -> Result<Vec<Position>, OutOfMemory> {
    let mut positions = reserved(net.cells.len())?;
    positions.extend(net.cells.iter().map(|cell| corner(*cell)));
    if smoothing.passes == 0 {
        return Ok(positions);
    }
    let mut sums: Vec<Position> = reserved(net.cells.len())?;
    sums.resize(net.cells.len(), [0.0; 3]);
    // A vertex has as many neighbours as faces.
    let mut neighbours: Vec<u8> = reserved(net.cells.len())?;
    neighbours.resize(net.cells.len(), 0);
    for quad in &net.quads {
        let corners = quad.map(|vertex| positions[vertex as usize]);
        let middle = std::array::from_fn(|axis| corners.iter().map(|at| at[axis]).sum::<f32>() / 4.0);
        for vertex in quad.map(|vertex| vertex as usize) {
            add(&mut sums[vertex], middle);
            neighbours[vertex] += 1;
        }
    }
    for ((position, sum), n) in positions.iter_mut().zip(&sums).zip(&neighbours) {
        *position = sum.map(|sum| sum / f32::from(*n));
    }
    for factor in (0..smoothing.passes).flat_map(|_| FACTORS) {
        sums.fill([0.0; 3]);
        for [a, b, c, d] in net.quads.iter().map(|quad| quad.map(|vertex| vertex as usize)) {
            // Each edge belongs to two faces, in opposite directions.
            for (vertex, neighbour) in [(a, b), (b, c), (c, d), (d, a)] {
                add(&mut sums[vertex], positions[neighbour]);
            }
        }
        for (index, position) in positions.iter_mut().enumerate() {
            let n = f32::from(neighbours[index]);
            for axis in 0..3 {
                let moved = position[axis] + factor * (sums[index][axis] / n - position[axis]);
                let last = net.cells[index][axis] as f32;
                position[axis] = moved.clamp(last - 1.0, last);
            }
        }
    }
    Ok(positions)
}

fn add(sum: &mut Position, value: Position) {
    for (sum, value) in sum.iter_mut().zip(value) {
        *sum += value;
    }
}
