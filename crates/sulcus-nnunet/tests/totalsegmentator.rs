//! Tasks of TotalSegmentator from a folder with its weights. `tests/peers/totalsegmentator_predict.py` made the folder.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};

use sulcus_model::{NothingFound, SplitRule};
use sulcus_nnunet::{ImportError, TaskError, import_totalsegmentator, totalsegmentator_tasks};
use sulcus_onnx::join_networks;

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/totalsegmentator")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// A rough network, a crop, another voxel size and two parts.
#[test]
fn task_becomes_a_recipe() {
    let task = import_totalsegmentator(&weights(), "headneck_muscles").unwrap();
    let pack = &task.pack;
    pack.check().unwrap();
    let names: Vec<&str> = pack.networks.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["dataset_298", "dataset_778", "dataset_779"]);
    assert_eq!((task.files.len(), task.sources.len()), (3, 3));
    let steps: Vec<f64> = pack.networks.iter().map(|network| network.spec.tile_step).collect();
    assert_eq!(steps, [0.8, 0.5, 0.5]);
    let locate = pack.recipe.locate.as_ref().unwrap();
    assert_eq!((locate.margin_mm, locate.nothing_found), ([20.0; 3], NothingFound::EmptyMask));
    assert_eq!(locate.grid.unwrap().mm, Some([6.0; 3]));
    let rough = &pack.networks[0].spec.labels;
    let sought: Vec<&str> = locate.labels.iter().map(|label| rough.get(*label).unwrap().name.as_str()).collect();
    let expected =
        ["clavicula_left", "clavicula_right", "vertebrae_C1", "vertebrae_C5", "vertebrae_T1", "vertebrae_T4"];
    assert_eq!(sought, expected);
    assert_eq!(pack.recipe.grid.unwrap().mm, Some([0.75, 0.75, 1.0]));
    assert_eq!(
        pack.recipe.split,
        Some(SplitRule { above_voxels: 512 * 512 * 900, above_slices: 200, margin: 20 })
    );
    // The numbers and names of the result are those of TotalSegmentator's class map, whatever the parts call them.
    assert_eq!(pack.labels.entries().len(), 23);
    for (part, network) in pack.parts() {
        for [from, to] in part.merge.as_ref().unwrap() {
            assert_eq!(network.spec.labels.get(*from).unwrap().name, pack.labels.get(*to).unwrap().name);
        }
    }
    assert_eq!(pack.labels.get(1).unwrap().name, "sternocleidomastoid_right");
}

/// `headneck_muscles.onnx` beside the weights, which the tests of the interfaces for C, Python and HTTP read. `SULCUS_BLESS=1` writes it again.
#[test]
fn pack_that_other_tests_read_is_what_the_importer_makes() {
    let task = import_totalsegmentator(&weights(), "headneck_muscles").unwrap();
    let parts: Vec<&[u8]> = task.files.iter().map(Vec::as_slice).collect();
    let file = join_networks(&parts, &task.pack, "", "test").unwrap();
    let path = weights().join("headneck_muscles.onnx");
    if std::env::var_os("SULCUS_BLESS").is_some() {
        std::fs::write(&path, &file).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == file, "{} is not what the importer makes", path.display());
}

#[test]
fn missing_and_other_weights_are_named() {
    let refused = |folder: &Path, task: &str| match import_totalsegmentator(folder, task).unwrap_err() {
        ImportError::Task(error) => error,
        other => panic!("{other}"),
    };
    match refused(&weights(), "liver_vessels") {
        TaskError::MissingWeights { missing, .. } => assert_eq!(missing, ["Dataset008_HepaticVessel"]),
        other => panic!("{other}"),
    }
    match refused(&weights(), "total") {
        TaskError::MissingWeights { missing, .. } => assert_eq!(missing.len(), 5),
        other => panic!("{other}"),
    }
    assert!(matches!(refused(&weights(), "heartchambers_highres"), TaskError::Licensed { .. }));
    assert!(matches!(refused(&weights(), "teeth"), TaskError::Unsupported { .. }));
    assert!(matches!(refused(&weights(), "brain"), TaskError::Unknown { .. }));
    assert_eq!(totalsegmentator_tasks().unwrap().len(), 35);

    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("nnunet/results");
    copy(&weights(), &results);
    // TotalSegmentator's own folder, above the weights, is as good.
    assert!(import_totalsegmentator(folder.path(), "headneck_muscles").is_ok());
    let [first, second] =
        ["Dataset778_headneck_muscles_part1_492subj", "Dataset779_headneck_muscles_part2_492subj"];
    let configuration = "nnUNetTrainer_DASegOrd0_NoMirroring__nnUNetPlans__3d_fullres_high";
    // The second part has fewer labels than the first one.
    std::fs::remove_dir_all(results.join(second)).unwrap();
    copy(&results.join(first), &results.join(second));
    let other = refused(&results, "headneck_muscles");
    assert!(matches!(&other, TaskError::OtherWeights { reason, .. } if reason.contains("no label 12")), "{other}");
    std::fs::rename(results.join(first).join(configuration), results.join(first).join("other")).unwrap();
    let error = import_totalsegmentator(&results, "headneck_muscles").unwrap_err().to_string();
    assert!(
        error.contains("there is no folder nnUNetTrainer_DASegOrd0_NoMirroring__nnUNetPlans__3d_fullres_high"),
        "{error}"
    );
    copy(&results.join(first), &results.join("Dataset778_again"));
    let error = import_totalsegmentator(&results, "headneck_muscles").unwrap_err().to_string();
    assert!(error.contains("several folders of data set 778"), "{error}");
    let error = import_totalsegmentator(&folder.path().join("nothing"), "total").unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
}
