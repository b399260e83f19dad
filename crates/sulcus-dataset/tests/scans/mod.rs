//! Small synthetic data sets.

use std::path::{Path, PathBuf};

use sulcus_io::VolumeMetadata;
use sulcus_volume::{
    Geometry, Image, Label, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing,
};

pub(crate) fn geometry(shape: [usize; 3], spacing_mm: [f64; 3]) -> Geometry {
    let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new(spacing_mm).unwrap());
    Geometry::new(shape, map, OrientationSource::Sform).unwrap()
}

pub(crate) fn write_image(path: &Path, geometry: Geometry, channels: usize, values: Vec<f32>) {
    let image = Image::new(geometry, channels, values).unwrap();
    sulcus_io::write_image(path, &image, &VolumeMetadata::from(geometry)).unwrap();
}

pub(crate) fn write_labels(path: &Path, geometry: Geometry, labels: Vec<Label>) {
    let labels = LabelMap::new(geometry, labels).unwrap();
    let like = VolumeMetadata::from(geometry);
    sulcus_io::write_labels(path, &labels, &like, &LabelTable::default()).unwrap();
}

/// A bright ball (label 1) beside a brighter box (label 2, if `structures` is 2), with noise from `seed`.
pub(crate) fn phantom(shape: [usize; 3], structures: u16, seed: usize) -> (Vec<f32>, Vec<Label>) {
    let [nx, ny, nz] = shape;
    let shift = (seed % 3) as f64 - 1.0;
    let centre = [nx as f64 / 3.0 + shift, ny as f64 / 2.0, nz as f64 / 2.0 - shift];
    let mut labels = Vec::new();
    for i in 0..nx * ny * nz {
        let p = [i % nx, i / nx % ny, i / nx / ny].map(|v| v as f64);
        let ball = p.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() < 9.0;
        let inside = p[0] > nx as f64 * 0.7 && (p[1] - centre[1]).abs() < 3.0 && (p[2] - centre[2]).abs() < 3.0;
        labels.push(if ball { 1 } else { u16::from(inside && structures > 1) * 2 });
    }
    let noise = |i: usize| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 7) % 100) as f32 / 100.0;
    let image = labels.iter().enumerate().map(|(i, l)| 100.0 * (f32::from(*l) + 0.5 * noise(i))).collect();
    (image, labels)
}

/// A Decathlon folder with phantoms of two structures; voxels have edges of 1 mm.
pub(crate) fn decathlon(root: &Path, cases: usize, shape: [usize; 3]) -> Vec<String> {
    let names: Vec<String> = (0..cases).map(|i| format!("case_{i:02}")).collect();
    for folder in ["imagesTr", "labelsTr"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (seed, name) in names.iter().enumerate() {
        let (image, labels) = phantom(shape, 2, seed);
        write_image(&image_file(root, name), geometry(shape, [1.0; 3]), 1, image);
        write_labels(&label_file(root, name), geometry(shape, [1.0; 3]), labels);
    }
    let pairs: Vec<_> = names
        .iter()
        .map(|n| {
            serde_json::json!({"image": format!("./imagesTr/{n}.nii.gz"), "label": format!("./labelsTr/{n}.nii.gz")})
        })
        .collect();
    let description = serde_json::json!({
        "name": "Phantoms", "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Ball", "2": "Box"}, "training": pairs,
    });
    std::fs::write(root.join("dataset.json"), description.to_string()).unwrap();
    names
}

pub(crate) fn image_file(root: &Path, name: &str) -> PathBuf {
    root.join("imagesTr").join(format!("{name}.nii.gz"))
}

pub(crate) fn label_file(root: &Path, name: &str) -> PathBuf {
    root.join("labelsTr").join(format!("{name}.nii.gz"))
}
