//! Networks from specifications, and their files.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::{every_kind, model_spec, noise, optimizer, prediction_shape, step, training_shape};
use serde_json::json;
use sulcus_model::{NetworkSpec, OutputActivation};
use sulcus_onnx::messages::ModelProto;
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_plan::{DiceScope, Loss, Optimizer, count_parameters, preset, preset_names};
use sulcus_train::{
    Checkpoint, CheckpointParts, NetworkPredictor, OptimizerState, UNet, export_onnx, segmentation_loss,
};

fn build(spec: &NetworkSpec, device: &Device) -> UNet {
    UNet::new(spec, 2, 3, 7, device).unwrap()
}

fn answer(network: &UNet, device: &Device, shape: &[usize]) -> Vec<f32> {
    let input = Tensor::new(shape.to_vec(), noise(shape, 99)).unwrap();
    NetworkPredictor::new(network, device).logits(input).unwrap().into_parts().1
}

/// Summed by hand over the tutorial's layers, including biases and batch normalisation's γ and β, as PyTorch counts.
#[test]
fn presets_have_the_tutorials_number_of_parameters() {
    let device = Device::flex();
    let count = |name: &str| UNet::new(&preset(name).unwrap(), 1, 2, 0, &device).unwrap().parameters();
    assert_eq!(count("unet2d-classic"), 31_042_434);
    assert_eq!(count("unet2d-lite"), 1_943_778);
    assert!(preset("unet2d-huge").is_none());
    for spec in preset_names().iter().filter_map(|name| preset(name)) {
        spec.check().unwrap();
        assert_eq!(spec.padding_multiple(), [16, 16]);
    }
}

/// `sulcus-plan` estimates the memory from the number of parameters without building the network.
#[test]
fn planned_number_of_parameters_equals_the_networks() {
    let device = Device::flex();
    for name in ["unet2d-classic", "unet2d-lite"] {
        let spec = preset(name).unwrap();
        let network = UNet::new(&spec, 2, 5, 0, &device).unwrap();
        assert_eq!(count_parameters(&spec, 2, 5), network.parameters() as u64, "{name}");
    }
}

#[test]
fn output_has_the_size_of_the_input() {
    let device = Device::flex();
    for spec in every_kind() {
        let network = build(&spec, &device);
        let multiple = spec.padding_multiple();
        assert_eq!((network.input_channels(), network.output_channels()), (2, 3));
        assert_eq!(network.multiple()[3 - multiple.len()..], multiple);
        let mut shape = [vec![2, 2], multiple.iter().map(|edge| 3 * edge).collect()].concat();
        let input = Tensor::new(shape.clone(), noise(&shape, 1)).unwrap();
        let logits = NetworkPredictor::new(&network, &device).logits(input).unwrap();
        shape[1] = 3;
        assert_eq!(logits.shape(), shape);
        assert!(logits.data().iter().all(|value| value.is_finite()));
    }
}

#[test]
fn deep_supervision_covers_all_but_the_two_lowest_resolutions() {
    let device = Device::flex();
    let spec = every_kind().remove(3);
    let network = build(&spec, &device);
    let [n, c, d, h, w] = training_shape(&spec);
    let image = burn::tensor::Tensor::<5>::ones([n, c, d, h, w], &device);
    let shapes: Vec<_> = network.forward_all(image.clone()).iter().map(|logits| logits.dims()).collect();
    assert_eq!(shapes, [[n, 3, d, h, w], [n, 3, d / 2, h / 2, w / 2]]);
    assert_eq!(network.supervised_strides(), [[1, 1, 1], [2, 2, 2]]);
    let finest = network.forward_all(image.clone()).remove(0).into_data();
    network.forward(image).into_data().assert_eq(&finest, true);
}

#[test]
fn seed_determines_the_initial_weights() {
    let device = Device::flex();
    let spec = preset("unet2d-lite").unwrap();
    let answer = |seed| answer(&UNet::new(&spec, 1, 2, seed, &device).unwrap(), &device, &[1, 1, 16, 16]);
    assert_eq!(answer(3), answer(3));
    assert_ne!(answer(3), answer(4));
}

/// He initialisation keeps the variance of the maps through all layers.
#[test]
fn initial_weights_keep_the_variance_of_the_maps() {
    let device = Device::flex();
    let network = UNet::new(&preset("unet2d-lite").unwrap(), 1, 2, 5, &device).unwrap();
    let logits = answer(&network, &device, &[1, 1, 32, 32]);
    let spread = (logits.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / logits.len() as f64).sqrt();
    assert!((0.1..10.0).contains(&spread), "{spread}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let device = Device::flex();
    let predictor = NetworkPredictor::new(&build(&every_kind().remove(0), &device), &device);
    let answer = |predictor: &NetworkPredictor, shape: &[usize]| {
        let input = Tensor::new(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap();
        predictor.logits(input).unwrap_err().to_string()
    };
    let message = |shape: &[usize]| answer(&predictor, shape);
    let blocks = NetworkPredictor::new(&build(&every_kind().remove(3), &device), &device);
    insta::assert_snapshot!(answer(&blocks, &[1, 2, 8, 8, 15]), @"the Burn engine could not run the network: it expects an input [N, 2, D, H, W] with D divisible by 4, H by 2 and W by 4, found [1, 2, 8, 8, 15]");
    insta::assert_snapshot!(message(&[1, 2, 5, 12]), @"the Burn engine could not run the network: it expects an input [N, 2, H, W] with H divisible by 2 and W by 4, found [1, 2, 5, 12]");
    insta::assert_snapshot!(message(&[2, 5, 12]), @"the Burn engine could not run the network: it expects an input [N, 2, H, W] with H divisible by 2 and W by 4, found [2, 5, 12]");
    for shape in [[1, 1, 6, 12], [1, 2, 6, 10], [0, 2, 6, 12], [1, 2, 0, 12]] {
        message(&shape);
    }
}

#[test]
fn invalid_specifications_are_refused() {
    let device = Device::flex();
    let message = |change: &dyn Fn(&mut NetworkSpec)| {
        let mut spec = preset("unet2d-lite").unwrap();
        change(&mut spec);
        UNet::new(&spec, 1, 2, 0, &device).unwrap_err().to_string()
    };
    insta::assert_snapshot!(message(&|spec| spec.stages.clear()), @"the network `unet2d-lite` cannot be built: the network has no stage");
    insta::assert_snapshot!(message(&|spec| spec.stages[2].kernel = vec![2, 3]), @"the network `unet2d-lite` cannot be built: stage 2 must have odd kernel sizes up to 7, found [2, 3]");
    let spec = preset("unet2d-lite").unwrap();
    insta::assert_snapshot!(UNet::new(&spec, 1, 0, 0, &device).unwrap_err(), @"the network `unet2d-lite` may have from 1 to 8192 input and output channels, found 1 and 0");
}

#[test]
fn training_lowers_the_loss_of_every_kind_of_network() {
    let device = Device::flex().autodiff();
    for spec in every_kind() {
        let (mut network, mut adam) = (build(&spec, &device), optimizer());
        let mut losses = vec![];
        for _ in 0..12 {
            let (next, loss) = step(network, &mut adam, training_shape(&spec), 1, &device);
            network = next;
            losses.push(loss);
        }
        assert!(losses[11] < losses[0] - 0.1, "{losses:?}");
    }
}

fn save(path: &Path, spec: &NetworkSpec, network: &UNet, adam: Option<&OptimizerState>) {
    let state = json!({"epoch": 2, "best_dice": 0.5});
    CheckpointParts { spec, network, optimizer: adam, average: None, state: &state }.save(path).unwrap();
}

/// Batch statistics, moments and step count must all be restored: an error in any of them changes the next loss.
#[test]
fn resumed_training_has_identical_losses() {
    let device = Device::flex().autodiff();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    for spec in every_kind() {
        let (mut network, mut adam) = (build(&spec, &device), optimizer());
        for seed in 0..3 {
            (network, _) = step(network, &mut adam, training_shape(&spec), seed, &device);
        }
        save(&path, &spec, &network, Some(&adam));

        let checkpoint = Checkpoint::load(&path).unwrap();
        assert_eq!(checkpoint.state()["epoch"], 2);
        assert_eq!(checkpoint.spec(), &spec);
        let mut resumed = checkpoint.network(&device).unwrap();
        let mut resumed_adam = checkpoint.optimizer(Optimizer::Adam).unwrap();
        assert_eq!(
            answer(&resumed, &device, &prediction_shape(&spec)),
            answer(&network, &device, &prediction_shape(&spec))
        );
        for seed in 3..6 {
            let (next, loss) = step(network, &mut adam, training_shape(&spec), seed, &device);
            let (next_resumed, loss_resumed) =
                step(resumed, &mut resumed_adam, training_shape(&spec), seed, &device);
            assert_eq!(loss, loss_resumed);
            (network, resumed) = (next, next_resumed);
        }
        assert_eq!(
            answer(&resumed, &device, &prediction_shape(&spec)),
            answer(&network, &device, &prediction_shape(&spec))
        );
    }
}

#[test]
fn checkpoint_loads_on_a_device_without_autodiff() {
    let device = Device::flex().autodiff();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.ckpt");
    let spec = every_kind().remove(0);
    let (network, _) = step(build(&spec, &device), &mut optimizer(), training_shape(&spec), 0, &device);
    save(&path, &spec, &network, None);
    let checkpoint = Checkpoint::load(&path).unwrap();
    let plain = checkpoint.network(&Device::flex()).unwrap();
    assert_eq!(
        answer(&plain, &Device::flex(), &prediction_shape(&spec)),
        answer(&network, &device, &prediction_shape(&spec))
    );

    let error = checkpoint.optimizer(Optimizer::Adam).err().unwrap().to_string();
    insta::assert_snapshot!(error.replace(&folder.path().display().to_string(), "RUN"), @"training cannot be resumed from this checkpoint: it holds weights only; resume from the last one, not the best (RUN/best.ckpt)");
}

#[test]
fn damaged_and_unknown_checkpoints_are_refused() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.ckpt");
    let spec = every_kind().remove(0);
    save(&path, &spec, &build(&spec, &device), None);
    let whole = std::fs::read(&path).unwrap();
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Checkpoint::load(&path).unwrap_err().to_string().replace(&folder.path().display().to_string(), "RUN")
    };
    insta::assert_snapshot!(message(&whole[..whole.len() / 2]), @"the checkpoint is damaged: its checksum doesn't fit its content, so it was cut short or changed; use the other checkpoint of the run, or train again (RUN/last.ckpt)");
    insta::assert_snapshot!(message(b"\x80\x02 a pickle"), @"this is not a checkpoint of sulcus: it doesn't begin with SULCUSCK (RUN/last.ckpt)");
    assert_eq!(message(&whole[..20]), message(&whole[..whole.len() / 2]));
    for at in (8..whole.len()).step_by(97) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        assert!(message(&flipped).starts_with("the checkpoint is damaged"), "byte {at}");
    }
    let missing = Checkpoint::load(&folder.path().join("no.ckpt")).unwrap_err().to_string();
    assert!(missing.starts_with("could not read the checkpoint"), "{missing}");
    let spec_network = build(&spec, &device);
    let nowhere = CheckpointParts {
        spec: &spec,
        network: &spec_network,
        optimizer: None,
        average: None,
        state: &json!(null),
    }
    .save(&folder.path().join("no-such-folder/last.ckpt"))
    .unwrap_err()
    .to_string();
    assert!(nowhere.starts_with("could not write the checkpoint"), "{nowhere}");
}

fn operators(bytes: &[u8]) -> Vec<String> {
    let model = <ModelProto as prost::Message>::decode(bytes).unwrap();
    model.graph.unwrap().node.into_iter().map(|node| node.op_type).collect()
}

#[test]
fn exported_graph_has_one_node_per_layer() {
    let device = Device::flex();
    let [pooled, strided, _, _, residual, _]: [NetworkSpec; 6] = every_kind().try_into().unwrap();
    let bytes = export_onnx(&build(&pooled, &device), &model_spec(pooled, 2)).unwrap();
    let count = |bytes: &[u8], name: &str| operators(bytes).iter().filter(|op| *op == name).count();
    // 2 + 1 + 3 convolutions in the encoder, 1 + 2 in the decoder, the head; batch normalisation is folded.
    assert_eq!(count(&bytes, "Conv"), 10);
    assert_eq!(count(&bytes, "MaxPool"), 2);
    assert_eq!(count(&bytes, "ConvTranspose"), 2);
    assert_eq!(count(&bytes, "Concat"), 2);
    assert_eq!(operators(&bytes).len(), 10 + 9 + 2 + 2 + 2);

    let spec = model_spec(strided, 2);
    let bytes = export_onnx(&build(&spec.network, &device), &spec).unwrap();
    assert_eq!(count(&bytes, "InstanceNormalization"), 9);
    assert_eq!(count(&bytes, "LeakyRelu"), 9);
    assert_eq!(count(&bytes, "MaxPool"), 0);
    assert_eq!(sulcus_onnx::read_spec(&bytes).unwrap(), spec);

    let spec = model_spec(residual, 2);
    let bytes = export_onnx(&build(&spec.network, &device), &spec).unwrap();
    // A stem, 2 + 1 + 3 + 1 blocks of two with 3 projections, one up at each of 3 resolutions, the head.
    assert_eq!(count(&bytes, "Conv"), 1 + 14 + 3 + 3 + 1);
    assert_eq!(count(&bytes, "AveragePool"), 3);
    assert_eq!(count(&bytes, "Add"), 7);
}

#[test]
fn export_refuses_a_network_of_another_specification() {
    let device = Device::flex();
    let spec = every_kind().remove(0);
    let network = build(&spec, &device);
    let message = |model| export_onnx(&network, &model).unwrap_err().to_string();
    insta::assert_snapshot!(message(model_spec(spec.clone(), 1)), @"cannot export the network: its specification says 1 input and 3 output channel(s), the network has 2 input and 3 output channel(s)");
    let mut other = spec.clone();
    other.stages[1].kernel = vec![3, 3];
    let message = message(model_spec(other, 2));
    assert!(message.contains("[1, 3]") && message.contains("[3, 3]"), "{message}");
}

#[test]
fn export_refuses_diverged_weights() {
    let device = Device::flex().autodiff();
    let spec = every_kind().remove(0);
    let mut descent = OptimizerState::new(Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 });
    let (image, truth) = common::batch(training_shape(&spec), 1, &device);
    let network = build(&spec, &device);
    let loss = segmentation_loss(
        Loss::DiceCe,
        OutputActivation::Softmax,
        DiceScope::Batch,
        network.forward(image),
        &truth,
    ) * f32::MAX;
    let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &network);
    let network = descent.step(network, gradients, 1e30, None).unwrap();
    let error = export_onnx(&network, &model_spec(spec, 2)).unwrap_err().to_string();
    assert!(error.contains("training has diverged"), "{error}");
}
