//! The interface for JavaScript. A grid is its shape and the three rows of its transform from voxels to RAS+ millimetres.

use sulcus_io::{
    Compression, encode_image, encode_labels, nifti_content, parse_label_table,
    read_image_bytes_without_statistics, read_labels_bytes,
};
use sulcus_metrics::surface_distances;
use sulcus_volume::{
    Geometry, Interpolation, LabelEntry, LabelMap, LabelTable, OrientationSource, Plane, RasFromVoxel, RasPoint,
    Rgb, VoxelIndex,
};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::editor::{Brush, Change, Editor};
use crate::{measure, region};

fn grid(numbers: &[f64]) -> Result<Geometry, String> {
    let (shape, rows) = numbers.split_first_chunk::<3>().ok_or("a grid needs a shape")?;
    let rows: &[[f64; 4]; 3] = rows.as_chunks::<4>().0.try_into().map_err(|_| "a grid needs a transform")?;
    let map = RasFromVoxel::new(*rows).map_err(|e| e.to_string())?;
    Geometry::new(shape.map(|n| n as usize), map, OrientationSource::Sform).map_err(|e| e.to_string())
}

fn labels(numbers: &[f64], data: Vec<u16>) -> Result<LabelMap, String> {
    LabelMap::new(grid(numbers)?, data).map_err(|e| e.to_string())
}

/// The bytes of a NIfTI file up to its last voxel. The page inflates gzip data itself; this is for what it cannot inflate, such
/// as data of several members, and names what is wrong with damaged data.
///
/// # Errors
/// A sentence that says why the file cannot be read.
#[wasm_bindgen]
pub fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    nifti_content(bytes).map(|content| content.into_owned()).map_err(|e| e.to_string())
}

/// A NIfTI file resampled to another grid: labels to the nearest voxel, so that no value is invented, other values linearly.
/// Outside the file the result is 0.
///
/// # Errors
/// A sentence, if the file cannot be read, lacks an orientation, or lies entirely outside the grid.
#[wasm_bindgen]
pub fn resampled(file: &[u8], to_grid: &[f64], are_labels: bool) -> Result<Vec<u8>, String> {
    let target = grid(to_grid)?;
    let placed = |source: &Geometry| {
        if source.source() == OrientationSource::None {
            return Err(
                "the file does not state where it lies in the patient, so it cannot be resampled".to_owned()
            );
        }
        if !overlap(source, &target) {
            return Err("the file lies outside the image: it belongs to another scan".to_owned());
        }
        Ok(())
    };
    if are_labels {
        let (labels, metadata) = read_labels_bytes(file).map_err(|e| e.to_string())?;
        placed(labels.geometry())?;
        let labels = labels.resample_to(&target, 0).map_err(|e| e.to_string())?;
        let no_names = LabelTable::default();
        let table = metadata.label_table().unwrap_or(&no_names);
        return encode_labels(&labels, &target.into(), table, Compression::None).map_err(|e| e.to_string());
    }
    let (image, _) = read_image_bytes_without_statistics(file).map_err(|e| e.to_string())?;
    placed(image.geometry())?;
    let image = image.resample_to(&target, Interpolation::Linear, 0.0).map_err(|e| e.to_string())?;
    encode_image(&image, &target.into(), Compression::None).map_err(|e| e.to_string())
}

/// Whether the centre of a voxel of one of two grids lies in the other, looking at up to 17 positions along each axis.
fn overlap(a: &Geometry, b: &Geometry) -> bool {
    const STEPS: usize = 16;
    let any = |from: &Geometry, to: &Geometry| {
        let (inverse, shape) = (to.ras_from_voxel().inverse(), to.shape());
        let position = |axis: usize, step: usize| (from.shape()[axis] - 1) as f64 * step as f64 / STEPS as f64;
        (0..=STEPS).any(|x| {
            (0..=STEPS).any(|y| {
                (0..=STEPS).any(|z| {
                    let at = from.ras_from_voxel().apply([position(0, x), position(1, y), position(2, z)]);
                    let voxel = inverse.apply(at);
                    (0..3).all(|axis| voxel[axis] > -0.5 && voxel[axis] < shape[axis] as f64 - 0.5)
                })
            })
        })
    };
    any(a, b) || any(b, a)
}

/// HD95 in millimetres and NSD of each label, by the code of `sulcus evaluate`; NaN if both masks lack it.
///
/// # Errors
/// A sentence, if the masks do not fit the grid.
#[wasm_bindgen]
pub fn surface_scores(
    of_grid: &[f64],
    mask: Vec<u16>,
    truth: Vec<u16>,
    values: &[u16],
    tolerance_mm: f64,
) -> Result<Vec<f64>, String> {
    let (mask, truth) = (labels(of_grid, mask)?, labels(of_grid, truth)?);
    let distances = surface_distances(&mask, &truth, values).map_err(|e| e.to_string())?;
    let scores = distances.iter().flat_map(|d| [d.hd95_mm(), d.surface_dice(tolerance_mm)]);
    Ok(scores.map(|score| score.unwrap_or(f64::NAN)).collect())
}

/// The labels of a label file of ITK-SNAP, 3D Slicer or NiiVue: a value, red, green, blue and a name in each line, divided by tabs.
///
/// # Errors
/// A sentence that says what is wrong with the file.
#[wasm_bindgen]
pub fn label_entries(text: &str) -> Result<String, String> {
    let table = parse_label_table(text.as_bytes()).map_err(|e| e.to_string())?;
    let line = |LabelEntry { value, name, color: Rgb([r, g, b]) }: &LabelEntry| {
        format!("{value}\t{r}\t{g}\t{b}\t{}\n", name.replace(['\t', '\n'], " "))
    };
    Ok(table.entries().iter().map(line).collect())
}

/// The distance between two positions in millimetres.
#[wasm_bindgen]
pub fn distance_mm(a: &[f64], b: &[f64]) -> f64 {
    points([a, b]).map_or(f64::NAN, |[a, b]| measure::distance_mm(a, b))
}

/// The angle at `corner` in degrees.
#[wasm_bindgen]
pub fn angle_degrees(a: &[f64], corner: &[f64], b: &[f64]) -> f64 {
    points([a, corner, b]).map_or(f64::NAN, |[a, corner, b]| measure::angle_degrees(a, corner, b))
}

/// The offsets of the voxels inside a region of a slice, between the two corners of an ellipse or the corners of a polygon in RAS+
/// millimetres. Planes: 0 axial, 1 coronal, 2 sagittal.
///
/// # Errors
/// A sentence, if the numbers describe no grid.
#[wasm_bindgen]
pub fn region_offsets(of_grid: &[f64], of_plane: u8, points: &[f64]) -> Result<Vec<u32>, String> {
    let points: Vec<RasPoint> = points.as_chunks::<3>().0.iter().map(|at| RasPoint(*at)).collect();
    Ok(region::offsets_inside(&grid(of_grid)?, plane(of_plane), &points))
}

/// The statistics of the values of such voxels: their number, their area in mm², mean, SD, minimum and maximum. Empty without a finite
/// value.
///
/// # Errors
/// A sentence, if the numbers describe no grid.
#[wasm_bindgen]
pub fn region_statistics(of_grid: &[f64], of_plane: u8, values: &[f32]) -> Result<Vec<f64>, String> {
    let found = region::statistics(&grid(of_grid)?, plane(of_plane), values);
    let numbers =
        |r: region::Region| vec![r.voxels as f64, r.area_mm2, r.mean, r.sd, f64::from(r.min), f64::from(r.max)];
    Ok(found.map(numbers).unwrap_or_default())
}

fn plane(number: u8) -> Plane {
    match number {
        0 => Plane::Axial,
        1 => Plane::Coronal,
        _ => Plane::Sagittal,
    }
}

fn points<const N: usize>(all: [&[f64]; N]) -> Option<[RasPoint; N]> {
    let points: Option<Vec<RasPoint>> = all.iter().map(|at| (*at).try_into().ok().map(RasPoint)).collect();
    points?.try_into().ok()
}

/// An [`Editor`] with an interface of numbers. An axis of -1 stands for the whole grid. Changes are pairs of the offset of a
/// voxel and its new value.
#[wasm_bindgen(js_name = Editor)]
#[derive(Debug)]
pub struct EditorHandle {
    editor: Editor,
}

fn pairs(changes: Vec<Change>) -> Vec<u32> {
    changes.iter().flat_map(|change| [change.offset as u32, u32::from(change.after)]).collect()
}

fn axis(number: i32) -> Option<usize> {
    usize::try_from(number).ok()
}

#[wasm_bindgen(js_class = Editor)]
impl EditorHandle {
    /// Starts from a label map.
    ///
    /// # Errors
    /// A sentence, if the labels do not fit the grid.
    #[wasm_bindgen(constructor)]
    pub fn new(of_grid: &[f64], data: Vec<u16>) -> Result<Self, String> {
        Ok(Self { editor: Editor::new(labels(of_grid, data)?) })
    }

    /// Begins a step of undo.
    pub fn begin(&mut self) {
        self.editor.begin();
    }

    /// Moves a brush of a radius in millimetres along a line, given by six numbers in voxels. `over` is the only label that is
    /// painted over, or -1 for all.
    pub fn stroke(&mut self, line: &[f64], across: i32, radius_mm: f64, label: u16, over: i32) -> Vec<u32> {
        let [Ok(from), Ok(to)] = [line.get(..3), line.get(3..6)].map(|at| at.unwrap_or_default().try_into())
        else {
            return Vec::new();
        };
        let brush = Brush { radius_mm, across: axis(across), label, over: u16::try_from(over).ok() };
        pairs(self.editor.stroke(from, to, brush))
    }

    /// Takes back those of the last changes whose image value lies outside a window. Returns the others.
    pub fn keep_between(&mut self, values: &[f32], low: f32, high: f32) -> Vec<u32> {
        pairs(self.editor.keep_between(values, [low, high]))
    }

    /// Fills a region from a voxel.
    pub fn fill(&mut self, seed: &[f64], across: i32, label: u16) -> Vec<u32> {
        let Ok(seed) = <[f64; 3]>::try_from(seed) else { return Vec::new() };
        let seed = seed.map(|at| at.round());
        if seed.iter().any(|at| at.is_nan() || *at < 0.0) {
            return Vec::new();
        }
        pairs(self.editor.fill(VoxelIndex(seed.map(|at| at as usize)), axis(across), label))
    }

    /// Fills the slices between those with a label, along an axis of the grid.
    pub fn interpolate(&mut self, label: u16, axis: usize) -> Vec<u32> {
        pairs(self.editor.interpolate(label, axis))
    }

    /// Removes all islands of a label but the largest.
    pub fn keep_largest(&mut self, label: u16) -> Vec<u32> {
        pairs(self.editor.keep_largest(label))
    }

    /// Takes the last step back.
    pub fn undo(&mut self) -> Vec<u32> {
        pairs(self.editor.undo())
    }

    /// Repeats the last step that was taken back.
    pub fn redo(&mut self) -> Vec<u32> {
        pairs(self.editor.redo())
    }

    /// The number of steps that can be taken back and repeated.
    pub fn steps(&self) -> Vec<usize> {
        self.editor.steps().to_vec()
    }

    /// The mask as a gzipped NIfTI file on the grid of `like`, a NIfTI file whose header fields about the grid are written
    /// unchanged. Names are one a line, colours three numbers each.
    ///
    /// # Errors
    /// A sentence, if `like` cannot be read or lies on another grid.
    pub fn save(&self, like: &[u8], values: &[u16], names: &str, colors: &[u8]) -> Result<Vec<u8>, String> {
        let metadata = read_image_bytes_without_statistics(like).map_err(|e| e.to_string())?.1;
        let map = self.editor.map().map_err(|e| e.to_string())?;
        map.geometry().check_same_grid(metadata.geometry()).map_err(|e| e.to_string())?;
        let (_, data) = map.into_parts();
        let map = LabelMap::new(*metadata.geometry(), data).map_err(|e| e.to_string())?;
        let entries = values.iter().zip(names.split('\n')).zip(colors.as_chunks::<3>().0);
        let entries = entries.map(|((value, name), color)| LabelEntry {
            value: *value,
            name: name.to_owned(),
            color: Rgb(*color),
        });
        let table = LabelTable::new(entries.collect()).map_err(|e| e.to_string())?;
        encode_labels(&map, &metadata, &table, Compression::Gzip).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_io::read_labels_bytes;

    fn case(name: &str) -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/case/");
        std::fs::read(format!("{path}{name}")).unwrap()
    }

    fn grid_of(map: &LabelMap) -> Vec<f64> {
        let geometry = map.geometry();
        let rows = geometry.ras_from_voxel().rows();
        geometry.shape().map(|n| n as f64).into_iter().chain(rows.into_iter().flatten()).collect()
    }

    #[test]
    fn saved_mask_has_the_header_fields_of_the_grid_byte_for_byte() {
        let source = case("truth.nii.gz");
        let (map, _) = read_labels_bytes(&source).unwrap();
        let mut editor = EditorHandle::new(&grid_of(&map), map.data().to_vec()).unwrap();
        editor.begin();
        let changes = editor.stroke(&[5.0, 6.0, 7.0, 9.0, 6.0, 7.0], 2, 1.5, 4, -1);
        assert!(!changes.is_empty());
        let saved = editor.save(&source, &[1, 4], "Anterior\nNew", &[255, 0, 0, 0, 0, 255]).unwrap();
        let (found, metadata) = read_labels_bytes(&saved).unwrap();
        let mut expected = map.data().to_vec();
        for pair in changes.as_chunks::<2>().0 {
            expected[pair[0] as usize] = pair[1] as u16;
        }
        assert_eq!(found.data(), expected);
        assert_eq!(metadata.label_table().unwrap().get(4).unwrap().name, "New");
        let [before, after] = [&source, &saved].map(|file| inflate(file).unwrap());
        // dim, pixdim, xyzt_units, and the codes, quaternion and rows of qform and sform.
        for field in [40..56, 76..108, 123..124, 252..328] {
            assert_eq!(before[field.clone()], after[field.clone()], "{field:?}");
        }
        let other = editor.save(&case("image.nii.gz"), &[], "", &[]).unwrap();
        assert_eq!(read_labels_bytes(&other).unwrap().0.data(), expected, "on the grid of the image");
        assert!(editor.save(b"no file", &[], "", &[]).is_err());
    }

    #[test]
    fn surface_scores_are_those_of_the_library() {
        let (truth, _) = read_labels_bytes(&case("truth.nii.gz")).unwrap();
        let mut shifted = truth.data().to_vec();
        shifted.rotate_right(1);
        let mask = LabelMap::new(*truth.geometry(), shifted).unwrap();
        let found = surface_scores(&grid_of(&truth), mask.data().to_vec(), truth.data().to_vec(), &[1, 2, 9], 0.5)
            .unwrap();
        let expected = surface_distances(&mask, &truth, &[1, 2]).unwrap();
        for (found, expected) in found.as_chunks::<2>().0.iter().zip(expected) {
            assert_eq!(*found, [expected.hd95_mm().unwrap(), expected.surface_dice(0.5).unwrap()]);
        }
        assert!(found[4].is_nan() && found[5].is_nan());
        assert!(surface_scores(&grid_of(&truth), vec![0; 3], vec![0; 3], &[1], 1.0).is_err());
        assert!(surface_scores(&[], vec![0; 3], vec![0; 3], &[1], 1.0).is_err());
    }

    #[test]
    fn members_after_the_first_are_inflated_and_damage_is_named() {
        let whole = inflate(&case("image.nii.gz")).unwrap();
        assert_eq!(&whole[344..347], b"n+1");
        let file = case("image.nii.gz");
        assert!(inflate(&file[..file.len() / 2]).unwrap_err().contains("cut short"));
    }

    #[test]
    fn mask_on_another_grid_is_resampled_and_one_elsewhere_is_refused() {
        let source = case("truth.nii.gz");
        let (map, _) = read_labels_bytes(&source).unwrap();
        let mut finer = grid_of(&map);
        // Twice the voxels along x, with half the size: the centres of both halves lie in the old voxel.
        finer[0] *= 2.0;
        for row in 0..3 {
            let [first, offset] = [3 + 4 * row, 6 + 4 * row];
            finer[first] /= 2.0;
            finer[offset] -= finer[first] / 2.0;
        }
        let (found, _) = read_labels_bytes(&resampled(&source, &finer, true).unwrap()).unwrap();
        let [nx, ..] = map.geometry().shape();
        let expected: Vec<u16> = map.data().chunks(nx).flat_map(|row| row.iter().flat_map(|v| [*v; 2])).collect();
        assert_eq!(found.data(), expected);
        let image =
            read_image_bytes_without_statistics(&resampled(&source, &grid_of(&map), false).unwrap()).unwrap().0;
        assert!(image.data().iter().zip(map.data()).all(|(a, b)| *a == f32::from(*b)), "the same grid");
        let mut elsewhere = grid_of(&map);
        elsewhere[6] += 1000.0;
        assert!(resampled(&source, &elsewhere, true).unwrap_err().contains("outside the image"));
        // A file without sform and qform.
        let mut unplaced = inflate(&source).unwrap();
        unplaced[252..256].fill(0);
        assert!(resampled(&unplaced, &grid_of(&map), true).unwrap_err().contains("where it lies"));
    }

    #[test]
    fn label_files_become_lines() {
        let text = "1 255 0 10 1 1 1 \"Left\tlung\"\n2 0 0 255 1 1 1 \"Liver\"\n";
        assert_eq!(label_entries(text).unwrap(), "1\t255\t0\t10\tLeft lung\n2\t0\t0\t255\tLiver\n");
        assert!(label_entries("nothing of the kind").is_err());
    }
}
