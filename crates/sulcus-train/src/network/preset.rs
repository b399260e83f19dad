use serde::{Deserialize, Serialize};
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};

/// The presets' names, as the command line takes them.
pub fn preset_names() -> &'static [&'static str] {
    &["auto", "nnunet-3d", "nnunet-2d", "resenc-3d", "unet3d-lite", "unet2d-classic", "unet2d-lite"]
}

/// The network behind a preset's name that is the same for all data, or nothing for the presets that are rules (see
/// [`NetworkRule`]) and for names that mean nothing.
///
/// - `unet2d-classic`: 64–128–256–512–1024 feature maps, two 3×3 convolutions a stage, batch normalisation,
///   max-pooling; 31.0 M parameters. The structure of Ronneberger et al. 2015 with padding.
/// - `unet2d-lite`: the same from 16 feature maps on; 1.9 M parameters, for CPUs.
pub fn preset(name: &str) -> Option<NetworkSpec> {
    match name {
        "unet2d-classic" => Some(pooled_2d(name, 64)),
        "unet2d-lite" => Some(pooled_2d(name, 16)),
        _ => None,
    }
}

/// A network, or how to come to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkChoice {
    /// Patch, depth, strides and kernels follow from the data and the device.
    Rule(NetworkRule),
    /// This one, whatever the data.
    Fixed(NetworkSpec),
}

impl NetworkChoice {
    /// What a preset's name stands for, or nothing when there is no such preset.
    pub fn from_preset(name: &str) -> Option<Self> {
        NetworkRule::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .map(Self::Rule)
            .or_else(|| preset(name).map(Self::Fixed))
    }

    /// The preset's or the network's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Rule(rule) => rule.name(),
            Self::Fixed(spec) => &spec.name,
        }
    }

    pub(crate) fn is_auto(&self) -> bool {
        *self == Self::Rule(NetworkRule::Auto)
    }
}

impl Default for NetworkChoice {
    fn default() -> Self {
        Self::Rule(NetworkRule::Auto)
    }
}

impl From<NetworkSpec> for NetworkChoice {
    fn from(spec: NetworkSpec) -> Self {
        Self::Fixed(spec)
    }
}

/// Networks whose topology follows from the data, by nnU-Net's rules (Isensee et al. 2021): two convolutions a stage,
/// instance normalisation, leaky ReLU, strided convolutions, feature maps that double with each stage, deep
/// supervision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkRule {
    /// 2-D or 3-D by the data, its width by the device: nnU-Net's on a GPU, half of it on a processor.
    #[serde(rename = "auto")]
    Auto,
    /// nnU-Net's `3d_fullres`: from 32 feature maps, at most 320.
    #[serde(rename = "nnunet-3d")]
    NnUnet3d,
    /// nnU-Net's `2d`: from 32 feature maps, at most 512.
    #[serde(rename = "nnunet-2d")]
    NnUnet2d,
    /// The same as `nnunet-3d` with an encoder of 1, 3, 4, 6, 6, 6, … residual blocks and one convolution in each
    /// stage of the decoder (Isensee et al. 2024).
    #[serde(rename = "resenc-3d")]
    ResEnc3d,
    /// The same as `nnunet-3d` from 16 feature maps, at most 160: a quarter of the work, for processors.
    #[serde(rename = "unet3d-lite")]
    Unet3dLite,
}

impl NetworkRule {
    const ALL: [Self; 5] = [Self::Auto, Self::NnUnet3d, Self::NnUnet2d, Self::ResEnc3d, Self::Unet3dLite];

    /// The preset's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::NnUnet3d => "nnunet-3d",
            Self::NnUnet2d => "nnunet-2d",
            Self::ResEnc3d => "resenc-3d",
            Self::Unet3dLite => "unet3d-lite",
        }
    }

    /// Over how many axes its networks convolve, where that does not depend on the data.
    pub fn dimensions(self) -> Option<Dimensions> {
        match self {
            Self::Auto => None,
            Self::NnUnet2d => Some(Dimensions::Two),
            Self::NnUnet3d | Self::ResEnc3d | Self::Unet3dLite => Some(Dimensions::Three),
        }
    }
}

/// Five stages that double the feature maps and halve both axes.
fn pooled_2d(name: &str, base: usize) -> NetworkSpec {
    let stages = (0..5)
        .map(|depth: u32| StageConfig {
            channels: base << depth,
            convolutions: 2,
            kernel: vec![3, 3],
            stride: if depth == 0 { vec![1, 1] } else { vec![2, 2] },
        })
        .collect();
    NetworkSpec {
        name: name.to_owned(),
        dimensions: Dimensions::Two,
        stages,
        norm: Norm::Batch,
        activation: Activation::Relu,
        downsampling: Downsampling::MaxPool,
        encoder: Encoder::Plain,
        deep_supervision: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_network_or_a_rule_of_that_name() {
        for name in preset_names() {
            let choice = NetworkChoice::from_preset(name).unwrap();
            assert_eq!(choice.name(), *name);
            let json = serde_json::to_string(&choice).unwrap();
            assert!(json.contains(&format!("\"{name}\"")), "{json}");
            assert_eq!(serde_json::from_str::<NetworkChoice>(&json).unwrap(), choice);
        }
        assert_eq!(NetworkChoice::from_preset("unet3d"), None);
    }
}
