use serde_json::Value;

use super::support::{bundled, run};

#[test]
fn plan_is_printed_with_reasons_and_written_on_request() {
    let home = tempfile::tempdir().unwrap();
    let (set, file) = (bundled("hippocampus"), home.path().join("plan.json"));
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 8] =
        [&"plan", &set, &"--preset", &"nnunet-3d", &"--device", &"cpu", &"--memory", &"8GB"];
    let text = run(home.path(), &arguments).code(0).says("plan.json").stdout;
    insta::assert_snapshot!(text);
    assert!(!file.exists());

    let kept: Vec<&dyn AsRef<std::ffi::OsStr>> =
        arguments.into_iter().chain([&"--json" as &dyn AsRef<std::ffi::OsStr>, &"-o", &file]).collect();
    let json = run(home.path(), &kept).code(0).says("sulcus train").stdout;
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["plan"]["patch"], serde_json::json!([40, 56, 40]));
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap(), plan);
}

#[test]
fn plan_for_a_time_budget_records_the_speed_and_is_kept_by_a_training() {
    let home = tempfile::tempdir().unwrap();
    let (set, file, folder) = (bundled("hippocampus"), home.path().join("plan.json"), home.path().join("run"));
    let text = run(home.path(), &[&"plan", &set, &"--device", &"cpu", &"--time-budget", &"1s", &"-o", &file])
        .code(0)
        .stdout;
    assert!(text.contains("fit the time budget") && text.contains("multiply-adds per second"), "{text}");
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let pace = plan["plan"]["pace"].clone();
    assert!(pace["multiply_adds_per_second"].as_f64().unwrap() > 1e6, "{pace}");
    assert_eq!((&pace["time_budget_secs"], &plan["config"]["time_budget_secs"]), (&1.0.into(), &1.0.into()));
    // Another speed: a training by the plan does not measure again.
    plan["plan"]["pace"]["multiply_adds_per_second"] = 1e6.into();
    std::fs::write(&file, plan.to_string()).unwrap();
    run(home.path(), &[&"train", &set, &"-o", &folder, &"--plan", &file]).code(0);
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(manifest["plan"]["pace"], plan["plan"]["pace"]);
    assert_eq!(manifest["plan"]["patch"], plan["plan"]["patch"]);
}

#[test]
fn broken_plan_is_refused_before_files_are_written() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (bundled("hippocampus"), home.path().join("run"));
    let file = super::support::file(home.path(), "plan.json", br#"{"format_version": 1, "plan": 3}"#);
    run(home.path(), &[&"train", &set, &"-o", &folder, &"--plan", &file])
        .code(1)
        .says("the plan cannot be used")
        .says("plan.json");
    assert!(!folder.exists());
    run(home.path(), &[&"plan", &set, &"--patch", &"33,32", &"--device", &"cpu"])
        .code(1)
        .says("multiples of [8, 8]");
}

#[test]
fn patients_are_grouped_and_reported() {
    let home = tempfile::tempdir().unwrap();
    let set = home.path().join("set");
    for (patient, case) in [1, 2, 3].iter().flat_map(|p| [1, 2].map(move |c| (p, c))) {
        let name = format!("patient{patient}_{case}");
        let noise = |i: usize| ((i * 7919 + 31 * patient + case) % 101) as f32;
        let image: Vec<f32> = (0..20 * 20 * 12).map(noise).collect();
        let mask: Vec<f32> = (0..20 * 20 * 12).map(|i| f32::from(i % 20 > 12)).collect();
        for (folder, values) in [("images", &image), ("labels", &mask)] {
            let path = format!("{folder}/{name}.nii");
            super::support::file(
                &set,
                &path,
                &super::support::nifti(&[20, 20, 12], values, Some(super::support::RAS)),
            );
        }
    }
    let plan = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let fixed: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"plan", &set, &"--device", &"cpu"];
        run(home.path(), &[&fixed[..], more].concat())
    };
    plan(&[])
        .code(0)
        .says("warning: the folds keep the cases of each patient together, as guessed")
        .says("--patients");
    let quiet = plan(&[&"--patients", &"none"]).code(0);
    assert!(!quiet.stderr.contains("patient"), "{}", quiet.stderr);
    let table = super::support::file(
        home.path(),
        "table.csv",
        b"case,patient\npatient1_1,a\npatient1_2,a\npatient2_1,b\npatient2_2,b\npatient3_1,c\npatient3_2,d\n",
    );
    let stated = plan(&[&"--patients", &table]).code(0).says("6 cases of 4 patients, as stated in");
    assert!(!stated.stderr.contains("warning"), "{}", stated.stderr);
    plan(&[&"--patients", &home.path().join("gone.csv")]).code(1).says("gone.csv");
    let torn = super::support::file(
        home.path(),
        "splits.json",
        br#"[{"train":["patient1_1","patient2_1"],"val":["patient1_2"]}]"#,
    );
    plan(&[&"--splits", &torn])
        .code(0)
        .says("warning: 1 patient with cases on both sides of the split")
        .says("patient1_1 is trained on, patient1_2 is held out");
    let info = run(home.path(), &[&"info", &set]).code(0).stdout;
    assert!(info.contains("patients           3, guessed from the case names"), "{info}");

    let folder = home.path().join("run");
    run(
        home.path(),
        &[
            &"train",
            &set,
            &"-o",
            &folder,
            &"--device",
            &"cpu",
            &"--preset",
            &"unet2d-lite",
            &"--epochs",
            &"1",
            &"--batch-size",
            &"1",
        ],
    )
    .code(0);
    let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(manifest["patients"]["source"], "case_names");
    assert_eq!(manifest["patients"]["cases"]["patient2"], serde_json::json!(["patient2_1", "patient2_2"]));
    assert_eq!(manifest["split"]["val"].as_array().unwrap().len(), 2);
    let info = run(home.path(), &[&"info", &folder]).code(0).stdout;
    assert!(info.contains("3, guessed from the case names"), "{info}");
}

#[test]
fn three_dimensional_network_is_refused_for_pictures() {
    let home = tempfile::tempdir().unwrap();
    let set = home.path().join("set");
    for case in 0..3 {
        let image: Vec<f32> = (0..40 * 40).map(|i| ((i * 7919 + case) % 101) as f32).collect();
        let mask: Vec<f32> = (0..40 * 40).map(|i| f32::from(i % 40 > 20)).collect();
        for (folder, values) in [("images", &image), ("labels", &mask)] {
            let bytes = super::support::nifti(&[40, 40, 1], values, Some(super::support::RAS));
            super::support::file(&set, &format!("{folder}/case{case}.nii"), &bytes);
        }
    }
    run(home.path(), &[&"plan", &set, &"--preset", &"nnunet-3d", &"--device", &"cpu"])
        .code(1)
        .says("the network is 3-D, but every scan is a single slice")
        .says("--preset nnunet-2d");
    run(home.path(), &[&"plan", &set, &"--device", &"cpu"]).code(0);
}
