use super::support::{file, run};

#[test]
fn a_demo_leaves_everything_behind_that_it_promises() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("demo");
    let ended = run(home.path(), &[&"demo", &"-o", &folder, &"--minutes", &"0.2"]).code(0).says("next:");
    assert!(
        ended.stdout.contains("mean Dice") && ended.stdout.contains("over 10 held-out cases"),
        "{}",
        ended.stdout
    );
    for part in ["figure.png", "model.onnx", "run.json", "history.jsonl", "report.html", "curves.svg"] {
        assert!(folder.join(part).is_file(), "{part}");
    }
    assert_eq!(std::fs::read_dir(folder.join("masks")).unwrap().count(), 10);
}

#[test]
fn a_folder_with_something_else_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let mine = file(home.path(), "mine/thesis.txt", b"years of work");
    run(home.path(), &[&"demo", &"-o", &home.path().join("mine")]).code(1).says("not overwritten");
    assert_eq!(std::fs::read(mine).unwrap(), b"years of work");
}
