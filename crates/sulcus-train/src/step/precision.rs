//! The precision of a training on a device.

use burn::tensor::{Device, FloatDType};
use sulcus_model::Precision;

use crate::network::cpu;

/// Why a device cannot train in a precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrecisionError {
    /// The precision is not a floating-point format.
    #[error("cannot train in {precision}: gradients need floating-point numbers; train in fp32, bf16 or fp16")]
    NotFloatingPoint {
        /// The precision.
        precision: Precision,
    },
    /// The precision is slower than single precision on this device.
    #[error(
        "cannot train in {precision} on the {device}: mixed precision needs a GPU, and on a processor it would only be slower \
         and less exact; train in fp32, or on a GPU"
    )]
    NoGain {
        /// The precision.
        precision: Precision,
        /// A description of the device.
        device: String,
    },
    /// The device does not support the precision.
    #[error("cannot train in {precision} on the {device}: it does not compute in this type; it does in {}", .known.join(", "))]
    Unsupported {
        /// The precision.
        precision: Precision,
        /// A description of the device.
        device: String,
        /// The precisions that the device supports.
        known: Vec<String>,
    },
}

/// The precisions in which a device trains. The processor trains only in single precision: it has no faster kernels for
/// the others.
pub fn supported_precisions(device: &Device) -> Vec<Precision> {
    let is_supported = |precision: &Precision| match float(*precision) {
        Ok(FloatDType::F32) => true,
        Ok(half) => !cpu::is_processor(device) && device.supports_dtype(half),
        Err(_) => false,
    };
    Precision::ALL.into_iter().filter(is_supported).collect()
}

/// Checks that a device trains in a precision; `name` describes the device for people.
///
/// # Errors
/// When the precision is not a floating-point format, the device is the processor, or it does not support the type.
pub fn check_precision(precision: Precision, device: &Device, name: &str) -> Result<(), PrecisionError> {
    float(precision)?;
    let known = supported_precisions(device);
    if known.contains(&precision) {
        return Ok(());
    }
    let device_name = name.to_owned();
    Err(if cpu::is_processor(device) {
        PrecisionError::NoGain { precision, device: device_name }
    } else {
        let known = known.iter().map(ToString::to_string).collect();
        PrecisionError::Unsupported { precision, device: device_name, known }
    })
}

/// Burn's type for a precision.
pub(super) fn float(precision: Precision) -> Result<FloatDType, PrecisionError> {
    match precision {
        Precision::Fp32 => Ok(FloatDType::F32),
        Precision::Bf16 => Ok(FloatDType::BF16),
        Precision::Fp16 => Ok(FloatDType::F16),
        Precision::Int8 => Err(PrecisionError::NotFloatingPoint { precision }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_trains_only_in_single_precision() {
        let device = Device::flex();
        assert_eq!(supported_precisions(&device), [Precision::Fp32]);
        assert_eq!(supported_precisions(&device.clone().autodiff()), [Precision::Fp32]);
        check_precision(Precision::Fp32, &device, "processor").unwrap();
        insta::assert_snapshot!(check_precision(Precision::Int8, &device, "processor").unwrap_err(), @"cannot train in int8: gradients need floating-point numbers; train in fp32, bf16 or fp16");
        insta::assert_snapshot!(check_precision(Precision::Bf16, &device, "processor (2 threads)").unwrap_err(), @"cannot train in bf16 on the processor (2 threads): mixed precision needs a GPU, and on a processor it would only be slower and less exact; train in fp32, or on a GPU");
    }
}
