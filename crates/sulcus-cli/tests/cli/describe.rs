use serde_json::Value;

use super::support::{RAS, bundled, file, nifti, run, scan, sulcus, tiny_model};

#[test]
fn volume_json_has_the_documented_fields() {
    let home = tempfile::tempdir().unwrap();
    let mut values: Vec<f32> = (0..24).map(|i| i as f32).collect();
    values[0] = f32::NAN;
    let ras = file(home.path(), "ras.nii", &nifti(&[2, 3, 4], &values, Some(RAS)));
    let json = run(home.path(), &[&"info", &ras, &"--json"]).code(0).stdout;
    insta::assert_snapshot!(json.trim(), @r#"{"kind":"volume","format":"nifti-1","shape":[2,3,4],"dtype":"float32","spacing_mm":[1.0,1.0,1.0],"orientation":"RAS","ras_from_voxel":[[1.0,0.0,0.0,0.0],[0.0,1.0,0.0,0.0],[0.0,0.0,1.0,0.0],[0.0,0.0,0.0,1.0]],"min":1.0,"max":23.0,"mean":12.0,"non_finite":1}"#);
    let lost = file(home.path(), "lost.nii", &nifti(&[2, 3, 4], &values, None));
    let json: Value =
        serde_json::from_str(&run(home.path(), &[&"info", &lost, &"--json"]).code(0).stdout).unwrap();
    assert_eq!((&json["orientation"], &json["orientation_source"]), (&"LAS".into(), &"none".into()));
    let text = run(home.path(), &[&"info", &lost]).code(0).stdout;
    assert!(text.contains("a guess"), "{text}");
}

#[test]
fn oblique_slices_are_reported() {
    let home = tempfile::tempdir().unwrap();
    for (degrees, reported) in [(25.0_f32, None), (40.0, Some(40.0)), (55.0, Some(35.0))] {
        let (s, c) = degrees.to_radians().sin_cos();
        let rows = [[1.0, 0.0, 0.0, 0.0], [0.0, c, -s, 0.0], [0.0, s, c, 0.0]];
        let path = file(home.path(), "a.nii", &nifti(&[2, 3, 4], &[0.0; 24], Some(rows)));
        let json = &run(home.path(), &[&"info", &path, &"--json"]).code(0).json_lines()[0];
        assert_eq!(json["slice_obliquity_degrees"].as_f64(), reported);
        let text = run(home.path(), &[&"info", &path]).code(0).stdout;
        let note = "(oblique: the slice normal is ";
        assert_eq!(text.contains(note), reported.is_some(), "{text}");
    }
}

#[test]
fn models_and_data_sets_are_described() {
    let home = tempfile::tempdir().unwrap();
    let read = |path: &std::path::Path| -> Value {
        serde_json::from_str(&run(home.path(), &[&"info", &path, &"--json"]).code(0).stdout).unwrap()
    };
    let model = read(&tiny_model());
    assert_eq!((&model["kind"], &model["format_version"]), (&"model".into(), &1.into()));
    assert_eq!(model["labels"][1]["name"], "Posterior");
    assert!(model["golden_case"]["data_base64"].is_null() && model["golden_case"]["labels_sha256"].is_string());
    let data = read(&bundled("hippocampus"));
    assert_eq!((&data["kind"], &data["cases"]), (&"dataset".into(), &46.into()));
    assert_eq!(data["problems"], Value::Array(vec![]));
    let text = run(home.path(), &[&"info", &tiny_model()]).code(0).stdout;
    assert!(text.contains("1 Anterior\n") && text.contains("orientation"), "{text}");
    run(home.path(), &[&"info", &home.path()]).code(1).says("neither a run");
    run(home.path(), &[&"info", &home.path().join("gone.nii.gz")]).code(1).says("gone.nii.gz");
}

/// Ten cases of 6 × 5 × 4 voxels with one structure, of which four differ from the others.
fn odd_data_set(home: &std::path::Path) -> std::path::PathBuf {
    let root = home.join("set");
    for case in 0..10 {
        let scale = if case == 3 { 1000.0 } else { 1.0 };
        let values: Vec<f32> = (0..120).map(|i| ((i * 7 + case * 3) % 90 + case) as f32 * scale).collect();
        // The structure is larger in every second case.
        let inside = |i: usize| i / 30 == 1 && i % 6 < 3 + usize::from(case % 2 == 0);
        let label = |i: usize| f32::from(u8::from(inside(i) && case != 5));
        let labels: Vec<f32> = (0..120).map(label).collect();
        let mut rows = RAS;
        match case {
            7 => rows[0] = [-1.0, 0.0, 0.0, 5.0],
            8 => rows[2][2] = 3.0,
            _ => {}
        }
        file(&root, &format!("images/c{case}.nii"), &nifti(&[6, 5, 4], &values, Some(rows)));
        file(&root, &format!("labels/c{case}.nii"), &nifti(&[6, 5, 4], &labels, Some(rows)));
    }
    root
}

#[test]
fn data_set_table_shows_ranges_and_outliers() {
    let home = tempfile::tempdir().unwrap();
    let root = odd_data_set(home.path());
    let text = run(home.path(), &[&"info", &root]).code(0).stdout;
    let text = text.replace(home.path().to_str().unwrap(), "HOME");
    insta::assert_snapshot!(text);
    let json = run(home.path(), &[&"info", &root, &"--json"]).code(0).stdout;
    let summary: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(summary["orientation_cases"], serde_json::json!({"LAS": 1, "RAS": 9}));
    assert_eq!((&summary["labels"][0]["cases"], &summary["labels"][0]["ml"][0]), (&9.into(), &0.015.into()));
    assert_eq!(summary["per_case"].as_array().unwrap().len(), 10);
    assert_eq!(summary["per_case"][8]["spacing_mm"], serde_json::json!([1.0, 1.0, 3.0]));
    let named: Vec<&str> =
        summary["outliers"].as_array().unwrap().iter().filter_map(|o| o["case"].as_str()).collect();
    for case in ["c3", "c5", "c7", "c8"] {
        assert!(named.contains(&case), "{case} in {named:?}");
    }
    assert!(!named.contains(&"c0") && !named.contains(&"c9"), "{named:?}");
}

#[test]
fn doctor_replays_the_golden_case_without_onnx_runtime() {
    let home = tempfile::tempdir().unwrap();
    let json = run(home.path(), &[&"doctor", &"--json"]).code(0).stdout;
    let report: Value = serde_json::from_str(&json).unwrap();
    let engines = report["engines"].as_array().unwrap();
    let tract = engines.iter().find(|e| e["name"] == "tract").unwrap();
    assert_eq!((&tract["available"], &tract["golden"]["passed"]), (&true.into(), &true.into()), "{json}");
    let native = engines.iter().find(|e| e["name"] == "native").unwrap();
    assert_eq!((&native["available"], &native["golden"]["passed"]), (&true.into(), &true.into()), "{json}");
    assert!(["native", "tract"].contains(&report["auto"]["engine"].as_str().unwrap()), "{json}");
    assert_eq!(report["auto"]["device"], "cpu");
    assert!(report["devices"].as_array().unwrap().iter().any(|d| d["name"] == "cpu" && d["available"] == true));
    let looked: Vec<&str> =
        report["onnx_runtime"]["looked"].as_array().unwrap().iter().filter_map(|p| p["origin"].as_str()).collect();
    assert!(looked.contains(&"beside the executable") && looked.contains(&"the user's data folder"), "{looked:?}");
    let text = run(home.path(), &[&"doctor", &"-m", &tiny_model()]).code(0).stdout;
    assert!(text.contains("golden prediction passed"), "{text}");
}

#[test]
fn doctor_fails_when_a_named_library_or_model_fails() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), &[&"doctor", &"--ort-lib", &"/no/such/lib.so"]).code(1).says("--ort-lib");
    run(home.path(), &[&"doctor", &"-m", &scan()]).code(1).says("image.nii.gz");
    let named = sulcus(home.path()).arg("doctor").env("ORT_DYLIB_PATH", "/no/such/lib.so").output().unwrap();
    super::support::ended(named).code(1).says("$ORT_DYLIB_PATH");
}
