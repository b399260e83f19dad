//! `pack`, `import totalsegmentator`, and what other commands do with packs.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{run, tiny_model};

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-nnunet/tests/fixtures/totalsegmentator")
}

fn labels(path: &Path) -> sulcus_volume::LabelMap {
    sulcus_io::read_labels(path).unwrap().0
}

/// A rough network, a crop, another voxel size, two parts and the way back: the mask of TotalSegmentator's own program.
#[test]
fn imported_task_predicts_as_totalsegmentator_does() {
    let home = tempfile::tempdir().unwrap();
    let (model, mask) = (home.path().join("pack.onnx"), home.path().join("mask.nii.gz"));
    let imported = run(
        home.path(),
        &[&"import", &"totalsegmentator", &weights(), &"--task", &"headneck_muscles", &"-o", &model, &"--json"],
    )
    .code(0);
    let record = &imported.json_lines()[0];
    assert_eq!((&record["task"], &record["labels"]), (&Value::from("headneck_muscles"), &Value::from(23)));
    assert_eq!(record["networks"].as_array().unwrap().len(), 3);
    let info = run(home.path(), &[&"info", &model]).code(0).stdout;
    for part in [
        "clavicula_left",
        "20 × 20 × 20 mm around it",
        "resampled to 0.75 × 0.75 × 1 mm",
        "dataset_779: 12 labels",
    ] {
        assert!(info.contains(part), "`{part}` in {info}");
    }
    let described = &run(home.path(), &[&"info", &model, &"--json"]).code(0).json_lines()[0];
    assert_eq!(
        (&described["kind"], &described["recipe"]["parts"][1]["network"]),
        (&"pack".into(), &"dataset_779".into())
    );
    run(home.path(), &[&"doctor", &"-m", &model]).code(0);
    let scan = weights().join("scan.nii.gz");
    let predicted =
        run(home.path(), &[&"predict", &"-m", &model, &scan, &"-o", &mask, &"--exact", &"--json"]).code(0);
    let line = &predicted.json_lines()[0];
    let steps: Vec<&str> =
        line["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["locate", "part", "part"]);
    let shape = line["steps"][0]["found"]["shape"].as_array().unwrap();
    let whole = labels(&scan).geometry().shape();
    assert!(shape.iter().zip(whole).any(|(edge, whole)| edge.as_u64().unwrap() < whole as u64), "{shape:?}");
    let (found, expected) = (labels(&mask), labels(&weights().join("headneck_muscles.nii.gz")));
    found.geometry().check_same_grid(expected.geometry()).unwrap();
    let different = found.data().iter().zip(expected.data()).filter(|(a, b)| a != b).count();
    assert_eq!(different, 0, "voxels differ from TotalSegmentator's mask");
    assert!(found.counts().len() > 10);
    // A label table for other commands.
    run(home.path(), &[&"evaluate", &"-p", &mask, &"-t", &mask, &"--labels", &model]).code(0);
    // Other programs need one network.
    run(home.path(), &[&"export", &model, &"--bundle", &home.path().join("bundle")])
        .code(1)
        .says("this file is a pack");
    let probabilities: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"predict", &"-m", &model, &scan, &"-o", &mask, &"--probabilities"];
    run(home.path(), &probabilities).code(1).says("there are no probabilities");
    run(home.path(), &[&"predict", &"-m", &model, &"-m", &tiny_model(), &scan, &"-o", &mask])
        .code(1)
        .says("averaged");
}

#[test]
fn tasks_that_cannot_be_imported_say_why() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("pack.onnx");
    let import = |task: &str| {
        run(home.path(), &[&"import", &"totalsegmentator", &weights(), &"--task", &task, &"-o", &model])
    };
    import("tissue_types").code(2).says("licence number");
    import("body").code(2).says("removes small components");
    import("brains").code(2).says("total_fast");
    import("total_fast").code(1).says("Dataset297_TotalSegmentator_total_3mm_1559subj");
    assert!(!model.exists());
}

#[test]
fn two_models_become_a_pack() {
    let home = tempfile::tempdir().unwrap();
    let pack = home.path().join("pack.onnx");
    let tiny = tiny_model();
    let made =
        run(home.path(), &[&"pack", &tiny, &tiny, &"-o", &pack, &"--margin", &"5", &"--label", &"1", &"--json"])
            .code(0);
    let record = &made.json_lines()[0];
    assert_eq!((&record["labels"], &record["nothing_found"]), (&serde_json::json!([1]), &"whole_scan".into()));
    let info = run(home.path(), &[&"info", &pack]).code(0).stdout;
    assert!(info.contains("5 × 5 × 5 mm around it"), "{info}");
    let scan = sulcus_testing::bundled_scan();
    let mask = home.path().join("mask.nii.gz");
    let predicted = run(home.path(), &[&"predict", &"-m", &pack, &scan, &"-o", &mask, &"--json"]).code(0);
    assert_eq!(predicted.json_lines()[0]["steps"][1]["network"], "fine");
    assert!(mask.is_file());
    run(home.path(), &[&"pack", &tiny, &tiny, &"-o", &pack, &"--label", &"brain"]).code(2).says("its labels are");
    run(home.path(), &[&"pack", &tiny, &tiny, &"-o", &pack, &"--margin", &"-1"]).code(1).says("margin");
    run(home.path(), &[&"pack", &tiny, &tiny, &"-o", &home.path().join("pack.bin")]).code(2).says(".onnx");
    run(home.path(), &[&"pack", &pack, &tiny, &"-o", &home.path().join("again.onnx")])
        .code(1)
        .says("this file is a pack");
    run(home.path(), &[&"import", &"nnunet", &pack, &"-o", &home.path().join("again.onnx")]).code(1);
}
