//! The net of a label: a vertex for each fan of faces in a cell, and a quadrilateral for each face of a voxel.

mod cell;

use sulcus_volume::{Label, LabelMap, VoxelIndex};

use crate::extent::Extent;
use cell::{Corners, Table, edge_number};

/// The net of a label, before any smoothing.
pub(crate) struct Net {
    /// The cell of each vertex, on a grid that begins at the first voxel of the label: cell i lies between the voxel centres i - 1
    /// and i.
    pub(crate) cells: Vec<[u32; 3]>,
    /// The vertices of each quadrilateral, counterclockwise as seen from outside where the axes of the grid are right-handed.
    pub(crate) quads: Vec<[u32; 4]>,
}

/// The memory did not suffice.
pub(crate) struct OutOfMemory;

/// The number of vertices that a net of this number of faces has at most: a voxel alone has 8 for its 6 faces.
pub(crate) fn max_vertices(faces: usize) -> usize {
    faces.saturating_mul(4) / 3
}

/// The vertices of a cell.
#[derive(Clone, Copy, Default)]
struct Placed {
    first: u32,
    corners: Corners,
    joined: bool,
}

/// The label within its extent.
struct Inside<'a> {
    map: &'a LabelMap,
    label: Label,
    first: [usize; 3],
    shape: [usize; 3],
}

impl Inside<'_> {
    /// Whether the voxel at `at` - 1 is inside; the voxels around the extent are not.
    fn padded(&self, at: [usize; 3]) -> bool {
        let mut voxel = [0; 3];
        for axis in 0..3 {
            match at[axis].checked_sub(1) {
                Some(index) if index < self.shape[axis] => voxel[axis] = self.first[axis] + index,
                _ => return false,
            }
        }
        self.map.get(VoxelIndex(voxel)) == Some(&self.label)
    }

    /// The corners of a cell.
    fn corners(&self, [x, y, z]: [usize; 3]) -> Corners {
        (0..8).fold(0, |corners, i| {
            corners | Corners::from(self.padded([x + (i & 1), y + (i >> 1 & 1), z + (i >> 2)])) << i
        })
    }

    /// Writes the plane of voxels at `z` - 1, with a margin of one voxel around it.
    fn read_plane(&self, z: usize, plane: &mut [u8]) {
        plane.fill(0);
        let [nx, ny, nz] = self.shape;
        let Some(index) = z.checked_sub(1).filter(|index| *index < nz) else { return };
        let [width, height, _] = self.map.geometry().shape();
        for y in 0..ny {
            let start = ((self.first[2] + index) * height + self.first[1] + y) * width + self.first[0];
            let row = self.map.data().get(start..start + nx).unwrap_or_default();
            let target = &mut plane[(y + 1) * (nx + 2) + 1..];
            for (voxel, label) in target.iter_mut().zip(row) {
                *voxel = u8::from(*label == self.label);
            }
        }
    }
}

impl Net {
    /// Makes the net of a label, plane by plane.
    pub(crate) fn new(map: &LabelMap, extent: &Extent) -> Result<Self, OutOfMemory> {
        let shape = std::array::from_fn(|axis| extent.last[axis] + 1 - extent.first[axis]);
        let inside = Inside { map, label: extent.label, first: extent.first, shape };
        let table = Table::new();
        let [nx, ny, nz] = shape;
        let (columns, rows) = (nx + 1, ny + 1);
        let empty_plane = |_| allocated((nx + 2) * (ny + 2), 0_u8);
        let [mut below, mut above] = [empty_plane(0)?, empty_plane(1)?];
        let empty_layer = |_| allocated(columns * rows, Placed::default());
        let [mut layer, mut layer_below] = [empty_layer(0)?, empty_layer(1)?];
        let mut net = Self { cells: reserved(extent.faces)?, quads: reserved(extent.faces)? };
        for z in 0..=nz {
            // The cells of this layer lie between the planes of the voxels z - 1 and z.
            inside.read_plane(z + 1, &mut above);
            for y in 0..rows {
                let lines = [&below, &above].map(|plane| {
                    let line = |y: usize| &plane[y * (nx + 2)..(y + 1) * (nx + 2)];
                    [line(y), line(y + 1)]
                });
                for x in 0..columns {
                    let at = |z: usize, y: usize| lines[z][y][x] | lines[z][y][x + 1] << 1;
                    let corners = at(0, 0) | at(0, 1) << 2 | at(1, 0) << 4 | at(1, 1) << 6;
                    let placed = &mut layer[y * columns + x];
                    *placed = Placed { first: net.cells.len() as u32, corners, joined: false };
                    let fans = &table.usual[usize::from(corners)];
                    let mut count = fans.count;
                    if let Some(side) = fans.doubled {
                        placed.joined = is_doubled_beyond(&inside, &table, [x, y, z], side);
                        count += u8::from(placed.joined);
                    }
                    for _ in 0..count {
                        push(&mut net.cells, [x, y, z].map(|i| i as u32))?;
                    }
                }
            }
            let layers = Layers { table: &table, columns, below: &layer_below, above: &layer };
            net.add_quads(&layers, [&below, &above], shape, z)?;
            std::mem::swap(&mut below, &mut above);
            std::mem::swap(&mut layer, &mut layer_below);
        }
        Ok(net)
    }

    /// Adds the faces across z between the two planes, and those across x and y in the lower one.
    fn add_quads(
        &mut self,
        layers: &Layers<'_>,
        [below, above]: [&[u8]; 2],
        [nx, ny, _]: [usize; 3],
        z: usize,
    ) -> Result<(), OutOfMemory> {
        let width = nx + 2;
        for y in 0..=ny {
            for x in 0..=nx {
                // The voxel with the indices x - 1 and y - 1, and those after it.
                let at = y * width + x;
                if y > 0 && x > 0 && below[at] != above[at] {
                    self.add_quad(layers, 2, [x - 1, y - 1, 1], below[at] == 1)?;
                }
                if z == 0 {
                    continue;
                }
                if y > 0 && below[at] != below[at + 1] {
                    self.add_quad(layers, 0, [x, y - 1, 0], below[at] == 1)?;
                }
                if x > 0 && below[at] != below[at + width] {
                    self.add_quad(layers, 1, [x - 1, y, 0], below[at] == 1)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a face across an axis. `first` is the first of the four cells around it, with 0 for the lower layer and 1 for the upper
    /// one; `is_outward` says whether the outside lies along the axis.
    fn add_quad(
        &mut self,
        layers: &Layers<'_>,
        axis: usize,
        first: [usize; 3],
        is_outward: bool,
    ) -> Result<(), OutOfMemory> {
        let mut quad = [[0, 0], [1, 0], [1, 1], [0, 1]].map(|next| {
            let mut cell = first;
            cell[(axis + 1) % 3] += next[0];
            cell[(axis + 2) % 3] += next[1];
            layers.vertex(cell, edge_number(axis, next.map(|n| 1 - n)))
        });
        if !is_outward {
            quad.reverse();
        }
        push(&mut self.quads, quad)
    }
}

/// Two layers of cells with their vertices.
struct Layers<'a> {
    table: &'a Table,
    columns: usize,
    below: &'a [Placed],
    above: &'a [Placed],
}

impl Layers<'_> {
    /// The vertex of the face that an edge of a cell crosses.
    fn vertex(&self, [x, y, layer]: [usize; 3], edge: usize) -> u32 {
        let layer = if layer == 0 { self.below } else { self.above };
        let Placed { first, corners, joined } = layer[y * self.columns + x];
        let fans = if joined { &self.table.joined } else { &self.table.usual };
        first + fans[usize::from(corners)].of(edge)
    }
}

/// Whether the cell beyond a side has it as a doubled side too.
fn is_doubled_beyond(inside: &Inside<'_>, table: &Table, cell: [usize; 3], side: cell::Side) -> bool {
    let axis = usize::from(side / 2);
    let mut beyond = cell;
    match (side % 2, cell[axis].checked_sub(1)) {
        (1, _) => beyond[axis] += 1,
        (_, Some(before)) => beyond[axis] = before,
        // Cells at the margin have no corner inside on their outer side.
        (_, None) => return false,
    }
    table.usual[usize::from(inside.corners(beyond))].doubled == Some(side ^ 1)
}

/// A vector of a known length.
fn allocated<T: Clone>(length: usize, value: T) -> Result<Vec<T>, OutOfMemory> {
    let mut made = reserved(length)?;
    made.resize(length, value);
    Ok(made)
}

/// A vector with room for a number of values.
pub(crate) fn reserved<T>(capacity: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut made = Vec::new();
    made.try_reserve_exact(capacity).map_err(|_| OutOfMemory)?;
    Ok(made)
}

fn push<T>(values: &mut Vec<T>, value: T) -> Result<(), OutOfMemory> {
    if values.len() == values.capacity() {
        values.try_reserve(values.len() / 4 + 16).map_err(|_| OutOfMemory)?;
    }
    values.push(value);
    Ok(())
}
