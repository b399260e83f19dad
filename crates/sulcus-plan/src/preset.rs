use serde::{Deserialize, Serialize};
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};

/// The names of all presets.
pub fn preset_names() -> &'static [&'static str] {
    &["auto", "nnunet-3d", "nnunet-2d", "resenc-3d", "unet3d-lite", "unet2d-classic", "unet2d-lite"]
}

/// The network of a preset that does not depend on the data. `None` for presets that are rules (see [`NetworkRule`]) and
/// for unknown names.
///
/// - `unet2d-classic`: 64–128–256–512–1024 feature maps, two 3×3 convolutions a stage, batch normalisation,
///   max-pooling; 31.0 M parameters. The structure of Ronneberger et al. 2015 with padding.
/// - `unet2d-lite`: the same, starting with 16 feature maps; 1.9 M parameters, for CPUs.
pub fn preset(name: &str) -> Option<NetworkSpec> {
    match name {
        "unet2d-classic" => Some(pooled_2d(name, 64)),
        "unet2d-lite" => Some(pooled_2d(name, 16)),
        _ => None,
    }
}

/// A network, or the rule from which it follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum NetworkChoice {
    /// Patch size, depth, strides and kernels follow from the data and the device.
    Rule(NetworkRule),
    /// This network, for any data.
    Fixed(NetworkSpec),
}

impl NetworkChoice {
    /// The network or rule of a preset; `None` for unknown names.
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

/// Networks whose topology follows from the data, by nnU-Net's rules (Isensee et al. 2021): two convolutions per stage,
/// instance normalisation, leaky ReLU, strided convolutions, feature maps that double with each stage, deep
/// supervision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NetworkRule {
    /// 2-D or 3-D by the data; nnU-Net's width on a GPU, half of it on a processor.
    #[serde(rename = "auto")]
    Auto,
    /// nnU-Net's `3d_fullres`: from 32 feature maps, at most 320.
    #[serde(rename = "nnunet-3d")]
    NnUnet3d,
    /// nnU-Net's `2d`: from 32 feature maps, at most 512.
    #[serde(rename = "nnunet-2d")]
    NnUnet2d,
    /// `nnunet-3d` with an encoder of 1, 3, 4, 6, 6, 6, … residual blocks and one convolution in each
    /// stage of the decoder (Isensee et al. 2024).
    #[serde(rename = "resenc-3d")]
    ResEnc3d,
    /// `nnunet-3d` with half the width, 16 to 160 feature maps: a quarter of the work, for processors.
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

    /// Whether patch and batch are fitted to a time budget. nnU-Net's presets keep nnU-Net's patch and batch.
    pub(crate) fn fits_time_budget(self) -> bool {
        matches!(self, Self::Auto | Self::Unet3dLite)
    }

    /// Whether its networks are 2-D or 3-D; `None` if that depends on the data.
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
        imported: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_name_gives_a_choice_with_that_name() {
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
