use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{DeviceChoice, DeviceError, Exchange, TrainError};

/// Where a training runs, as the command line names it: one device, or several of one kind that share each batch, such
/// as `cuda:0,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    first: DeviceChoice,
    others: Vec<DeviceChoice>,
}

/// The devices that a [`DeviceList`] turned out to be.
#[derive(Debug, Clone)]
pub struct Placement {
    /// At least one, without autodiff.
    pub devices: Vec<Device>,
    /// What several of them average gradients by.
    pub exchange: Exchange,
    /// For people.
    pub description: String,
}

impl Placement {
    /// The device that also scores.
    ///
    /// # Errors
    /// When there is none.
    pub fn first(&self) -> Result<Device, TrainError> {
        let none = || TrainError::Config("there is no device to train on".into());
        self.devices.first().cloned().ok_or_else(none)
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
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((kind, (first, others))) =
            text.split_once(':').and_then(|(kind, list)| Some((kind, list.split_once(',')?)))
        else {
            return Ok(text.parse::<DeviceChoice>()?.into());
        };
        let unknown = |_| DeviceError::Unknown(text.to_owned());
        let device = |index: &str| format!("{kind}:{index}").parse::<DeviceChoice>().map_err(unknown);
        let mut list = Self::from(device(first)?);
        for index in others.split(',') {
            let device = device(index)?;
            if list.choices().any(|known| known == device) {
                return Err(DeviceError::Repeated { list: text.to_owned(), device });
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

    /// Finds all of them.
    ///
    /// # Errors
    /// When one is not compiled in or not there.
    pub fn resolve(&self) -> Result<Placement, DeviceError> {
        let found: Vec<(Device, String)> = self.choices().map(DeviceChoice::resolve).collect::<Result<_, _>>()?;
        let (devices, names): (Vec<Device>, Vec<String>) = found.into_iter().unzip();
        let (exchange, by) = match self.first {
            DeviceChoice::Cuda(_) => (Exchange::Collective(devices.clone()), "NCCL"),
            _ => (Exchange::ThroughFirst, "the first of them"),
        };
        let description = match names.as_slice() {
            [name] => name.clone(),
            names => format!("{} devices that average gradients by {by}: {}", names.len(), names.join(", ")),
        };
        Ok(Placement { devices, exchange, description })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_devices_and_back() {
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
    fn lists_that_cannot_be_meant_say_what_to_write() {
        let message = |text: &str| text.parse::<DeviceList>().unwrap_err().to_string();
        insta::assert_snapshot!(message("cuda:0,0"), @"cannot train on `cuda:0,0`: cuda:0 is listed twice");
        insta::assert_snapshot!(message("cuda:0,cpu"), @"cannot train on `cuda:0,cpu`: expected auto, cpu, cuda, cuda:N, vulkan or vulkan:N, or several devices of one kind such as cuda:0,1");
        for text in ["cpu:0,1", "auto,cpu", "cuda:0,", "cuda:,1", "cuda,1", "tensorrt:0,1"] {
            assert_eq!(text.parse::<DeviceList>().unwrap_err(), text_error(text), "{text}");
        }
    }

    fn text_error(text: &str) -> DeviceError {
        DeviceError::Unknown(text.to_owned())
    }

    #[test]
    fn one_device_is_described_as_itself() {
        let placement = DeviceList::from(DeviceChoice::Cpu).resolve().unwrap();
        assert_eq!(placement.devices, [Device::flex()]);
        assert_eq!(placement.description, DeviceChoice::Cpu.resolve().unwrap().1);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_list_with_a_device_that_cannot_be_had_is_refused() {
        let error = "cuda:0,1".parse::<DeviceList>().unwrap().resolve().unwrap_err();
        insta::assert_snapshot!(error, @"cannot train on `cuda:0`: this build has no CUDA backend; build it with `cargo build --release --features cuda`");
    }
}
