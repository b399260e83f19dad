//! The shipped model without any ONNX runtime: burn-onnx (the successor of burn-import) has written it as Rust code
//! at build time, Burn computes it, and the shared pipeline does all the rest.
//!
//! `cargo run --release -p embed-burn -- SCAN.nii.gz MASK.nii.gz`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::ops::ControlFlow;

use burn::tensor::{Bytes, Device, TensorData};
use sulcus_model::ModelSpec;
use sulcus_pipeline::{
    Outputs, PipelineError, Predictor, PredictorError, Tensor, WindowOptions, predict_logits, preprocess,
};
use sulcus_volume::{Image, LabelMap};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::restriction, reason = "written by burn-onnx")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/model/model.rs"));
}

/// The same file that the build script read: its specification says how to prepare a scan.
const MODEL: &[u8] = include_bytes!("../../../models/hippocampus/model.onnx");

/// The weights that burn-onnx took out of it.
const WEIGHTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/model/model.bpk"));

struct Compiled {
    model: generated::Model,
    device: Device,
}

impl Predictor for Compiled {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let fail = |message: String| PredictorError { engine: "burn", message };
        let (shape, values) = input.into_parts();
        let input = burn::tensor::Tensor::<4>::from_data(TensorData::new(values, shape), &self.device);
        let output = self.model.forward(input);
        let shape = output.dims().to_vec();
        let values = output.into_data().try_to_vec::<f32>().map_err(|e| fail(format!("{e:?}")))?;
        Tensor::new(shape, values).map_err(|e| fail(e.to_string()))
    }
}

/// Every station but the network is the shared pipeline's.
fn segment(network: &Compiled, spec: &ModelSpec, image: &Image) -> Result<LabelMap, PipelineError> {
    let (prepared, restore) = preprocess(spec, image)?;
    let on_tile = &mut |_| ControlFlow::Continue(());
    let logits = predict_logits(spec, &prepared, &[network], &WindowOptions::default(), on_tile)?;
    Ok(restore.finish(spec, logits, Outputs::Labels)?.labels)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = sulcus_onnx::read_spec(MODEL)?;
    let device = Device::flex();
    let weights = Bytes::from_bytes_vec(WEIGHTS.to_vec());
    let network = Compiled { model: generated::Model::from_bytes(weights, &device), device };

    let mut paths = std::env::args().skip(1);
    let (Some(scan), Some(mask)) = (paths.next(), paths.next()) else {
        let golden = spec.golden_case.as_ref().ok_or("the model carries no golden case")?;
        golden.check(&segment(&network, &spec, &golden.image(spec.orientation)?)?)?;
        println!("the model's golden case gets the mask that every engine must give");
        println!("usage: embed-burn SCAN.nii.gz MASK.nii.gz");
        return Ok(());
    };
    let scan = sulcus_io::read_scan(scan.as_ref())?;
    let labels = segment(&network, &spec, &scan.image)?;
    sulcus_io::write_labels(mask.as_ref(), &labels, &scan.source, &spec.labels)?;
    let counts = labels.counts();
    for entry in spec.labels.entries() {
        let voxels = counts.get(&entry.value).copied().unwrap_or(0);
        println!("{}: {voxels} voxels, {:.2} ml", entry.name, labels.geometry().ml(voxels));
    }
    Ok(())
}
