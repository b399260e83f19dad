use burn::tensor::Device;
use sulcus_plan::{DeviceChoice, DeviceList};

use super::device::{DeviceError, find_device};
use super::exchange::Exchange;
use crate::error::TrainError;

/// The devices of a training.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Placement {
    /// At least one device, without autodiff.
    pub devices: Vec<Device>,
    /// How several devices average their gradients.
    pub exchange: Exchange,
    /// A description for people.
    pub description: String,
}

impl Placement {
    /// Devices that the caller has opened, at least one and without autodiff.
    pub fn new(devices: Vec<Device>, exchange: Exchange, description: impl Into<String>) -> Self {
        Self { devices, exchange, description: description.into() }
    }

    /// Finds the devices of a list.
    ///
    /// # Errors
    /// When the backend of one is not compiled in, or one does not exist.
    pub fn find(list: &DeviceList) -> Result<Self, DeviceError> {
        let found: Vec<(Device, String)> = list.choices().map(find_device).collect::<Result<_, _>>()?;
        let (devices, names): (Vec<Device>, Vec<String>) = found.into_iter().unzip();
        let (exchange, by) = match list.choices().next() {
            Some(DeviceChoice::Cuda(_)) => (Exchange::Collective(devices.clone()), "NCCL"),
            _ => (Exchange::ThroughFirst, "the first of them"),
        };
        let description = match names.as_slice() {
            [name] => name.clone(),
            names => format!("{} devices that average gradients by {by}: {}", names.len(), names.join(", ")),
        };
        Ok(Self { devices, exchange, description })
    }

    /// The first device, which also scores.
    ///
    /// # Errors
    /// When there is none.
    pub fn first(&self) -> Result<Device, TrainError> {
        let none = || TrainError::Config("there is no device to train on".into());
        self.devices.first().cloned().ok_or_else(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_keeps_its_description() {
        let placement = Placement::find(&DeviceList::from(DeviceChoice::Cpu)).unwrap();
        assert_eq!(placement.devices, [Device::flex()]);
        assert_eq!(placement.description, find_device(DeviceChoice::Cpu).unwrap().1);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn list_with_an_unavailable_device_is_refused() {
        let error = Placement::find(&"cuda:0,1".parse::<DeviceList>().unwrap()).unwrap_err();
        insta::assert_snapshot!(error, @"cannot train on `cuda:0`: this build has no CUDA backend");
    }
}
