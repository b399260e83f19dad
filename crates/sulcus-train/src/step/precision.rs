//! The precision of a training on a device.

use burn::tensor::{Device, FloatDType};
use sulcus_kernels::Bf16Convolution;
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
        "cannot train in {precision} on the {device}: mixed precision needs a GPU, or a processor with AMX for bf16; elsewhere it \
         would only be slower and less exact; train in {}", .known.join(", or in ")
    )]
    NoGain {
        /// The precision.
        precision: Precision,
        /// A description of the device.
        device: String,
        /// The precisions in which it gains.
        known: Vec<String>,
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

/// The precisions in which a device trains. The processor has kernels for single precision, and for bfloat16 if it has AMX.
pub fn supported_precisions(device: &Device) -> Vec<Precision> {
    let is_supported = |precision: &Precision| match float(*precision) {
        Ok(FloatDType::F32) => true,
        Ok(_) if cpu::is_processor(device) => bf16_on(device, *precision).is_some(),
        Ok(half) => device.supports_dtype(half),
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
    let known = known.iter().map(ToString::to_string).collect();
    Err(if cpu::is_processor(device) {
        PrecisionError::NoGain { precision, device: device_name, known }
    } else {
        PrecisionError::Unsupported { precision, device: device_name, known }
    })
}

/// The processor's convolutions for a precision, where it has its own.
pub(super) fn bf16_on(device: &Device, precision: Precision) -> Option<Bf16Convolution> {
    let is_used = precision == Precision::Bf16 && cpu::is_processor(device);
    if is_used { Bf16Convolution::detect() } else { None }
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
    fn processor_trains_in_single_precision_and_with_amx_in_bfloat16() {
        let device = Device::flex();
        let mut expected = vec![Precision::Fp32];
        expected.extend(Bf16Convolution::detect().map(|_| Precision::Bf16));
        assert_eq!(supported_precisions(&device), expected);
        assert_eq!(supported_precisions(&device.clone().autodiff()), expected);
        for precision in Precision::ALL {
            assert_eq!(check_precision(precision, &device, "processor").is_ok(), expected.contains(&precision));
        }
        insta::assert_snapshot!(check_precision(Precision::Int8, &device, "processor").unwrap_err(), @"cannot train in int8: gradients need floating-point numbers; train in fp32, bf16 or fp16");
        let device = "processor (2 threads)".to_string();
        let refused = |precision, known: &[Precision]| PrecisionError::NoGain {
            precision,
            device: device.clone(),
            known: known.iter().map(ToString::to_string).collect(),
        };
        insta::assert_snapshot!(refused(Precision::Bf16, &[Precision::Fp32]), @"cannot train in bf16 on the processor (2 threads): mixed precision needs a GPU, or a processor with AMX for bf16; elsewhere it would only be slower and less exact; train in fp32");
        insta::assert_snapshot!(refused(Precision::Fp16, &[Precision::Fp32, Precision::Bf16]), @"cannot train in fp16 on the processor (2 threads): mixed precision needs a GPU, or a processor with AMX for bf16; elsewhere it would only be slower and less exact; train in fp32, or in bf16");
    }
}
