use serde::{Deserialize, Serialize};
use sulcus_volume::Label;

use super::{ModelSpec, SpacingRule};
use crate::network_name::is_network_name;
use crate::{NetworkSpec, NnunetResampling};

/// A network of the same file that sees a scan before the network in whose specification it stands.
///
/// The graph of the file has an input and an output for each network: `image` and `logits` for the last one, `NAME.image` and
/// `NAME.logits` for this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousNetwork {
    /// Its name in the file, such as `3d_lowres`.
    pub name: String,
    /// How it segments the scan. It may have a previous network, too.
    pub spec: ModelSpec,
    /// What its mask is used for.
    pub mask: MaskUse,
}

/// What the mask of a [`PreviousNetwork`] is used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum MaskUse {
    /// It becomes further input channels of the next network, after those of the scan: for each of these labels, in this order, 1 inside
    /// it and 0 elsewhere (nnU-Net's cascade).
    InputChannels {
        /// The labels.
        labels: Vec<Label>,
        /// How the mask is resampled to the grid of the next network (`resampling_fn_seg`).
        resampling: NnunetResampling,
    },
}

impl MaskUse {
    /// Number of input channels that the mask becomes.
    pub fn input_channels(&self) -> usize {
        match self {
            Self::InputChannels { labels, .. } => labels.len(),
        }
    }
}

impl PreviousNetwork {
    /// Far more than are used in practice. A file with more is damaged.
    const MAX_IN_TURN: usize = 4;

    /// Name of the graph's input for this network.
    pub fn input_name(&self) -> String {
        format!("{}.image", self.name)
    }

    /// Name of the graph's output for this network.
    pub fn output_name(&self) -> String {
        format!("{}.logits", self.name)
    }

    /// Checks the network, and that it fits the next one.
    pub(crate) fn check(&self, next: &ModelSpec) -> Result<(), String> {
        let Self { name, spec, mask: MaskUse::InputChannels { labels, resampling } } = self;
        if !is_network_name(name) {
            return Err(format!("the name of its previous network `{name}` must be letters, digits, - and _"));
        }
        let others: Vec<&Self> = spec.previous_networks().collect();
        if others.len() >= Self::MAX_IN_TURN || others.iter().any(|other| other.name == *name) {
            return Err(format!("its previous network `{name}` has more than one, or too many before it"));
        }
        spec.check().map_err(|error| format!("of its previous network `{name}`: {error}"))?;
        let channels =
            |spec: &ModelSpec| spec.channels.iter().map(|channel| channel.name.clone()).collect::<Vec<_>>();
        if channels(spec) != channels(next) || spec.crop != next.crop {
            return Err(format!("its previous network `{name}` sees other channels or another part of a scan"));
        }
        if labels.is_empty() || next.input_channels() > NetworkSpec::MAX_CHANNELS {
            return Err(format!(
                "the mask of its previous network `{name}` makes {} input channels",
                labels.len()
            ));
        }
        if let Some(unknown) = labels.iter().find(|label| spec.labels.get(**label).is_none()) {
            return Err(format!("its previous network `{name}` has no label {unknown}"));
        }
        if matches!(next.spacing, SpacingRule::Resample { .. }) {
            return Err("the mask of its previous network can only be resampled as nnU-Net does".to_owned());
        }
        resampling.check()
    }
}
