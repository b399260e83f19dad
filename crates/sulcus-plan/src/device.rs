//! The devices that a configuration names. This crate does not open them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A device on which to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device, else the first Vulkan GPU, else the processor, among the backends that are compiled in.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// The Vulkan device with this index.
    Vulkan(usize),
}

/// One device, or several of one kind that share each batch, such as `cuda:0,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    first: DeviceChoice,
    others: Vec<DeviceChoice>,
}

/// The kind of device that a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor, which uses the kernels of `sulcus-kernels`.
    Processor,
    /// A GPU, which uses Burn's kernels.
    Gpu,
}

/// Why a text does not name devices for training.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceNameError {
    /// The text does not name a device.
    #[error(
        "cannot train on `{0}`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such \
         as cuda:0,1"
    )]
    Unknown(String),
    /// A device is listed twice.
    #[error("cannot train on `{list}`: {device} is listed twice")]
    Repeated {
        /// The list.
        list: String,
        /// The device.
        device: DeviceChoice,
    },
    /// The device belongs to an inference engine.
    #[error("cannot train on `{0}`: TensorRT only runs exported models; train on cuda, then predict on {0}")]
    InferenceOnly(String),
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
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceNameError::Unknown(text.to_owned());
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("vulkan", index) => Ok(Self::Vulkan(index.unwrap_or(0))),
            ("tensorrt", _) => Err(DeviceNameError::InferenceOnly(text.to_owned())),
            _ => Err(unknown()),
        }
    }
}

impl From<DeviceChoice> for DeviceList {
    fn from(first: DeviceChoice) -> Self {
        Self { first, others: vec![] }
    }
}

impl Default for DeviceList {
    fn default() -> Self {
        DeviceChoice::default().into()
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.others.iter().try_for_each(|device| match device {
            DeviceChoice::Cuda(index) | DeviceChoice::Vulkan(index) => write!(f, ",{index}"),
            other => write!(f, ",{other}"),
        })
    }
}

impl FromStr for DeviceList {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, (first, others))) =
            text.split_once(':').and_then(|(kind, list)| Some((kind, list.split_once(',')?)))
        else {
            return Ok(text.parse::<DeviceChoice>()?.into());
        };
        let unknown = |_| DeviceNameError::Unknown(text.to_owned());
        let device = |index: &str| format!("{kind}:{index}").parse::<DeviceChoice>().map_err(unknown);
        let mut list = Self::from(device(first)?);
        for index in others.split(',') {
            let device = device(index)?;
            if list.choices().any(|known| known == device) {
                return Err(DeviceNameError::Repeated { list: text.to_owned(), device });
            }
            list.others.push(device);
        }
        Ok(list)
    }
}

impl DeviceList {
    /// The devices in their order; the first one also scores.
    pub fn choices(&self) -> impl Iterator<Item = DeviceChoice> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// How many devices share a batch.
    pub fn count(&self) -> usize {
        self.others.len() + 1
    }
}

impl Serialize for DeviceList {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl DeviceKind {
    /// The kind of devices that are named; `None` for `auto`, which depends on the machine. The devices need not exist:
    /// a plan for a GPU can be made on any machine.
    pub fn of(list: &DeviceList) -> Option<Self> {
        match list.first {
            DeviceChoice::Auto => None,
            DeviceChoice::Cpu => Some(Self::Processor),
            DeviceChoice::Cuda(_) | DeviceChoice::Vulkan(_) => Some(Self::Gpu),
        }
    }

    /// The memory in bytes that a plan assumes if the configuration gives none: nnU-Net's reference GPU has 8 GB; on a
    /// processor half the memory of a small laptop.
    pub const fn default_memory_bytes(self) -> u64 {
        match self {
            Self::Processor => 4_000_000_000,
            Self::Gpu => 8_000_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_parse_and_print() {
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
    fn invalid_device_names_list_what_is_expected() {
        let message = |text: &str| text.parse::<DeviceChoice>().unwrap_err().to_string();
        insta::assert_snapshot!(message("gpu"), @"cannot train on `gpu`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such as cuda:0,1");
        insta::assert_snapshot!(message("cuda:-1"), @"cannot train on `cuda:-1`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such as cuda:0,1");
        insta::assert_snapshot!(message("tensorrt:1"), @"cannot train on `tensorrt:1`: TensorRT only runs exported models; train on cuda, then predict on tensorrt:1");
        assert!("cpu:1".parse::<DeviceChoice>().is_err());
        assert!("".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn device_lists_parse_and_print() {
        for text in ["auto", "cpu", "cuda:0", "cuda:0,1", "cuda:3,1,2", "vulkan:0,1"] {
            let list: DeviceList = text.parse().unwrap();
            assert_eq!(list.to_string(), text);
            assert_eq!(serde_json::from_str::<DeviceList>(&serde_json::to_string(&list).unwrap()).unwrap(), list);
        }
        let list: DeviceList = "cuda:3,1".parse().unwrap();
        assert_eq!(list.choices().collect::<Vec<_>>(), [DeviceChoice::Cuda(3), DeviceChoice::Cuda(1)]);
        assert_eq!(list.count(), 2);
        assert_eq!("cuda".parse(), Ok(DeviceList::from(DeviceChoice::Cuda(0))));
    }

    #[test]
    fn invalid_device_lists_list_what_is_expected() {
        let message = |text: &str| text.parse::<DeviceList>().unwrap_err().to_string();
        insta::assert_snapshot!(message("cuda:0,0"), @"cannot train on `cuda:0,0`: cuda:0 is listed twice");
        insta::assert_snapshot!(message("cuda:0,cpu"), @"cannot train on `cuda:0,cpu`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such as cuda:0,1");
        for text in ["cpu:0,1", "auto,cpu", "cuda:0,", "cuda:,1", "cuda,1", "tensorrt:0,1"] {
            let unknown = DeviceNameError::Unknown(text.to_owned());
            assert_eq!(text.parse::<DeviceList>().unwrap_err(), unknown, "{text}");
        }
    }

    #[test]
    fn named_devices_need_not_exist() {
        assert_eq!(DeviceKind::of(&DeviceChoice::Cuda(3).into()), Some(DeviceKind::Gpu));
        assert_eq!(DeviceKind::of(&DeviceChoice::Cpu.into()), Some(DeviceKind::Processor));
        assert_eq!(DeviceKind::of(&DeviceChoice::Auto.into()), None);
    }
}
