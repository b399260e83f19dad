use super::support::{bundled, file, run};

#[test]
fn demo_writes_all_documented_files() {
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
    // Sorted last: it is named only if the demo recognises all files before it as its own.
    let added = file(&folder, "zzz.txt", b"mine");
    run(home.path(), &[&"demo", &"-o", &folder]).code(1).says(added.to_str().unwrap());
    assert!(added.is_file() && folder.join("model.onnx").is_file());
}

#[test]
fn demo_does_not_change_a_folder_with_other_files() {
    let home = tempfile::tempdir().unwrap();
    let mine = file(home.path(), "mine/thesis.txt", b"years of work");
    run(home.path(), &[&"demo", &"-o", &home.path().join("mine")]).code(1).says("not overwritten");
    assert_eq!(std::fs::read(mine).unwrap(), b"years of work");
}

#[test]
fn demo_does_not_overwrite_the_users_own_data_set() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("mine");
    let demo = || run(home.path(), &[&"demo", &"-o", &folder]).code(1).says("not overwritten");
    let own = file(&folder, "data/dataset.json", b"{\"name\": \"my own\"}");
    demo();
    assert_eq!(std::fs::read(&own).unwrap(), b"{\"name\": \"my own\"}");

    // An earlier demo with an additional file.
    file(&folder, "data/dataset.json", &std::fs::read(bundled("hippocampus/dataset.json")).unwrap());
    for added in ["data/imagesTr/mine.nii.gz", "masks/mine.nii.gz", "checkpoints/notes.txt", "validation/a/b.txt"]
    {
        let added = file(&folder, added, b"mine");
        demo().says(added.to_str().unwrap());
        assert!(own.is_file());
        std::fs::remove_file(added).unwrap();
    }
}
