//! OpenVINO's provider, with a library that has it: PyPI's `onnxruntime-openvino`. A process holds one ONNX Runtime, so this
//! is a program of its own.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use common::{model, noise_scan};
use sulcus_model::Precision;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, SegmentOptions, Segmenter, SegmenterBuilder};

/// Of a mask's voxels this share may differ from ONNX Runtime's own processor provider: kernels sum in another order.
const MAX_DISAGREEMENT: f64 = 1e-4;
/// In bf16, whose numbers have 8 bits, on noise that lies anywhere between the thresholds.
const MAX_DISAGREEMENT_IN_HALF: f64 = 0.02;

fn builder() -> SegmenterBuilder {
    let Some(library) = std::env::var_os("SULCUS_OPENVINO_LIB") else {
        sulcus_harness::skip("there is no ONNX Runtime with OpenVINO; set SULCUS_OPENVINO_LIB");
    };
    Segmenter::builder().engine(Engine::Ort).ort_library(OrtLibrary::Path(library.into()))
}

#[test]
fn openvino_gives_the_processor_s_masks_and_says_what_it_computed_in() {
    let builder = builder();
    for axes in [2, 3] {
        let scan = noise_scan([37, 29, 19], 5);
        let segment = |device, precision: Option<Precision>| {
            let builder = builder.clone().device(device).threads(2);
            let builder = precision.into_iter().fold(builder, SegmenterBuilder::precision);
            let found = builder.model_bytes(model(axes)).build()?.segment(&scan, SegmentOptions::default())?;
            assert_eq!(found.device, device);
            Ok::<_, sulcus_runtime::Error>((found.labels, found.precision))
        };
        let (expected, _) = segment(Device::Cpu, None).unwrap();
        let share = |mask: &sulcus_volume::LabelMap| {
            let different = mask.data().iter().zip(expected.data()).filter(|(a, b)| a != b).count();
            different as f64 / expected.data().len() as f64
        };
        let (found, precision) = segment(Device::OpenVino, None).unwrap();
        assert_eq!(precision, "fp32");
        assert!(share(&found) <= MAX_DISAGREEMENT, "{axes}-D: {}", share(&found));
        match segment(Device::OpenVino, Some(Precision::Bf16)) {
            Ok((found, precision)) => {
                assert_eq!(precision, "bf16");
                assert!(share(&found) <= MAX_DISAGREEMENT_IN_HALF, "{axes}-D: {}", share(&found));
                assert!(share(&found) > 0.0, "half precision that changes no voxel of noise is none");
            }
            // An error that says so, never single precision under another name.
            Err(error) => assert!(error.to_string().contains("no bf16 arithmetic"), "{error}"),
        }
    }
    let golden = builder.device(Device::OpenVino).model_bytes(sulcus_runtime::SELF_TEST_MODEL).build().unwrap();
    golden.replay_golden().unwrap();
}

sulcus_harness::main!();
