//! The configuration of a model for Triton: `config.pbtxt`, a `ModelConfig` in the text format of protobuf, and the names of
//! the classes.

use std::fmt::Write as _;

use sulcus_model::{ModelSpec, OutputActivation, Precision, SPEC_KEY, Training};
use sulcus_pipeline::PipelineError;

use crate::args::values::TritonDevice;

/// Name of the model file in the folder of a version, as Triton's ONNX Runtime backend expects it.
pub(super) const MODEL: &str = "model.onnx";
/// Name of the file with the names of the channels of `logits`, one per line.
pub(super) const LABELS: &str = "labels.txt";

/// Maximum number of voxels of a batch, such as four blocks of 96³. The 32 feature maps of an nnU-Net's largest layer then take
/// half a gigabyte, and a few of these layers are in memory at once.
const MAX_BATCH_VOXELS: usize = 1 << 22;
/// Larger batches only increase the latency.
const MAX_BATCH: usize = 32;

/// The text of `config.pbtxt`.
///
/// # Errors
/// When the specification has a number that JSON cannot represent.
pub(super) fn config(name: &str, spec: &ModelSpec, device: TritonDevice) -> Result<String, PipelineError> {
    let name = quoted(name);
    let batch = max_batch(&spec.patch);
    let free = vec!["-1"; spec.patch.len()].join(", ");
    let (channels, classes) = (spec.channels.len(), spec.networks * spec.classes());
    let mut text = format!(
        "# The network only: its input are tiles of prepared scans, its output are logits. The parameter {SPEC_KEY} describes\n\
         # how a scan becomes tiles and how logits become a mask.\n\
         name: {name}\n\
         backend: \"onnxruntime\"\n\
         default_model_filename: \"{MODEL}\"\n\
         max_batch_size: {batch}\n\
         input [\n  {{\n    name: \"image\"\n    data_type: TYPE_FP32\n    dims: [ {channels}, {free} ]\n  }}\n]\n\
         output [\n  {{\n    name: \"logits\"\n    data_type: TYPE_FP32\n    dims: [ {classes}, {free} ]\n    \
         label_filename: \"{LABELS}\"\n  }}\n]\n"
    );
    if batch > 1 {
        // Without a delay: tiles that wait are joined, but no tile waits for others.
        text.push_str("dynamic_batching { }\n");
    }
    let kind = match device {
        TritonDevice::Auto => "KIND_AUTO",
        TritonDevice::Cpu => "KIND_CPU",
        TritonDevice::Cuda | TritonDevice::Tensorrt => "KIND_GPU",
    };
    let _ = write!(text, "instance_group [\n  {{\n    count: 1\n    kind: {kind}\n  }}\n]\n");
    if device == TritonDevice::Tensorrt {
        text.push_str(
            "optimization {\n  execution_accelerators {\n    gpu_execution_accelerator [\n      {\n        \
             name: \"tensorrt\"\n        parameters { key: \"precision_mode\" value: \"FP32\" }\n      }\n    ]\n  }\n}\n",
        );
    }
    let tile: Vec<String> = std::iter::once(&channels).chain(&spec.patch).map(usize::to_string).collect();
    let _ = write!(
        text,
        "model_warmup [\n  {{\n    name: \"a tile\"\n    batch_size: 1\n    inputs {{\n      key: \"image\"\n      \
         value {{\n        data_type: TYPE_FP32\n        dims: [ {} ]\n        zero_data: true\n      }}\n    }}\n  }}\n]\n",
        tile.join(", ")
    );
    let _ = write!(
        text,
        "parameters {{\n  key: \"{SPEC_KEY}\"\n  value {{\n    string_value: {}\n  }}\n}}\n",
        quoted(&shared_spec(spec).to_json()?)
    );
    Ok(text)
}

/// The text of `labels.txt`.
pub(super) fn labels(spec: &ModelSpec) -> String {
    let background = (spec.activation == OutputActivation::Softmax).then(|| "background".to_owned());
    let names = spec.structures().into_iter().map(|structure| structure.name.replace(char::is_control, " "));
    background.into_iter().chain(names).map(|name| name + "\n").collect()
}

/// The specification without what differs between the versions of a model: training, precision and golden case.
fn shared_spec(spec: &ModelSpec) -> ModelSpec {
    ModelSpec { training: Training::default(), precision: None, golden_case: None, ..spec.clone() }
}

/// Why a model cannot be served on this device.
pub(super) fn refusal(spec: &ModelSpec, device: TritonDevice) -> Option<&'static str> {
    if spec.previous.is_some() {
        return Some(
            "this model has two networks, of which the second needs the mask of the first; Triton serves one network, so `sulcus serve` \
             has to serve it",
        );
    }
    (device == TritonDevice::Tensorrt && spec.precision() == Precision::Int8).then_some(
        "TensorRT needs 8-bit ranges that are centred on zero, unlike those of int8 models of sulcus; serve the model with \
         `--triton-device cuda`, or export it in fp32",
    )
}

fn max_batch(patch: &[usize]) -> usize {
    let voxels = patch.iter().product::<usize>().max(1);
    let max = (MAX_BATCH_VOXELS / voxels).clamp(1, MAX_BATCH);
    1 << max.ilog2()
}

/// A string in the text format of protobuf.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            c if c.is_ascii_control() => {
                let _ = write!(quoted, "\\{:03o}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_size_is_limited_by_the_tile_size() {
        for (patch, batch) in [
            (&[48, 64][..], 32),
            (&[512, 512], 16),
            (&[96, 96, 96], 4),
            (&[128, 128, 128], 2),
            (&[160, 160, 160], 1),
            (&[1024, 1024, 1024], 1),
        ] {
            assert_eq!(max_batch(patch), batch, "{patch:?}");
        }
    }

    #[test]
    fn quotes_and_line_breaks_are_escaped() {
        assert_eq!(quoted("a \"b\" \\ c\nd é"), r#""a \"b\" \\ c\012d é""#);
    }

    #[test]
    fn configuration_of_a_model() {
        let spec = sulcus_onnx::read_spec(crate::tiny::MODEL).unwrap();
        let text = config("tiny", &spec, TritonDevice::Tensorrt).unwrap();
        let (shown, parameter) = text.split_once("    string_value: ").unwrap();
        insta::assert_snapshot!(shown, @r##"
        # The network only: its input are tiles of prepared scans, its output are logits. The parameter sulcus.spec describes
        # how a scan becomes tiles and how logits become a mask.
        name: "tiny"
        backend: "onnxruntime"
        default_model_filename: "model.onnx"
        max_batch_size: 32
        input [
          {
            name: "image"
            data_type: TYPE_FP32
            dims: [ 1, -1, -1 ]
          }
        ]
        output [
          {
            name: "logits"
            data_type: TYPE_FP32
            dims: [ 3, -1, -1 ]
            label_filename: "labels.txt"
          }
        ]
        dynamic_batching { }
        instance_group [
          {
            count: 1
            kind: KIND_GPU
          }
        ]
        optimization {
          execution_accelerators {
            gpu_execution_accelerator [
              {
                name: "tensorrt"
                parameters { key: "precision_mode" value: "FP32" }
              }
            ]
          }
        }
        model_warmup [
          {
            name: "a tile"
            batch_size: 1
            inputs {
              key: "image"
              value {
                data_type: TYPE_FP32
                dims: [ 1, 36, 52 ]
                zero_data: true
              }
            }
          }
        ]
        parameters {
          key: "sulcus.spec"
          value {
        "##);
        assert!(parameter.starts_with("\"{\\\"format_version\\\":") && !parameter.contains("labels_sha256"));
        assert_eq!(labels(&spec), "background\nAnterior\nPosterior\n");
        for (device, kind) in [(TritonDevice::Auto, "KIND_AUTO"), (TritonDevice::Cpu, "KIND_CPU")] {
            let text = config("tiny", &spec, device).unwrap();
            assert!(text.contains(kind) && !text.contains("tensorrt"), "{text}");
        }
    }
}
