//! DICOM series as input, masks and DICOM segmentations as output.

use std::path::{Path, PathBuf};

use super::support::{predict, run, scan};

/// A folder with one slice of a bundled scan as DICOM, from the reader's own tests.
fn series(home: &Path, name: &str, fixture: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-dicom/tests/dicom").join(fixture);
    let folder = home.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(from, folder.join("IM0001")).unwrap();
    folder
}

#[test]
fn info_describes_one_series_and_lists_all() {
    let home = tempfile::tempdir().unwrap();
    let folder = series(home.path(), "series", "i16_j2k.dcm");
    std::fs::write(folder.join("README"), "no DICOM").unwrap();
    let info = &run(home.path(), &[&"info", &folder, &"--json"]).code(0).json_lines()[0];
    assert_eq!(
        (&info["kind"], &info["format"], &info["dtype"]),
        (&"volume".into(), &"dicom".into(), &"int16".into())
    );
    assert_eq!(info["shape"].as_array().unwrap().len(), 3);
    assert_eq!(info["orientation"], "LPS");
    assert_eq!((&info["series_uid"], &info["other_files"]), (&"1.2.3.4.1".into(), &1.into()));
    assert_eq!(info["series"][0]["slices"], 1);
    run(home.path(), &[&"info", &folder, &"--series", &"1.2.3"]).code(1).says("series 1.2.3.4.1  MR  ");
}

#[test]
fn folder_of_series_is_a_cohort() {
    let home = tempfile::tempdir().unwrap();
    let all = home.path().join("all");
    series(&all, "first", "u12_jpegls.dcm");
    series(&all, "second", "u16_rle.dcm");
    let out = home.path().join("out");
    let ended = predict(home.path(), &[&all], &out, &["--json"]).code(0);
    assert_eq!(ended.json_lines().len(), 2);
    assert!(out.join("first.nii.gz").is_file() && out.join("second.nii.gz").is_file());
}

/// An exported disk has an index (DICOMDIR) beside its series, and may have a scan of another format there.
#[test]
fn dicomdir_and_scans_beside_series_are_handled() {
    let home = tempfile::tempdir().unwrap();
    let all = home.path().join("all");
    let first = series(&all, "first", "u12_jpegls.dcm");
    series(&all, "second", "u16_rle.dcm");
    std::fs::copy(first.join("IM0001"), all.join("DICOMDIR")).unwrap();
    std::fs::copy(scan(), all.join("third.nii.gz")).unwrap();
    let out = home.path().join("out");
    let ended = predict(home.path(), &[&all], &out, &["--json"]).code(0);
    assert_eq!(ended.json_lines().len(), 3);
    assert!(["first", "second", "third"].iter().all(|case| out.join(format!("{case}.nii.gz")).is_file()));
}

#[test]
fn incomplete_dicom_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    for (lost, content, reason) in [
        ("IM0002", "", "an empty file"),
        ("a.dcm", "", "an empty file"),
        ("b.DCM", "cut", "found a file that is not DICOM"),
    ] {
        let folder = series(home.path(), "series", "u12.dcm");
        std::fs::write(folder.join(".notes"), "").unwrap();
        std::fs::write(folder.join("README"), "no DICOM").unwrap();
        run(home.path(), &[&"info", &folder]).code(0);
        std::fs::write(folder.join(lost), content).unwrap();
        predict(home.path(), &[&folder], &home.path().join("mask.nii.gz"), &[]).code(1).says(reason).says(lost);
        run(home.path(), &[&"info", &folder]).code(1).says(reason);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn dicom_segmentation_has_the_labels_of_the_mask() {
    let home = tempfile::tempdir().unwrap();
    let folder = series(home.path(), "series", "u12.dcm");
    let (dicom, nifti) = (home.path().join("mask.dcm"), home.path().join("mask.nii.gz"));
    predict(home.path(), &[&folder], &dicom, &[]).code(0);
    predict(home.path(), &[&folder], &nifti, &[]).code(0);
    let (segmented, names) = sulcus_dicom::read_segmentation(&dicom).unwrap();
    let (mask, source) = sulcus_io::read_labels(&nifti).unwrap();
    segmented.geometry().check_same_grid(mask.geometry()).unwrap();
    assert_eq!(segmented.data(), mask.data());
    let name = |table: &sulcus_volume::LabelTable| table.entries()[0].name.clone();
    assert_eq!(name(&names), name(source.label_table().unwrap()));
    predict(home.path(), &[&scan()], &dicom, &[]).code(1).says("the scan is not a DICOM series");

    let again = home.path().join("again.dcm");
    run(home.path(), &[&"convert", &nifti, &again, &"--like", &folder]).code(0);
    assert_eq!(sulcus_dicom::read_segmentation(&again).unwrap().0.data(), mask.data());
    let back = home.path().join("back.nii.gz");
    run(home.path(), &[&"convert", &again, &back]).code(0);
    assert_eq!(sulcus_io::read_labels(&back).unwrap().0.data(), mask.data());
    run(home.path(), &[&"convert", &nifti, &again]).code(2).says("--like names none");
}

/// A study of two series that differ only in their UID and their number of slices.
fn study(home: &Path) -> (PathBuf, &'static str, &'static str) {
    let folder = series(home, "study", "u12.dcm");
    let (first, second) = ("1.2.3.4.1", "1.2.3.4.7");
    for (name, height) in [("IM0002", 40), ("IM0003", 44)] {
        let mut bytes = std::fs::read(folder.join("IM0001")).unwrap();
        let at = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).rposition(|w| w == text).unwrap();
        // The element of SeriesInstanceUID, then its value.
        let uid = at(&bytes, &[0x20, 0x00, 0x0e, 0x00]) + 8;
        assert_eq!(&bytes[uid..uid + 9], first.as_bytes());
        bytes[uid..uid + 9].copy_from_slice(second.as_bytes());
        let position = at(&bytes, &[0x20, 0x00, 0x32, 0x00]) + 6;
        let length = usize::from(u16::from_le_bytes([bytes[position], bytes[position + 1]]));
        let moved = format!("{:<length$}", format!("0\\0\\{height}"));
        bytes[position + 2..position + 2 + length].copy_from_slice(moved.as_bytes());
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    (folder, first, second)
}

#[test]
fn every_command_takes_the_named_series() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (folder, one, two) = study(home);
    let slices = |path: &Path| sulcus_io::read_metadata(path).unwrap().geometry().shape()[2];
    let out = home.join("out.nii");
    run(home, &[&"convert", &folder, &out]).code(0).says("2 DICOM series found");
    assert_eq!(slices(&out), 2);
    for (uid, expected) in [(one, 1), (two, 2)] {
        run(home, &[&"convert", &folder, &out, &"--series", &uid]).code(0);
        assert_eq!(slices(&out), expected, "{uid}");
        // A mask of the series becomes a segmentation of this series, even if another one is larger.
        let (mask, back) = (home.join("mask.dcm"), home.join("back.nii"));
        let table = super::support::file(home, "names.ctbl", b"# Color table file\n7 Part 1 2 3 255\n");
        let labels = sulcus_volume::LabelMap::new(
            *sulcus_io::read_metadata(&out).unwrap().geometry(),
            vec![7; sulcus_io::read_metadata(&out).unwrap().geometry().voxels()],
        )
        .unwrap();
        let seven = home.join("seven.nii");
        let source = sulcus_io::read_metadata(&out).unwrap();
        sulcus_io::write_labels(&seven, &labels, &source, &Default::default()).unwrap();
        run(home, &[&"convert", &seven, &mask, &"--like", &folder, &"--series", &uid, &"--names", &table]).code(0);
        let (segmented, names) = sulcus_dicom::read_segmentation(&mask).unwrap();
        assert_eq!(segmented.geometry().shape()[2], expected);
        assert!(segmented.data().iter().all(|v| *v == 7));
        assert_eq!(names.entries()[0].name, "Part");
        run(home, &[&"convert", &mask, &back]).code(0);
        assert_eq!(sulcus_io::read_labels(&back).unwrap().0.data(), segmented.data());
        let figure = home.join(format!("{expected}.png"));
        run(home, &[&"figure", &"-i", &folder, &"-t", &mask, &"--series", &uid, &"-o", &figure]).code(0);
    }
    // The last mask is on the grid of the second series.
    run(home, &[&"figure", &"-i", &folder, &"-t", &home.join("mask.dcm"), &"--series", &one, &"-o", &out]).code(2);
    let wrong = home.join("wrong.png");
    run(home, &[&"figure", &"-i", &folder, &"-t", &home.join("mask.dcm"), &"--series", &one, &"-o", &wrong])
        .code(1)
        .says("do not belong together");
    for words in [vec!["convert"], vec!["view", "--no-open"]] {
        let mut command = super::support::sulcus(home);
        command.args(&words).arg(&folder);
        if words[0] == "convert" {
            command.arg(&out);
        }
        let ended = super::support::ended(command.args(["--series", "1.2"]).output().unwrap());
        ended.code(1).says("a series with the requested UID");
    }
    run(home, &[&"convert", &scan(), &out, &"--series", &"1.2"]).code(2).says("neither IN nor REF");
    run(home, &[&"view", &"--no-open", &scan(), &"--series", &"1.2"]).code(2).says("--series names a series");
}

#[test]
fn choice_among_series_is_part_of_the_json() {
    let home = tempfile::tempdir().unwrap();
    let (folder, ..) = study(home.path());
    let note = "2 DICOM series found; this one has 2 slices";
    let ended = run(home.path(), &[&"info", &folder, &"--json"]).code(0).says(note);
    let info = &ended.json_lines()[0]["notes"];
    assert!(info[0].as_str().unwrap().contains("the largest that is not a localizer is read"), "{info}");
    let line =
        &predict(home.path(), &[&folder], &home.path().join("mask.nii"), &["--json"]).code(0).json_lines()[0];
    assert_eq!(&line["notes"], info);
    let line =
        &predict(home.path(), &[&scan()], &home.path().join("mask.nii"), &["--json"]).code(0).json_lines()[0];
    assert!(line.get("notes").is_none());
}

#[test]
fn integer_dicom_values_stay_integers() {
    let home = tempfile::tempdir().unwrap();
    let folder = series(home.path(), "series", "u12.dcm");
    let expected = &run(home.path(), &[&"info", &folder, &"--json"]).code(0).json_lines()[0];
    for name in ["a.nii.gz", "a.nrrd", "a.mha"] {
        let out = home.path().join(name);
        run(home.path(), &[&"convert", &folder, &out]).code(0).says("uint16");
        let found = &run(home.path(), &[&"info", &out, &"--json"]).code(0).json_lines()[0];
        for same in ["dtype", "min", "max", "mean", "shape"] {
            assert_eq!(found[same], expected[same], "{name}: {same}");
        }
    }
}

#[test]
fn memory_is_estimated_for_the_named_series() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (folder, small, large) = study(home);
    // Voxels so long that the series cannot be resampled to the model's 1 mm.
    for name in ["IM0002", "IM0003"] {
        let mut bytes = std::fs::read(folder.join(name)).unwrap();
        let element = [0x28, 0x00, 0x30, 0x00];
        let spacing = bytes.windows(4).rposition(|w| w == element).unwrap() + 6;
        let length = usize::from(u16::from_le_bytes([bytes[spacing], bytes[spacing + 1]]));
        let value = format!("{:<length$}", "99\\99");
        assert_eq!(value.len(), length);
        bytes[spacing + 2..spacing + 2 + length].copy_from_slice(value.as_bytes());
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/hippocampus/model.onnx");
    let mask = home.join("mask.nii.gz");
    let segment = |series: &str| {
        let mut command = super::support::sulcus(home);
        command.args(["predict", "--engine", "tract", "--max-memory", "900MB", "--series", series]);
        super::support::ended(command.arg("-m").arg(&model).arg(&folder).arg("-o").arg(&mask).output().unwrap())
    };
    segment(large).code(1).says("memory limit");
    segment(small).code(0);
}
