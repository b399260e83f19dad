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
