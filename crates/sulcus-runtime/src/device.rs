use std::fmt;
use std::str::FromStr;

/// Where a network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The first of CUDA and the processor that works; which one it is, [`Segmenter::device`](crate::Segmenter::device) says.
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

/// A device name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a device: expected auto, cpu, openvino, cuda, cuda:N, tensorrt, tensorrt:N, vulkan or vulkan:N"
)]
pub struct UnknownDevice(String);

impl Device {
    /// Whether its memory is its own, so that scans are copied to it.
    pub(crate) fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda(_) | Self::TensorRt(_) | Self::Vulkan(_))
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice(text.to_owned());
        let (name, number) = match text.split_once(':') {
            None => (text, None),
            // `u32::from_str` takes a sign, which no device number has.
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
    fn names_are_read_and_written() {
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
    fn what_is_no_device_is_refused_with_the_list() {
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
