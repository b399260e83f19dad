//! The checks of scans at prediction, on real data: cases of a model's own data set give no warning, foreign scans do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

use std::path::{Path, PathBuf};

use sulcus_dataset::{CaseFacts, Dataset};
use sulcus_model::{ModelSpec, Training};
use sulcus_pipeline::{Crop, ScanChecks, ScanWarning, check_scan};
use sulcus_plan::{DeviceChoice, DeviceKind, PlanFile, TrainConfig};
use sulcus_volume::Image;

/// A volume or data set of the shared development data. Where it is missing, that part of the test counts as skipped.
fn development_data(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if !path.exists() {
        sulcus_harness::skip_part(format_args!("{} is not on this machine", path.display()));
        return None;
    }
    Some(path)
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus")
}

/// The specification of a model that is trained on these cases.
fn spec(dataset: &Dataset, facts: &[CaseFacts]) -> ModelSpec {
    let config = TrainConfig::from_preset("auto").unwrap().with(|c| c.device = DeviceChoice::Cpu.into());
    let made = PlanFile::decide(dataset, &config, DeviceKind::Processor, facts, &mut ()).unwrap();
    made.plan.model_spec(dataset.name().to_owned(), Training::default())
}

/// What is reported about a scan, as the runtime asks.
fn warnings(spec: &ModelSpec, image: &Image) -> Vec<ScanWarning> {
    let part = Crop::of(spec, image).unwrap().map(|crop| crop.image(image).unwrap());
    check_scan(&[spec], part.as_ref().unwrap_or(image), ScanChecks::default()).unwrap()
}

#[test]
fn training_and_held_out_cases_of_a_data_set_give_no_warning() {
    let shared = [
        "Task04_Hippocampus",
        "Dataset703_LIDCNodules",
        "Dataset706_OpenMS",
        "Dataset711_CHASEDB1",
        "Dataset714_DeepRegMR",
    ];
    for root in [bundled()].into_iter().chain(shared.into_iter().filter_map(development_data)) {
        let dataset = Dataset::open(&root).unwrap();
        let facts = dataset.survey(&[]).into_facts().unwrap();
        let images: Vec<(&str, Image)> =
            dataset.cases().iter().map(|case| (case.name.as_str(), case.read_image().unwrap().0)).collect();
        const FOLDS: usize = 5;
        let folds = FOLDS.min(facts.len());
        for fold in 0..folds {
            let training: Vec<CaseFacts> =
                facts.iter().enumerate().filter(|(i, _)| i % folds != fold).map(|(_, f)| f.clone()).collect();
            let spec = spec(&dataset, &training);
            assert_eq!(spec.training_scans.as_ref().map(|scans| scans.cases), Some(training.len()));
            for (name, image) in &images {
                assert_eq!(warnings(&spec, image), [], "{name} of {}, fold {fold}", root.display());
            }
        }
    }
}

#[test]
fn foreign_scans_give_warnings() {
    let Some(hippocampus) = development_data("Task04_Hippocampus") else { return };
    let hippocampus = Dataset::open(hippocampus).unwrap();
    let mr = spec(&hippocampus, &hippocampus.survey(&[]).into_facts().unwrap());
    let kinds = |spec: &ModelSpec, image: &Image| -> Vec<&str> {
        warnings(spec, image).iter().map(ScanWarning::kind).collect()
    };
    // A whole head.
    for head in ["colin27/t1.nii.gz", "mni152/t1.nii.gz"] {
        let Some(head) = development_data(head) else { continue };
        assert!(kinds(&mr, &sulcus_io::read_scan(&head).unwrap().image).contains(&"field_of_view"));
    }
    // CT of the size of the crops, and the crops as CT.
    if let Some(lung) = development_data("Dataset703_LIDCNodules") {
        let lung = Dataset::open(lung).unwrap();
        let ct = spec(&lung, &lung.survey(&[]).into_facts().unwrap());
        for case in lung.cases().iter().take(40) {
            let found = kinds(&mr, &case.read_image().unwrap().0);
            assert!(found.contains(&"negative_intensities"), "{}: {found:?}", case.name);
        }
        for case in hippocampus.cases().iter().take(40) {
            let found = kinds(&ct, &case.read_image().unwrap().0);
            assert!(found.contains(&"intensities"), "{}: {found:?}", case.name);
        }
    }
    // MR of another part of the body, which is as large.
    if let Some(prostate) = development_data("Dataset714_DeepRegMR") {
        for case in Dataset::open(prostate).unwrap().cases() {
            let found = kinds(&mr, &case.read_image().unwrap().0);
            assert!(found.contains(&"voxel_size"), "{}: {found:?}", case.name);
        }
    }
}

sulcus_harness::main!();
