//! Where training runs.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
use burn::tensor::DeviceType;

/// A device as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device, else the first Vulkan GPU, else the processor: of those compiled in.
    #[default]
    Auto,
    /// The processor, through Burn's flex backend.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// The Vulkan device with this index.
    Vulkan(usize),
}

/// Why a device can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A name that means no device.
    #[error(
        "cannot train on `{0}`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such \
         as cuda:0,1"
    )]
    Unknown(String),
    /// A device that is listed more than once.
    #[error("cannot train on `{list}`: {device} is listed twice")]
    Repeated {
        /// What was asked for.
        list: String,
        /// The device.
        device: DeviceChoice,
    },
    /// A device of an inference engine.
    #[error(
        "cannot train on `{0}`: TensorRT only runs exported models; train on cuda, then predict with --device {0}"
    )]
    InferenceOnly(String),
    /// A device whose backend this build lacks.
    #[error(
        "cannot train on `{choice}`: this build has no {backend} backend; build it with `cargo build --release --features {feature}`"
    )]
    NotCompiled {
        /// The device asked for.
        choice: DeviceChoice,
        /// The backend's name.
        backend: &'static str,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// A device that the machine lacks.
    #[error("cannot train on `{choice}`: looked for {backend} devices, found {}", found_sentence(.found))]
    Absent {
        /// The device asked for.
        choice: DeviceChoice,
        /// The backend's name.
        backend: &'static str,
        /// The devices that were found instead.
        found: Vec<String>,
    },
}

fn found_sentence(found: &[String]) -> String {
    match found {
        [] => "none; is its driver installed? `--device cpu` always works".to_owned(),
        some => some.join(", "),
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("vulkan", index) => Ok(Self::Vulkan(index.unwrap_or(0))),
            ("tensorrt", _) => Err(DeviceError::InferenceOnly(text.to_owned())),
            _ => Err(unknown()),
        }
    }
}

impl DeviceChoice {
    /// Finds the device and describes it for people. Devices are enumerated before one is opened: Burn's own
    /// constructors panic where there is none. Call [`Device::autodiff`] on the answer to train on it.
    ///
    /// # Errors
    /// When the device is not compiled in or not there. `Auto` and `Cpu` always succeed.
    pub fn resolve(self) -> Result<(Device, String), DeviceError> {
        match self {
            Self::Auto => Ok(automatic()),
            Self::Cpu => Ok(processor()),
            Self::Cuda(index) => cuda(self, index),
            Self::Vulkan(index) => vulkan(self, index),
        }
    }
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
    #[cfg(feature = "vulkan")]
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

#[cfg(feature = "vulkan")]
fn vulkan(choice: DeviceChoice, index: usize) -> Result<(Device, String), DeviceError> {
    pick(choice, "Vulkan", index, &enumerate(DeviceType::Vulkan))
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(choice: DeviceChoice, _index: usize) -> Result<(Device, String), DeviceError> {
    Err(DeviceError::NotCompiled { choice, backend: "Vulkan", feature: "vulkan" })
}

/// What the backend finds. A driver that is broken rather than absent panics inside the backend; that is no device
/// to us either.
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

#[cfg(feature = "vulkan")]
fn is_software(device: &Device) -> bool {
    // Burn doesn't say the kind of adapter other than in the device's debug form.
    format!("{device:?}").contains("Cpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_devices_and_back() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:2", DeviceChoice::Cuda(2)),
            ("vulkan:0", DeviceChoice::Vulkan(0)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("vulkan".parse(), Ok(DeviceChoice::Vulkan(0)));
    }

    #[test]
    fn names_that_mean_no_training_device_say_what_to_write() {
        let message = |text: &str| text.parse::<DeviceChoice>().unwrap_err().to_string();
        insta::assert_snapshot!(message("gpu"), @"cannot train on `gpu`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such as cuda:0,1");
        insta::assert_snapshot!(message("cuda:-1"), @"cannot train on `cuda:-1`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such as cuda:0,1");
        insta::assert_snapshot!(message("tensorrt:1"), @"cannot train on `tensorrt:1`: TensorRT only runs exported models; train on cuda, then predict with --device tensorrt:1");
        assert!("cpu:1".parse::<DeviceChoice>().is_err());
        assert!("".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn auto_and_cpu_are_always_there() {
        DeviceChoice::Auto.resolve().unwrap();
        let (device, description) = DeviceChoice::Cpu.resolve().unwrap();
        assert!(!device.is_autodiff());
        assert!(description.contains("flex"), "{description}");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_of_the_build_is_named_with_its_feature() {
        let error = DeviceChoice::Cuda(1).resolve().unwrap_err();
        insta::assert_snapshot!(error, @"cannot train on `cuda:1`: this build has no CUDA backend; build it with `cargo build --release --features cuda`");
    }

    #[test]
    fn an_absent_device_says_what_was_looked_for() {
        let absent = |found: Vec<String>| {
            DeviceError::Absent { choice: DeviceChoice::Cuda(3), backend: "CUDA", found }.to_string()
        };
        insta::assert_snapshot!(absent(vec![]), @"cannot train on `cuda:3`: looked for CUDA devices, found none; is its driver installed? `--device cpu` always works");
        insta::assert_snapshot!(absent(vec!["cuda:0".into()]), @"cannot train on `cuda:3`: looked for CUDA devices, found cuda:0");
    }
}
