//! Makes `assets/tiny.onnx`, the model inside `sulcus doctor`: a U-Net of three stages, trained on the bundled scans for two
//! minutes and exported like any other model.
//!
//! `cargo run --release -p sulcus-cli --example tiny_model`

use std::path::Path;

use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};
use sulcus_plan::{DeviceChoice, TrainConfig};
use sulcus_train::{NetworkPredictor, Run, Weights, export_onnx, find_device, train};

const SECONDS: f64 = 120.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dataset = Dataset::open(here.join("../../examples/data/hippocampus"))?;
    let stages = [8, 16, 32].into_iter().enumerate().map(|(depth, channels)| StageConfig {
        channels,
        convolutions: 2,
        kernel: vec![3, 3],
        stride: if depth == 0 { vec![1, 1] } else { vec![2, 2] },
    });
    let mut config = TrainConfig::new(NetworkSpec {
        name: "unet2d-tiny".into(),
        dimensions: Dimensions::Two,
        stages: stages.collect(),
        norm: Norm::Batch,
        activation: Activation::Relu,
        downsampling: Downsampling::MaxPool,
        encoder: Encoder::Plain,
        deep_supervision: false,
        imported: None,
    });
    config.time_budget_secs = Some(SECONDS);
    config.device = DeviceChoice::Cpu.into();

    let folder = tempfile::tempdir()?;
    train(&dataset, &SplitChoice::default(), &config, folder.path(), &mut ())?;
    let run = Run::open(folder.path())?;
    let (device, _) = find_device(DeviceChoice::Cpu)?;
    let network = run.load_network(Weights::Best, &device)?;
    let spec = run.model_spec(Weights::Best, &NetworkPredictor::new(&network, &device))?;
    let bytes = export_onnx(&network, &spec)?;
    std::fs::create_dir_all(here.join("assets"))?;
    std::fs::write(here.join("assets/tiny.onnx"), bytes)?;
    Ok(())
}
