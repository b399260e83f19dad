//! ONNX Runtime's providers: whether a device can be had, and its registration, which fails aloud.

use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use super::OnnxRuntime;
use crate::{Device, RuntimeError};

/// Says whether a device can be had with this library, by registering its provider. Nothing is run on it.
///
/// # Errors
/// [`RuntimeError::Device`] with the reason.
pub fn check_device(runtime: &OnnxRuntime, device: Device) -> Result<(), RuntimeError> {
    let builder = Session::builder(runtime.environment()).map_err(|e| unusable(device, plain(e.message())))?;
    register(builder, runtime, device).map(|_| ())
}

fn unusable(device: Device, reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Device { device, reason: reason.into() }
}

/// What ONNX Runtime says, without the place in its source and the error code that it puts in front.
pub(super) fn plain(message: &str) -> &str {
    let Some((_, coded)) = message.rsplit_once("[ONNXRuntimeError] : ") else {
        return message.trim();
    };
    coded.splitn(3, " : ").nth(2).unwrap_or(coded).trim()
}

/// Registers the provider of a device that was chosen. A GPU gets the whole graph or none of it.
pub(super) fn register(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    device: Device,
) -> Result<SessionBuilder, RuntimeError> {
    match device {
        // Without a policy of ours, ort asks for the device with the least power, which may be no processor.
        Device::Auto | Device::Cpu => {
            builder.with_auto_device(AutoDevicePolicy::PreferCPU).map_err(|e| unusable(device, plain(e.message())))
        }
        Device::Cuda(number) => cuda(builder, runtime, number),
        Device::TensorRt(number) => tensorrt(builder, runtime, number),
        Device::Vulkan(_) => Err(unusable(
            device,
            "inference runs on cpu, cuda and tensorrt; vulkan is a training device (`sulcus train --device vulkan`)",
        )),
    }
}

#[cfg(feature = "cuda")]
fn cuda(builder: SessionBuilder, runtime: &OnnxRuntime, number: u32) -> Result<SessionBuilder, RuntimeError> {
    let device = Device::Cuda(number);
    require_provider(
        runtime,
        device,
        "CUDA",
        "cuda",
        <ort::ep::CUDA as ort::ep::ExecutionProvider>::is_available(),
    )?;
    let provider = ort::ep::CUDA::default().with_device_id(to_id(device, number)?).build();
    with_providers(builder, device, [provider.error_on_failure()])
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: SessionBuilder, _: &OnnxRuntime, number: u32) -> Result<SessionBuilder, RuntimeError> {
    Err(unusable(Device::Cuda(number), "this build leaves CUDA out: build sulcus-runtime with its feature `cuda`"))
}

#[cfg(feature = "tensorrt")]
fn tensorrt(builder: SessionBuilder, runtime: &OnnxRuntime, number: u32) -> Result<SessionBuilder, RuntimeError> {
    let device = Device::TensorRt(number);
    let available = <ort::ep::TensorRT as ort::ep::ExecutionProvider>::is_available();
    require_provider(runtime, device, "TensorRT", "tensorrt", available)?;
    let provider = ort::ep::TensorRT::default().with_device_id(to_id(device, number)?).build();
    with_providers(builder, device, [provider.error_on_failure()])
}

#[cfg(not(feature = "tensorrt"))]
fn tensorrt(_: SessionBuilder, _: &OnnxRuntime, number: u32) -> Result<SessionBuilder, RuntimeError> {
    let device = Device::TensorRt(number);
    Err(unusable(device, "this build leaves TensorRT out: build sulcus-runtime with its feature `tensorrt`"))
}

#[cfg(any(feature = "cuda", feature = "tensorrt"))]
fn to_id(device: Device, number: u32) -> Result<i32, RuntimeError> {
    i32::try_from(number).map_err(|_| unusable(device, "there is no such device number"))
}

/// `available` only says that the library was built with the provider; the provider itself is a file beside it.
#[cfg(any(feature = "cuda", feature = "tensorrt"))]
fn require_provider(
    runtime: &OnnxRuntime,
    device: Device,
    name: &str,
    file: &str,
    available: ort::Result<bool>,
) -> Result<(), RuntimeError> {
    if !available.map_err(|e| unusable(device, plain(e.message())))? {
        return Err(unusable(
            device,
            format!(
                "the ONNX Runtime in use (version {}) was built without the {name} provider; \
                 `sulcus runtime install --gpu` fetches one that has it: {}",
                runtime.version(),
                runtime.path().display()
            ),
        ));
    }
    let file =
        format!("{}onnxruntime_providers_{file}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folder = runtime.path().parent();
    if let Some(missing) = folder.map(|f| f.join(&file)).filter(|f| !f.exists()) {
        return Err(unusable(
            device,
            format!("ONNX Runtime's {name} provider is not beside the library: {}", missing.display()),
        ));
    }
    Ok(())
}

#[cfg(any(feature = "cuda", feature = "tensorrt"))]
fn with_providers<const N: usize>(
    builder: SessionBuilder,
    device: Device,
    providers: [ort::ep::ExecutionProviderDispatch; N],
) -> Result<SessionBuilder, RuntimeError> {
    let builder = builder.with_execution_providers(providers).map_err(|e| {
        let message = plain(e.message());
        // The provider is there, the CUDA libraries that it was built for are not: the commonest case by far.
        let hint = match message.contains("cannot open shared object file") || message.contains("Failed to load") {
            true => {
                "; install the driver, CUDA and cuDNN in the versions that it names, where the system finds them"
            }
            false => "",
        };
        unusable(device, format!("its provider could not start: {message}{hint}"))
    })?;
    builder.with_disable_cpu_fallback().map_err(|e| unusable(device, plain(e.message())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_onnx_runtimes_source_lines() {
        let raw = "/onnxruntime_src/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& Get() \
                   [ONNXRuntimeError] : 1 : FAIL : Failed to load library x.so with error: a : b\n";
        assert_eq!(plain(raw), "Failed to load library x.so with error: a : b");
        assert_eq!(plain("No such op\n"), "No such op");
        assert_eq!(plain("[ONNXRuntimeError] : 1"), "1");
    }
}
