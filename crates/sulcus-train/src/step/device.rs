//! Opens the devices that a configuration names.

use burn::tensor::Device;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
use burn::tensor::DeviceType;
use sulcus_plan::{DeviceChoice, DeviceKind, DeviceList};

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// This build lacks the device's backend.
    #[error("cannot train on `{choice}`: this build has no {backend} backend")]
    NotCompiled {
        /// The device.
        choice: DeviceChoice,
        /// The backend's name.
        backend: &'static str,
        /// The Cargo feature that adds the backend.
        feature: &'static str,
    },
    /// This build has CUDA too. Burn then tunes the kernels of all its GPU backends, and among those that it tunes on Vulkan are matrix
    /// products, which gave gradients that were wrong by more than their size (on SwiftShader of Chromium 148).
    #[error(
        "cannot train on `{choice}`: this build also has CUDA, and its tuned kernels gave wrong gradients on Vulkan"
    )]
    TunedForCuda {
        /// The device.
        choice: DeviceChoice,
    },
    /// The machine lacks the device.
    #[error("cannot train on `{choice}`: looked for {backend} devices, found {}", found_sentence(.found))]
    Absent {
        /// The device.
        choice: DeviceChoice,
        /// The backend's name.
        backend: &'static str,
        /// The devices that were found.
        found: Vec<String>,
    },
}

fn found_sentence(found: &[String]) -> String {
    match found {
        [] => "none; is its driver installed?".to_owned(),
        some => some.join(", "),
    }
}

/// Finds a device, and describes it for people. Call [`Device::autodiff`] on the result to train on it.
///
/// Devices are enumerated before one is opened, because Burn's own constructors panic if there is none.
///
/// # Errors
/// When the device's backend is not compiled in, is not safe in this build, or the device does not exist. `Auto` and `Cpu` always
/// succeed.
pub fn find_device(choice: DeviceChoice) -> Result<(Device, String), DeviceError> {
    match choice {
        DeviceChoice::Auto => Ok(automatic()),
        DeviceChoice::Cpu => Ok(processor()),
        DeviceChoice::Cuda(index) => cuda(choice, index),
        DeviceChoice::Vulkan(index) => vulkan(choice, index),
    }
}

/// The kind of the devices that a configuration names. Only `auto` is looked up on this machine: plans for a GPU can be
/// made anywhere.
pub fn device_kind(list: &DeviceList) -> DeviceKind {
    DeviceKind::of(list).unwrap_or_else(|| match automatic().0 == Device::flex() {
        true => DeviceKind::Processor,
        false => DeviceKind::Gpu,
    })
}

fn processor() -> (Device, String) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    (Device::flex(), format!("processor ({threads} threads, Burn flex)"))
}

fn automatic() -> (Device, String) {
    #[cfg(feature = "cuda")]
    if let Ok(found) = cuda(DeviceChoice::Cuda(0), 0) {
        return found;
    }
    // A Vulkan "device" may be a software renderer on the processor, which is slower than flex.
    #[cfg(all(feature = "vulkan", not(feature = "cuda")))]
    if let Some((index, _)) = enumerate(DeviceType::Vulkan).iter().enumerate().find(|(_, d)| !is_software(d))
        && let Ok(found) = vulkan(DeviceChoice::Vulkan(index), index)
    {
        return found;
    }
    processor()
}

#[cfg(feature = "cuda")]
fn cuda(choice: DeviceChoice, index: usize) -> Result<(Device, String), DeviceError> {
    pick(choice, "CUDA", index, &enumerate(DeviceType::Cuda))
}

#[cfg(not(feature = "cuda"))]
fn cuda(choice: DeviceChoice, _index: usize) -> Result<(Device, String), DeviceError> {
    Err(DeviceError::NotCompiled { choice, backend: "CUDA", feature: "cuda" })
}

#[cfg(all(feature = "vulkan", feature = "cuda"))]
fn vulkan(choice: DeviceChoice, _index: usize) -> Result<(Device, String), DeviceError> {
    Err(DeviceError::TunedForCuda { choice })
}

#[cfg(all(feature = "vulkan", not(feature = "cuda")))]
fn vulkan(choice: DeviceChoice, index: usize) -> Result<(Device, String), DeviceError> {
    pick(choice, "Vulkan", index, &enumerate(DeviceType::Vulkan))
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(choice: DeviceChoice, _index: usize) -> Result<(Device, String), DeviceError> {
    Err(DeviceError::NotCompiled { choice, backend: "Vulkan", feature: "vulkan" })
}

/// The devices of a backend. A broken driver panics inside the backend; that counts as no device.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn enumerate(kind: DeviceType) -> Vec<Device> {
    std::panic::catch_unwind(|| Device::enumerate(kind).into_vec()).unwrap_or_default()
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn pick(
    choice: DeviceChoice,
    backend: &'static str,
    index: usize,
    found: &[Device],
) -> Result<(Device, String), DeviceError> {
    let describe = |device: &Device| match device.identity() {
        Some(identity) => format!("{} ({backend})", identity.name),
        None => format!("{device:?}"),
    };
    match found.get(index) {
        Some(device) => Ok((device.clone(), describe(device))),
        None => {
            let found = found.iter().enumerate().map(|(i, _)| format!("{}:{i}", backend.to_lowercase())).collect();
            Err(DeviceError::Absent { choice, backend, found })
        }
    }
}

#[cfg(all(feature = "vulkan", not(feature = "cuda")))]
fn is_software(device: &Device) -> bool {
    // Burn exposes the kind of adapter only in the debug form of a device.
    format!("{device:?}").contains("Cpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_and_cpu_always_exist() {
        find_device(DeviceChoice::Auto).unwrap();
        let (device, description) = find_device(DeviceChoice::Cpu).unwrap();
        assert!(!device.is_autodiff());
        assert!(description.contains("flex"), "{description}");
    }

    #[cfg(all(feature = "cuda", feature = "vulkan"))]
    #[test]
    fn vulkan_is_refused_in_builds_with_cuda() {
        let choice = DeviceChoice::Vulkan(0);
        assert_eq!(find_device(choice).unwrap_err(), DeviceError::TunedForCuda { choice });
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn missing_backend_is_named_with_its_feature() {
        let error = find_device(DeviceChoice::Cuda(1)).unwrap_err();
        insta::assert_snapshot!(error, @"cannot train on `cuda:1`: this build has no CUDA backend");
    }

    #[test]
    fn absent_device_lists_what_was_found() {
        let absent = |found: Vec<String>| {
            DeviceError::Absent { choice: DeviceChoice::Cuda(3), backend: "CUDA", found }.to_string()
        };
        insta::assert_snapshot!(absent(vec![]), @"cannot train on `cuda:3`: looked for CUDA devices, found none; is its driver installed?");
        insta::assert_snapshot!(absent(vec!["cuda:0".into()]), @"cannot train on `cuda:3`: looked for CUDA devices, found cuda:0");
    }
}
