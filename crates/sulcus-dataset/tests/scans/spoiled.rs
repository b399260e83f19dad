//! Ways to spoil the data set of [`decathlon`](super::scans::decathlon).

use std::path::Path;

use sulcus_volume::Geometry;

use super::scans::{geometry, image_file, label_file, phantom, write_image, write_labels};

pub(crate) const SHAPE: [usize; 3] = [12, 14, 10];

pub(crate) fn grid() -> Geometry {
    geometry(SHAPE, [1.0; 3])
}

pub(crate) fn image_of(root: &Path, name: &str, change: impl Fn(usize, f32) -> f32) {
    let values = phantom(SHAPE, 2, 0).0.into_iter().enumerate().map(|(i, v)| change(i, v)).collect();
    write_image(&image_file(root, name), grid(), 1, values);
}

pub(crate) fn mask_of(root: &Path, name: &str, change: impl Fn(usize, u16) -> u16) {
    let labels = phantom(SHAPE, 2, 0).1.into_iter().enumerate().map(|(i, v)| change(i, v)).collect();
    write_labels(&label_file(root, name), grid(), labels);
}

pub(crate) fn describe(root: &Path, change: impl Fn(&mut serde_json::Value)) {
    let file = root.join("dataset.json");
    let mut json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(file, json.to_string()).unwrap();
}

/// Gives each case its own kind of fault, except the last five cases, which define what is usual.
pub(crate) fn spoil_all(root: &Path) {
    let labels = phantom(SHAPE, 2, 0).1;
    std::fs::remove_file(label_file(root, "case_00")).unwrap();
    mask_of(root, "case_01", |_, v| [0, 2, 1][usize::from(v)]);
    write_labels(&label_file(root, "case_02"), geometry(SHAPE, [1.0, 1.0, 1.1]), labels);
    mask_of(root, "case_03", |i, v| if i == 0 { 2 } else { v % 2 });
    mask_of(root, "case_04", |_, _| 0);
    let image = phantom(SHAPE, 2, 5).0;
    write_image(&image_file(root, "case_05"), grid(), 2, image.repeat(2));
    image_of(root, "case_06", |i, v| if i < 10 { f32::NAN } else { v });
    image_of(root, "case_07", |_, _| 0.0);
    mask_of(root, "case_08", |_, v| v * 4);
    describe(root, |json| {
        json["training"][9] = json["training"][10].clone();
        json["labels"]["3"] = "Cone".into();
    });
}
