//! Plans as files: made from the bundled scans, edited, refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_plan::{DeviceChoice, DeviceKind, PlanFile, TrainConfig};
use sulcus_volume::Spacing;

const SHAPE: [usize; 3] = [20, 24, 16];

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus")
}

fn config(preset: &str) -> TrainConfig {
    TrainConfig::from_preset(preset).unwrap().with(|c| c.device = DeviceChoice::Cpu.into())
}

/// Plans from the training cases of a split.
fn plan(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
) -> Result<PlanFile, Box<dyn std::error::Error>> {
    let facts = dataset.survey(&dataset.split(choice)?.training).into_facts()?;
    Ok(PlanFile::decide(dataset, config, DeviceKind::Processor, &facts, &mut ())?)
}

#[test]
fn bundled_scans_get_nnunets_patch_and_round_trip_through_the_file() {
    let dataset = Dataset::open(bundled()).unwrap();
    let made = plan(&dataset, &SplitChoice::default(), &config("nnunet-3d")).unwrap();
    let data = &made.fingerprint;
    // Only the training cases of the fold.
    assert_eq!((data.cases, data.spacing_mm.median), (36, [1.0; 3]));
    assert!(
        data.labels.iter().all(|l| l.cases == 36 && l.ml.is_some_and(|ml| ml[0] > 0.5 && ml[2] < 4.0)),
        "{:?}",
        data.labels
    );
    let inside = data.channels[0].foreground.unwrap();
    assert!(inside.min <= inside.percentile_00_5 && inside.percentile_00_5 < inside.median, "{inside:?}");
    assert!(inside.median < inside.percentile_99_5 && inside.percentile_99_5 <= inside.max, "{inside:?}");
    assert_eq!(made.plan.patch, [40, 56, 40]);
    // The voxel size of the training scans: others are resampled to it.
    let mm = |mm: f64| Spacing::new([mm; 3]).unwrap();
    assert_eq!([0.5, 1.0, 2.0].map(|v| made.plan.spacing.target_for(mm(v))), [Some(mm(1.0)), None, Some(mm(1.0))]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    made.write(&file).unwrap();
    assert_eq!(PlanFile::read(&file).unwrap(), made);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let again = plan(&dataset, &SplitChoice::default(), &config("nnunet-3d")).unwrap();
    assert_eq!(again.to_json().unwrap(), made.to_json().unwrap());
}

#[test]
fn whole_hippocampus_task_gets_nnunets_plan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/Task04_Hippocampus");
    let Ok(dataset) = Dataset::open(&root) else {
        sulcus_harness::skip("the whole Task04_Hippocampus is not here");
    };
    let made = plan(&dataset, &SplitChoice::All, &config("nnunet-3d")).unwrap();
    // 5 % of the voxels of 208 cases are 7 patches, of all 260 that nnU-Net had 9.
    assert_eq!((made.fingerprint.cases, made.plan.patch.as_slice()), (208, [40, 56, 40].as_slice()));
    assert_eq!(made.plan.batch_size, 7);
}

/// Writes an edited plan and reads it.
fn changed(folder: &Path, change: impl Fn(&mut Value)) -> Result<PlanFile, String> {
    let root = folder.join("data");
    if !root.exists() {
        scans::decathlon(&root, 3, SHAPE);
    }
    let dataset = Dataset::open(&root).unwrap();
    let made = plan(&dataset, &SplitChoice::default(), &config("unet2d-lite")).unwrap();
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
fn plan_with_parts_that_do_not_fit_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut Value)| changed(folder.path(), change).unwrap_err();
    insta::assert_snapshot!(refused(|v| v["plan"]["patch"] = json!([40, 32])), @"the plan cannot be used: `patch` is [40, 32]; the strides of a 2-D network's 5 stages need 2 edges, multiples of [16, 16]");
    insta::assert_snapshot!(refused(|v| v["plan"]["patch"] = json!([32, 32, 32])), @"the plan cannot be used: `patch` is [32, 32, 32]; the strides of a 2-D network's 5 stages need 2 edges, multiples of [16, 16]");
    insta::assert_snapshot!(refused(|v| v["plan"]["batch_size"] = json!(0)), @"the plan cannot be used: `batch_size` must be from 1 to 65536, found 0");
    // Sizes that no machine can give, some of which overflow when they are multiplied.
    insta::assert_snapshot!(refused(|v| v["plan"]["batch_size"] = json!(1_000_000_000)), @"the plan cannot be used: `batch_size` must be from 1 to 65536, found 1000000000");
    let wide = |v: &mut Value| v["plan"]["network"]["stages"][0]["channels"] = json!(1_u64 << 62);
    assert!(refused(wide).contains("stage 0 may have up to 8192 channels"), "{}", refused(wide));
    let wide = |v: &mut Value| v["plan"]["network"]["stages"][0]["channels"] = json!(1_000_000);
    assert!(refused(wide).contains("found 1000000"), "{}", refused(wide));
    let message = refused(|v| v["plan"]["network"]["stages"][0]["convolutions"] = json!(1_000_000_000));
    assert!(message.contains("64 convolutions"), "{message}");
    let message = refused(|v| {
        let stages = v["plan"]["network"]["stages"].as_array_mut().unwrap();
        stages.iter_mut().for_each(|stage| stage["channels"] = json!(8192));
    });
    assert!(message.contains("parameters, at most 2000000000 can be trained"), "{message}");
    let message = refused(|v| {
        let patch = v["plan"]["patch"].as_array_mut().unwrap();
        patch.iter_mut().for_each(|edge| *edge = json!(1 << 20));
    });
    assert!(message.contains("voxels"), "{message}");
    insta::assert_snapshot!(refused(|v| v["plan"]["normalisation"] = json!([])), @"the plan cannot be used: `normalisation` must have an entry for each of 1 channel(s), found 0");
    insta::assert_snapshot!(refused(|v| v["plan"]["network"]["stages"][1]["kernel"] = json!([2, 3])), @"the plan cannot be used: stage 1 must have odd kernel sizes up to 7, found [2, 3]");
    let flips =
        refused(|v| v["config"]["augmentation"]["flips"] = json!({"axes": {"d": true, "h": true, "w": true}}));
    assert!(flips.contains("`config.augmentation.flips` is decided by the plan"), "{flips}");
    insta::assert_snapshot!(refused(|v| v["config"]["batch_size"] = json!(4)), @"the plan cannot be used: `config.batch_size` is decided by the plan; change it under `plan` and leave it out of `config`");
    insta::assert_snapshot!(refused(|v| v["config"]["learning_rate"] = json!(-1.0)), @"cannot train with this configuration: `learning_rate` must be positive, found -1");
    insta::assert_snapshot!(refused(|v| v["format_version"] = json!(7)), @"the plan has format version 7, this program knows 1");
    let typo = refused(|v| v["plan"]["batchsize"] = json!(4));
    assert!(typo.starts_with("the plan cannot be used: unknown field `batchsize`"), "{typo}");
    let gone = refused(|v| drop(v["plan"].as_object_mut().unwrap().remove("patch")));
    assert!(gone.contains("missing field `patch`"), "{gone}");
}

sulcus_harness::main!();
