//! Opening, describing and splitting data sets.
#![allow(clippy::unwrap_used, reason = "tests")]

mod scans;

use std::path::{Path, PathBuf};

use scans::{decathlon, geometry, label_file, phantom, write_image, write_labels};
use sulcus_dataset::{Dataset, Layout, SplitChoice};

const SHAPE: [usize; 3] = [12, 14, 10];

/// The message without the temporary folder's name.
fn message(error: impl ToString, root: &Path) -> String {
    error.to_string().replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "ROOT")
}

fn problems(root: &Path) -> String {
    message(Dataset::open(root).unwrap().survey(&[]).into_facts().unwrap_err(), root)
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus")
}

#[test]
fn bundled_scans_have_no_findings() {
    let dataset = Dataset::open(bundled()).unwrap();
    assert_eq!((dataset.layout(), dataset.cases().len()), (Layout::Decathlon, 46));
    let survey = dataset.survey(&[]);
    assert_eq!((survey.problems.len(), survey.warnings.len()), (0, 0), "{:?}", survey.problems);
    let summary = dataset.summary(&survey);
    let names: Vec<&str> = summary.labels.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["Anterior", "Posterior"]);
    assert!(summary.labels.iter().all(|l| l.cases == 46 && l.voxels > 10_000));
    assert_eq!(summary.spacing_mm.median, [1.0; 3]);
    let split = dataset.split(&SplitChoice::default()).unwrap();
    assert_eq!((split.training.len(), split.validation.len()), (36, 10));
}

#[test]
fn nnunet_folder_has_one_file_per_channel() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("imagesTr")).unwrap();
    std::fs::create_dir_all(root.join("labelsTr")).unwrap();
    for name in ["b_1", "a_2"] {
        let (image, labels) = phantom(SHAPE, 2, 0);
        for channel in 0..2 {
            let file = root.join("imagesTr").join(format!("{name}_{channel:04}.nii.gz"));
            write_image(&file, geometry(SHAPE, [1.0; 3]), 1, image.clone());
        }
        write_labels(&label_file(root, name), geometry(SHAPE, [1.0; 3]), labels);
    }
    let description = r#"{"channel_names":{"1":"T2","0":"T1"},"labels":{"background":0,"Box":2,"Ball":1},
        "numTraining":2,"file_ending":".nii.gz"}"#;
    std::fs::write(root.join("dataset.json"), description).unwrap();
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(dataset.layout(), Layout::NnUnet);
    assert_eq!(dataset.channels(), ["T1", "T2"]);
    assert_eq!(dataset.labels().get(2).unwrap().name, "Box");
    let names: Vec<&str> = dataset.cases().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a_2", "b_1"]);
    assert_eq!(dataset.survey(&[]).into_facts().unwrap()[0].channels, 2);

    std::fs::remove_file(root.join("imagesTr/a_2_0001.nii.gz")).unwrap();
    insta::assert_snapshot!(problems(root), @"
    the data set has 1 problem(s):
      a_2: the image file is missing; add it, or remove the case: imagesTr/a_2_0001.nii.gz
    ");
}

#[test]
fn plain_folder_takes_labels_from_its_masks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("images")).unwrap();
    std::fs::create_dir_all(root.join("labels")).unwrap();
    for (seed, name) in ["one.nii", "two.nii.gz"].into_iter().enumerate() {
        let (image, labels) = phantom(SHAPE, 1, seed);
        write_image(&root.join("images").join(name), geometry(SHAPE, [1.0; 3]), 1, image);
        let labels = labels.into_iter().map(|l| l * 255).collect();
        write_labels(&root.join("labels").join(name), geometry(SHAPE, [1.0; 3]), labels);
    }
    std::fs::write(root.join("images/._one.nii"), "a resource fork").unwrap();
    let dataset = Dataset::open(root).unwrap();
    assert_eq!((dataset.layout(), dataset.cases().len()), (Layout::Folders, 2));
    assert_eq!((dataset.labels().entries()[0].value, dataset.labels().entries().len()), (255, 1));
    std::fs::rename(root.join("images/one.nii"), root.join("images/three.nii")).unwrap();
    insta::assert_snapshot!(problems(root), @"
    the data set has 2 problem(s):
      one: the image file is missing; add it, or remove the case: images/one.nii
      three: the mask file is missing; add it, or remove the case: labels/three.nii
    ");
}

#[test]
fn unknown_folders_and_descriptions_say_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = || message(Dataset::open(root).unwrap_err(), root);
    insta::assert_snapshot!(refused(), @"this folder is not a data set: expected `dataset.json` (Medical Segmentation Decathlon or nnU-Net) or the folders `images` and `labels`: ROOT");
    let describe = |json: &str| std::fs::write(root.join("dataset.json"), json).unwrap();
    describe("{");
    insta::assert_snapshot!(refused(), @"this data set's description cannot be used: it is not JSON: EOF while parsing an object at line 1 column 1: dataset.json");
    describe(r#"{"labels":{"background":0,"whole":[1,2]},"channel_names":{"0":"CT"}}"#);
    insta::assert_snapshot!(refused(), @"this data set's description cannot be used: label `whole` is a region of several values, so `regions_class_order` must say, label by label in their order, which value each writes to a mask: dataset.json");
    describe(r#"{"labels":{"0":"background","1":"A"}}"#);
    insta::assert_snapshot!(refused(), @"this data set's description cannot be used: expected `training` (Medical Segmentation Decathlon) or `channel_names` (nnU-Net), found neither: dataset.json");
    describe(r#"{"labels":{"0":"background","1":"A"},"modality":{"0":"MRI"},"training":[{"image":"a.nii.gz"}]}"#);
    insta::assert_snapshot!(refused(), @r#"this data set's description cannot be used: an entry of `training` has no `label`: {"image":"a.nii.gz"}: dataset.json"#);
    describe(r#"{"labels":{"0":"background","1":"A"},"modality":{"0":"MRI"},"training":[]}"#);
    insta::assert_snapshot!(refused(), @"this data set has no case with an image and a mask: ROOT");
}

#[test]
fn drawn_folds_hold_out_each_case_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let names = decathlon(root, 7, SHAPE);
    let dataset = Dataset::open(root).unwrap();
    let fold = |fold| dataset.split(&SplitChoice::HoldOut { splits: None, fold });
    let mut held_out: Vec<String> = (0..5).flat_map(|k| fold(k).unwrap().validation).collect();
    held_out.sort();
    assert_eq!(held_out, names);
    assert_eq!(fold(2).unwrap(), fold(2).unwrap());
    assert!((0..5).all(|k| fold(k).unwrap().training.len() >= 5));
    insta::assert_snapshot!(message(fold(5).unwrap_err(), root), @"the cases cannot be split: there is no fold 5: folds 0 to 4 exist: ROOT");
    let all = dataset.split(&SplitChoice::All).unwrap();
    assert_eq!((all.training, all.validation.len()), (names, 0));
}

#[test]
fn splits_that_do_not_fit_the_cases_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    decathlon(root, 3, SHAPE);
    let dataset = Dataset::open(root).unwrap();
    let refused = |json: &str| {
        std::fs::write(root.join("splits_final.json"), json).unwrap();
        message(dataset.split(&SplitChoice::default()).unwrap_err(), root)
    };
    insta::assert_snapshot!(refused(r#"[{"train":["case_00","x"],"val":["case_01"]}]"#), @r#"the cases cannot be split: fold 0 names 1 case(s) that the data set lacks: ["x"]: splits_final.json"#);
    insta::assert_snapshot!(refused(r#"[{"train":["case_00","case_01"],"val":["case_01"]}]"#), @r#"the cases cannot be split: fold 0 has the same case(s) in `train` and `val`: ["case_01"]: splits_final.json"#);
    insta::assert_snapshot!(refused(r#"[{"train":["case_00"],"val":[]}]"#), @"the cases cannot be split: fold 0 has an empty `train` or `val`: splits_final.json");
    insta::assert_snapshot!(refused(r#"{"train":[]}"#), @r#"the cases cannot be split: expected a list of {"train": [names], "val": [names]}: invalid type: map, expected a sequence at line 1 column 0: splits_final.json"#);
}

#[test]
fn folds_are_checked_and_list_the_unused_cases() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let names = decathlon(root, 6, SHAPE);
    let dataset = Dataset::open(root).unwrap();
    let drawn = dataset.folds(None).unwrap();
    assert_eq!((drawn.folds.len(), drawn.in_no_fold.len(), drawn.never_held_out.len()), (5, 0, 0));
    assert_eq!(drawn.folds[3], dataset.split(&SplitChoice::HoldOut { splits: None, fold: 3 }).unwrap());

    let file = root.join("mine.json");
    let folds = |json: &str| {
        std::fs::write(&file, json).unwrap();
        dataset.folds(Some(&file))
    };
    let good = folds(
        r#"[{"train":["case_00","case_01"],"val":["case_02"]},{"train":["case_02","case_03"],"val":["case_00"]}]"#,
    )
    .unwrap();
    assert_eq!(good.in_no_fold, names[4..]);
    assert_eq!(good.never_held_out, ["case_01", "case_03"]);

    let refused = |json: &str| message(folds(json).unwrap_err(), root);
    insta::assert_snapshot!(refused(r#"[{"train":["case_00"],"val":["case_01"]},{"train":["case_02"],"val":["case_03","case_01"]}]"#), @"the cases cannot be split: folds 0 and 1 both hold out the case `case_01`: mine.json");
    insta::assert_snapshot!(refused(r#"[{"train":["case_00"],"val":["case_01"]},{"train":["case_02"],"val":["case_02"]}]"#), @r#"the cases cannot be split: fold 1 has the same case(s) in `train` and `val`: ["case_02"]: mine.json"#);
    insta::assert_snapshot!(refused(r#"[{"train":["case_00"],"val":["case_01"]},{"train":["case_02"],"val":["case_09"]}]"#), @r#"the cases cannot be split: fold 1 names 1 case(s) that the data set lacks: ["case_09"]: mine.json"#);
    insta::assert_snapshot!(refused(r#"[{"train":["case_00","case_02","case_00"],"val":["case_01"]}]"#), @"the cases cannot be split: fold 0 names the case `case_00` twice in `train`: mine.json");
    insta::assert_snapshot!(refused("[]"), @"the cases cannot be split: no fold exists: mine.json");
}
