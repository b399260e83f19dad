//! `--precision` of the commands that run models.

use sulcus_pipeline::{ModelSpec, Precision};
use sulcus_runtime::{Arithmetic, Device, Engine};

use crate::error::CliError;

/// The precision to compute in.
#[derive(Debug, clap::Args)]
pub(crate) struct PrecisionArgs {
    /// Precision to compute in: bf16 on openvino and fp16 on tensorrt are faster, and voxels at the borders of structures
    /// may change; any other value must be the precision of the model file [default: the precision of the model file]
    #[arg(long, value_name = "P")]
    precision: Option<ComputePrecision>,
    /// The same as `--precision bf16` on openvino and `--precision fp16` on tensorrt
    #[arg(long, hide = true, conflicts_with = "precision")]
    half: bool,
}

/// A value of `--precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ComputePrecision {
    Fp32,
    Bf16,
    Fp16,
    Int8,
}

impl ComputePrecision {
    /// The precision of a model file with this name. No model file is written in bf16.
    fn of_model(self) -> Option<Precision> {
        match self {
            Self::Fp32 => Some(Precision::Fp32),
            Self::Fp16 => Some(Precision::Fp16),
            Self::Int8 => Some(Precision::Int8),
            Self::Bf16 => None,
        }
    }
}

impl PrecisionArgs {
    /// The arithmetic for the runtime: half precision where a device has it, otherwise the precision of the model files, which
    /// [`Self::check_models`] compares with the requested one.
    ///
    /// # Errors
    /// Wrong usage when the device or the engine cannot compute in the requested precision, whatever the model.
    pub(crate) fn arithmetic(&self, device: Device, engine: Engine) -> Result<Arithmetic, CliError> {
        match (self.precision, device, engine) {
            (None, ..) if self.half => Ok(Arithmetic::Half),
            (Some(ComputePrecision::Bf16), Device::OpenVino, Engine::Auto | Engine::Ort)
            | (Some(ComputePrecision::Fp16), Device::TensorRt(_), Engine::Auto | Engine::Ort) => Ok(Arithmetic::Half),
            (Some(ComputePrecision::Bf16), device, engine) => Err(CliError::usage(format_args!(
                "--precision bf16 needs the device openvino and ONNX Runtime, found --device {device} --engine {engine}"
            ))
            .hint("use `--device openvino`, or leave --precision out to compute as the model file does")),
            (None | Some(_), ..) => Ok(Arithmetic::Models),
        }
    }

    /// Compares the requested precision with that of the model files, where the device computes in no other.
    ///
    /// # Errors
    /// When they differ.
    pub(crate) fn check_models<'a>(
        &self,
        device: Device,
        engine: Engine,
        specs: impl IntoIterator<Item = &'a ModelSpec>,
    ) -> Result<(), CliError> {
        let Some(requested) = self.precision else { return Ok(()) };
        if self.arithmetic(device, engine)? == Arithmetic::Half {
            return Ok(());
        }
        let requested = requested.of_model();
        match specs.into_iter().find(|spec| Some(spec.precision()) != requested) {
            None => Ok(()),
            Some(spec) => Err(CliError::failed(format_args!(
                "the model `{}` computes in {}, and the device {} has no other precision for it; found --precision {}",
                spec.name,
                spec.precision(),
                device,
                requested.map_or("bf16", Precision::name)
            ))
            .hint(
                "leave --precision out to compute as the model file does; `--precision fp16 --device tensorrt` and \
                 `--precision bf16 --device openvino` compute in half precision; `sulcus export --precision` writes models \
                 in fewer bits",
            )),
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

    fn arithmetic(options: &str) -> Result<Arithmetic, CliError> {
        let args = compute(options);
        args.precision.arithmetic(args.device, args.engine)
    }

    #[test]
    fn half_precision_is_requested_where_a_device_has_it() {
        for (options, expected) in [
            ("", Arithmetic::Models),
            ("--precision bf16 --device openvino", Arithmetic::Half),
            ("--precision fp16 --device tensorrt", Arithmetic::Half),
            ("--half --device openvino", Arithmetic::Half),
            ("--half --device tensorrt:1", Arithmetic::Half),
            ("--precision fp16 --device cuda", Arithmetic::Models),
            ("--precision int8", Arithmetic::Models),
        ] {
            assert_eq!(arithmetic(options).unwrap(), expected, "{options}");
        }
        for options in
            ["--precision bf16", "--precision bf16 --device tensorrt", "--precision bf16 --engine tract"]
        {
            assert!(matches!(arithmetic(options), Err(CliError::Usage { .. })), "{options}");
        }
    }

    #[test]
    fn other_precisions_must_be_those_of_the_model() {
        let spec = sulcus_onnx::read_spec(crate::tiny::MODEL).unwrap();
        let check = |options: &str| {
            let args = compute(options);
            args.precision.check_models(args.device, args.engine, [&spec])
        };
        for options in
            ["", "--precision fp32", "--precision fp32 --device cuda", "--precision fp16 --device tensorrt"]
        {
            assert!(check(options).is_ok(), "{options}");
        }
        for options in ["--precision int8", "--precision fp16", "--precision fp16 --device openvino"] {
            let error = check(options).unwrap_err();
            assert!(matches!(&error, CliError::Failed { hint: Some(_), .. }), "{options}: {error:?}");
        }
    }
}
