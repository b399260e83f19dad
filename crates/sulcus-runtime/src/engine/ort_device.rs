//! ONNX Runtime's execution providers: whether a device is available, and its registration, which never falls back silently.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};

use sulcus_model::Precision;

use super::ort_library::OnnxRuntime;
use crate::{Device, Error, ErrorKind};

/// Options of a provider. ONNX Runtime's own provider for the processor needs only the device.
#[cfg_attr(
    not(any(feature = "tensorrt", feature = "openvino")),
    expect(dead_code, reason = "options of providers that this build does not contain")
)]
pub(super) struct Provider<'a> {
    pub(super) device: Device,
    pub(super) threads: usize,
    pub(super) precision: Option<Precision>,
    pub(super) cache_folder: Option<&'a Path>,
}

/// Checks whether a device is available with this library by registering its provider. Nothing runs on it.
///
/// # Errors
/// [`ErrorKind::Device`] with the reason.
pub fn check_device(runtime: &OnnxRuntime, device: Device) -> Result<(), Error> {
    let builder = Session::builder(runtime.environment()).map_err(|e| unusable(device, plain(e.message())))?;
    let provider = Provider { device, threads: 1, precision: None, cache_folder: None };
    register(builder, runtime, &provider).map(|_| ())
}

fn unusable(device: Device, reason: impl Into<String>) -> Error {
    ErrorKind::Device { device, reason: reason.into() }.into()
}

/// ONNX Runtime's message without the source location and error code in front of it.
pub(super) fn plain(message: &str) -> &str {
    let Some((_, coded)) = message.rsplit_once("[ONNXRuntimeError] : ") else {
        return message.trim();
    };
    coded.splitn(3, " : ").nth(2).unwrap_or(coded).trim()
}

/// Registers the provider of the chosen device. It runs the whole graph, or the session fails.
pub(super) fn register(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    provider: &Provider<'_>,
) -> Result<SessionBuilder, Error> {
    let device = provider.device;
    match device {
        // Without a policy ort prefers the device with the lowest power consumption, which may not be the processor.
        Device::Auto | Device::Cpu => {
            builder.with_auto_device(AutoDevicePolicy::PreferCPU).map_err(|e| unusable(device, plain(e.message())))
        }
        Device::Cuda(number) => cuda(builder, runtime, number),
        Device::TensorRt(number) => tensorrt(builder, runtime, provider, number),
        Device::OpenVino => openvino(builder, runtime, provider),
        Device::Vulkan(_) => Err(unusable(
            device,
            "inference runs on cpu, openvino, cuda and tensorrt; vulkan is a training device",
        )),
    }
}

#[cfg(feature = "cuda")]
fn cuda(builder: SessionBuilder, runtime: &OnnxRuntime, number: u32) -> Result<SessionBuilder, Error> {
    let device = Device::Cuda(number);
    require_provider(runtime, device, &CUDA, <ort::ep::CUDA as ort::ep::ExecutionProvider>::is_available())?;
    let provider = ort::ep::CUDA::default().with_device_id(to_id(device, number)?).build();
    with_provider(builder, &CUDA, device, provider.error_on_failure())
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: SessionBuilder, _: &OnnxRuntime, number: u32) -> Result<SessionBuilder, Error> {
    Err(unusable(
        Device::Cuda(number),
        "this build has no CUDA support: build sulcus-runtime with its feature `cuda`",
    ))
}

#[cfg(feature = "tensorrt")]
fn tensorrt(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    asked: &Provider<'_>,
    number: u32,
) -> Result<SessionBuilder, Error> {
    let device = Device::TensorRt(number);
    let available = <ort::ep::TensorRT as ort::ep::ExecutionProvider>::is_available();
    require_provider(runtime, device, &TENSORRT, available)?;
    let mut provider = ort::ep::TensorRT::default()
        .with_device_id(to_id(device, number)?)
        .with_fp16(asked.precision == Some(Precision::Fp16));
    if let Some(folder) = asked.cache_folder {
        // Engine files are named by graph, GPU, TensorRT version and precision, so one folder serves all models.
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
fn tensorrt(_: SessionBuilder, _: &OnnxRuntime, _: &Provider<'_>, number: u32) -> Result<SessionBuilder, Error> {
    let device = Device::TensorRt(number);
    Err(unusable(device, "this build has no TensorRT support: build sulcus-runtime with its feature `tensorrt`"))
}

#[cfg(feature = "openvino")]
fn openvino(
    builder: SessionBuilder,
    runtime: &OnnxRuntime,
    asked: &Provider<'_>,
) -> Result<SessionBuilder, Error> {
    use ort::ep::ArbitrarilyConfigurableExecutionProvider;
    let device = Device::OpenVino;
    let available = <ort::ep::OpenVINO as ort::ep::ExecutionProvider>::is_available();
    require_provider(runtime, device, &OPENVINO, available)?;
    // By default OpenVINO rounds to bf16 where the processor has it. The provider's own precision option has no bf16 for processors,
    // so OpenVINO's option is set.
    let hint = if asked.precision == Some(Precision::Bf16) { "bf16" } else { "f32" };
    let provider = ort::ep::OpenVINO::default()
        .with_device_type("CPU")
        .with_num_threads(asked.threads)
        .with_arbitrary_config("load_config", format!(r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{hint}"}}}}"#));
    with_provider(builder, &OPENVINO, device, provider.build().error_on_failure())
}

#[cfg(not(feature = "openvino"))]
fn openvino(_: SessionBuilder, _: &OnnxRuntime, _: &Provider<'_>) -> Result<SessionBuilder, Error> {
    Err(unusable(
        Device::OpenVino,
        "this build has no OpenVINO support: build sulcus-runtime with its feature `openvino`",
    ))
}

/// A provider, for messages.
#[cfg(any(feature = "cuda", feature = "tensorrt", feature = "openvino"))]
struct ProviderInfo {
    name: &'static str,
    file: &'static str,
    /// The libraries that it needs.
    needs: &'static str,
}

#[cfg(feature = "cuda")]
const CUDA: ProviderInfo = ProviderInfo {
    name: "CUDA",
    file: "cuda",
    needs: "the driver, CUDA and cuDNN in the versions that the message names",
};
#[cfg(feature = "tensorrt")]
const TENSORRT: ProviderInfo = ProviderInfo {
    name: "TensorRT",
    file: "tensorrt",
    needs: "the driver, CUDA, cuDNN and TensorRT in the versions that the message names",
};
#[cfg(feature = "openvino")]
const OPENVINO: ProviderInfo =
    ProviderInfo { name: "OpenVINO", file: "openvino", needs: "OpenVINO in the version that the message names" };

#[cfg(any(feature = "cuda", feature = "tensorrt"))]
fn to_id(device: Device, number: u32) -> Result<i32, Error> {
    i32::try_from(number).map_err(|_| unusable(device, "no device has this number"))
}

/// `available` only reports that the library was built with the provider; the provider itself is a file beside it.
#[cfg(any(feature = "cuda", feature = "tensorrt", feature = "openvino"))]
fn require_provider(
    runtime: &OnnxRuntime,
    device: Device,
    info: &ProviderInfo,
    available: ort::Result<bool>,
) -> Result<(), Error> {
    let ProviderInfo { name, file, .. } = info;
    if !available.map_err(|e| unusable(device, plain(e.message())))? {
        return Err(unusable(
            device,
            format!(
                "the ONNX Runtime in use (version {}) was built without the {name} provider: {}",
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
    info: &ProviderInfo,
    device: Device,
    provider: ort::ep::ExecutionProviderDispatch,
) -> Result<SessionBuilder, Error> {
    let builder = builder.with_execution_providers([provider]).map_err(|e| {
        let message = plain(e.message());
        // The most frequent case: the provider exists, but the libraries that it was built for are missing.
        let hint = match message.contains("cannot open shared object file") || message.contains("Failed to load") {
            true => format!("; install {} in a folder that the system searches", info.needs),
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
    fn onnx_runtime_messages_lose_their_source_location() {
        let raw = "/onnxruntime_src/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& Get() \
                   [ONNXRuntimeError] : 1 : FAIL : Failed to load library x.so with error: a : b\n";
        assert_eq!(plain(raw), "Failed to load library x.so with error: a : b");
        assert_eq!(plain("No such op\n"), "No such op");
        assert_eq!(plain("[ONNXRuntimeError] : 1"), "1");
    }
}
