//! `sulcus mesh`: surfaces of masks of every format.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::support::{Ended, RAS, ended, file, nifti, run, sulcus, truth};

fn mesh(home: &Path, mask: &Path, out: &Path, more: &[&str]) -> Ended {
    ended(sulcus(home).arg("mesh").arg(mask).arg("-o").arg(out).args(more).output().unwrap())
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The area in mm² and the volume in ml of an STL file, and whether each edge has two triangles.
fn measured(path: &Path) -> (f64, f64, bool) {
    let bytes = std::fs::read(path).unwrap();
    let count = u32::from_le_bytes(bytes[80..84].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 84 + 50 * count);
    let (mut area, mut volume) = (0.0, 0.0);
    let mut edges: BTreeMap<[[u32; 3]; 2], i32> = BTreeMap::new();
    for record in bytes[84..].chunks(50) {
        let at: Vec<f64> = numbers(&record[12..48]).into_iter().map(f64::from).collect();
        let [a, b, c] = [&at[..3], &at[3..6], &at[6..]];
        let [u, v]: [[f64; 3]; 2] = [b, c].map(|end| std::array::from_fn(|i| end[i] - a[i]));
        let normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
        area += normal.iter().map(|n| n * n).sum::<f64>().sqrt() / 2.0;
        volume += a.iter().zip(normal).map(|(a, n)| a * n).sum::<f64>() / 6000.0;
        let key = |p: &[f64]| -> [u32; 3] { std::array::from_fn(|i| (p[i] as f32).to_bits()) };
        for (from, to) in [(a, b), (b, c), (c, a)] {
            let (from, to) = (key(from), key(to));
            *edges.entry([from.min(to), from.max(to)]).or_default() += if from < to { 1 } else { -1 };
        }
    }
    (area, volume, edges.values().all(|sum| *sum == 0))
}

#[test]
fn each_label_becomes_a_closed_stl_file_with_its_size() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let out = home.join("surfaces");
    let names = file(home, "names.json", br#"{"Anterior": 1, "Posterior/tail": 2}"#);
    let ended = mesh(home, &truth(), &out, &["--json", "--labels", names.to_str().unwrap()]).code(0);
    let report = &ended.json_lines()[0];
    let counts = sulcus_io::read_labels(&truth()).unwrap().0.counts();
    let mut files: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["1_Anterior.stl", "2_Posterior_tail.stl"]);
    assert_eq!((&report["space"], &report["smooth"]), (&"RAS".into(), &20.into()));
    for (name, value) in [("Anterior", 1_u16), ("Posterior/tail", 2)] {
        let label = &report["labels"][name];
        let path = label["file"].as_str().unwrap();
        let (area, volume, closed) = measured(Path::new(path));
        assert!(closed, "{name}");
        let is = |key: &str, found: f64| {
            let told = label[key].as_f64().unwrap();
            assert!((told - found).abs() <= 1e-4 * found, "{name} {key}: {told} {found}");
        };
        is("area_mm2", area);
        is("volume_ml", volume);
        is("voxel_ml", counts[&value] as f64 / 1000.0);
        assert!((volume * 1000.0 / counts[&value] as f64 - 1.0).abs() < 0.01, "{name}: {volume} ml");
        assert_eq!(label["voxels"], counts[&value]);
        assert_eq!(label["value"], value);
        let header = String::from_utf8(std::fs::read(path).unwrap()[..80].to_vec()).unwrap();
        assert!(header.contains(&format!("SPACE=RAS UNIT=mm LABEL={value} NAME={name}")), "{header}");
    }
}

#[test]
fn ply_has_the_labels_that_are_selected_in_this_order() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let out = home.join("both.ply");
    let ended = mesh(home, &truth(), &out, &["--label", "2", "--label", "label 1", "--space", "lps"]).code(0);
    assert!(ended.stdout.starts_with("label    vertices  triangles  area mm²  volume ml"), "{}", ended.stdout);
    let order: Vec<&str> = ended.stdout.lines().skip(1).map(|line| &line[..7]).collect();
    assert_eq!(order, ["label 2", "label 1"]);
    assert!(ended.stderr.contains("both.ply") && ended.stderr.contains("LPS mm"), "{}", ended.stderr);
    let bytes = std::fs::read(&out).unwrap();
    let text = String::from_utf8_lossy(&bytes[..400]).into_owned();
    let [two, one] = ["comment LABEL=2 ", "comment LABEL=1 "].map(|part| text.find(part).unwrap());
    assert!(text.contains("comment SPACE=LPS\n") && two < one, "{text}");
}

#[test]
fn lps_is_ras_with_two_signs_changed_and_no_smoothing_is_the_faces_of_voxels() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut values = vec![0.0; 27];
    values[13] = 3.0;
    let mask = file(home, "mask.nii", &nifti(&[3, 3, 3], &values, Some(RAS)));
    let (ras, lps) = (home.join("ras.stl"), home.join("lps.stl"));
    mesh(home, &mask, &ras, &["--smooth", "0"]).code(0);
    mesh(home, &mask, &lps, &["--smooth", "0", "--space", "lps"]).code(0);
    for path in [&ras, &lps] {
        let (area, volume, closed) = measured(path);
        assert!(closed && (area - 6.0).abs() < 1e-6 && (volume - 0.001).abs() < 1e-9, "{area} {volume}");
    }
    let corner = |path: &Path| numbers(&std::fs::read(path).unwrap()[96..108]);
    let (ras, lps) = (corner(&ras), corner(&lps));
    assert_eq!([-ras[0], -ras[1], ras[2]], lps[..]);
    assert!(ras.iter().all(|at| [0.5, 1.5].contains(at)), "{ras:?}");
}

#[test]
fn masks_of_other_formats_give_the_same_surface() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let expected = home.join("expected.stl");
    mesh(home, &truth(), &expected, &["--label", "1"]).code(0);
    for name in ["mask.nrrd", "mask.seg.nrrd", "mask.mha", "mask.nii"] {
        let (mask, out) = (home.join(name), home.join("found.stl"));
        run(home, &[&"convert", &truth(), &mask]).code(0);
        // The names differ between formats, the triangles do not.
        mesh(home, &mask, &out, &["--label", "1"]).code(0);
        assert_eq!(std::fs::read(&out).unwrap()[80..], std::fs::read(&expected).unwrap()[80..], "{name}");
    }
}

#[test]
fn dicom_segmentation_has_named_surfaces() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-dicom/tests/dicom/u12.dcm");
    let series = home.join("series");
    std::fs::create_dir_all(&series).unwrap();
    std::fs::copy(from, series.join("IM0001")).unwrap();
    let plain = home.join("plain.nii");
    run(home, &[&"convert", &series, &plain]).code(0);
    let like = sulcus_io::read_metadata(&plain).unwrap();
    let grid = *like.geometry();
    let columns = grid.shape()[0];
    let values = (0..grid.voxels()).map(|i| u16::from(i % columns > columns / 2)).collect();
    let map = sulcus_volume::LabelMap::new(grid, values).unwrap();
    let table = sulcus_volume::LabelTable::from_names([(1, "Left half".to_owned())]).unwrap();
    let (nifti, mask) = (home.join("mask.nii"), home.join("mask.dcm"));
    sulcus_io::write_labels(&nifti, &map, &like, &table).unwrap();
    run(home, &[&"convert", &nifti, &mask, &"--like", &series]).code(0);
    let out = home.join("half.stl");
    let report = mesh(home, &mask, &out, &["--json", "--label", "left_half"]).code(0).json_lines().remove(0);
    let label = &report["labels"]["Left half"];
    let ratio = label["volume_ml"].as_f64().unwrap() / label["voxel_ml"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 0.01 && label["components"] == 1, "{label}");
}

#[test]
fn failures_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let out = home.join("out.stl");
    mesh(home, &truth(), &out, &[]).code(2).says("an STL file has no labels, but 2 were selected").says("--label");
    mesh(home, &truth(), &home.join("out.obj"), &[]).code(2).says("must end in .stl or .ply");
    mesh(home, &truth(), &out, &["--label", "Nobody"])
        .code(1)
        .says("no voxel of a label `Nobody`; it has label 1 (1), label 2 (2)");
    mesh(home, &truth(), &out, &["--smooth", "101"]).code(2);
    mesh(home, &home.join("absent.nii"), &out, &[]).code(1).says("absent.nii");
    let empty = file(home, "empty.nii", &nifti(&[3, 3, 3], &[0.0; 27], Some(RAS)));
    mesh(home, &empty, &out, &[]).code(1).says("the mask has no label");
    let fractions = file(home, "scan.nii", &nifti(&[3, 3, 3], &[0.5; 27], Some(RAS)));
    mesh(home, &fractions, &out, &[]).code(1).says("scan.nii");
    let mask = home.join("mask.stl");
    std::fs::copy(truth(), &mask).unwrap();
    mesh(home, &mask, &mask, &["--label", "1"]).code(2).says("would overwrite the mask");
    assert!(!out.exists());
    // A file of another command's output is replaced, as everywhere.
    std::fs::write(&out, "old").unwrap();
    let ended = mesh(home, &truth(), &out, &["--label", "1", "--json"]).code(0);
    assert!(matches!(&ended.json_lines()[0]["labels"], Value::Object(labels) if labels.len() == 1));
    assert!(measured(&out).2);
}

#[test]
fn pictures_have_no_surfaces_and_files_without_orientation_get_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let unplaced = file(home, "unplaced.nii", &nifti(&[3, 3, 1], &[1.0; 9], None));
    let out = home.join("out.stl");
    mesh(home, &unplaced, &out, &[]).code(0).says("does not define the orientation");
    let picture = home.join("mask.png");
    run(home, &[&"convert", &unplaced, &picture]).code(0);
    mesh(home, &picture, &out, &[]).code(1).says("this mask is a picture");
}
