//! The interface for JavaScript. A grid is its shape and the three rows of its transform from voxels to RAS+ millimetres; a camera is
//! 13 numbers, as in [`Camera::from_numbers`].

use std::collections::{BTreeMap, BTreeSet};

use sulcus_mesh::{Extent, MemoryLimit, NamedSurface, Smoothing, Space, survey, write_ply, write_stl};
use sulcus_volume::{
    Geometry, Label, LabelEntry, LabelMap, OrientationSource, RasFromVoxel, RasPoint, Rgb, VoxelIndex,
};
use wasm_bindgen::Clamped;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::camera::Camera;
use crate::raster::{Picture, hit};
use crate::shape::Shape;

/// A surface may take this much memory; a module has at most 4 GiB.
const LIMIT: MemoryLimit = MemoryLimit(1 << 31);

/// The surfaces of a label layer.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Surfaces {
    map: Option<LabelMap>,
    extents: BTreeMap<Label, Extent>,
    smoothing: Smoothing,
    shapes: BTreeMap<Label, Shape>,
}

fn grid(numbers: &[f64]) -> Result<Geometry, String> {
    let (shape, rows) = numbers.split_first_chunk::<3>().ok_or("a grid needs a shape")?;
    let rows: &[[f64; 4]; 3] = rows.as_chunks::<4>().0.try_into().map_err(|_| "a grid needs a transform")?;
    let map = RasFromVoxel::new(*rows).map_err(|e| e.to_string())?;
    Geometry::new(shape.map(|n| n as usize), map, OrientationSource::Sform).map_err(|e| e.to_string())
}

fn entries(values: &[u16], names: &str, colors: &[u8]) -> Vec<LabelEntry> {
    let all = values.iter().zip(names.split('\n')).zip(colors.as_chunks::<3>().0);
    all.map(|((value, name), color)| LabelEntry { value: *value, name: name.to_owned(), color: Rgb(*color) })
        .collect()
}

#[wasm_bindgen]
impl Surfaces {
    /// No surfaces yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the voxels of the layer. Surfaces of labels none of whose voxels changed are kept.
    ///
    /// # Errors
    /// A sentence, if the voxels do not fit the grid.
    pub fn set_voxels(&mut self, of_grid: &[f64], data: Vec<u16>) -> Result<(), String> {
        let map = LabelMap::new(grid(of_grid)?, data).map_err(|e| e.to_string())?;
        match self.map.as_ref().filter(|old| old.geometry() == map.geometry()) {
            None => self.shapes.clear(),
            Some(old) => {
                let pairs = old.data().iter().zip(map.data()).filter(|(before, after)| before != after);
                let changed: BTreeSet<Label> = pairs.flat_map(|(before, after)| [*before, *after]).collect();
                self.shapes.retain(|label, _| !changed.contains(label));
            }
        }
        self.extents = survey(&map);
        self.map = Some(map);
        Ok(())
    }

    /// Changes voxels: pairs of an offset and a label. Surfaces of labels none of whose voxels changed are kept.
    ///
    /// # Errors
    /// A sentence, if there are no voxels yet.
    pub fn change_voxels(&mut self, changes: &[u32]) -> Result<(), String> {
        let (grid, mut data) = self.map.take().ok_or("there are no voxels to change")?.into_parts();
        for [offset, label] in changes.as_chunks::<2>().0 {
            let Some(voxel) = data.get_mut(*offset as usize) else { continue };
            let before = std::mem::replace(voxel, *label as Label);
            if before != *voxel {
                self.shapes.remove(&before);
                self.shapes.remove(voxel);
            }
        }
        let map = LabelMap::new(grid, data).map_err(|e| e.to_string())?;
        self.extents = survey(&map);
        self.map = Some(map);
        Ok(())
    }

    /// Sets the number of passes of smoothing.
    pub fn set_smoothing(&mut self, passes: u32) {
        let smoothing = Smoothing::of_passes(passes);
        if smoothing != self.smoothing {
            self.smoothing = smoothing;
            self.shapes.clear();
        }
    }

    /// Makes the surface of a label if it is not made yet. Returns its number of vertices and triangles, its area in mm², its
    /// volume and that of its voxels in ml, its number of connected parts, and that of its cavities; nothing if no voxel has the
    /// label.
    ///
    /// # Errors
    /// A sentence, if there is not enough memory.
    pub fn make(&mut self, label: u16) -> Result<Vec<f64>, String> {
        let (Some(map), Some(extent)) = (&self.map, self.extents.get(&label)) else { return Ok(Vec::new()) };
        if !self.shapes.contains_key(&label) {
            let made = sulcus_mesh::surface(map, extent, self.smoothing, LIMIT).map_err(|e| e.to_string())?;
            self.shapes.insert(label, Shape::new(made));
        }
        let Some(shape) = self.shapes.get(&label) else { return Ok(Vec::new()) };
        let (surface, measured) = (shape.surface(), shape.surface().measure());
        let counts = [surface.vertices().len(), surface.triangles().len()].map(|n| n as f64);
        let sizes = [measured.area_mm2, measured.volume_ml, surface.voxel_ml()];
        let parts = [surface.components(), surface.cavities()].map(|n| n as f64);
        Ok(counts.into_iter().chain(sizes).chain(parts).collect())
    }

    /// Whether the surface of a label is made.
    pub fn has(&self, label: u16) -> bool {
        self.shapes.contains_key(&label)
    }

    /// The positions of the vertices of a surface in RAS+ millimetres, three numbers each.
    pub fn positions(&self, label: u16) -> Vec<f32> {
        self.shapes.get(&label).map(|s| s.surface().vertices().as_flattened().to_vec()).unwrap_or_default()
    }

    /// The normals of the vertices of a surface, three numbers each.
    pub fn normals(&self, label: u16) -> Vec<f32> {
        self.shapes.get(&label).map(|s| s.normals().as_flattened().to_vec()).unwrap_or_default()
    }

    /// The vertices of the triangles of a surface, three numbers each.
    pub fn triangles(&self, label: u16) -> Vec<u32> {
        self.shapes.get(&label).map(|s| s.surface().triangles().as_flattened().to_vec()).unwrap_or_default()
    }

    /// The ball around some surfaces whose centre is that of their box: the centre in RAS+ millimetres and the radius; nothing without
    /// a surface.
    pub fn ball(&self, labels: &[u16]) -> Vec<f32> {
        let vertices =
            || labels.iter().filter_map(|label| self.shapes.get(label)).flat_map(|s| s.surface().vertices());
        let [low, high] = vertices().fold([[f32::MAX; 3], [f32::MIN; 3]], |[low, high], at| {
            [std::array::from_fn(|i| low[i].min(at[i])), std::array::from_fn(|i| high[i].max(at[i]))]
        });
        if low[0] > high[0] {
            return Vec::new();
        }
        let center: [f32; 3] = std::array::from_fn(|i| low[i].midpoint(high[i]));
        let squared = |at: &[f32; 3]| at.iter().zip(center).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let radius = vertices().map(squared).fold(0.0, f32::max).sqrt();
        center.into_iter().chain([radius]).collect()
    }

    /// Draws the surfaces of some labels: `[height, width, 4]`, RGBA with 8 bits per channel. Colours are three numbers each.
    pub fn draw(
        &self,
        width: usize,
        height: usize,
        camera: &[f32],
        labels: &[u16],
        colors: &[u8],
    ) -> Clamped<Vec<u8>> {
        let mut picture = Picture::new([width, height]);
        if let Some(camera) = Camera::from_numbers(camera) {
            for (label, color) in labels.iter().zip(colors.as_chunks::<3>().0) {
                if let Some(shape) = self.shapes.get(label) {
                    picture.draw(shape, &camera, *color);
                }
            }
        }
        Clamped(picture.into_pixels())
    }

    /// The voxel of the surface at a place in the picture of [`Surfaces::draw`]: the position of its centre in RAS+ millimetres, and
    /// its label. Nothing beside the surfaces.
    pub fn pick(&self, width: usize, height: usize, camera: &[f32], labels: &[u16], x: f32, y: f32) -> Vec<f64> {
        let (Some(camera), Some(map)) = (Camera::from_numbers(camera), &self.map) else { return Vec::new() };
        let hits = labels.iter().filter_map(|label| {
            let (position, near) = hit(self.shapes.get(label)?, &camera, [width, height], [x, y])?;
            Some((*label, position, near))
        });
        let Some((label, position, _)) = hits.max_by(|a, b| a.2.total_cmp(&b.2)) else { return Vec::new() };
        let at = voxel_behind(map, label, position.map(f64::from), camera.axes[2].map(f64::from));
        at.0.into_iter().chain([f64::from(label)]).collect()
    }

    /// A surface as binary STL in RAS, the file of `sulcus mesh`.
    ///
    /// # Errors
    /// A sentence, if the surface is not made.
    pub fn stl(&self, value: u16, name: &str) -> Result<Vec<u8>, String> {
        let entry = LabelEntry { value, name: name.to_owned(), color: Rgb([0; 3]) };
        let shape = self.shapes.get(&value).ok_or("this label has no surface")?;
        let mut file = Vec::new();
        let named = NamedSurface { surface: shape.surface(), entry: &entry };
        write_stl(&mut file, named, Space::Ras).map_err(|e| e.to_string())?;
        Ok(file)
    }

    /// Surfaces as binary PLY in RAS, the file of `sulcus mesh`. Names are one a line, colours three numbers each.
    ///
    /// # Errors
    /// A sentence, if a surface is not made.
    pub fn ply(&self, values: &[u16], names: &str, colors: &[u8]) -> Result<Vec<u8>, String> {
        let entries = entries(values, names, colors);
        let named: Option<Vec<NamedSurface<'_>>> = entries
            .iter()
            .map(|entry| Some(NamedSurface { surface: self.shapes.get(&entry.value)?.surface(), entry }))
            .collect();
        let mut file = Vec::new();
        write_ply(&mut file, &named.ok_or("a label has no surface")?, Space::Ras).map_err(|e| e.to_string())?;
        Ok(file)
    }
}

/// The centre of the first voxel with a label from a position on its surface on, away from the viewer. The surface runs between voxels,
/// and where it is smoothed also a little outside.
fn voxel_behind(map: &LabelMap, label: Label, position: [f64; 3], toward: [f64; 3]) -> RasPoint {
    /// Steps of a tenth of the smallest voxel size, up to two of them.
    const STEPS: usize = 20;
    let geometry = map.geometry();
    let (ras_from_voxel, inverse) = (geometry.ras_from_voxel(), geometry.ras_from_voxel().inverse());
    let step = geometry.spacing().mm().into_iter().fold(f64::MAX, f64::min) / 10.0;
    let voxel_at = |i: usize| {
        let at = RasPoint(std::array::from_fn(|axis| position[axis] - toward[axis] * step * i as f64));
        let voxel = inverse.apply(at).map(f64::round);
        let inside = voxel.iter().all(|index| *index >= 0.0);
        inside.then(|| VoxelIndex(voxel.map(|index| index as usize)))
    };
    let found = (0..=STEPS).filter_map(voxel_at).find(|voxel| map.get(*voxel) == Some(&label));
    found.map_or(RasPoint(position), |VoxelIndex(voxel)| ras_from_voxel.apply(voxel.map(|i| i as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: [f64; 15] = [20.0, 20.0, 20.0, 2.0, 0.0, 0.0, -5.0, 0.0, 2.0, 0.0, 4.0, 0.0, 0.0, 2.0, 30.0];
    /// From the patient's left: the axes of the picture are posterior, superior and left.
    const FROM_LEFT: [f32; 9] = [0.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0];

    /// A block of label 3 at the left and one of label 5 right of it.
    fn blocks() -> Surfaces {
        let value = |i: usize| {
            let at = [i % 20, i / 20 % 20, i / 400];
            let block = at[1..].iter().all(|v| (5..15).contains(v));
            match at[0] {
                2..8 if block => 3,
                8..18 if at[1..].iter().all(|v| (2..18).contains(v)) => 5,
                _ => 0,
            }
        };
        let mut surfaces = Surfaces::new();
        surfaces.set_smoothing(0);
        surfaces.set_voxels(&GRID, (0..8000).map(value).collect()).unwrap();
        surfaces
    }

    fn camera(surfaces: &Surfaces) -> Vec<f32> {
        let ball = surfaces.ball(&[3, 5]);
        FROM_LEFT.into_iter().chain(ball[..3].iter().copied()).chain([2.0]).collect()
    }

    fn count(pixels: &[u8], color: [u8; 3]) -> usize {
        pixels.as_chunks::<4>().0.iter().filter(|p| p[..3] == color).count()
    }

    #[test]
    fn nearer_surfaces_hide_farther_ones_pixel_by_pixel() {
        let mut surfaces = blocks();
        let [three, five] = [3, 5].map(|label| surfaces.make(label).unwrap());
        assert_eq!((three[2], three[5], five[6]), (2.0 * 400.0 + 4.0 * 240.0, 1.0, 0.0), "mm², parts, cavities");
        assert!(surfaces.make(4).unwrap().is_empty());
        let camera = camera(&surfaces);
        let colors = [200, 0, 0, 0, 0, 200];
        let both = surfaces.draw(100, 100, &camera, &[3, 5], &colors).0;
        // 10 × 10 voxels of 4 × 4 pixels before 16 × 16; normals at edges are darker, but the colours stay apart.
        let (red, blue) = (
            both.as_chunks::<4>().0.iter().filter(|p| p[0] > 0).count(),
            both.as_chunks::<4>().0.iter().filter(|p| p[2] > 0).count(),
        );
        assert_eq!((red, blue), (40 * 40, 64 * 64 - 40 * 40));
        let reversed = surfaces.draw(100, 100, &camera, &[5, 3], &[0, 0, 200, 200, 0, 0]).0;
        assert_eq!(both, reversed, "the order does not matter");
        let one = surfaces.draw(100, 100, &camera, &[5], &[0, 0, 200]).0;
        assert_eq!(one.as_chunks::<4>().0.iter().filter(|p| p[2] > 0).count(), 64 * 64);
        // A face toward the viewer: ambient light and 0.8 of the rest.
        let flat = (200.0 * (0.3 + 0.7 * 0.8) + 0.5) as u8;
        assert!(count(&both, [flat, 0, 0]) > 30 * 30, "{}", count(&both, [flat, 0, 0]));
        assert_eq!(count(&surfaces.draw(10, 10, &[0.0; 13], &[3], &colors).0, [0, 0, 0]), 100);
    }

    #[test]
    fn picked_voxel_is_the_one_under_the_pointer() {
        let mut surfaces = blocks();
        [3, 5].into_iter().for_each(|label| assert!(!surfaces.make(label).unwrap().is_empty()));
        let camera = camera(&surfaces);
        // The middle of the picture is between the voxels 9 and 10 along y and z.
        let at = |x: f32, y: f32, labels: &[u16]| surfaces.pick(100, 100, &camera, labels, x, y);
        let ras = |voxel: [f64; 3], label: f64| {
            vec![2.0 * voxel[0] - 5.0, 2.0 * voxel[1] + 4.0, 2.0 * voxel[2] + 30.0, label]
        };
        assert_eq!(at(52.0, 52.0, &[3, 5]), ras([2.0, 9.0, 9.0], 3.0));
        assert_eq!(at(48.0, 40.0, &[5, 3]), ras([2.0, 10.0, 12.0], 3.0));
        assert_eq!(at(52.0, 52.0, &[5]), ras([8.0, 9.0, 9.0], 5.0));
        assert_eq!(at(25.0, 50.5, &[3, 5]), ras([8.0, 16.0, 9.0], 5.0));
        assert!(at(2.0, 2.0, &[3, 5]).is_empty());
    }

    #[test]
    fn changed_labels_are_made_again_and_others_are_kept() {
        let mut surfaces = blocks();
        let before: Vec<Vec<f64>> = [3, 5].map(|label| surfaces.make(label).unwrap()).to_vec();
        let mut data = surfaces.map.clone().unwrap().into_parts().1;
        data[10 * 400 + 10 * 20 + 2] = 0;
        surfaces.set_voxels(&GRID, data.clone()).unwrap();
        assert!(!surfaces.shapes.contains_key(&3) && surfaces.shapes.contains_key(&5));
        assert!(surfaces.make(3).unwrap()[3] < before[0][3]);
        assert_eq!(surfaces.make(5).unwrap(), before[1]);
        surfaces.set_smoothing(20);
        assert!(surfaces.shapes.is_empty());
        let mut moved = GRID;
        moved[6] = 0.0;
        surfaces.make(3).unwrap();
        surfaces.set_voxels(&moved, data).unwrap();
        assert!(surfaces.shapes.is_empty(), "on another grid");
        assert!(surfaces.set_voxels(&GRID, vec![0; 3]).is_err());
    }

    #[test]
    fn saved_files_are_those_of_the_library() {
        let mut surfaces = blocks();
        [3, 5].into_iter().for_each(|label| assert!(!surfaces.make(label).unwrap().is_empty()));
        let entry = LabelEntry { value: 5, name: "Five".to_owned(), color: Rgb([1, 2, 3]) };
        let map = surfaces.map.as_ref().unwrap();
        let five = sulcus_mesh::surface(map, &survey(map)[&5], Smoothing::NONE, MemoryLimit::NONE).unwrap();
        let mut expected = Vec::new();
        write_stl(&mut expected, NamedSurface { surface: &five, entry: &entry }, Space::Ras).unwrap();
        assert_eq!(surfaces.stl(5, "Five").unwrap(), expected);
        let ply = surfaces.ply(&[3, 5], "Three\nFive", &[9, 9, 9, 1, 2, 3]).unwrap();
        let text = String::from_utf8_lossy(&ply[..500]).into_owned();
        assert!(text.contains("LABEL=3 ") && text.contains("NAME=Five\n"), "{text}");
        assert!(surfaces.stl(4, "").is_err() && surfaces.ply(&[3, 4], "a\nb", &[0; 6]).is_err());
        assert_eq!(surfaces.positions(5).len(), five.vertices().len() * 3);
        assert_eq!(
            (surfaces.normals(5).len(), surfaces.triangles(5).len()),
            (five.vertices().len() * 3, five.triangles().len() * 3)
        );
    }
}
