//! Starting from pretrained weights: matching tensors are copied, and the rest is reported.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use burn_store::{ModuleSnapshot, SafetensorsStore};
use common::{
    every_kind, model_spec, noise, optimizer, prediction_shape, step, training_shape, uneven, uneven_blocks,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_model::{Activation, Downsampling, Encoder, NetworkSpec, Norm};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_plan::{DeviceChoice, TrainConfig, preset};
use sulcus_train::{
    Checkpoint, CheckpointParts, Event, InitReport, InitSource, Manifest, NetworkPredictor, TrainObserver, UNet,
    export_onnx, initialise, train,
};

/// Two programs sum in different orders.
const TOLERANCE: f32 = 1e-5;

const LEAKY: Activation = Activation::LeakyRelu { slope: 0.01 };

fn answer(network: &UNet, shape: &[usize]) -> Vec<f32> {
    let input = Tensor::new(shape.to_vec(), noise(shape, 99)).unwrap();
    NetworkPredictor::new(network, &Device::flex()).logits(input).unwrap().into_parts().1
}

fn fresh(spec: &NetworkSpec, channels: usize, classes: usize) -> UNet {
    UNet::new(spec, channels, classes, 11, &Device::flex()).unwrap()
}

/// A network in which every tensor differs from its initial value.
fn trained(spec: &NetworkSpec) -> UNet {
    let device = Device::flex().autodiff();
    let mut network = UNet::new(spec, 2, 3, 7, &device).unwrap();
    let mut optimizer = optimizer();
    for seed in 0..3 {
        let shape = training_shape(spec);
        network = step(network, &mut optimizer, shape, seed, &device).0;
    }
    network
}

fn start(spec: &NetworkSpec, file: &Path) -> (UNet, InitReport) {
    let mut network = fresh(spec, 2, 3);
    let report = initialise(&mut network, InitSource::read(file).unwrap(), &Device::flex()).unwrap();
    (network, report)
}

fn refused(spec: &NetworkSpec, file: &Path) -> String {
    let path = file.display().to_string();
    let source = InitSource::read(file);
    let outcome = source.and_then(|source| initialise(&mut fresh(spec, 2, 3), source, &Device::flex()));
    outcome.unwrap_err().to_string().replace(&path, "FILE")
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{worst}");
}

fn write_model(network: &UNet, spec: &NetworkSpec, file: &Path) {
    std::fs::write(file, export_onnx(network, &model_spec(spec.clone(), 2)).unwrap()).unwrap();
}

fn write_checkpoint(network: &UNet, spec: &NetworkSpec, file: &Path) {
    CheckpointParts { spec, network, optimizer: None, average: None, state: &Value::Null }.save(file).unwrap();
}

/// Float32 tensors in the safetensors format: length of the header, header, values.
fn write_safetensors(tensors: &[(&str, &[usize], Vec<f32>)], file: &Path) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header
            .insert((*name).into(), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(file, [length.as_slice(), &header, &data].concat()).unwrap();
}

#[test]
fn model_file_restores_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    for spec in every_kind() {
        let network = trained(&spec);
        write_model(&network, &spec, &file);
        let (network_again, report) = start(&spec, &file);
        assert!(report.other_shape.is_empty() && report.unused.is_empty(), "{report}");
        assert_eq!(report.record.total - report.record.matched, report.missing.len());
        if spec.norm == Norm::Instance {
            let shape = prediction_shape(&spec);
            assert_close(&answer(&network_again, &shape), &answer(&network, &shape));
            // Only training uses them.
            assert!(report.missing.iter().all(|name| name.starts_with("side_heads.")), "{report}");
        } else {
            assert!(report.missing.iter().all(|name| name.contains(".norm.")), "{report}");
        }
        assert_eq!(report.folded, spec.norm == Norm::Batch);
        // The same in half precision, to half precision.
        let halved = sulcus_onnx::precision::to_half(&std::fs::read(&file).unwrap()).unwrap();
        std::fs::write(&file, halved).unwrap();
        let (halved, of_half) = start(&spec, &file);
        assert_eq!(of_half.record.matched, report.record.matched, "{of_half}");
        let shape = prediction_shape(&spec);
        let expected = answer(&network_again, &shape);
        let scale = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let worst = answer(&halved, &shape).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst <= 0.01 * scale, "{worst} of {scale}");
    }
}

#[test]
fn checkpoint_restores_its_network_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("best.ckpt");
    for spec in every_kind() {
        let network = trained(&spec);
        write_checkpoint(&network, &spec, &file);
        let (again, report) = start(&spec, &file);
        assert_eq!(
            (report.record.matched, report.missing.len(), report.unused.len()),
            (report.record.total, 0, 0)
        );
        let shape = prediction_shape(&spec);
        let device = Device::flex();
        let expected = Checkpoint::load(&file).unwrap().network(&device).unwrap();
        assert_eq!(answer(&again, &shape), answer(&expected, &shape));
    }
}

#[test]
fn safetensors_of_burn_restore_their_network() {
    let folder = tempfile::tempdir().unwrap();
    for (i, spec) in every_kind().iter().enumerate() {
        let network = fresh(spec, 2, 3);
        let file = folder.path().join(format!("{i}.safetensors"));
        network.save_into(&mut SafetensorsStore::from_file(&file)).unwrap();
        let mut again = UNet::new(spec, 2, 3, 5, &Device::flex()).unwrap();
        let report = initialise(&mut again, InitSource::read(&file).unwrap(), &Device::flex()).unwrap();
        assert_eq!((report.record.matched, report.unused.len()), (report.record.total, 0), "{report}");
        let shape = prediction_shape(spec);
        assert_eq!(answer(&again, &shape), answer(&network, &shape));
    }
}

/// The files and answers are of nnU-Net's own network classes; see tests/peers/nnunet_weights.py.
#[test]
fn nnunet_checkpoints_give_nnunets_logits() {
    let plain = {
        let mut spec = uneven(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
        for (stage, (channels, stride)) in spec.stages.iter_mut().zip([(3, [1, 1]), (4, [2, 2]), (5, [1, 2])]) {
            (stage.channels, stage.convolutions, stage.stride) = (channels, 1, stride.to_vec());
        }
        spec
    };
    let residual = {
        let mut spec = uneven_blocks(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
        (spec.encoder, spec.deep_supervision) = (Encoder::Residual, true);
        let stages = [
            (2, 1, [1, 3, 3], [1, 1, 1]),
            (3, 2, [3, 3, 3], [1, 2, 2]),
            (4, 1, [3, 3, 3], [2, 2, 2]),
            (4, 1, [3, 3, 1], [1, 2, 1]),
        ];
        for (stage, (channels, blocks, kernel, stride)) in spec.stages.iter_mut().zip(stages) {
            (stage.channels, stage.convolutions) = (channels, blocks);
            (stage.kernel, stage.stride) = (kernel.to_vec(), stride.to_vec());
        }
        spec
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights");
    for (name, spec, shape) in
        [("plain_2d", plain, vec![1, 2, 8, 8]), ("residual_3d", residual, vec![1, 2, 4, 16, 4])]
    {
        let (network, report) = start(&spec, &folder.join(format!("{name}.pth")));
        assert!(report.other_shape.is_empty(), "{report}");
        // nnU-Net's shortcuts have no bias, which equals a bias of zero, and its coarsest logits have no counterpart.
        assert!(report.missing.iter().all(|name| name.ends_with(".shortcut.conv.bias")), "{report}");
        assert!(report.unused.iter().all(|name| name.contains("seg_layers.0.")), "{report}");
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let logits: Vec<f32> = serde_json::from_value(expected["logits"].clone()).unwrap();
        assert_close(&answer(&network, &shape), &logits);
    }
}

#[test]
fn head_and_first_convolution_stay_random_for_other_classes_and_channels() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let spec = uneven(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
    write_model(&trained(&spec), &spec, &file);
    let mut network = fresh(&spec, 1, 4);
    let before = answer(&network, &[1, 1, 8, 16]);
    let report = initialise(&mut network, InitSource::read(&file).unwrap(), &Device::flex()).unwrap();
    assert_ne!(answer(&network, &[1, 1, 8, 16]), before);
    insta::assert_snapshot!(report, @"
    starting from model.onnx: 39 of the network's 42 tensors are taken from it
      3 fresh, of another shape in the file: encoder.0.0.conv.weight (file [3, 2, 3, 3], network [3, 1, 1, 3, 3]), logits.weight (file [3, 3, 1, 1], network [4, 3, 1, 1, 1]), logits.bias (file [3], network [4])
    ");
}

#[test]
fn unusable_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let spec = uneven(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
    let network = trained(&spec);
    let cut = |whole: &Path, name: &str| -> PathBuf {
        let bytes = std::fs::read(whole).unwrap();
        std::fs::write(file(name), &bytes[..bytes.len() * 2 / 3]).unwrap();
        file(name)
    };
    let nnunet = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights");
    write_model(&network, &spec, &file("model.onnx"));
    write_checkpoint(&network, &spec, &file("best.ckpt"));
    network.valid().save_into(&mut SafetensorsStore::from_file(file("whole.safetensors"))).unwrap();
    for whole in [
        file("model.onnx"),
        file("best.ckpt"),
        file("whole.safetensors"),
        nnunet.join("plain_2d.pth"),
        nnunet.join("residual_3d.pth"),
    ] {
        let extension = whole.extension().unwrap().to_str().unwrap();
        let message = refused(&spec, &cut(&whole, &format!("cut.{extension}")));
        assert!(message.contains("FILE"), "{message}");
        assert!(message.contains("cut short"), "{message}");
        // The content of one format with the extension of another.
        for other in ["onnx", "ckpt", "pt", "safetensors"].iter().filter(|e| !extension.starts_with(**e)) {
            let wrong = file(&format!("wrong.{other}"));
            std::fs::copy(&whole, &wrong).unwrap();
            assert!(refused(&spec, &wrong).contains("FILE"));
        }
    }
    std::fs::write(file("notes.txt"), "weights").unwrap();
    insta::assert_snapshot!(refused(&spec, &file("notes.txt")), @"training cannot start from this file: expected a model (.onnx), a checkpoint (.ckpt), a run's folder, or PyTorch weights (.pt, .pth, .safetensors): FILE");
    std::fs::write(file("notes.pt"), "weights").unwrap();
    insta::assert_snapshot!(refused(&spec, &file("notes.pt")), @"the weights to start from cannot be read; as a PyTorch file it is broken or cut short: invalid PyTorch file format: not a PyTorch checkpoint: no ZIP, TAR, legacy or pickle header found: FILE");
    insta::assert_snapshot!(refused(&spec, folder.path()), @"training cannot start from this folder: it contains no training run: FILE");
    insta::assert_snapshot!(refused(&spec, &file("absent.pt")), @"the weights to start from cannot be read: No such file or directory (os error 2): FILE");
}

/// Rewrites the header of a checkpoint, with the right checksum.
fn with_header(checkpoint: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(checkpoint[8..16].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&checkpoint[16..16 + length]).unwrap();
    change(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let rest = &checkpoint[16 + length..checkpoint.len() - 32];
    let content = [b"SULCUSCK", &(header.len() as u64).to_le_bytes()[..], &header, rest].concat();
    [&content[..], &Sha256::digest(&content)].concat()
}

/// Regression test: each of these asked for more memory than any machine has.
#[test]
fn checkpoint_that_announces_more_weights_than_it_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("best.ckpt");
    let spec = uneven(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
    write_checkpoint(&fresh(&spec, 2, 3), &spec, &file);
    let sound = std::fs::read(&file).unwrap();
    let message = |change: fn(&mut Value)| {
        std::fs::write(&file, with_header(&sound, change)).unwrap();
        refused(&spec, &file)
    };
    insta::assert_snapshot!(message(|h| h["network"]["stages"][0]["channels"] = json!(1_000_000_000)), @"the checkpoint's weights could not be used: the network `uneven` cannot be built: stage 0 may have up to 8192 channels and 64 convolutions, found 1000000000 and 2 (FILE)");
    insta::assert_snapshot!(message(|h| h["network"]["stages"][1]["channels"] = json!(8000)), @"the checkpoint's weights could not be used: they have 24076 bytes, too few for the 385177962 parameters of the network in its header (FILE)");
    insta::assert_snapshot!(message(|h| h["input_channels"] = json!(1_000_000_000_000_u64)), @"the checkpoint's weights could not be used: the network `uneven` may have from 1 to 8192 input and output channels, found 1000000000000 and 3 (FILE)");
    insta::assert_snapshot!(message(|h| h["output_channels"] = json!(0)), @"the checkpoint's weights could not be used: the network `uneven` may have from 1 to 8192 input and output channels, found 2 and 0 (FILE)");
    insta::assert_snapshot!(message(|h| h["weights_bytes"] = json!(100)), @"the checkpoint's weights could not be used: they have 100 bytes, too few for the 2847 parameters of the network in its header (FILE)");
    insta::assert_snapshot!(message(|h| h["weights_bytes"] = json!(u64::MAX)), @"the checkpoint is damaged: its checksum doesn't fit its content, so it was cut short or changed; use the other checkpoint of the run, or train again (FILE)");
    std::fs::write(&file, with_header(&sound, |_| {})).unwrap();
    assert!(InitSource::read(&file).is_ok());
}

/// Regression test: two megabytes inflated to four gigabytes.
#[test]
fn compressed_pytorch_archive_is_refused_before_it_is_inflated() {
    let folder = tempfile::tempdir().unwrap();
    let spec = uneven(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
    let pickle = [&[0x80, 2][..], &vec![b'N'; 1 << 20], b"."].concat();
    let archive = |method| {
        let file = folder.path().join("x.pt");
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&file).unwrap());
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file("archive/data.pkl", options).unwrap();
        std::io::Write::write_all(&mut archive, &pickle).unwrap();
        archive.finish().unwrap();
        file
    };
    insta::assert_snapshot!(refused(&spec, &archive(zip::CompressionMethod::Deflated)), @"the weights to start from cannot be read; as a PyTorch file it is broken or cut short: its archive is compressed, expected one that torch.save() has written: FILE");
    assert!(!refused(&spec, &archive(zip::CompressionMethod::Stored)).contains("compressed"));
}

#[test]
fn non_finite_weights_and_weights_of_another_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    let spec = uneven(Norm::Instance, LEAKY, Downsampling::StridedConvolution);
    write_safetensors(&[("logits.bias", &[3], vec![0.0, f32::NAN, 0.0])], &file);
    insta::assert_snapshot!(refused(&spec, &file), @"training cannot start from these weights: `logits.bias` holds NaN, so their training had diverged: FILE");
    write_safetensors(&[("logits.bias", &[3], vec![0.0; 3]), ("fc.weight", &[2, 1], vec![0.0; 2])], &file);
    insta::assert_snapshot!(refused(&spec, &file), @"training cannot start from these weights: no convolution of the network has a counterpart with the same name and shape. The file has 2 tensors, such as `fc.weight` [2, 1]; the network 42, such as `encoder.0.0.conv.weight` [3, 2, 1, 3, 3]: FILE");
}

/// Keeps the report of the initialisation.
struct Listener(Option<InitReport>);

impl TrainObserver for Listener {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Initialised(report) = event {
            self.0 = Some(report.clone());
        }
    }
}

#[test]
fn run_starts_from_another_run_and_records_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, [20, 24, 16]);
    let dataset = Dataset::open(&root).unwrap();
    let mut network = preset("unet2d-lite").unwrap();
    network.stages.truncate(2);
    network.stages.iter_mut().zip([6, 12]).for_each(|(stage, channels)| stage.channels = channels);
    let mut config = TrainConfig::new(network);
    config.batch_size = Some(4);
    (config.epochs, config.steps_per_epoch) = (Some(1), Some(12));
    config.device = DeviceChoice::Cpu.into();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    train(&dataset, &SplitChoice::All, &config, &first, &mut ()).unwrap();
    config.init = Some(first.clone());
    let mut listener = Listener(None);
    train(&dataset, &SplitChoice::All, &config, &second, &mut listener).unwrap();
    let record = Manifest::read(&second).unwrap().init.unwrap();
    assert_eq!(record, listener.0.unwrap().record);
    assert_eq!((record.file.as_str(), record.matched), ("best.ckpt", record.total));
    assert_eq!(record.sha256.len(), 64);
    let loss = |run: &Path| sulcus_train::read_history(&run.join("history.jsonl")).unwrap()[0].loss;
    assert!(loss(&second) < loss(&first), "{} after {}", loss(&second), loss(&first));

    config.init = Some(root);
    let third = folder.path().join("third");
    train(&dataset, &SplitChoice::All, &config, &third, &mut ()).unwrap_err();
    assert!(!third.exists());
}
