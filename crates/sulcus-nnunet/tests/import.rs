//! Every row of what can be imported, and what is refused by its name. The models were made by nnU-Net's own classes; that their logits are
//! PyTorch's is tested with engines in `tests/nnunet.rs` of the workspace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{CHECKPOINT, Model, fixture};
use serde_json::json;
use sulcus_model::{
    Activation, Dimensions, Encoder, MaskUse, Norm, Normalisation, OutputActivation, Postprocess,
    ResamplingMethod, SpacingRule, Tiling,
};
use sulcus_nnunet::{CheckpointChoice, Fold, ImportOptions, ImportedModel, import};
use sulcus_onnx::{read_constants, read_model, read_spec, split_networks};
use sulcus_volume::Spacing;

fn imported(name: &str) -> ImportedModel {
    import(&fixture(name), &ImportOptions::default()).unwrap()
}

fn refused(path: &Path, options: &ImportOptions) -> String {
    let message = import(path, options).unwrap_err().to_string();
    // Paths differ between machines.
    let path = path.display().to_string();
    message.replace(&path, "PATH")
}

/// The message for a model whose plan was changed.
fn refused_plan(fixture: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let model = Model::new(fixture);
    model.edit("plans.json", change);
    refused(model.path(), &ImportOptions::default())
}

#[test]
fn everything_about_preprocessing_is_in_the_specification() {
    let ImportedModel { bytes, spec, .. } = imported("bottleneck_3d");
    assert_eq!(read_spec(&bytes).unwrap(), spec);
    assert_eq!(spec.name, "bottleneck_3d");
    assert_eq!(spec.network.dimensions, Dimensions::Three);
    assert_eq!(spec.patch, [8, 16, 16]);
    assert_eq!(spec.padding_multiple, [2, 4, 4]);
    assert_eq!(spec.mirror_axes, [0, 1, 2]);
    assert_eq!((spec.tile_step, spec.tiling), (0.5, Tiling::CentredPatch));
    assert_eq!(spec.orientation.to_string(), "stored");
    let names: Vec<&str> = spec.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["MRI", "CT"]);
    assert_eq!(spec.channels[0].normalisation, Normalisation::ZScore);
    let ct = Normalisation::Ct { clip: [-90.0, 240.0], mean: 60.5, sd: 45.25 };
    assert_eq!(spec.channels[1].normalisation, ct);
    let SpacingRule::Nnunet(rule) = spec.spacing else { panic!("{:?}", spec.spacing) };
    assert_eq!(rule.mm, [Some(1.5), Some(1.0), Some(3.0)]);
    assert_eq!(rule.image.method, ResamplingMethod::Spline { order: 3, order_z: 0 });
    assert_eq!(rule.logits.method, ResamplingMethod::Spline { order: 1, order_z: 0 });
    assert_eq!((rule.image.separate_z, rule.image.anisotropy_threshold), (None, 3.0));
    let labels: Vec<String> =
        spec.labels.entries().iter().map(|label| format!("{} {}", label.value, label.name)).collect();
    assert_eq!(labels, ["1 front", "2 back"]);
    assert_eq!((spec.activation, spec.classes()), (OutputActivation::Softmax, 3));
    let origin = spec.nnunet.unwrap();
    assert_eq!((origin.trainer.as_str(), origin.configuration.as_str()), ("nnUNetTrainer", "3d_fullres"));
    assert_eq!((origin.folds, origin.checkpoint.as_str()), (vec!["0".to_owned()], "final"));
    assert_eq!((spec.training.epochs, spec.training.training_cases), (5, 12));
    let sha256 = &spec.network.imported.as_ref().unwrap().checkpoints_sha256;
    assert_eq!((sha256.len(), sha256[0].len()), (1, 64));
    // Only the head of the finest resolution is in the file.
    let constants = read_constants(&bytes).unwrap();
    assert_eq!(constants.iter().filter(|constant| constant.name.contains("logits")).count(), 2);
    assert!(!constants.iter().any(|constant| constant.name.contains("seg_layers")));
}

#[test]
fn slices_keep_their_own_distance() {
    let spec = imported("plain_2d").spec;
    let SpacingRule::Nnunet(rule) = spec.spacing else { panic!("{:?}", spec.spacing) };
    assert_eq!(rule.mm, [Some(1.2), Some(0.9), None]);
    assert_eq!((spec.network.dimensions, spec.mirror_axes.as_slice()), (Dimensions::Two, [0, 1].as_slice()));
}

#[test]
fn networks_are_described() {
    let describe = |name: &str| {
        let network = imported(name).spec.network;
        let imported = network.imported.clone().unwrap();
        let channels: Vec<usize> = network.stages.iter().map(|stage| stage.channels).collect();
        let blocks: Vec<usize> = network.stages.iter().map(|stage| stage.convolutions).collect();
        (imported.class, channels, blocks, imported.decoder_convolutions, imported.bottleneck_channels)
    };
    let named = |class: &str| class.to_owned();
    // The plan lists the decoder's convolutions coarsest first.
    assert_eq!(describe("plain_3d"), (named("PlainConvUNet"), vec![2, 3, 4], vec![1, 2, 1], vec![1, 2], vec![]));
    assert_eq!(
        describe("bottleneck_3d"),
        (named("ResidualEncoderUNet"), vec![2, 3, 4], vec![1, 2, 1], vec![1, 2], vec![1, 2, 3])
    );
    // Features are doubled from stage to stage up to the maximum.
    assert_eq!(describe("old_3d").1, [2, 4, 5]);
    assert_eq!(describe("scalars_2d").2, [1, 1, 1]);
    assert!(imported("old_3d").spec.mirror_axes.is_empty(), "its checkpoint names no axis");
    let norm = |name: &str| imported(name).spec.network.norm;
    assert_eq!((norm("plain_2d"), norm("plain_2d_bn")), (Norm::Instance, Norm::Batch));
    let network = imported("residual_2d").spec.network;
    assert_eq!(network.encoder, Encoder::Residual);
    assert_eq!(network.activation, Activation::LeakyRelu { slope: 0.01 });
}

#[test]
fn inherited_configuration_with_regions_and_two_folds() {
    let spec = imported("folds_regions_3d").spec;
    assert_eq!((spec.networks, spec.activation), (2, OutputActivation::Regions));
    let regions: Vec<String> =
        spec.regions.iter().map(|r| format!("{} {:?} writes {}", r.name, r.values, r.writes)).collect();
    assert_eq!(regions, ["whole [1, 2, 3] writes 1", "core [2, 3] writes 2", "inner [3] writes 3"]);
    let SpacingRule::Nnunet(rule) = spec.spacing else { panic!("{:?}", spec.spacing) };
    assert_eq!(rule.mm, [Some(1.3); 3], "its own entries win");
    assert_eq!(spec.patch, [8, 16, 16], "the rest is inherited");
    assert_eq!(spec.nnunet.unwrap().configuration, "3d_small");
    let options = ImportOptions { folds: vec![Fold::Number(1)], ..ImportOptions::default() };
    let one = import(&fixture("folds_regions_3d"), &options).unwrap().spec;
    assert_eq!((one.networks, one.nnunet.unwrap().folds), (1, vec!["1".to_owned()]));
}

fn cascade() -> ImportOptions {
    ImportOptions { configuration: Some("3d_cascade_fullres".to_owned()), ..ImportOptions::default() }
}

#[test]
fn cascade_is_one_file() {
    let ImportedModel { bytes, spec, .. } = import(&fixture("cascade_3d"), &cascade()).unwrap();
    assert_eq!(read_spec(&bytes).unwrap(), spec);
    assert_eq!((spec.channels.len(), spec.input_channels(), spec.networks), (1, 3, 2));
    let previous = spec.previous.as_ref().unwrap();
    assert_eq!((previous.name.as_str(), previous.spec.networks), ("3d_lowres", 2));
    let SpacingRule::Nnunet(rule) = previous.spec.spacing else { panic!("{:?}", previous.spec.spacing) };
    assert_eq!(rule.mm, [Some(2.1), Some(1.9), Some(3.5)]);
    let MaskUse::InputChannels { labels, resampling } = &previous.mask else { panic!("{:?}", previous.mask) };
    assert_eq!(labels.as_slice(), [1, 2]);
    assert_eq!(resampling.method, ResamplingMethod::Spline { order: 1, order_z: 0 });
    assert_eq!(previous.spec.nnunet.as_ref().unwrap().configuration, "3d_lowres");
    // Each network as a file of its own is the one that is imported alone, apart from its names.
    let files = split_networks(bytes, &spec).unwrap();
    let low = ImportOptions { configuration: Some("3d_lowres".to_owned()), ..ImportOptions::default() };
    let alone = import(&fixture("cascade_3d"), &low).unwrap();
    assert_eq!(alone.spec, previous.spec);
    let weights = |file: &[u8]| {
        let mut constants = read_constants(file).unwrap();
        constants.iter_mut().for_each(|c| c.name = c.name.replace("3d_lowres.", ""));
        constants.sort_by(|a, b| a.name.cmp(&b.name));
        constants
    };
    assert_eq!(files.len(), 2);
    assert_eq!(weights(&files[1]), weights(&alone.bytes));
    let model = read_model(&files[1]).unwrap().graph.unwrap();
    assert_eq!((model.input[0].name.as_str(), model.output[0].name.as_str()), ("image", "logits"));
    assert_eq!(model.node.len(), read_model(&alone.bytes).unwrap().graph.unwrap().node.len());
}

/// The first stage lies beside the second, whether the archive, its folder, or the folder of the second is given.
#[test]
fn both_stages_of_a_cascade_are_found() {
    let model = Model::new("cascade_3d");
    let expected = import(&fixture("cascade_3d"), &cascade()).unwrap();
    let second = model.path().with_file_name("nnUNetTrainer__nnUNetPlans__3d_cascade_fullres");
    for path in [model.root(), second.parent().unwrap(), &second] {
        assert_eq!(import(path, &cascade()).unwrap().bytes, expected.bytes, "{}", path.display());
    }
    let one = ImportOptions { folds: vec![Fold::Number(1)], ..cascade() };
    let spec = import(&second, &one).unwrap().spec;
    assert_eq!((spec.networks, spec.previous.as_ref().unwrap().spec.networks), (1, 1));
    fs::remove_dir_all(second.with_file_name("nnUNetTrainer__nnUNetPlans__3d_lowres").join("fold_1")).unwrap();
    let message = import(&second, &one).unwrap_err().to_string();
    assert!(message.contains("there is no fold 1") && message.contains("3d_lowres"), "{message}");
    let plans = second.join("plans.json");
    let original = fs::read(&plans).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_slice(&original).unwrap();
        change(&mut value["configurations"]);
        fs::write(&plans, value.to_string()).unwrap();
        let message = import(&second, &ImportOptions::default()).unwrap_err().to_string();
        message.replace(&second.parent().unwrap().display().to_string(), "PATH")
    };
    insta::assert_snapshot!(changed(&|c| c["3d_fullres"]["resampling_fn_seg_kwargs"]["is_seg"] = json!(false)), @"cannot import the nnU-Net model: the resampling of masks with `is_seg` false is not supported: it is not what nnU-Net plans: PATH/nnUNetTrainer__nnUNetPlans__3d_cascade_fullres/plans.json");
    insta::assert_snapshot!(changed(&|c| c["3d_cascade_fullres"]["previous_stage"] = json!("3d_cascade_fullres")), @"cannot import the nnU-Net model: its configurations need each other's masks: 3d_cascade_fullres → 3d_cascade_fullres: PATH/nnUNetTrainer__nnUNetPlans__3d_cascade_fullres/plans.json");
    fs::write(&plans, &original).unwrap();
    fs::remove_dir_all(second.with_file_name("nnUNetTrainer__nnUNetPlans__3d_lowres")).unwrap();
    let message = import(&second, &cascade()).unwrap_err().to_string();
    insta::assert_snapshot!(message.replace(&second.parent().unwrap().display().to_string(), "PATH"), @"cannot import this as a model of nnU-Net: the network needs the mask of the configuration `3d_lowres`, and there is no model of it in `nnUNetTrainer__nnUNetPlans__3d_lowres`; put both beside each other as nnU-Net does, or give an archive or a folder above both: PATH/nnUNetTrainer__nnUNetPlans__3d_cascade_fullres");
}

#[test]
fn pictures_have_no_voxel_size() {
    let spec = imported("picture_2d").spec;
    assert_eq!(spec.assumed_mm.map(Spacing::mm), Some([1.0, 1.0, 999.0]));
    assert_eq!((spec.orientation.to_string().as_str(), spec.format_version), ("stored", 7));
    assert_eq!(imported("tiff_3d").spec.assumed_mm.map(Spacing::mm), Some([1.0; 3]));
    assert_eq!(imported("plain_2d").spec.assumed_mm, None);
}

#[test]
fn splines_of_every_order() {
    for order in 0..=5 {
        let model = Model::new("bottleneck_3d");
        model.edit("plans.json", |plans| {
            plans["configurations"]["3d_fullres"]["resampling_fn_data_kwargs"]["order"] = json!(order);
        });
        let spec = import(model.path(), &ImportOptions::default()).unwrap().spec;
        let SpacingRule::Nnunet(rule) = spec.spacing else { panic!("{:?}", spec.spacing) };
        assert_eq!(rule.image.method, ResamplingMethod::Spline { order, order_z: 0 });
        // Older programs do not know the others.
        assert_eq!(spec.format_version, if [0, 1, 3].contains(&order) { 6 } else { 7 });
    }
}

#[test]
fn every_level_of_the_layout_can_be_given() {
    let model = Model::new("plain_2d");
    let options = ImportOptions::default();
    let expected = import(&fixture("plain_2d"), &options).unwrap();
    for path in [model.root(), model.path().parent().unwrap(), model.path()] {
        assert_eq!(import(path, &options).unwrap().bytes, expected.bytes, "{}", path.display());
    }
}

#[test]
fn several_models_need_a_choice() {
    let model = Model::new("plain_2d");
    let other = Model::new("plain_3d");
    let target = model.path().parent().unwrap().join("nnUNetTrainer__nnUNetPlans__3d_fullres");
    fs::create_dir_all(target.join("fold_0")).unwrap();
    for file in ["plans.json", "dataset.json", CHECKPOINT] {
        fs::write(target.join(file), other.read(file)).unwrap();
    }
    insta::assert_snapshot!(refused(model.root(), &ImportOptions::default()), @"cannot import this as a model of nnU-Net: there are several models (plain_2d/nnUNetTrainer__nnUNetPlans__2d, plain_2d/nnUNetTrainer__nnUNetPlans__3d_fullres); choose one by its configuration, or give its folder: PATH");
    let options = |name: &str| ImportOptions { configuration: Some(name.to_owned()), ..ImportOptions::default() };
    assert_eq!(import(model.root(), &options("3d_fullres")).unwrap().spec.name, "plain_3d");
    insta::assert_snapshot!(refused(model.root(), &options("3d_lowres")), @"cannot import this as a model of nnU-Net: no model has the configuration `3d_lowres`, there are: plain_2d/nnUNetTrainer__nnUNetPlans__2d, plain_2d/nnUNetTrainer__nnUNetPlans__3d_fullres: PATH");
    insta::assert_snapshot!(refused(other.path(), &options("2d")), @"cannot import this as a model of nnU-Net: its configuration is `3d_fullres`, not `2d`: PATH");
}

#[test]
fn checkpoints_and_folds_are_chosen() {
    let model = Model::new("plain_2d");
    let best = ImportOptions { checkpoint: CheckpointChoice::Best, ..ImportOptions::default() };
    insta::assert_snapshot!(refused(model.path(), &best), @"cannot import this as a model of nnU-Net: fold 0 has no checkpoint_best.pth, but checkpoint_final.pth: PATH");
    model.write("fold_0/checkpoint_best.pth", &model.read(CHECKPOINT));
    assert_eq!(import(model.path(), &best).unwrap().spec.nnunet.unwrap().checkpoint, "best");
    let all = ImportOptions { folds: vec![Fold::All], ..ImportOptions::default() };
    insta::assert_snapshot!(refused(model.path(), &all), @"cannot import this as a model of nnU-Net: there is no fold all, the folds are 0: PATH");
    model.write("fold_all/checkpoint_final.pth", &model.read(CHECKPOINT));
    assert_eq!(import(model.path(), &all).unwrap().spec.nnunet.unwrap().folds, ["all"]);
    // The training on all cases is a model of its own: the folds are preferred, as in nnU-Net.
    let found = import(model.path(), &ImportOptions::default()).unwrap().spec;
    assert_eq!(found.nnunet.unwrap().folds, ["0"]);
}

#[test]
fn other_places_are_named() {
    let empty = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(refused(empty.path(), &ImportOptions::default()), @"cannot import this as a model of nnU-Net: it holds no model of nnU-Net v2: a folder with plans.json, dataset.json and fold_X/checkpoint_final.pth: PATH");
    fs::write(empty.path().join("plans.pkl"), "").unwrap();
    fs::create_dir(empty.path().join("fold_0")).unwrap();
    fs::write(empty.path().join("fold_0/model_final_checkpoint.model"), "").unwrap();
    insta::assert_snapshot!(refused(empty.path(), &ImportOptions::default()), @"cannot import this as a model of nnU-Net: it is a model of nnU-Net v1, whose checkpoints hold a Python program; only models of nnU-Net v2 can be imported: PATH");
    let model = Model::new("plain_2d");
    insta::assert_snapshot!(refused(&model.path().join("fold_0"), &ImportOptions::default()), @"cannot import this as a model of nnU-Net: it has checkpoints, but no plans.json; give the folder that holds plans.json, dataset.json and fold_X: PATH");
    insta::assert_snapshot!(refused(&model.path().join(CHECKPOINT), &ImportOptions::default()), @"cannot import this as a model of nnU-Net: it is a checkpoint alone; give the folder that holds plans.json, dataset.json and fold_X: PATH");
    insta::assert_snapshot!(refused(&model.path().join("plans.json"), &ImportOptions::default()), @"cannot import this as a model of nnU-Net: it is neither a folder nor an archive that can be read: invalid Zip archive: Could not find EOCD: PATH");
}

#[test]
fn plans_that_ask_for_more_are_refused_by_name() {
    let network = |name: &str| {
        refused_plan("plain_2d", |plans| {
            plans["configurations"]["2d"]["architecture"]["network_class_name"] = json!(name);
        })
    };
    insta::assert_snapshot!(network("dynamic_network_architectures.architectures.unet.ResidualUNet"), @"cannot import the nnU-Net model: the network `ResidualUNet` is not supported: only PlainConvUNet and ResidualEncoderUNet can be imported: PATH/plans.json");
    insta::assert_snapshot!(network("nnunet_mednext.MedNeXt"), @"cannot import the nnU-Net model: the network `MedNeXt` is not supported: only PlainConvUNet and ResidualEncoderUNet can be imported: PATH/plans.json");
    let changed = |key: &str, value: serde_json::Value| {
        let key = key.to_owned();
        refused_plan("plain_2d", |plans| plans["configurations"]["2d"][key] = value)
    };
    insta::assert_snapshot!(changed("preprocessor_name", json!("MyPreprocessor")), @"cannot import the nnU-Net model: `preprocessor_name` MyPreprocessor is not supported: only nnU-Net's own DefaultPreprocessor is known: PATH/plans.json");
    insta::assert_snapshot!(changed("resampling_fn_data", json!("my_resampling")), @"cannot import the nnU-Net model: the resampling `my_resampling` is not supported: it is not one of nnU-Net's own functions: PATH/plans.json");
    insta::assert_snapshot!(changed("normalization_schemes", json!(["Mine"])), @"cannot import the nnU-Net model: the normalisation `Mine` is not supported: it is not one of nnU-Net's own schemes: PATH/plans.json");
    insta::assert_snapshot!(changed("normalization_schemes", json!(["CTNormalization", "CTNormalization"])), @"cannot import the nnU-Net model: the data set has 1 channel(s), but the plan normalises 2 and has `use_mask_for_norm` for 1: PATH/plans.json");
    insta::assert_snapshot!(changed("inherits_from", json!("2d")), @"cannot import the nnU-Net model: its configurations inherit from each other: 2d → 2d: PATH/plans.json");
    insta::assert_snapshot!(changed("inherits_from", json!("3d")), @"cannot import the nnU-Net model: it has no configuration `3d`, but 2d: PATH/plans.json");
    insta::assert_snapshot!(changed("patch_size", json!([7, 16])), @"cannot import the nnU-Net model: its patch [7, 16] is not a multiple of the network's strides [4, 4]: PATH/plans.json");
    let argument = |key: &str, value: serde_json::Value| {
        let key = key.to_owned();
        refused_plan("plain_2d", |plans| {
            plans["configurations"]["2d"]["architecture"]["arch_kwargs"][key] = value;
        })
    };
    insta::assert_snapshot!(argument("squeeze_excitation", json!(true)), @"cannot import the nnU-Net model: the argument `squeeze_excitation` of the network is not supported: it is not one of nnU-Net's own networks: PATH/plans.json");
    insta::assert_snapshot!(argument("norm_op", json!("torch.nn.GroupNorm")), @"cannot import the nnU-Net model: the normalisation `GroupNorm` is not supported: networks have instance or batch normalisation: PATH/plans.json");
    insta::assert_snapshot!(argument("norm_op", json!(null)), @"cannot import the nnU-Net model: the normalisation `none` is not supported: networks have instance or batch normalisation: PATH/plans.json");
    insta::assert_snapshot!(argument("nonlin", json!("torch.nn.GELU")), @"cannot import the nnU-Net model: the activation `GELU` is not supported: networks have LeakyReLU or ReLU: PATH/plans.json");
    insta::assert_snapshot!(argument("conv_op", json!("torch.nn.Conv3d")), @"cannot import the nnU-Net model: its patch has 2 axes, but its convolutions are `Conv3d`: PATH/plans.json");
    insta::assert_snapshot!(argument("kernel_sizes", json!([[3, 3], [2, 3], [3, 3]])), @"cannot import the nnU-Net model: its entry `configurations.2d.architecture.arch_kwargs.kernel_sizes` must be odd sizes up to 31, found [[3,3],[2,3],[3,3]]: PATH/plans.json");
    insta::assert_snapshot!(argument("strides", json!([[2, 2], [2, 2], [2, 2]])), @"cannot import the nnU-Net model: a stride in the first stage is not supported: the logits would be coarser than the image: PATH/plans.json");
    let root = |key: &str, value: serde_json::Value| {
        let key = key.to_owned();
        refused_plan("plain_2d", |plans| plans[key] = value)
    };
    insta::assert_snapshot!(root("image_reader_writer", json!("MyReader")), @"cannot import the nnU-Net model: the reader `MyReader` is not supported: it is not one of nnU-Net's own readers: PATH/plans.json");
    insta::assert_snapshot!(root("image_reader_writer", json!("Tiff3DIO")), @"cannot import the nnU-Net model: the reader `Tiff3DIO` with voxel sizes is not supported: its training scans had voxels of [3.0, 1.0, 1.5], which nnU-Net reads from JSON files beside the scans; only scans without such files, whose voxels count as 1, can be predicted: PATH/plans.json");
    insta::assert_snapshot!(root("label_manager", json!("MyLabelManager")), @"cannot import the nnU-Net model: `label_manager` MyLabelManager is not supported: only nnU-Net's own LabelManager is known: PATH/plans.json");
    insta::assert_snapshot!(root("transpose_forward", json!([0, 0, 1])), @"cannot import the nnU-Net model: its entry `transpose_forward` must be an order of the axes 0, 1, 2, found [0,0,1]: PATH/plans.json");
}

#[test]
fn data_sets_that_do_not_fit_are_refused() {
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let model = Model::new("plain_2d");
        model.edit("dataset.json", change);
        refused(model.path(), &ImportOptions::default())
    };
    insta::assert_snapshot!(changed(&|d| d["labels"] = json!({"background": 0, "a": 1, "b": 3})), @"cannot import the nnU-Net model: its labels have the values [1, 3], but nnU-Net needs 1, 2, 3, … without a gap: PATH/dataset.json");
    insta::assert_snapshot!(changed(&|d| d["labels"] = json!({"background": 0, "a": 1})), @"cannot import the nnU-Net model: its weights do not fit the network of the plan: the tensor `decoder.seg_layers.1.weight` has shape [3, 3, 1, 1], the plan's network has [2, 3, 1, 1]: PATH/fold_0/checkpoint_final.pth");
    insta::assert_snapshot!(changed(&|d| d["channel_names"] = json!({"0": "MRI", "2": "CT"})), @r#"cannot import the nnU-Net model: its entry `channel_names` must be names with the numbers 0, 1, … as keys, found {"0":"MRI","2":"CT"}: PATH/dataset.json"#);
    // An order of regions means nothing where no label is a region.
    let model = Model::new("plain_2d");
    model.edit("dataset.json", |d| d["regions_class_order"] = json!([1, 2]));
    let spec = import(model.path(), &ImportOptions::default()).unwrap().spec;
    assert_eq!((spec.activation, spec.regions.len()), (OutputActivation::Softmax, 0));
}

#[test]
fn weights_of_another_network_are_refused() {
    let message = refused_plan("plain_2d", |plans| {
        plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = json!([3, 4, 5]);
    });
    insta::assert_snapshot!(message, @"cannot import the nnU-Net model: its weights do not fit the network of the plan: the tensor `encoder.stages.2.0.convs.0.conv.weight` has shape [4, 4, 3, 1], the plan's network has [5, 4, 3, 1]: PATH/fold_0/checkpoint_final.pth");
    let message = refused_plan("plain_2d", |plans| {
        let arguments = &mut plans["configurations"]["2d"]["architecture"]["arch_kwargs"];
        arguments["n_conv_per_stage"] = json!([1, 1, 1]);
    });
    insta::assert_snapshot!(message, @"cannot import the nnU-Net model: its weights do not fit the network of the plan: it has no layer for 4 tensor(s): `encoder.stages.1.0.convs.1.conv.bias`, `encoder.stages.1.0.convs.1.conv.weight`, `encoder.stages.1.0.convs.1.norm.bias`, `encoder.stages.1.0.convs.1.norm.weight`: PATH/fold_0/checkpoint_final.pth");
    let message = refused_plan("plain_2d", |plans| {
        let arguments = &mut plans["configurations"]["2d"]["architecture"]["arch_kwargs"];
        arguments["n_conv_per_stage"] = json!([2, 2, 1]);
    });
    insta::assert_snapshot!(message, @"cannot import the nnU-Net model: its weights do not fit the network of the plan: the tensor `encoder.stages.0.0.convs.1.conv.weight` is missing: PATH/fold_0/checkpoint_final.pth");
}

#[test]
fn other_schemes_and_readers() {
    let spec_with = |change: &dyn Fn(&mut serde_json::Value)| {
        let model = Model::new("bottleneck_3d");
        model.edit("plans.json", change);
        import(model.path(), &ImportOptions::default()).unwrap().spec
    };
    let schemes = |first: &str, second: &str, mask: bool| {
        let spec = spec_with(&|plans| {
            let configuration = &mut plans["configurations"]["3d_fullres"];
            configuration["normalization_schemes"] = json!([first, second]);
            configuration["use_mask_for_norm"] = json!([mask, false]);
        });
        [spec.channels[0].normalisation, spec.channels[1].normalisation]
    };
    let found = schemes("ZScoreNormalization", "NoNormalization", true);
    assert_eq!(found, [Normalisation::ZScoreNonzero, Normalisation::None]);
    let found = schemes("RescaleTo01Normalization", "RGBTo01Normalization", false);
    assert_eq!(found, [Normalisation::MinMax, Normalisation::RgbTo01]);
    let spec = spec_with(&|plans| plans["image_reader_writer"] = json!("NibabelIOWithReorient"));
    assert_eq!(spec.orientation.to_string(), "RAS");
    let spec = spec_with(&|plans| plans["transpose_forward"] = json!([2, 0, 1]));
    assert_eq!(spec.orientation.to_string(), "stored:yzx");
    // Turned to RAS, then slices are stacked along R.
    let spec = spec_with(&|plans| {
        plans["image_reader_writer"] = json!("SimpleITKIOWithReorient");
        plans["transpose_forward"] = json!([2, 0, 1]);
    });
    assert_eq!(spec.orientation.to_string(), "ASR");
    // nnU-Net takes three voxel sizes for slices, too.
    let model = Model::new("plain_2d");
    model.edit("plans.json", |plans| plans["configurations"]["2d"]["spacing"] = json!([4.0, 0.9, 1.2]));
    let SpacingRule::Nnunet(rule) = import(model.path(), &ImportOptions::default()).unwrap().spec.spacing else {
        panic!("another rule")
    };
    assert_eq!(rule.mm, [Some(1.2), Some(0.9), Some(4.0)]);
    let spec = spec_with(&|plans| {
        let configuration = &mut plans["configurations"]["3d_fullres"];
        for key in ["resampling_fn_data", "resampling_fn_probabilities"] {
            configuration[key] = json!("resample_torch_fornnunet");
            configuration[format!("{key}_kwargs")] = json!({"is_seg": false, "force_separate_z": false});
        }
    });
    let SpacingRule::Nnunet(rule) = spec.spacing else { panic!("{:?}", spec.spacing) };
    assert_eq!((rule.image.method, rule.image.separate_z), (ResamplingMethod::Interpolate, Some(false)));
    let spec = spec_with(&|plans| {
        let configuration = &mut plans["configurations"]["3d_fullres"];
        configuration["resampling_fn_data"] = json!("no_resampling_hack");
        configuration["resampling_fn_probabilities"] = json!("no_resampling_hack");
    });
    assert_eq!(spec.spacing, SpacingRule::Native);
}

#[test]
fn postprocessing_is_applied_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postprocessing.json");
    let keep = "remove_all_but_largest_component_from_segmentation";
    let options = ImportOptions { postprocessing: Some(file.clone()), ..ImportOptions::default() };
    let steps = |kwargs: serde_json::Value| {
        let json = json!({"postprocessing_fns": [keep], "postprocessing_kwargs": [kwargs]});
        fs::write(&file, json.to_string()).unwrap();
        import(&fixture("plain_2d"), &options)
    };
    let spec = steps(json!({"labels_or_regions": [1, 2]})).unwrap().spec;
    assert_eq!(spec.postprocessing, [Postprocess::KeepLargestComponents { labels: vec![1, 2] }]);
    assert!(imported("plain_2d").spec.postprocessing.is_empty());
    let message = steps(json!({"labels_or_regions": 7})).unwrap_err().to_string();
    assert!(message.contains("label 7"), "{message}");
}
