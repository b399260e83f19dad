//! Imported models of nnU-Net in every engine: the logits are those that PyTorch computes with nnU-Net's own classes.

use std::path::PathBuf;

use serde_json::Value;
use sulcus_nnunet::{ImportOptions, import};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_runtime::ort::{OrtPredictor, find_onnx_runtime};
use sulcus_runtime::{Device, NativePredictor, TractPredictor};
use sulcus_tests::{onnx_runtime, root};

/// Maximum difference between a logit and PyTorch's: single precision, other orders of summation. The file of expected logits has
/// six decimals.
const MAX_DIFFERENCE: f32 = 1e-5;
/// The file of expected logits has every fifth one.
const STEP: usize = 5;

fn fixtures() -> PathBuf {
    root().join("crates/sulcus-nnunet/tests/fixtures")
}

/// The same numbers as `noise` of `tests/peers/nnunet_import.py`.
fn noise(shape: &[usize]) -> Tensor {
    let mut state = 99_u32;
    let values = (0..shape.iter().product()).map(|_: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    Tensor::new(shape.to_vec(), values.collect()).unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// Plain and residual networks of slices and blocks with instance and batch normalisation, both residual blocks, stems, decoders with
/// other numbers of convolutions than the encoder, activations before the normalisation, plans of old versions, two folds.
#[test]
fn logits_of_every_imported_network_are_pytorchs() {
    let expected: Value = serde_json::from_slice(&std::fs::read(fixtures().join("logits.json")).unwrap()).unwrap();
    let runtime = onnx_runtime().map(|library| find_onnx_runtime(&library).unwrap().0.unwrap());
    let models = expected.as_object().unwrap();
    assert_eq!(models.len(), 13);
    for (name, expected) in models {
        let model = import(&fixtures().join(format!("{name}.zip")), &ImportOptions::default()).unwrap();
        let input = noise(&numbers(&expected["input"]));
        let mut predictors: Vec<(&str, Box<dyn Predictor>)> = Vec::new();
        predictors.push(("tract", Box::new(TractPredictor::new(&model.bytes, input.shape(), None).unwrap())));
        predictors.push(("native", Box::new(NativePredictor::new(&model.bytes, Some(2)).unwrap())));
        if let Some(runtime) = &runtime {
            predictors
                .push(("ORT", Box::new(OrtPredictor::new(runtime, &model.bytes, Device::Cpu, None).unwrap())));
        }
        let values: Vec<f64> =
            expected["every_fifth"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        for (engine, predictor) in predictors {
            let found = predictor.logits(input.clone()).unwrap();
            assert_eq!(found.shape(), numbers(&expected["shape"]), "{name}, {engine}");
            let found: Vec<f32> = found.data().iter().copied().step_by(STEP).collect();
            assert_eq!(found.len(), values.len());
            let apart = found.iter().zip(&values).map(|(a, b)| (a - *b as f32).abs()).fold(0.0, f32::max);
            assert!(apart <= MAX_DIFFERENCE, "{name}, {engine}: logits differ by {apart}");
        }
    }
}
