//! Makes `assets/tiny.onnx`, the model that `sulcus doctor` carries: a U-Net of three stages, trained on the bundled
//! scans for two minutes and exported like any other.
//!
//! `cargo run --release -p sulcus-cli --example tiny_model`

use std::path::Path;

use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};
use sulcus_train::{
    Dataset, DeviceChoice, NetworkPredictor, Run, SplitChoice, TrainConfig, Weights, export_onnx, train,
};

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
    });
    config.time_budget_secs = Some(SECONDS);
    config.device = DeviceChoice::Cpu.into();

    let folder = tempfile::tempdir()?;
    train(&dataset, &SplitChoice::default(), &config, folder.path(), &mut ())?;
    let run = Run::open(folder.path())?;
    let (device, _) = DeviceChoice::Cpu.resolve()?;
    let network = run.load_network(Weights::Best, &device)?;
    let spec = run.model_spec(Weights::Best, &NetworkPredictor::new(&network, &device))?;
    let bytes = export_onnx(&network, &spec)?;
    std::fs::create_dir_all(here.join("assets"))?;
    std::fs::write(here.join("assets/tiny.onnx"), bytes)?;
    Ok(())
}
