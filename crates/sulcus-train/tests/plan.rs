//! Plans as files: made from the bundled scans, changed by hand, used, refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod scans;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sulcus_model::SpacingRule;
use sulcus_train::{Dataset, DeviceChoice, PlanFile, Run, SplitChoice, TrainConfig, plan, train, train_by_plan};

const SHAPE: [usize; 3] = [20, 24, 16];

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus")
}

fn config(preset: &str) -> TrainConfig {
    TrainConfig { device: DeviceChoice::Cpu.into(), ..TrainConfig::from_preset(preset).unwrap() }
}

#[test]
fn the_bundled_scans_get_nnu_nets_patch_and_come_back_from_the_file() {
    let dataset = Dataset::open(bundled()).unwrap();
    let made = plan(&dataset, &SplitChoice::default(), &config("nnunet-3d"), &mut ()).unwrap();
    let data = &made.fingerprint;
    // The fold's training cases alone.
    assert_eq!((data.cases, data.spacing_mm.median), (36, [1.0; 3]));
    assert!(data.labels.iter().all(|l| l.cases == 36 && l.ml[0] > 0.5 && l.ml[2] < 4.0), "{:?}", data.labels);
    let inside = data.channels[0].foreground.unwrap();
    assert!(inside.min <= inside.percentile_00_5 && inside.percentile_00_5 < inside.median, "{inside:?}");
    assert!(inside.median < inside.percentile_99_5 && inside.percentile_99_5 <= inside.max, "{inside:?}");
    assert_eq!((made.plan.patch.as_slice(), made.plan.spacing), ([40, 56, 40].as_slice(), SpacingRule::Native));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    made.write(&file).unwrap();
    assert_eq!(PlanFile::read(&file).unwrap(), made);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let again = plan(&dataset, &SplitChoice::default(), &config("nnunet-3d"), &mut ()).unwrap();
    assert_eq!(again.to_json().unwrap(), made.to_json().unwrap());
}

#[test]
fn the_whole_data_set_gets_nnu_nets_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/Task04_Hippocampus");
    let Ok(dataset) = Dataset::open(&root) else {
        println!("skipped: the whole Task04_Hippocampus is not here");
        return;
    };
    let made = plan(&dataset, &SplitChoice::All, &config("nnunet-3d"), &mut ()).unwrap();
    // 5 % of the voxels of 208 cases are 7 patches, of all 260 that nnU-Net had 9.
    assert_eq!((made.fingerprint.cases, made.plan.patch.as_slice()), (208, [40, 56, 40].as_slice()));
    assert_eq!(made.plan.batch_size, 7);
}

/// A plan's JSON with something changed, written and read.
fn changed(folder: &Path, change: impl Fn(&mut Value)) -> Result<PlanFile, String> {
    let root = folder.join("data");
    if !root.exists() {
        scans::decathlon(&root, 3, SHAPE);
    }
    let dataset = Dataset::open(&root).unwrap();
    let made = plan(&dataset, &SplitChoice::default(), &config("unet2d-lite"), &mut ()).unwrap();
    let mut value: Value = serde_json::from_str(&made.to_json().unwrap()).unwrap();
    change(&mut value);
    let file = folder.join("plan.json");
    std::fs::write(&file, serde_json::to_vec(&value).unwrap()).unwrap();
    PlanFile::read(&file).map_err(|e| {
        let text = e.to_string();
        assert!(text.ends_with(&format!(": {}", file.display())), "{text}");
        text.replace(&format!(": {}", file.display()), "")
    })
}

#[test]
fn a_plan_whose_parts_do_not_fit_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut Value)| changed(folder.path(), change).unwrap_err();
    insta::assert_snapshot!(refused(|v| v["plan"]["patch"] = json!([40, 32])), @"the plan cannot be used: `patch` is [40, 32]; the strides of a 2-D network's 5 stages need 2 edges, multiples of [16, 16]");
    insta::assert_snapshot!(refused(|v| v["plan"]["patch"] = json!([32, 32, 32])), @"the plan cannot be used: `patch` is [32, 32, 32]; the strides of a 2-D network's 5 stages need 2 edges, multiples of [16, 16]");
    insta::assert_snapshot!(refused(|v| v["plan"]["batch_size"] = json!(0)), @"the plan cannot be used: `batch_size` must be at least 1");
    insta::assert_snapshot!(refused(|v| v["plan"]["normalisation"] = json!([])), @"the plan cannot be used: `normalisation` must have an entry for each of 1 channel(s), found 0");
    insta::assert_snapshot!(refused(|v| v["plan"]["network"]["stages"][1]["kernel"] = json!([2, 3])), @"the plan cannot be used: stage 1 must have odd kernel sizes up to 7, found [2, 3]");
    let flips =
        refused(|v| v["config"]["augmentation"]["flips"] = json!({"axes": {"d": true, "h": true, "w": true}}));
    assert!(flips.contains("`config.augmentation.flips` is what the plan decides"), "{flips}");
    insta::assert_snapshot!(refused(|v| v["config"]["batch_size"] = json!(4)), @"the plan cannot be used: `config.batch_size` is what the plan decides; change it under `plan` and leave it out of `config`");
    insta::assert_snapshot!(refused(|v| v["config"]["learning_rate"] = json!(-1.0)), @"cannot train with this configuration: `learning_rate` must be positive, found -1");
    insta::assert_snapshot!(refused(|v| v["format_version"] = json!(7)), @"the plan has format version 7, this program knows 1");
    let typo = refused(|v| v["plan"]["batchsize"] = json!(4));
    assert!(typo.starts_with("this is no plan that can be used: unknown field `batchsize`"), "{typo}");
    let gone = refused(|v| drop(v["plan"].as_object_mut().unwrap().remove("patch")));
    assert!(gone.contains("missing field `patch`"), "{gone}");
}

#[test]
fn a_changed_plan_is_what_is_trained_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = changed(folder.path(), |v| {
        v["plan"]["patch"] = json!([16, 32]);
        v["plan"]["batch_size"] = json!(3);
        v["plan"]["normalisation"] = json!([{"scheme": "min_max"}]);
        v["config"]["epochs"] = json!(1);
        v["config"]["steps_per_epoch"] = json!(1);
    })
    .unwrap();
    let dataset = Dataset::open(folder.path().join("data")).unwrap();
    let run = folder.path().join("run");
    let split = SplitChoice::default();
    train_by_plan(&dataset, &split, &file.config, &file.plan, &run, &mut ()).unwrap();
    let manifest = Run::open(&run).unwrap().manifest().clone();
    assert_eq!(manifest.plan, file.plan);
    let kept = PlanFile::read(&run.join("plan.json")).unwrap();
    assert_eq!((&kept.plan, &kept.config), (&file.plan, &file.config));

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
fn a_run_keeps_the_plan_that_it_was_begun_with() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let run = folder.path().join("run");
    let config = TrainConfig { epochs: Some(1), steps_per_epoch: Some(1), ..config("unet2d-lite") };
    train(&dataset, &SplitChoice::default(), &config, &run, &mut ()).unwrap();
    let kept = PlanFile::read(&run.join("plan.json")).unwrap();
    assert_eq!(&kept.plan, &Run::open(&run).unwrap().manifest().plan);
    assert_eq!(kept.fingerprint.cases, 2);
}
