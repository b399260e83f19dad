use sulcus_pipeline::Precision;

use crate::Device;

/// In which numbers a device computes what a model has in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Arithmetic {
    /// Those of the model.
    #[default]
    Models,
    /// Half of the bits, where the device has such arithmetic: bf16 on OpenVINO, fp16 on TensorRT. Faster, and no longer the
    /// same to the last voxel.
    Half,
}

impl Arithmetic {
    /// What a model of this precision computes in on a device: `fp32`, `fp16`, `int8` or `bf16`.
    ///
    /// # Errors
    /// In words, when the device has no half precision, or the model has other numbers.
    pub(crate) fn name(self, device: Device, model: Precision) -> Result<&'static str, String> {
        if self == Self::Models {
            return Ok(model.name());
        }
        if model == Precision::Int8 {
            return Err("an int8 model has its own numbers; half precision is for fp32 and fp16 models".into());
        }
        match device {
            Device::OpenVino if has_bf16() => Ok("bf16"),
            Device::OpenVino => Err("this processor has no bf16 arithmetic (AVX-512 BF16)".into()),
            Device::TensorRt(_) => Ok("fp16"),
            Device::Auto | Device::Cpu | Device::Cuda(_) | Device::Vulkan(_) => Err(
                "it has no half precision of its own; openvino (bf16) and tensorrt (fp16) have, and `sulcus export --precision` \
                 writes models in fewer bits"
                    .into(),
            ),
        }
    }
}

/// Without it OpenVINO computes in single precision, whatever it is told.
#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_what_the_device_has_or_an_error() {
        let half = |device, model| Arithmetic::Half.name(device, model);
        assert_eq!(half(Device::TensorRt(0), Precision::Fp32), Ok("fp16"));
        assert_eq!(half(Device::OpenVino, Precision::Fp32).is_ok(), has_bf16());
        assert!(half(Device::TensorRt(0), Precision::Int8).unwrap_err().contains("int8"));
        for device in [Device::Cpu, Device::Cuda(0)] {
            assert!(half(device, Precision::Fp32).unwrap_err().contains("openvino (bf16)"));
            assert_eq!(Arithmetic::Models.name(device, Precision::Int8), Ok("int8"));
        }
    }
}
