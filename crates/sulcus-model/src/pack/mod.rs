//! Several networks in one file, with the recipe by which they segment a scan together.

mod check;
mod recipe;

use serde::{Deserialize, Serialize};
use sulcus_volume::LabelTable;

use crate::pack_version::is_pack;
use crate::{ChannelSpec, ModelSpec, OutputActivation, Region, SpecError};

pub use recipe::{CanonicalGrid, Locate, NothingFound, Part, Recipe, SplitRule};

/// Everything that prediction needs to know about a file with several networks and a recipe. It is stored as JSON under the same key as
/// the specification of a model.
///
/// The graph of the file has an input `NAME.image` and an output `NAME.logits` for each network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackSpec {
    /// Version of this structure.
    pub format_version: u32,
    /// Name of the pack.
    pub name: String,
    /// The label values of its masks, with names and colours.
    pub labels: LabelTable,
    /// Structures that are unions of values, as in [`ModelSpec::regions`]; only for a recipe that takes over the mask of one network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// What is done with a scan.
    pub recipe: Recipe,
    /// The networks, which the recipe names.
    pub networks: Vec<PackNetwork>,
}

/// A network of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackNetwork {
    /// Its name in the file.
    pub name: String,
    /// How it segments what it sees.
    pub spec: ModelSpec,
}

impl PackNetwork {
    /// The names of the graph's inputs and outputs for this network: those of the network itself, of its previous network, of the one
    /// before that, and so on.
    pub fn graph_names(&self) -> Vec<[String; 2]> {
        let own = [format!("{}.image", self.name), format!("{}.logits", self.name)];
        let previous = self.spec.previous_networks().map(|network| {
            [network.input_name(), network.output_name()].map(|name| format!("{}.{name}", self.name))
        });
        std::iter::once(own).chain(previous).collect()
    }
}

impl PackSpec {
    /// The network of a name.
    pub fn network(&self, name: &str) -> Option<&PackNetwork> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The networks whose masks make up the result, in the order of the recipe.
    pub fn parts(&self) -> impl Iterator<Item = (&Part, &PackNetwork)> {
        self.recipe.parts.iter().filter_map(|part| Some((part, self.network(&part.network)?)))
    }

    /// The input channels of a scan. All networks have the same number; the names are those of the first part.
    pub fn channels(&self) -> &[ChannelSpec] {
        self.parts().next().map_or(&[], |(_, network)| &network.spec.channels)
    }

    /// What programs show of a pack where they show a model, and what they need to read a scan for it: the specification of the first
    /// part's network with the name, labels and regions of the pack. It is no specification by which a scan can be segmented.
    pub fn outline(&self) -> Result<ModelSpec, SpecError> {
        let (_, first) = self.parts().next().ok_or_else(|| SpecError::Invalid("its recipe has no part".into()))?;
        let mut outline = first.spec.clone();
        if outline.labels != self.labels {
            outline.activation = OutputActivation::Softmax;
        }
        outline.name.clone_from(&self.name);
        outline.labels = self.labels.clone();
        outline.regions.clone_from(&self.regions);
        outline.postprocessing.clear();
        outline.training_scans = None;
        outline.golden_case = None;
        outline.previous = None;
        outline.nnunet = None;
        outline.unchecked = self.networks.iter().find_map(|network| network.spec.unchecked.clone());
        Ok(outline)
    }

    /// Reads the JSON of the metadata entry and checks it.
    ///
    /// # Errors
    /// If the text is not JSON, is no pack, or its parts do not fit together.
    pub fn from_json(json: &str) -> Result<Self, SpecError> {
        let pack: Self = serde_json::from_str(json)
            .map_err(|e| SpecError::Invalid(format!("the specification of this pack is broken: {e}")))?;
        pack.check()?;
        Ok(pack)
    }

    /// The JSON of the metadata entry.
    ///
    /// # Errors
    /// If a number in it is not finite.
    pub fn to_json(&self) -> Result<String, SpecError> {
        serde_json::to_string(self).map_err(|e| SpecError::Invalid(format!("it cannot be written as JSON: {e}")))
    }
}

/// What the metadata entry of a file describes.
#[derive(Debug, Clone, PartialEq)]
pub enum FileSpec {
    /// One model.
    Model(Box<ModelSpec>),
    /// Several networks with a recipe.
    Pack(Box<PackSpec>),
}

impl FileSpec {
    /// Reads the JSON of the metadata entry and checks it.
    ///
    /// # Errors
    /// As [`ModelSpec::from_json`] and [`PackSpec::from_json`].
    pub fn from_json(json: &str) -> Result<Self, SpecError> {
        match is_pack(json) {
            true => Ok(Self::Pack(Box::new(PackSpec::from_json(json)?))),
            false => Ok(Self::Model(Box::new(ModelSpec::from_json(json)?))),
        }
    }

    /// The model, or the [outline](PackSpec::outline) of the pack.
    pub fn outline(&self) -> Result<ModelSpec, SpecError> {
        match self {
            Self::Model(spec) => Ok((**spec).clone()),
            Self::Pack(pack) => pack.outline(),
        }
    }
}
