//! ONNX Runtime's providers: whether a device can be had, and its registration, which fails aloud.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use super::OnnxRuntime;
use crate::{Arithmetic, Device, RuntimeError};

/// What a provider is registered with. ONNX Runtime's own, for the processor, asks for nothing but the device.
#[cfg_attr(
    not(any(feature = "tensorrt", feature = "openvino")),
    expect(dead_code, reason = "what providers that this build leaves out would be registered with")
)]
pub(super) struct Provider<'a> {
    pub(super) device: Device,
    pub(super) threads: usize,
    pub(super) arithmetic: Arithmetic,
    pub(super) cache_folder: Option<&'a Path>,
}

/// Says whether a device can be had with this library, by registering its provider. Nothing is run on it.
///
/// # Errors
/// [`RuntimeError::Device`] with the reason.
pub fn check_device(runtime: &OnnxRuntime, device: Device) -> Result<(), RuntimeError> {
    let builder = Session::builder(runtime.environment()).map_err(|e| unusable(device, plain(e.message())))?;
    let provider = Provider { device, threads: 1, arithmetic: Arithmetic::Models, cache_folder: None };
    register(builder, runtime, &provider).map(|_| ())
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

/// Registers the provider of a device that was chosen. It gets the whole graph or none of it.
pub(super) fn register(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    provider: &Provider<'_>,
) -> Result<SessionBuilder, RuntimeError> {
    let device = provider.device;
    match device {
        // Without a policy of ours, ort asks for the device with the least power, which may be no processor.
        Device::Auto | Device::Cpu => {
            builder.with_auto_device(AutoDevicePolicy::PreferCPU).map_err(|e| unusable(device, plain(e.message())))
        }
        Device::Cuda(number) => cuda(builder, runtime, number),
        Device::TensorRt(number) => tensorrt(builder, runtime, provider, number),
        Device::OpenVino => openvino(builder, runtime, provider),
        Device::Vulkan(_) => Err(unusable(
            device,
            "inference runs on cpu, openvino, cuda and tensorrt; vulkan is a training device \
             (`sulcus train --device vulkan`)",
        )),
    }
}

#[cfg(feature = "cuda")]
fn cuda(builder: SessionBuilder, runtime: &OnnxRuntime, number: u32) -> Result<SessionBuilder, RuntimeError> {
    let device = Device::Cuda(number);
    require_provider(runtime, device, &CUDA, <ort::ep::CUDA as ort::ep::ExecutionProvider>::is_available())?;
    let provider = ort::ep::CUDA::default().with_device_id(to_id(device, number)?).build();
    with_provider(builder, &CUDA, device, provider.error_on_failure())
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: SessionBuilder, _: &OnnxRuntime, number: u32) -> Result<SessionBuilder, RuntimeError> {
    Err(unusable(Device::Cuda(number), "this build leaves CUDA out: build sulcus-runtime with its feature `cuda`"))
}

#[cfg(feature = "tensorrt")]
fn tensorrt(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    asked: &Provider<'_>,
    number: u32,
) -> Result<SessionBuilder, RuntimeError> {
    let device = Device::TensorRt(number);
    let available = <ort::ep::TensorRT as ort::ep::ExecutionProvider>::is_available();
    require_provider(runtime, device, &TENSORRT, available)?;
    let mut provider = ort::ep::TensorRT::default()
        .with_device_id(to_id(device, number)?)
        .with_fp16(asked.arithmetic == Arithmetic::Half);
    if let Some(folder) = asked.cache_folder {
        // Engines are named after graph, GPU, TensorRT and precision, so one folder serves all models.
        let folder = folder.to_str().ok_or_else(|| {
            unusable(device, format!("the name of the cache folder is not UTF-8: {}", folder.display()))
        })?;
        provider = provider
            .with_engine_cache(true)
            .with_engine_cache_path(folder)
            .with_timing_cache(true)
            .with_timing_cache_path(folder);
    }
    with_provider(builder, &TENSORRT, device, provider.build().error_on_failure())
}

#[cfg(not(feature = "tensorrt"))]
fn tensorrt(
    _: SessionBuilder,
    _: &OnnxRuntime,
    _: &Provider<'_>,
    number: u32,
) -> Result<SessionBuilder, RuntimeError> {
    let device = Device::TensorRt(number);
    Err(unusable(device, "this build leaves TensorRT out: build sulcus-runtime with its feature `tensorrt`"))
}

#[cfg(feature = "openvino")]
fn openvino(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    asked: &Provider<'_>,
) -> Result<SessionBuilder, RuntimeError> {
    use ort::ep::ArbitrarilyConfigurableExecutionProvider;
    let device = Device::OpenVino;
    let available = <ort::ep::OpenVINO as ort::ep::ExecutionProvider>::is_available();
    require_provider(runtime, device, &OPENVINO, available)?;
    // It rounds to bf16 on its own accord where the processor has it, unless it is told not to. The provider's own option
    // for precision knows no bf16 on processors, so OpenVINO's is set.
    let hint = match asked.arithmetic {
        Arithmetic::Models => "f32",
        Arithmetic::Half => "bf16",
    };
    let provider = ort::ep::OpenVINO::default()
        .with_device_type("CPU")
        .with_num_threads(asked.threads)
        .with_arbitrary_config("load_config", format!(r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{hint}"}}}}"#));
    with_provider(builder, &OPENVINO, device, provider.build().error_on_failure())
}

#[cfg(not(feature = "openvino"))]
fn openvino(_: SessionBuilder, _: &OnnxRuntime, _: &Provider<'_>) -> Result<SessionBuilder, RuntimeError> {
    Err(unusable(
        Device::OpenVino,
        "this build leaves OpenVINO out: build sulcus-runtime with its feature `openvino`",
    ))
}

/// What people know a provider by, and where it is from.
#[cfg(any(feature = "cuda", feature = "tensorrt", feature = "openvino"))]
struct Known {
    name: &'static str,
    file: &'static str,
    option: &'static str,
    /// What it needs beside it.
    needs: &'static str,
}

#[cfg(feature = "cuda")]
const CUDA: Known = Known {
    name: "CUDA",
    file: "cuda",
    option: "--gpu",
    needs: "the driver, CUDA and cuDNN in the versions that it names",
};
#[cfg(feature = "tensorrt")]
const TENSORRT: Known = Known {
    name: "TensorRT",
    file: "tensorrt",
    option: "--gpu",
    needs: "the driver, CUDA, cuDNN and TensorRT in the versions that it names",
};
#[cfg(feature = "openvino")]
const OPENVINO: Known = Known {
    name: "OpenVINO",
    file: "openvino",
    option: "--openvino",
    needs: "OpenVINO in the version that it names",
};

#[cfg(any(feature = "cuda", feature = "tensorrt"))]
fn to_id(device: Device, number: u32) -> Result<i32, RuntimeError> {
    i32::try_from(number).map_err(|_| unusable(device, "there is no such device number"))
}

/// `available` only says that the library was built with the provider; the provider itself is a file beside it.
#[cfg(any(feature = "cuda", feature = "tensorrt", feature = "openvino"))]
fn require_provider(
    runtime: &OnnxRuntime,
    device: Device,
    known: &Known,
    available: ort::Result<bool>,
) -> Result<(), RuntimeError> {
    let Known { name, file, option, .. } = known;
    if !available.map_err(|e| unusable(device, plain(e.message())))? {
        return Err(unusable(
            device,
            format!(
                "the ONNX Runtime in use (version {}) was built without the {name} provider; \
                 `sulcus runtime install {option}` fetches one that has it: {}",
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

#[cfg(any(feature = "cuda", feature = "tensorrt", feature = "openvino"))]
fn with_provider(
    builder: SessionBuilder,
    known: &Known,
    device: Device,
    provider: ort::ep::ExecutionProviderDispatch,
) -> Result<SessionBuilder, RuntimeError> {
    let builder = builder.with_execution_providers([provider]).map_err(|e| {
        let message = plain(e.message());
        // The provider is there, the libraries that it was built for are not: the commonest case by far.
        let hint = match message.contains("cannot open shared object file") || message.contains("Failed to load") {
            true => format!("; install {}, where the system finds them", known.needs),
            false => String::new(),
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
