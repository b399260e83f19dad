use sulcus_volume::{Geometry, GridUnit, Label, LabelMap};

use crate::error::MeshError;
use crate::extent::Extent;
use crate::net::{Net, OutOfMemory, max_vertices, reserved};
use crate::parts::Parts;
use crate::smoothing::{Position, Smoothing, smoothed};
use crate::volume::{area_vector, length, restore};

/// The most memory that making a surface may take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit(pub u64);

impl MemoryLimit {
    /// No limit but that of the system.
    pub const NONE: Self = Self(u64::MAX);
}

/// The closed surface of a label as triangles.
#[derive(Debug, Clone, PartialEq)]
pub struct Surface {
    label: Label,
    vertices: Vec<[f32; 3]>,
    triangles: Vec<[u32; 3]>,
    components: usize,
    cavities: usize,
    voxels: usize,
    voxel_ml: f64,
}

/// What a surface measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// The area in mm².
    pub area_mm2: f64,
    /// The enclosed volume in millilitres, by the divergence theorem; cavities are subtracted.
    pub volume_ml: f64,
}

impl Extent {
    /// The memory that making the surface needs at most, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let per_face = size_of::<[u32; 4]>() + 2 * size_of::<[u32; 3]>();
        // Its cell, position, normal or sum, part and number of neighbours.
        let per_vertex = 3 * size_of::<[u32; 3]>() + size_of::<u32>() + size_of::<u8>();
        let layer = (self.last[0] + 3 - self.first[0]) as u64 * (self.last[1] + 3 - self.first[1]) as u64;
        /// Two planes of voxels and two layers of cells.
        const PER_COLUMN: u64 = 2 + 2 * 8;
        let net = (self.faces as u64).saturating_mul(per_face as u64);
        let vertices = (max_vertices(self.faces) as u64).saturating_mul(per_vertex as u64);
        net.saturating_add(vertices).saturating_add(layer.saturating_mul(PER_COLUMN))
    }
}

/// Makes the surface of a label from its extent in the label map, which [`survey`](crate::survey) finds.
///
/// # Errors
/// If it would need more memory than `limit` or than the system provides, or if the grid is that of a picture.
pub fn surface(
    map: &LabelMap,
    extent: &Extent,
    smoothing: Smoothing,
    limit: MemoryLimit,
) -> Result<Surface, MeshError> {
    let geometry = map.geometry();
    if geometry.unit() != GridUnit::Millimetre {
        return Err(MeshError::Picture(geometry.unit()));
    }
    let (label, faces) = (extent.label, extent.faces);
    if (0..3).any(|axis| extent.first[axis] > extent.last[axis] || extent.last[axis] >= geometry.shape()[axis]) {
        return Err(MeshError::OtherMap { label });
    }
    let bytes = extent.memory_bytes();
    // Vertices have numbers of 32 bits.
    let countable = u32::try_from(max_vertices(faces)).is_ok();
    if bytes > limit.0 || !countable {
        return Err(MeshError::Memory { label, faces: faces as u64, bytes, limit: limit.0 });
    }
    made(map, extent, smoothing).map_err(|OutOfMemory| MeshError::Allocation { label, bytes })
}

fn made(map: &LabelMap, extent: &Extent, smoothing: Smoothing) -> Result<Surface, OutOfMemory> {
    let geometry = map.geometry();
    let net = Net::new(map, extent)?;
    let parts = Parts::new(&net)?;
    let mut positions = smoothed(&net, smoothing)?;
    let triangles = triangles(&net, &positions, geometry)?;
    if smoothing != Smoothing::NONE {
        restore(&mut positions, &triangles, &net, &parts)?;
    }
    drop(net);
    let ras_from_voxel = geometry.ras_from_voxel();
    let first = extent.first.map(|index| index as f64);
    for position in &mut positions {
        let voxel = std::array::from_fn(|axis| first[axis] + f64::from(position[axis]));
        *position = ras_from_voxel.apply(voxel).0.map(|mm| mm as f32);
    }
    let cavities = parts.voxels.iter().filter(|volume| **volume < 0.0).count();
    let mut surface = Surface {
        label: extent.label,
        vertices: positions,
        triangles,
        components: parts.voxels.len() - cavities,
        cavities,
        voxels: extent.voxels,
        voxel_ml: geometry.ml(extent.voxels).unwrap_or(f64::NAN),
    };
    if is_left_handed(geometry) {
        surface.triangles.iter_mut().for_each(|triangle| triangle.swap(1, 2));
    }
    Ok(surface)
}

fn is_left_handed(geometry: &Geometry) -> bool {
    let map = geometry.ras_from_voxel();
    let [x, y, z] = [0, 1, 2].map(|axis| map.column(axis));
    let normal = area_vector([[0.0; 3], x, y]);
    normal.iter().zip(z).map(|(a, b)| a * b).sum::<f64>() < 0.0
}

/// Divides the quadrilaterals along their shorter diagonal.
fn triangles(net: &Net, positions: &[Position], geometry: &Geometry) -> Result<Vec<[u32; 3]>, OutOfMemory> {
    let rows = geometry.ras_from_voxel().rows();
    let distance = |a: u32, b: u32| {
        let [a, b] = [a, b].map(|vertex| positions[vertex as usize].map(f64::from));
        let step: [f64; 3] = std::array::from_fn(|axis| b[axis] - a[axis]);
        length(rows.map(|row| row[0] * step[0] + row[1] * step[1] + row[2] * step[2]))
    };
    let mut triangles = reserved(2 * net.quads.len())?;
    for [a, b, c, d] in net.quads.iter().copied() {
        if distance(a, c) <= distance(b, d) {
            triangles.extend([[a, b, c], [a, c, d]]);
        } else {
            triangles.extend([[a, b, d], [b, c, d]]);
        }
    }
    Ok(triangles)
}

impl Surface {
    /// The label.
    pub fn label(&self) -> Label {
        self.label
    }

    /// The positions of the vertices in RAS+ millimetres.
    pub fn vertices(&self) -> &[[f32; 3]] {
        &self.vertices
    }

    /// The vertices of each triangle, counterclockwise as seen from outside the label.
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// The number of connected parts of the label; voxels are connected through their faces.
    pub fn components(&self) -> usize {
        self.components
    }

    /// The number of cavities: closed surfaces around voxels of other labels.
    pub fn cavities(&self) -> usize {
        self.cavities
    }

    /// The number of voxels of the label.
    pub fn voxels(&self) -> usize {
        self.voxels
    }

    /// The volume of the voxels in millilitres.
    pub fn voxel_ml(&self) -> f64 {
        self.voxel_ml
    }

    /// The area and the enclosed volume.
    pub fn measure(&self) -> Measures {
        // Far from the origin the volumes of the tetrahedra would cancel each other.
        let origin = self.vertices.first().copied().unwrap_or_default().map(f64::from);
        let (mut area, mut volume) = (0.0, 0.0);
        for triangle in &self.triangles {
            let corners = triangle.map(|vertex| {
                let at = self.vertices[vertex as usize];
                std::array::from_fn(|axis| f64::from(at[axis]) - origin[axis])
            });
            let vector = area_vector(corners);
            area += length(vector) / 2.0;
            volume += corners[0].iter().zip(vector).map(|(at, n)| at * n).sum::<f64>() / 6.0;
        }
        Measures { area_mm2: area, volume_ml: volume / 1000.0 }
    }
}
