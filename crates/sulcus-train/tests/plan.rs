//! Training by plans: an edited plan is used and kept with the run.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;

use std::path::Path;

use serde_json::{Value, json};
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_plan::{DeviceChoice, PlanFile, TrainConfig};
use sulcus_train::{Run, plan, train, train_by_plan};

const SHAPE: [usize; 3] = [20, 24, 16];

fn config(preset: &str) -> TrainConfig {
    TrainConfig::from_preset(preset).unwrap().with(|c| c.device = DeviceChoice::Cpu.into())
}

/// Writes an edited plan and reads it.
fn changed(folder: &Path, change: impl Fn(&mut Value)) -> PlanFile {
    let root = folder.join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let made = plan(&dataset, &SplitChoice::default(), &config("unet2d-lite"), &mut ()).unwrap();
    let mut value: Value = serde_json::from_str(&made.to_json().unwrap()).unwrap();
    change(&mut value);
    let file = folder.join("plan.json");
    std::fs::write(&file, serde_json::to_vec(&value).unwrap()).unwrap();
    PlanFile::read(&file).unwrap()
}

#[test]
fn edited_plan_is_used_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(folder.path(), |v| {
        v["plan"]["patch"] = json!([16, 32]);
        v["plan"]["batch_size"] = json!(3);
        v["plan"]["normalisation"] = json!([{"scheme": "min_max"}]);
        v["plan"]["training_scans"]["cases"] = json!(1000);
        v["config"]["epochs"] = json!(1);
        v["config"]["steps_per_epoch"] = json!(1);
    });
    let dataset = Dataset::open(folder.path().join("data")).unwrap();
    let run = folder.path().join("run");
    let split = SplitChoice::default();
    train_by_plan(&dataset, &split, &file.config, &file.plan, &run, &mut ()).unwrap();
    let manifest = Run::open(&run).unwrap().manifest().clone();
    // The training scans are those of the run, whatever cases the plan was made from.
    let training_scans = manifest.plan.training_scans.clone();
    assert_eq!(training_scans.as_ref().map(|scans| scans.cases), Some(manifest.split.training.len()));
    let mut expected = file.plan.clone();
    expected.training_scans = training_scans;
    assert_eq!(manifest.plan, expected);
    let kept = PlanFile::read(&run.join("plan.json")).unwrap();
    assert_eq!((&kept.plan, &kept.config), (&expected, &file.config));

    let mut other = file.plan.clone();
    other.channels.push("PET".into());
    other.normalisation.push(other.normalisation[0]);
    let at = folder.path().join("other");
    let refused = train_by_plan(&dataset, &split, &file.config, &other, &at, &mut ()).unwrap_err();
    let text = refused.to_string();
    assert!(text.starts_with("the plan cannot be used: `channels` are [") && text.contains("PET"), "{text}");
    let mut other = file.plan.clone();
    other.labels = sulcus_volume::LabelTable::from_names([(9, "Nine".to_owned()), (2, "Two".to_owned())]).unwrap();
    let text = train_by_plan(&dataset, &split, &file.config, &other, &at, &mut ()).unwrap_err().to_string();
    assert!(text.contains("`labels` are") && text.contains("9 Nine"), "{text}");
    assert!(!at.exists());
}

#[test]
fn run_keeps_its_plan() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let run = folder.path().join("run");
    let config = config("unet2d-lite").with(|c| {
        c.epochs = Some(1);
        c.steps_per_epoch = Some(1);
    });
    train(&dataset, &SplitChoice::default(), &config, &run, &mut ()).unwrap();
    let kept = PlanFile::read(&run.join("plan.json")).unwrap();
    assert_eq!(&kept.plan, &Run::open(&run).unwrap().manifest().plan);
    assert_eq!(kept.fingerprint.cases, 2);
}
