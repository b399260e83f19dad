use serde_json::Value;

use super::support::{RAS, bundled, ended, file, nifti, run, sulcus, truth};

fn read_png(path: &std::path::Path) -> (u32, u32, Vec<u8>) {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    (reader.info().width, reader.info().height, pixels)
}

/// The bundled truth with these names for its labels 1 and 2, whose values are exchanged if `swap` is true. 3D Slicer numbers
/// segments in the order in which they were made.
pub(crate) fn named_truth(path: &std::path::Path, names: [&str; 2], swap: bool) {
    let (labels, source) = sulcus_io::read_labels(&truth()).unwrap();
    let labels = if swap { labels.map(|v| [0, 2, 1][usize::from(*v)]) } else { labels };
    let table =
        sulcus_volume::LabelTable::from_names([(1, names[0].to_owned()), (2, names[1].to_owned())]).unwrap();
    sulcus_io::write_labels(path, &labels, &source, &table).unwrap();
}

#[test]
fn masks_with_names_are_compared_by_name() {
    let home = tempfile::tempdir().unwrap();
    let exchanged = named_truth;
    let at = |name: &str| home.path().join(name);
    exchanged(&at("truth.seg.nrrd"), ["Anterior", "Posterior"], false);
    exchanged(&at("right.seg.nrrd"), ["Posterior", "Anterior"], true);
    exchanged(&at("wrong.seg.nrrd"), ["Posterior", "Anterior"], false);
    exchanged(&at("other.seg.nrrd"), ["Liver", "Anterior"], false);
    let table =
        file(home.path(), "dataset.json", br#"{"labels": {"background": 0, "Anterior": 1, "Posterior": 2}}"#);
    for labels in [None, Some(&table)] {
        let dice = |name: &str| {
            let mut command = sulcus(home.path());
            command.arg("evaluate").arg("-p").arg(at(name)).arg("-t").arg(at("truth.seg.nrrd")).arg("--json");
            labels.map(|path| command.arg("--labels").arg(path));
            let json: serde_json::Value =
                serde_json::from_str(&ended(command.output().unwrap()).code(0).stdout).unwrap();
            json["foreground_mean"]["Dice"].as_f64().unwrap()
        };
        assert_eq!((dice("right.seg.nrrd"), dice("wrong.seg.nrrd")), (1.0, 0.0));
    }
    run(home.path(), &[&"evaluate", &"-p", &at("other.seg.nrrd"), &"-t", &at("truth.seg.nrrd")])
        .code(1)
        .says("label 1 is named `Liver`, but `Anterior` is expected");
}

/// A mask that lacks the first structure numbers the second one 1.
#[test]
fn names_of_later_masks_complete_those_of_the_first() {
    let home = tempfile::tempdir().unwrap();
    let (labels, source) = sulcus_io::read_labels(&truth()).unwrap();
    let write = |name: &str, values: [u16; 3], names: &[(u16, &str)]| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let table = names.iter().map(|(value, name)| (*value, (*name).to_owned()));
        let table = sulcus_volume::LabelTable::from_names(table).unwrap();
        sulcus_io::write_labels(&path, &labels.map(|v| values[usize::from(*v)]), &source, &table).unwrap();
    };
    write("t/a.seg.nrrd", [0, 1, 0], &[(1, "Anterior")]);
    write("p/a.seg.nrrd", [0, 1, 0], &[(1, "Anterior")]);
    write("t/b.seg.nrrd", [0, 1, 2], &[(1, "Anterior"), (2, "Posterior")]);
    write("p/b.seg.nrrd", [0, 3, 1], &[(1, "Posterior"), (3, "Anterior")]);
    let (p, t) = (home.path().join("p"), home.path().join("t"));
    let json = run(home.path(), &[&"evaluate", &"-p", &p, &"-t", &t, &"--json"]).code(0).stdout;
    let summary: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&summary["mean"]["1"]["Dice"], &summary["mean"]["2"]["Dice"]), (&1.0.into(), &1.0.into()));
}

/// The picture shows what was scored.
#[test]
fn figures_and_reports_show_labels_by_name() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    named_truth(&at("truth.nii.gz"), ["Anterior", "Posterior"], false);
    named_truth(&at("exchanged.nii.gz"), ["Posterior", "Anterior"], true);
    named_truth(&at("other.nii.gz"), ["Liver", "Anterior"], false);
    let image = bundled("case/image.nii.gz");
    let figure = |masks: [&str; 2], name: &str| {
        let [truth, prediction] = masks.map(at);
        run(home.path(), &[&"figure", &"-i", &image, &"-t", &truth, &"-p", &prediction, &"-o", &at(name)])
    };
    figure(["truth.nii.gz", "truth.nii.gz"], "same.png").code(0);
    figure(["truth.nii.gz", "exchanged.nii.gz"], "by_name.png").code(0);
    assert_eq!(read_png(&at("same.png")), read_png(&at("by_name.png")));
    figure(["truth.nii.gz", "other.nii.gz"], "none.png")
        .code(1)
        .says("label 1 is named `Liver`, but `Anterior` is expected")
        .says("--rename");
    assert!(!at("none.png").exists());
    let table =
        file(home.path(), "dataset.json", br#"{"labels": {"background": 0, "Posterior": 1, "Anterior": 2}}"#);
    let truth_alone = |labels: &[&dyn AsRef<std::ffi::OsStr>], mask: &str| {
        let (mask, png) = (at(mask), at("alone.png"));
        let fixed: [&dyn AsRef<std::ffi::OsStr>; 7] = [&"figure", &"-i", &image, &"-t", &mask, &"-o", &png];
        run(home.path(), &[&fixed[..], labels].concat()).code(0);
        read_png(&png)
    };
    let given: [&dyn AsRef<std::ffi::OsStr>; 2] = [&"--labels", &table];
    assert_eq!(truth_alone(&given, "truth.nii.gz"), truth_alone(&given, "exchanged.nii.gz"));

    let pictures = |prediction: &str| {
        let (report, prediction) = (at("report.html"), at(prediction));
        run(home.path(), &[&"evaluate", &"-p", &prediction, &"-t", &at("truth.nii.gz"), &"--report", &report])
            .code(0);
        let html = std::fs::read_to_string(&report).unwrap();
        html.split_once("data:image/png;base64,").unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(pictures("exchanged.nii.gz"), pictures("truth.nii.gz"));
}

#[test]
fn truth_against_itself_is_perfect_in_nnunets_format() {
    let home = tempfile::tempdir().unwrap();
    let json = run(home.path(), &[&"evaluate", &"-p", &truth(), &"-t", &truth(), &"--json"]).code(0).stdout;
    let summary: Value = serde_json::from_str(&json).unwrap();
    let case = &summary["metric_per_case"][0];
    assert!(case["prediction_file"].as_str().unwrap().ends_with("truth.nii.gz"));
    for label in ["1", "2"] {
        let scores = &case["metrics"][label];
        assert_eq!((&scores["Dice"], &scores["IoU"]), (&1.0.into(), &1.0.into()));
        assert_eq!((&scores["FP"], &scores["FN"]), (&0.into(), &0.into()));
        assert_eq!(scores["n_ref"], scores["TP"]);
        assert_eq!((&scores["HD95"], &scores["NSD"]), (&0.0.into(), &1.0.into()));
        assert_eq!(scores["volume_error_ml"], 0.0);
        assert_eq!(summary["mean"][label]["Dice"], 1.0);
    }
    assert_eq!(summary["foreground_mean"]["Dice"], 1.0);
    assert_eq!((&summary["nsd_mm"], &summary["failed"]), (&1.0.into(), &Value::Array(vec![])));
}

#[test]
fn missed_structure_has_infinite_distance_and_is_listed_first() {
    let home = tempfile::tempdir().unwrap();
    let line = |values: [f32; 4]| nifti(&[4, 1, 1], &values, Some(RAS));
    for name in ["a", "b"] {
        file(home.path(), &format!("labelsTr/{name}.nii"), &line([0.0, 1.0, 1.0, 0.0]));
        file(home.path(), &format!("imagesTr/{name}_0000.nii"), &line([5.0, 9.0, 7.0, 2.0]));
    }
    file(home.path(), "p/a.nii", &line([0.0, 0.0, 1.0, 1.0]));
    file(home.path(), "p/b.nii", &line([0.0; 4]));
    let (p, t) = (home.path().join("p"), home.path().join("labelsTr"));
    let report = home.path().join("report.html");
    let evaluate = |more: &[&str]| {
        let mut command = sulcus(home.path());
        command.arg("evaluate").arg("-p").arg(&p).arg("-t").arg(&t).args(more);
        ended(command.output().unwrap())
    };
    let json = evaluate(&["--json", "--nsd-mm", "0.5"]).code(0).stdout;
    let summary: Value = serde_json::from_str(&json).unwrap();
    let missed = &summary["metric_per_case"][1]["metrics"]["1"];
    assert_eq!((&missed["Dice"], &missed["HD95"], &missed["NSD"]), (&0.0.into(), &"inf".into(), &0.0.into()));
    let mean = &summary["mean"]["1"];
    assert_eq!((&mean["cases"], &mean["HD95_infinite"], &mean["HD95_cases"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!((&mean["HD95"], &summary["nsd_mm"]), (&1.0.into(), &0.5.into()));

    let table = evaluate(&["--report", report.to_str().unwrap()]).code(0).stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[1].starts_with('b') && rows[1].contains("inf") && rows[2].starts_with('a'), "{table}");
    assert!(table.contains("1.00, 1 infinite"), "{table}");
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(html.contains("Worst case: b, mean Dice 0.0000<") && html.contains("(1 infinite)"), "{html}");
    evaluate(&["--nsd-mm", "0"]).code(2).says("greater than 0");
}

#[test]
fn folders_are_matched_by_case_name_and_a_missing_prediction_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let mask = std::fs::read(truth()).unwrap();
    for path in ["t/a.nii.gz", "t/b.nii.gz", "p/a.nii.gz", "p/extra.nii.gz", "p/extra2_probabilities.nii.gz"] {
        file(home.path(), path, &mask);
    }
    let (p, t) = (home.path().join("p"), home.path().join("t"));
    let labels = bundled("hippocampus/dataset.json");
    let report = home.path().join("report.html");
    let ended =
        run(home.path(), &[&"evaluate", &"-p", &p, &"-t", &t, &"--labels", &labels, &"--report", &report]).code(1);
    assert!(ended.stdout.contains("Anterior Dice") && ended.stdout.contains("1.0000"), "{}", ended.stdout);
    let ended =
        ended.says("error: b: there is no prediction").says("1 of 2 cases failed").says("not scored: extra\n");
    assert!(!ended.stderr.contains("extra2"));
    let json = run(home.path(), &[&"evaluate", &"-p", &p, &"-t", &t, &"--json"]).code(1).stdout;
    let summary: Value = serde_json::from_str(&json).unwrap();
    let failed = summary["failed"].as_array().unwrap();
    assert_eq!((failed.len(), &failed[0]["case"]), (1, &"b".into()));
    assert!(failed[0]["file"].as_str().unwrap().ends_with("t/b.nii.gz"));
    assert!(failed[0]["error"].as_str().unwrap().starts_with("there is no prediction with this name"));
    assert_eq!(summary["metric_per_case"].as_array().unwrap().len(), 1);
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(html.contains("Not scored") && html.contains("<b>b</b>") && html.contains("data:image/png;base64,"));
    run(home.path(), &[&"evaluate", &"-p", &p, &"-t", &truth()]).code(2).says("two files or two folders");
    run(home.path(), &[&"evaluate", &"-p", &p, &"-t", &t, &"--report", &home.path().join("report.nii.gz")])
        .code(2)
        .says(".html");
}

#[test]
fn figure_is_a_png_with_the_label_colours() {
    let home = tempfile::tempdir().unwrap();
    let (image, mask) = (bundled("case/image.nii.gz"), truth());
    let (plain, labelled) = (home.path().join("plain.png"), home.path().join("new/labelled.png"));
    run(home.path(), &[&"figure", &"-i", &image, &"-o", &plain]).code(0);
    run(home.path(), &[&"figure", &"-i", &image, &"-t", &mask, &"-p", &mask, &"-o", &labelled]).code(0);
    let (one, three) = (read_png(&plain), read_png(&labelled));
    assert!(three.1 > 2 * one.1, "three rows are higher than one: {} {}", three.1, one.1);
    let orange = |pixels: &[u8]| pixels.chunks_exact(3).filter(|p| **p == [230, 159, 0]).count();
    assert_eq!(orange(&one.2), 0);
    assert!(orange(&three.2) > 100);
}
