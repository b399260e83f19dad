//! Damaged and malicious files: each is refused with a reason, nothing in them is executed, and none causes a panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use std::fs;

use common::{CHECKPOINT, Model, PICKLE, Random, call, fixture};
use serde_json::{Value, json};
use sulcus_nnunet::{ImportOptions, import};
use zip::CompressionMethod;

/// Imports the model and returns the reason for which it is refused.
fn reason(model: &Model) -> String {
    match import(model.path(), &ImportOptions::default()) {
        Ok(_) => panic!("it was imported"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn nothing_in_a_pickle_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let command = format!("touch {}", canary.display());
    let calls = [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "check_output"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("numpy", "load"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("nnunetv2.training.nnUNetTrainer", "nnUNetTrainer"),
    ];
    for (module, name) in calls {
        let model = Model::new("plain_2d");
        model.edit_checkpoint(|files| {
            files.insert(PICKLE.to_owned(), call(module, name, &command));
        });
        let reason = reason(&model);
        assert!(reason.contains(&format!("refers to `{module}.{name}`")), "{reason}");
        assert!(reason.contains("nothing of it was executed"), "{reason}");
    }
    assert!(!canary.exists());
    // Names on the list are data as well: a call with other arguments makes no value of the checkpoint.
    let model = Model::new("plain_2d");
    model.edit_checkpoint(|files| {
        files.insert(PICKLE.to_owned(), call("torch", "device", &command));
    });
    assert!(reason(&model).contains("`init_args` is missing"), "{}", reason(&model));
    assert!(!canary.exists());
}

/// Values that a plan never has in these places.
fn wrong_values() -> [Value; 5] {
    [Value::Null, json!("x"), json!(-1), json!(1e30), json!([])]
}

#[test]
fn wrong_entries_of_plan_and_data_set_are_refused() {
    let architecture = "/configurations/2d/architecture/arch_kwargs";
    let mut entries: Vec<(&str, String)> = [
        "n_stages",
        "features_per_stage",
        "kernel_sizes",
        "strides",
        "n_conv_per_stage",
        "n_conv_per_stage_decoder",
        "norm_op",
        "nonlin",
    ]
    .iter()
    .map(|key| ("plans.json", format!("{architecture}/{key}")))
    .collect();
    for key in [
        "architecture/network_class_name",
        "patch_size",
        "spacing",
        "normalization_schemes",
        "use_mask_for_norm",
        "resampling_fn_data",
        "resampling_fn_probabilities",
    ] {
        entries.push(("plans.json", format!("/configurations/2d/{key}")));
    }
    for key in ["transpose_forward", "configurations", "foreground_intensity_properties_per_channel"] {
        entries.push(("plans.json", format!("/{key}")));
    }
    for key in ["percentile_00_5", "mean"] {
        entries.push(("plans.json", format!("/foreground_intensity_properties_per_channel/1/{key}")));
    }
    for key in ["labels", "channel_names", "labels/front"] {
        entries.push(("dataset.json", format!("/{key}")));
    }
    let mut refused = 0;
    for (file, entry) in entries {
        for value in wrong_values() {
            // Intensities may be negative.
            if (entry.ends_with("/mean") || entry.ends_with("_00_5")) && value.is_number() {
                continue;
            }
            let model = Model::new("plain_2d_bn");
            model.edit(file, |json| *json.pointer_mut(&entry).unwrap() = value.clone());
            let reason = reason(&model);
            assert!(reason.len() > 30, "{file}{entry} = {value}: {reason}");
            refused += 1;
        }
    }
    assert!(refused >= 110, "{refused}");
}

#[test]
fn truncated_files_are_refused() {
    for file in ["plans.json", "dataset.json", CHECKPOINT] {
        let whole = Model::new("plain_2d").read(file);
        for part in 0..20 {
            let model = Model::new("plain_2d");
            model.write(file, &whole[..whole.len() * part / 20]);
            let reason = reason(&model);
            assert!(reason.contains("annot"), "{file}, {part}/20: {reason}");
        }
    }
    let whole = fs::read(fixture("plain_2d")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.zip");
    for part in 0..20 {
        fs::write(&path, &whole[..whole.len() * part / 20]).unwrap();
        assert!(import(&path, &ImportOptions::default()).is_err(), "{part}/20");
    }
}

#[test]
fn truncated_pickles_are_refused() {
    let mut pickle = Vec::new();
    Model::new("plain_2d").edit_checkpoint(|files| pickle = files[PICKLE].clone());
    for part in 0..50 {
        let model = Model::new("plain_2d");
        model.edit_checkpoint(|files| {
            files.insert(PICKLE.to_owned(), pickle[..pickle.len() * part / 50].to_vec());
        });
        let reason = reason(&model);
        assert!(reason.contains("pickle is damaged") || reason.contains("instruction"), "{part}/50: {reason}");
    }
}

/// A changed byte may change a weight, and then the model is imported, but it never causes a panic.
#[test]
fn changed_bytes_cause_no_panic() {
    let mut random = Random(1);
    for file in ["plans.json", "dataset.json", CHECKPOINT] {
        let whole = Model::new("plain_2d_bn").read(file);
        let model = Model::new("plain_2d_bn");
        for _ in 0..300 {
            let mut changed = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(changed.len());
                changed[at] = random.below(256) as u8;
            }
            model.write(file, &changed);
            drop(import(model.path(), &ImportOptions::default()));
        }
    }
    // A pickle is the densest part: with intact checksums around it.
    let model = Model::new("plain_2d_bn");
    let mut pickle = Vec::new();
    model.edit_checkpoint(|files| pickle = files[PICKLE].clone());
    for _ in 0..600 {
        let mut changed = pickle.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(changed.len());
            changed[at] = random.below(256) as u8;
        }
        model.edit_checkpoint(|files| {
            files.insert(PICKLE.to_owned(), changed);
        });
        drop(import(model.path(), &ImportOptions::default()));
    }
}

#[test]
fn compressed_entries_of_a_checkpoint_are_refused() {
    let model = Model::new("plain_2d");
    let files = common::unpack(&model.read(CHECKPOINT));
    model.write(CHECKPOINT, &common::pack(&files, CompressionMethod::Deflated));
    insta::assert_snapshot!(reason(&model).split(": /").next().unwrap(), @"cannot import the nnU-Net model: its archive cannot be read: `checkpoint_final/byteorder`: it is compressed, which torch.save() never does");
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let model = Model::new("plain_2d");
    model.edit_checkpoint(|files| {
        let first = files.get_mut("checkpoint_final/data/0").unwrap();
        first[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(reason(&model).contains("not all finite"), "{}", reason(&model));
}

#[test]
fn storages_of_another_length_are_refused() {
    for change in [1_usize, 4, 400] {
        let model = Model::new("plain_2d");
        model.edit_checkpoint(|files| {
            let first = files.get_mut("checkpoint_final/data/0").unwrap();
            first.truncate(first.len().saturating_sub(change));
        });
        assert!(reason(&model).contains("data/0"), "{}", reason(&model));
    }
}
