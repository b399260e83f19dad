use std::fmt;
use std::str::FromStr;

use sulcus_model::Precision;

use crate::Engine;

/// Where a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// CUDA if it works, the processor otherwise. [`Segmenter::device`](crate::Segmenter::device) returns the chosen
    /// device.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU through ONNX Runtime's CUDA provider, by its number.
    Cuda(u32),
    /// An NVIDIA GPU through ONNX Runtime's TensorRT provider, by its number.
    TensorRt(u32),
    /// The processor through ONNX Runtime's OpenVINO provider, for libraries that have it (PyPI's `onnxruntime-openvino`).
    OpenVino,
    /// A GPU through Vulkan: for training; inference does not run on it.
    Vulkan(u32),
}

/// An unknown device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a device: expected auto, cpu, openvino, cuda, cuda:N, tensorrt, tensorrt:N, vulkan or vulkan:N"
)]
pub struct UnknownDevice(String);

impl Device {
    /// The half precision that this device has of its own for fp32 models, if any: bf16 on OpenVINO, fp16 on TensorRT. The native engine
    /// computes in bf16 on [`Device::Cpu`].
    pub fn half_precision(self) -> Option<Precision> {
        match self {
            Self::OpenVino => Some(Precision::Bf16),
            Self::TensorRt(_) => Some(Precision::Fp16),
            Self::Auto | Self::Cpu | Self::Cuda(_) | Self::Vulkan(_) => None,
        }
    }

    /// Whether it has memory of its own, to which tiles are copied.
    pub(crate) fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda(_) | Self::TensorRt(_) | Self::Vulkan(_))
    }
}

/// The precision in which a device computes a model: the requested one, or the model's own.
///
/// # Errors
/// The reason, when the device cannot compute this model in the requested precision.
pub(crate) fn compute_precision(
    requested: Option<Precision>,
    engine: Engine,
    device: Device,
    model: Precision,
) -> Result<Precision, String> {
    let Some(requested) = requested else { return Ok(model) };
    let half = match (engine, device) {
        (Engine::Native, Device::Cpu) => Some(Precision::Bf16),
        _ => device.half_precision(),
    };
    if requested == model && half != Some(requested) {
        return Ok(model);
    }
    match half {
        Some(half) if half == requested => match (half, model) {
            (_, Precision::Int8) => {
                Err("an int8 model computes in int8; half precision is for fp32 and fp16 models".into())
            }
            (Precision::Bf16, _) if !has_bf16() => {
                Err("this processor has no bf16 arithmetic (AVX-512 BF16)".into())
            }
            _ => Ok(requested),
        },
        Some(half) => Err(format!("it computes in {half} or in the precision of the model, {model}")),
        None => Err(format!(
            "it has no half precision of its own and computes in the precision of the model, {model}; the native engine and \
             openvino compute in bf16, tensorrt in fp16"
        )),
    }
}

/// Without bf16 instructions OpenVINO computes in single precision, even if bf16 is requested, and the native engine refuses.
#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice(text.to_owned());
        let (name, number) = match text.split_once(':') {
            None => (text, None),
            // `u32::from_str` accepts a sign, but a device number has none.
            Some((_, digits)) if digits.starts_with('+') => return Err(unknown()),
            Some((name, digits)) => (name, Some(digits.parse::<u32>().map_err(|_| unknown())?)),
        };
        match (name, number) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("openvino", None) => Ok(Self::OpenVino),
            ("cuda", n) => Ok(Self::Cuda(n.unwrap_or(0))),
            ("tensorrt", n) => Ok(Self::TensorRt(n.unwrap_or(0))),
            ("vulkan", n) => Ok(Self::Vulkan(n.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::OpenVino => f.write_str("openvino"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::TensorRt(n) => write!(f, "tensorrt:{n}"),
            Self::Vulkan(n) => write!(f, "vulkan:{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_half_precision_is_an_error() {
        let half = |device, precision, model| compute_precision(Some(precision), Engine::Ort, device, model);
        assert_eq!(half(Device::TensorRt(0), Precision::Fp16, Precision::Fp32), Ok(Precision::Fp16));
        assert_eq!(half(Device::OpenVino, Precision::Bf16, Precision::Fp32).is_ok(), has_bf16());
        assert!(half(Device::TensorRt(0), Precision::Fp16, Precision::Int8).unwrap_err().contains("int8"));
        for device in [Device::Cpu, Device::Cuda(0)] {
            assert!(
                half(device, Precision::Bf16, Precision::Fp32).unwrap_err().contains("openvino compute in bf16")
            );
            assert_eq!(compute_precision(None, Engine::Ort, device, Precision::Int8), Ok(Precision::Int8));
            assert_eq!(half(device, Precision::Int8, Precision::Int8), Ok(Precision::Int8));
        }
        let native = |precision, model| compute_precision(Some(precision), Engine::Native, Device::Cpu, model);
        for model in [Precision::Fp32, Precision::Fp16] {
            assert_eq!(native(Precision::Bf16, model).is_ok(), has_bf16());
        }
        assert!(native(Precision::Bf16, Precision::Int8).unwrap_err().contains("an int8 model computes in int8"));
        assert!(native(Precision::Fp16, Precision::Fp32).unwrap_err().contains("it computes in bf16 or in"));
        for same in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
            assert_eq!(native(same, same), Ok(same));
        }
    }

    #[test]
    fn names_parse_and_print() {
        for (text, device) in [
            ("auto", Device::Auto),
            ("cpu", Device::Cpu),
            ("openvino", Device::OpenVino),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("tensorrt", Device::TensorRt(0)),
            ("tensorrt:1", Device::TensorRt(1)),
            ("vulkan:2", Device::Vulkan(2)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_list() {
        for text in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:one",
            "cpu:0",
            "auto:1",
            "CUDA",
            "cuda:0:0",
            "openvino:0",
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is not a device")), "{error}");
            assert!(error.contains("tensorrt:N"), "{error}");
        }
    }
}
