//! Folds keep the cases of a patient together.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

#[allow(dead_code, reason = "shared with other tests")]
mod scans;

use std::collections::BTreeSet;
use std::path::Path;

use scans::{geometry, phantom, write_image, write_labels};
use sulcus_dataset::{Dataset, PatientChoice, PatientSource, Split, SplitChoice};

const SHAPE: [usize; 3] = [12, 14, 10];

/// An `images/` and `labels/` folder with cases of these names.
fn plain(root: &Path, names: &[&str]) {
    for (seed, name) in names.iter().enumerate() {
        let (image, labels) = phantom(SHAPE, 1, seed);
        for folder in ["images", "labels"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        write_image(&root.join(format!("images/{name}.nii")), geometry(SHAPE, [1.0; 3]), 1, image);
        write_labels(&root.join(format!("labels/{name}.nii")), geometry(SHAPE, [1.0; 3]), labels);
    }
}

fn message(error: impl ToString, root: &Path) -> String {
    error.to_string().replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "ROOT")
}

/// Whether no patient, the name up to `_`, is on both sides of a fold, and each case is held out once.
fn check_folds(dataset: &Dataset) -> Vec<usize> {
    let folds = dataset.folds(None).unwrap();
    assert!(folds.in_no_fold.is_empty() && folds.never_held_out.is_empty());
    let patients = |names: &[String]| -> BTreeSet<String> {
        names.iter().map(|name| name.split('_').next().unwrap().to_owned()).collect()
    };
    for Split { training, validation, .. } in &folds.folds {
        assert!(patients(training).is_disjoint(&patients(validation)), "{training:?} {validation:?}");
        assert_eq!(training.len() + validation.len(), dataset.cases().len());
    }
    folds.folds.iter().map(|fold| fold.validation.len()).collect()
}

fn notes(dataset: &Dataset, choice: &SplitChoice) -> Vec<String> {
    let split = dataset.split(choice).unwrap();
    dataset.patient_notes(choice, &[split]).iter().map(ToString::to_string).collect()
}

#[test]
fn folds_without_patients_stay_as_they_were() {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus");
    let dataset = Dataset::open(bundled).unwrap();
    assert_eq!(dataset.patients().source, PatientSource::EachCase);
    assert!(notes(&dataset, &SplitChoice::default()).is_empty());
    let held_out = dataset.split(&SplitChoice::default()).unwrap().validation;
    let numbers: Vec<&str> = held_out.iter().map(|name| name.strip_prefix("hippocampus_").unwrap()).collect();
    assert_eq!(numbers, ["039", "041", "053", "124", "146", "158", "195", "207", "230", "341"]);
}

#[test]
fn clear_names_group_the_cases() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["P1_1", "P1_2", "P1_3", "P2_1", "P2_2", "P3_1", "P4_1", "P5_1", "P6_1", "P6_2"];
    plain(folder.path(), &names);
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.patients().source, PatientSource::CaseNames);
    assert_eq!(dataset.patients().cases["P1"], ["P1_1", "P1_2", "P1_3"]);
    // The largest patients first, so that the folds are as even as they can be.
    assert_eq!(check_folds(&dataset), [3, 2, 2, 2, 1]);
    insta::assert_snapshot!(notes(&dataset, &SplitChoice::default()).join("\n"), @"the folds keep the cases of each patient together, as guessed from the case names: 10 cases of 6 patients, for example P1_1 and P1_2 of P1");

    let each = dataset.with_patients(&PatientChoice::EachCase).unwrap();
    assert!(notes(&each, &SplitChoice::default()).is_empty());
    assert_eq!(each.folds(None).unwrap().folds.iter().map(|f| f.validation.len()).collect::<Vec<_>>(), [2; 5]);
}

#[test]
fn tables_state_the_patients() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    plain(root, &["a_0", "b_0", "a_1", "c_0"]);
    let table = |text: &str| {
        std::fs::write(root.join("patients.csv"), text).unwrap();
        Dataset::open(root)
    };
    let dataset = table("case,patient\na_0,a\na_1,a\nb_0,b\nc_0,c\nnot_here,d\n").unwrap();
    assert_eq!(dataset.patients().source, PatientSource::File(root.join("patients.csv")));
    assert_eq!(check_folds(&dataset), [2, 1, 1]);
    let note = message(notes(&dataset, &SplitChoice::default()).join("\n"), root);
    insta::assert_snapshot!(note, @"the folds keep the cases of each patient together: 4 cases of 3 patients, as stated in patients.csv");

    let refused = |text: &str| message(table(text).unwrap_err(), root);
    insta::assert_snapshot!(refused("case,patient\na_0,a\nb_0,b\n"), @"the patients of the cases cannot be used: it states the patient of some cases, but not of a_1, c_0: patients.csv");
    let one = table("case,patient\na_0,a\na_1,a\nb_0,a\nc_0,a\n").unwrap();
    insta::assert_snapshot!(message(one.split(&SplitChoice::default()).unwrap_err(), root), @"the cases cannot be split: all 4 cases are of one patient: ROOT");

    // The same in a dataset.json, whose further keys nnU-Net ignores.
    std::fs::rename(root.join("images"), root.join("imagesTr")).unwrap();
    std::fs::rename(root.join("labels"), root.join("labelsTr")).unwrap();
    for name in ["a_0", "b_0", "a_1", "c_0"] {
        let image = |name: &str| root.join(format!("imagesTr/{name}.nii"));
        std::fs::rename(image(name), image(&format!("{name}_0000"))).unwrap();
    }
    let description = r#"{"channel_names":{"0":"CT"},"labels":{"background":0,"Ball":1},"file_ending":".nii",
        "patients":{"a_0":"P 7","a_1":"P 7","b_0":12,"c_0":"x"}}"#;
    std::fs::write(root.join("dataset.json"), description).unwrap();
    insta::assert_snapshot!(message(Dataset::open(root).unwrap_err(), root), @"the patients of the cases cannot be used: `patients` in dataset.json states the patients too; keep one of the two: patients.csv");
    std::fs::remove_file(root.join("patients.csv")).unwrap();
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(dataset.patients().cases["P 7"], ["a_0", "a_1"]);
    assert_eq!(dataset.patients().cases["12"], ["b_0"]);
    assert_eq!(check_folds(&dataset), [2, 1, 1]);
}

#[test]
fn splits_with_a_patient_on_both_sides_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    plain(root, &["patient1_a", "patient1_b", "patient2_a", "patient2_b"]);
    let dataset = Dataset::open(root).unwrap();
    let with = |json: &str| {
        let file = root.join("mine.json");
        std::fs::write(&file, json).unwrap();
        notes(&dataset, &SplitChoice::HoldOut { splits: Some(file), fold: 0 })
    };
    let torn = r#"[{"train":["patient1_a","patient2_a"],"val":["patient1_b","patient2_b"]}]"#;
    insta::assert_snapshot!(with(torn).join("\n"), @"2 patients with cases on both sides of the split (guessed from the case names), so that the scores of the held-out cases are too good, for example patient1: patient1_a is trained on, patient1_b is held out");
    assert!(with(r#"[{"train":["patient1_a","patient1_b"],"val":["patient2_a"]}]"#).is_empty());
    // The data set's own file of splits is used as it is, but checked in the same way.
    std::fs::write(root.join("splits_final.json"), torn).unwrap();
    assert_eq!(notes(&dataset, &SplitChoice::default()).len(), 1);
    assert!(notes(&dataset, &SplitChoice::All).is_empty());
}

#[test]
fn equal_case_names_of_two_folders_are_named_with_both_paths() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut pairs = Vec::new();
    for site in ["one", "two"] {
        std::fs::create_dir_all(root.join(site)).unwrap();
        plain(&root.join(site), &["x"]);
        let file = |kind: &str| format!("{site}/{kind}/x.nii");
        pairs.push(serde_json::json!({"image": file("images"), "label": file("labels")}));
    }
    let description = serde_json::json!({"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Ball"}, "training": pairs});
    std::fs::write(root.join("dataset.json"), description.to_string()).unwrap();
    let dataset = Dataset::open(root).unwrap();
    insta::assert_snapshot!(message(dataset.split(&SplitChoice::default()).unwrap_err(), root), @"
    the data set has 1 problem(s):
      x: two cases have this name, the other is one/images/x.nii; rename or remove one: two/images/x.nii
    ");
    assert_eq!(message(dataset.folds(None).unwrap_err(), root).lines().count(), 2);
}

#[test]
fn real_data_sets_are_grouped_by_their_names() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !shared.is_dir() {
        sulcus_harness::skip(format_args!("{} is not on this machine", shared.display()));
    }
    for (name, patients) in [
        ("Dataset703_LIDCNodules", Some(124)),
        ("Dataset711_CHASEDB1", Some(10)),
        ("Task04_Hippocampus", None),
        ("Dataset714_DeepRegMR", None),
        ("Dataset706_OpenMS", None),
    ] {
        let dataset = Dataset::open(shared.join(name)).unwrap();
        let found = dataset.patients();
        match patients {
            Some(patients) => {
                assert_eq!((&found.source, found.cases.len()), (&PatientSource::CaseNames, patients), "{name}");
            }
            None => assert_eq!(found.source, PatientSource::EachCase, "{name}"),
        }
        for split in dataset.folds(None).unwrap().folds {
            let of = |names: &[String]| -> BTreeSet<&String> {
                found
                    .cases
                    .iter()
                    .filter(|(_, cases)| cases.iter().any(|c| names.contains(c)))
                    .map(|(p, _)| p)
                    .collect()
            };
            assert!(of(&split.training).is_disjoint(&of(&split.validation)), "{name}");
        }
    }
}

sulcus_harness::main!();
