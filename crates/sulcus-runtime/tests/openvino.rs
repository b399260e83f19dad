//! OpenVINO's provider, with a library that contains it: PyPI's `onnxruntime-openvino`. A process can load only one ONNX
//! Runtime, so this is a separate test program.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use common::{model, noise_scan};
use sulcus_model::Precision;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, SegmentOptions, Segmenter, SegmenterBuilder};

/// Maximum fraction of voxels that differ from the masks of ONNX Runtime's own processor provider: kernels sum in
/// different orders.
const MAX_DISAGREEMENT: f64 = 1e-4;
/// The same in bf16, which has 8 bits of mantissa, on noise with values anywhere between the thresholds.
const MAX_DISAGREEMENT_IN_HALF: f64 = 0.02;

fn builder() -> SegmenterBuilder {
    let Some(library) = std::env::var_os("SULCUS_OPENVINO_LIB") else {
        sulcus_harness::skip("there is no ONNX Runtime with OpenVINO; set SULCUS_OPENVINO_LIB");
    };
    Segmenter::builder().engine(Engine::Ort).ort_library(OrtLibrary::Path(library.into()))
}

#[test]
fn openvino_gives_the_masks_of_the_processor_and_reports_its_precision() {
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
                assert!(share(&found) > 0.0, "half precision must change some voxels of noise");
            }
            // An error with the reason, never a silent use of single precision.
            Err(error) => assert!(error.to_string().contains("no bf16 arithmetic"), "{error}"),
        }
    }
    let golden = builder.device(Device::OpenVino).model_bytes(sulcus_runtime::SELF_TEST_MODEL).build().unwrap();
    golden.replay_golden().unwrap();
}

sulcus_harness::main!();
