//! Label tables as input, output and on masks: `convert` with `--names`, or with a table as OUT.

use std::path::{Path, PathBuf};

use sulcus_volume::LabelTable;

use super::support::{bundled, file, predict, run, scan, tiny_model, truth};

const CTBL: &str = "# Color table file\n0 Background 0 0 0 0\n1 Head 10 20 30 255\n2 Tail_end 40 50 60 255\n";

fn names(table: &LabelTable) -> Vec<(u16, String, [u8; 3])> {
    table.entries().iter().map(|e| (e.value, e.name.clone(), e.color.0)).collect()
}

fn named() -> Vec<(u16, String, [u8; 3])> {
    vec![(1, "Head".into(), [10, 20, 30]), (2, "Tail end".into(), [40, 50, 60])]
}

fn table(path: &Path) -> Vec<(u16, String, [u8; 3])> {
    names(&sulcus_io::parse_label_table(&std::fs::read(path).unwrap()).unwrap())
}

fn carried(path: &Path) -> Vec<(u16, String, [u8; 3])> {
    names(sulcus_io::read_labels(path).unwrap().1.label_table().unwrap())
}

#[test]
fn label_names_survive_every_table_and_mask_format() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let ctbl = file(home, "labels.ctbl", CTBL.as_bytes());
    let mut from: PathBuf = ctbl;
    for ending in ["txt", "label", "json", "csv", "ctbl"] {
        let to = home.join(format!("again.{ending}"));
        run(home, &[&"convert", &from, &to]).code(0).says("2 labels");
        assert_eq!(table(&to), named(), "{ending}");
        from = to;
    }
    let before = sulcus_io::read_labels(&truth()).unwrap().0;
    for name in ["mask.nii.gz", "mask.nii", "mask.seg.nrrd", "mask.nrrd"] {
        let (mask, back) = (home.join(name), home.join("back.txt"));
        run(home, &[&"convert", &truth(), &mask, &"--names", &from]).code(0);
        assert_eq!(carried(&mask), named(), "{name}");
        let (labels, source) = sulcus_io::read_labels(&mask).unwrap();
        assert_eq!((labels.data(), source.voxel_type().name()), (before.data(), "uint8"), "{name}");
        run(home, &[&"convert", &mask, &back]).code(0);
        assert_eq!(table(&back), named(), "{name}");
    }
    run(home, &[&"convert", &truth(), &home.join("mask.mha"), &"--names", &from])
        .code(0)
        .says("the format cannot store the names of labels");
}

#[test]
fn models_and_data_sets_are_sources_of_label_tables() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (from_model, from_set) = (home.join("model.txt"), home.join("set.json"));
    run(home, &[&"convert", &tiny_model(), &from_model]).code(0);
    let spec = sulcus_onnx::read_spec(&std::fs::read(tiny_model()).unwrap()).unwrap();
    assert_eq!(table(&from_model), names(&spec.labels));
    run(home, &[&"convert", &bundled("hippocampus/dataset.json"), &from_set]).code(0);
    let called: Vec<String> = table(&from_set).into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(called, ["Anterior", "Posterior"]);
    // A predicted mask has the names of the model, and so has its table.
    let (mask, from_mask) = (home.join("mask.nii.gz"), home.join("mask.txt"));
    predict(home, &[&scan()], &mask, &[]).code(0);
    run(home, &[&"convert", &mask, &from_mask]).code(0);
    assert_eq!(std::fs::read(&from_mask).unwrap(), std::fs::read(&from_model).unwrap());
}

#[test]
fn unnamed_values_are_reported_and_keep_the_masks_names() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let whole = file(home, "labels.ctbl", CTBL.as_bytes());
    let part = file(home, "part.ctbl", b"# Color table file\n1 Front 1 2 3 255\n");
    let (plain, named_mask, mixed) = (home.join("plain.nii"), home.join("named.nii"), home.join("mixed.nii"));
    run(home, &[&"convert", &truth(), &plain, &"--names", &part]).code(0).says("no name for value 2 of the mask");
    assert_eq!(carried(&plain), [(1, "Front".into(), [1, 2, 3])]);
    run(home, &[&"convert", &truth(), &named_mask, &"--names", &whole]).code(0);
    let ended = run(home, &[&"convert", &named_mask, &mixed, &"--names", &part, &"--rename"]).code(0);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    assert_eq!(carried(&mixed), [(1, "Front".into(), [1, 2, 3]), (2, "Tail end".into(), [40, 50, 60])]);
    // The table of a mask lists all its values, named or not.
    let listed = home.join("listed.csv");
    run(home, &[&"convert", &plain, &listed]).code(0).says("no name for 1 of its values");
    let called: Vec<(u16, String)> = table(&listed).into_iter().map(|(value, name, _)| (value, name)).collect();
    assert_eq!(called, [(1, "Front".into()), (2, "label 2".into())]);
}

/// A DICOM segmentation numbers its segments in the order in which they were made.
#[test]
fn names_of_mask_and_table_decide_about_the_numbers() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let table = file(home, "dataset.json", br#"{"labels": {"background": 0, "Head": 1, "Tail end": 2}}"#);
    let (exchanged, other) = (home.join("exchanged.seg.nrrd"), home.join("other.seg.nrrd"));
    super::score::named_truth(&exchanged, ["tail_end", "Head"], true);
    super::score::named_truth(&other, ["Liver", "Head"], false);
    let (before, names) = (sulcus_io::read_labels(&truth()).unwrap().0, ["Head", "Tail end"]);
    for name in ["by_name.nii.gz", "by_name.seg.nrrd", "by_name.nrrd"] {
        let out = home.join(name);
        run(home, &[&"convert", &exchanged, &out, &"--names", &table]).code(0).says("1 becomes 2, 2 becomes 1");
        assert_eq!(sulcus_io::read_labels(&out).unwrap().0.data(), before.data(), "{name}");
        assert_eq!(carried(&out).into_iter().map(|(_, name, _)| name).collect::<Vec<_>>(), names, "{name}");
    }
    let out = home.join("out.nii.gz");
    run(home, &[&"convert", &other, &out, &"--names", &table])
        .code(1)
        .says("label 1 is named `Liver`, but `Head` is expected")
        .says("--rename");
    assert!(!out.exists());
    run(home, &[&"convert", &other, &out, &"--names", &table, &"--rename"]).code(0);
    assert_eq!(sulcus_io::read_labels(&out).unwrap().0.data(), before.data());
    assert_eq!(carried(&out).into_iter().map(|(_, name, _)| name).collect::<Vec<_>>(), names);
    run(home, &[&"convert", &other, &out, &"--rename"]).code(2).says("--names");
}

#[test]
fn volumes_without_labels_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let whole = file(home, "labels.ctbl", CTBL.as_bytes());
    let (table, volume) = (home.join("x.txt"), home.join("x.nii"));
    let real = file(home, "real.nii", &super::support::nifti(&[2, 2, 2], &[0.5; 8], Some(super::support::RAS)));
    let dark = file(home, "dark.nii", &super::support::nifti(&[2, 2, 2], &[0.0; 8], Some(super::support::RAS)));
    run(home, &[&"convert", &real, &volume, &"--names", &whole])
        .code(1)
        .says("--names applies to label maps only");
    run(home, &[&"convert", &real, &table]).code(1).says("reading the mask");
    run(home, &[&"convert", &dark, &table]).code(1).says("there is no table to write");
    run(home, &[&"convert", &truth(), &table, &"--names", &whole])
        .code(2)
        .says("--names does not apply to a label table");
    run(home, &[&"convert", &whole, &table, &"--orient", &"RAS"])
        .code(2)
        .says("--orient does not apply to a label table");
    run(home, &[&"convert", &truth(), &whole, &"--names", &whole]).code(2);
    run(home, &[&"convert", &home.join("gone.csv"), &table]).code(1).says("gone.csv");
    assert!(!table.exists() && !volume.exists());
}

/// Figures use the colours that masks carry.
#[test]
fn figure_uses_the_colours_of_the_mask() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let bright = file(home, "bright.ctbl", b"# Color table file\n1 Head 255 0 255 255\n2 Tail 0 255 0 255\n");
    let (mask, figure, given) = (home.join("mask.seg.nrrd"), home.join("figure.png"), home.join("given.png"));
    run(home, &[&"convert", &truth(), &mask, &"--names", &bright]).code(0);
    run(home, &[&"figure", &"-i", &scan(), &"-t", &mask, &"-o", &figure]).code(0);
    run(home, &[&"figure", &"-i", &scan(), &"-t", &truth(), &"--labels", &bright, &"-o", &given]).code(0);
    assert_eq!(std::fs::read(&figure).unwrap(), std::fs::read(&given).unwrap());
    let plain = home.join("plain.png");
    run(home, &[&"figure", &"-i", &scan(), &"-t", &truth(), &"-o", &plain]).code(0);
    assert_ne!(std::fs::read(&figure).unwrap(), std::fs::read(&plain).unwrap());
}
