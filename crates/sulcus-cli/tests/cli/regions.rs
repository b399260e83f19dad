use serde_json::{Value, json};

use super::support::{bundled, file, run, scan, truth};

/// Number of cases of the bundled data, of which the last ones are held out.
const CASES: usize = 16;
const HELD_OUT: usize = 3;
/// A few epochs exceed this Dice; a network with exchanged regions stays far below.
const MIN_DICE: f64 = 0.6;

/// The bundled scans with nnU-Net's description of regions: the whole hippocampus, and its posterior part.
fn data_set(root: &std::path::Path) {
    let listed: Value =
        serde_json::from_slice(&std::fs::read(bundled("hippocampus/dataset.json")).unwrap()).unwrap();
    let names = listed["training"].as_array().unwrap().iter().take(CASES).map(|case| {
        let image = case["image"].as_str().unwrap();
        image.trim_start_matches("./imagesTr/").trim_end_matches(".nii.gz").to_owned()
    });
    let names: Vec<String> = names.collect();
    let case = |name: &String| {
        let path = |folder: &str| bundled(&format!("hippocampus/{folder}/{name}.nii.gz"));
        (name.clone(), json!({"images": [path("imagesTr")], "label": path("labelsTr")}))
    };
    let description = json!({
        "channel_names": {"0": "MRI"},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
        "regions_class_order": [1, 2],
        "dataset": names.iter().map(case).collect::<serde_json::Map<String, Value>>(),
    });
    // As text, since the order of the labels matters.
    let labels = r#"{"labels": {"background": 0, "hippocampus": [1, 2], "posterior": 2},"#;
    let text = description.to_string().replacen('{', labels, 1);
    file(root, "dataset.json", text.as_bytes());
    let (train, val) = names.split_at(CASES - HELD_OUT);
    file(root, "splits_final.json", json!([{"train": train, "val": val}]).to_string().as_bytes());
}

#[test]
fn regions_are_trained_scored_exported_predicted_and_described() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (home.path().join("set"), home.path().join("run"));
    data_set(&set);
    let described = run(home.path(), &[&"info", &set]).code(0).stdout;
    assert!(described.contains("region hippocampus [1, 2], ml"), "{described}");
    let planned = run(home.path(), &[&"plan", &set, &"--device", &"cpu"]).code(0).stdout;
    assert!(planned.contains("a sigmoid channel for each of 2 regions"), "{planned}");

    let trained = run(
        home.path(),
        &[&"train", &set, &"-o", &folder, &"--preset", &"unet2d-lite", &"--epochs", &"10", &"--device", &"cpu"],
    );
    let trained = trained.code(0).says("logits against the trainer's: native within");
    assert!(trained.stdout.contains("hippocampus Dice"), "{}", trained.stdout);
    let json =
        |file: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap() };
    let mean = &json("validation/summary.json")["mean"];
    assert_eq!(mean.as_object().unwrap().keys().collect::<Vec<_>>(), ["(1, 2)", "2"]);
    let dice = |key: &str| mean[key]["Dice"].as_f64().unwrap();
    assert!(dice("(1, 2)") > MIN_DICE && dice("2") > MIN_DICE, "{mean}");
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("over 2 regions and 3 cases"));

    let model = folder.join("model.onnx");
    let info: Value =
        serde_json::from_str(&run(home.path(), &[&"info", &model, &"--json"]).code(0).stdout).unwrap();
    assert_eq!((&info["format_version"], &info["activation"]), (&5.into(), &"regions".into()));
    assert_eq!(info["regions"][1], json!({"name": "posterior", "values": [2], "writes": 2}));
    let text = run(home.path(), &[&"info", &model]).code(0).stdout;
    assert!(text.contains("hippocampus: values 1, 2, written as 1"), "{text}");
    assert!(text.contains("1 hippocampus without posterior"), "{text}");
    run(home.path(), &[&"doctor", &"-m", &model]).code(0);

    let mask = home.path().join("mask.nii.gz");
    let predicted =
        run(home.path(), &[&"predict", &"-m", &model, &scan(), &"-o", &mask, &"--json", &"--probabilities"])
            .code(0);
    let labels = &predicted.json_lines()[0]["labels"];
    assert_eq!((&labels["hippocampus"]["values"], &labels["posterior"]["value"]), (&json!([1, 2]), &2.into()));
    let voxels = |name: &str| labels[name]["voxels"].as_u64().unwrap();
    assert!(voxels("hippocampus") > voxels("posterior") && voxels("posterior") > 100, "{labels}");
    let about = |path: &dyn AsRef<std::ffi::OsStr>| -> Value {
        serde_json::from_str(&run(home.path(), &[&"info", path, &"--json"]).code(0).stdout).unwrap()
    };
    assert_eq!((&about(&mask)["min"], &about(&mask)["max"]), (&0.0.into(), &2.0.into()));
    let probabilities = about(&home.path().join("mask_probabilities.nii.gz"));
    assert_eq!(probabilities["shape"][3], 2);

    let scored = run(
        home.path(),
        &[&"evaluate", &"-p", &mask, &"-t", &truth(), &"--labels", &set.join("dataset.json"), &"--json"],
    );
    let summary: Value = serde_json::from_str(&scored.code(0).stdout).unwrap();
    let metrics = &summary["metric_per_case"][0]["metrics"];
    assert_eq!(metrics["(1, 2)"]["n_pred"].as_u64().unwrap(), voxels("hippocampus"));
    assert_eq!(metrics["2"]["n_pred"].as_u64().unwrap(), voxels("posterior"));
    assert!(metrics["(1, 2)"]["Dice"].as_f64().unwrap() > MIN_DICE, "{metrics}");
    // The model file describes the same labels.
    let by_model =
        run(home.path(), &[&"evaluate", &"-p", &mask, &"-t", &truth(), &"--labels", &model, &"--json"]).code(0);
    assert_eq!(serde_json::from_str::<Value>(&by_model.stdout).unwrap(), summary);
}
