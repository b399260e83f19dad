//! `--precision`: the same values in every command. A command refuses a value that it does not support with the reason.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use sulcus_model::{Precision, UnknownPrecision};
use sulcus_runtime::{Device, Engine};

use crate::error::CliError;

/// Parses any precision.
fn any_precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name))
        .try_map(|name| -> Result<Precision, UnknownPrecision> { name.parse() })
}

/// Parses a precision of a training.
pub(super) fn training_precision() -> impl TypedValueParser<Value = Precision> {
    any_precision().try_map(|precision| match precision {
        Precision::Int8 => {
            Err("gradients need floating-point numbers: train in fp32, bf16 or fp16, and export in int8")
        }
        other => Ok(other),
    })
}

/// Parses a precision of a model file.
pub(super) fn file_precision() -> impl TypedValueParser<Value = Precision> {
    any_precision().try_map(|precision| match precision {
        Precision::Bf16 => {
            Err("model files are stored in fp32, fp16 or int8; a device that supports bf16 computes fp32 and fp16 models in it")
        }
        other => Ok(other),
    })
}

/// The precision to compute in.
#[derive(Debug, clap::Args)]
pub(crate) struct PrecisionArgs {
    /// Precision to compute in: bf16 (native engine on processors with AVX512-BF16, or openvino) and fp16 (tensorrt) are
    /// faster, and voxels at the borders of structures may change; any other value must be the precision of the model file
    /// [default: the precision of the model file]
    #[arg(long, value_name = "P", value_parser = any_precision())]
    precision: Option<Precision>,
    /// The same as `--precision bf16` on openvino and `--precision fp16` on tensorrt
    #[arg(long, hide = true, conflicts_with = "precision")]
    half: bool,
}

impl PrecisionArgs {
    /// The requested precision; `None` is that of the model file. The runtime refuses one that the device cannot compute a model in.
    ///
    /// # Errors
    /// Wrong usage when the device or the engine cannot compute in the requested precision, whatever the model.
    pub(crate) fn requested(&self, device: Device, engine: Engine) -> Result<Option<Precision>, CliError> {
        match (self.precision, device, engine) {
            (None, ..) if self.half => Ok(Some(device.half_precision().unwrap_or(Precision::Fp16))),
            (Some(Precision::Bf16), Device::OpenVino, Engine::Auto | Engine::Ort) => Ok(Some(Precision::Bf16)),
            (Some(Precision::Bf16), Device::Auto | Device::Cpu, Engine::Auto | Engine::Native) => {
                Ok(Some(Precision::Bf16))
            }
            (Some(Precision::Bf16), device, engine) => Err(CliError::usage(format_args!(
                "--precision bf16 needs the native engine on the processor, or ONNX Runtime on the device openvino, found \
                 --device {device} --engine {engine}"
            ))
            .hint("use `--engine native` or `--device openvino`, or leave --precision out to compute as the model file does")),
            (precision, ..) => Ok(precision),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Command};
    use super::*;

    fn compute(options: &str) -> crate::args::ComputeArgs {
        let words = "sulcus predict -m m.onnx x.nii -o y.nii".split(' ').chain(options.split_whitespace());
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Predict(args) => args.compute,
            other => panic!("expected predict, found {other:?}"),
        }
    }

    fn requested(options: &str) -> Result<Option<Precision>, CliError> {
        let args = compute(options);
        args.precision.requested(args.device, args.engine)
    }

    #[test]
    fn half_precision_is_requested_where_a_device_has_it() {
        for (options, expected) in [
            ("", None),
            ("--precision bf16 --device openvino", Some(Precision::Bf16)),
            ("--precision bf16", Some(Precision::Bf16)),
            ("--precision bf16 --engine native --device cpu", Some(Precision::Bf16)),
            ("--precision fp16 --device tensorrt", Some(Precision::Fp16)),
            ("--half --device openvino", Some(Precision::Bf16)),
            ("--half --device tensorrt:1", Some(Precision::Fp16)),
            ("--precision fp16 --device cuda", Some(Precision::Fp16)),
            ("--precision int8", Some(Precision::Int8)),
        ] {
            assert_eq!(requested(options).unwrap(), expected, "{options}");
        }
        for options in [
            "--precision bf16 --engine ort",
            "--precision bf16 --device tensorrt",
            "--precision bf16 --engine tract",
        ] {
            assert!(matches!(requested(options), Err(CliError::Usage { .. })), "{options}");
        }
    }

    #[test]
    fn unsupported_precisions_are_refused_with_the_reason() {
        let refused = |words: &str| Arguments::try_parse_from(words.split(' ')).unwrap_err().to_string();
        insta::assert_snapshot!(refused("sulcus train d -o r --precision int8").lines().next().unwrap(), @"error: invalid value 'int8' for '--precision <P>': gradients need floating-point numbers: train in fp32, bf16 or fp16, and export in int8");
        insta::assert_snapshot!(refused("sulcus export r -o m.onnx --precision bf16").lines().next().unwrap(), @"error: invalid value 'bf16' for '--precision <P>': model files are stored in fp32, fp16 or int8; a device that supports bf16 computes fp32 and fp16 models in it");
        for command in ["train d -o r", "export r -o m.onnx", "predict -m m.onnx x.nii -o y.nii"] {
            let message = refused(&format!("sulcus {command} --precision fp64"));
            assert!(message.contains("[possible values: fp32, bf16, fp16, int8]"), "{message}");
        }
    }

    #[test]
    fn other_precisions_must_be_those_of_the_model() {
        let load = |options: &str| {
            let args = compute(options);
            let builder =
                sulcus_runtime::Segmenter::builder().model_bytes(crate::tiny::MODEL).engine(Engine::Tract);
            let precision = requested(options)?;
            precision
                .into_iter()
                .fold(builder.device(args.device), sulcus_runtime::SegmenterBuilder::precision)
                .build()
                .map_err(|error| CliError::caused_by(&error))
        };
        for options in ["", "--precision fp32", "--precision fp32 --device cpu"] {
            assert!(load(options).is_ok(), "{options}");
        }
        for options in ["--precision int8", "--precision fp16", "--precision fp16 --device openvino"] {
            let error = load(options).unwrap_err();
            assert!(matches!(&error, CliError::Failed { hint: Some(_), .. }), "{options}: {error:?}");
        }
    }
}
