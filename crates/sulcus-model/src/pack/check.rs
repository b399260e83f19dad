//! Checks that the parts of a pack fit together.

use std::collections::BTreeSet;

use sulcus_volume::{Label, LabelTable};

use super::{CanonicalGrid, Locate, PackNetwork, PackSpec, Part, SplitRule};
use crate::network_name::is_network_name;
use crate::pack_version::PACK_VERSION;
use crate::{Region, SpecError};

/// Far more networks than packs have. A file with more is damaged.
const MAX_NETWORKS: usize = 32;
/// No margin is wider than a person is long.
const MAX_MARGIN_MM: f64 = 3000.0;
/// Voxel sizes that scans are resampled to.
const SPACING_MM: std::ops::RangeInclusive<f64> = 0.01..=100.0;

impl PackSpec {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`SpecError::Invalid`] with the first problem.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.format_version != PACK_VERSION {
            return Err(SpecError::Invalid(format!(
                "it is a pack of format version {}, this program knows {PACK_VERSION}: use a newer sulcus",
                self.format_version
            )));
        }
        self.check_networks()?;
        self.check_recipe().map_err(SpecError::Invalid)
    }

    fn check_networks(&self) -> Result<(), SpecError> {
        let bad = |what: String| Err(SpecError::Invalid(what));
        if !(1..=MAX_NETWORKS).contains(&self.networks.len()) {
            return bad(format!("it has {} networks, possible are 1 to {MAX_NETWORKS}", self.networks.len()));
        }
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let channels = self.networks.first().map_or(0, |network| network.spec.channels.len());
        for PackNetwork { name, spec } in &self.networks {
            if !is_network_name(name) {
                return bad(format!("the name of its network `{name}` must be letters, digits, - and _"));
            }
            if !names.insert(name) {
                return bad(format!("two of its networks are named `{name}`"));
            }
            spec.check().map_err(|error| SpecError::Invalid(format!("of its network `{name}`: {error}")))?;
            if spec.channels.len() != channels {
                return bad(format!(
                    "its network `{name}` has {} input channel(s), its first one has {channels}",
                    spec.channels.len()
                ));
            }
            if !self.recipe.networks().any(|used| used == name) {
                return bad(format!("its recipe does not use the network `{name}`"));
            }
        }
        Ok(())
    }

    fn check_recipe(&self) -> Result<(), String> {
        let recipe = &self.recipe;
        if self.labels.entries().is_empty() {
            return Err("it has no label".into());
        }
        if let Some(locate) = &recipe.locate {
            check_locate(locate, &self.labels_of(&locate.network)?)?;
        }
        recipe.grid.iter().try_for_each(check_grid)?;
        recipe.split.iter().try_for_each(check_split)?;
        if !(1..=MAX_NETWORKS).contains(&recipe.parts.len()) {
            return Err(format!("its recipe has {} parts, possible are 1 to {MAX_NETWORKS}", recipe.parts.len()));
        }
        for (index, part) in recipe.parts.iter().enumerate() {
            if recipe.parts.iter().take(index).any(|other| other.network == part.network) {
                return Err(format!("two parts of its recipe are the network `{}`", part.network));
            }
            check_part(part, &self.labels_of(&part.network)?, &self.labels)?;
        }
        self.check_regions()
    }

    /// The labels of a network that the recipe names.
    fn labels_of(&self, network: &str) -> Result<LabelTable, String> {
        let known = || self.networks.iter().map(|network| network.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.network(network).map(|network| network.spec.labels.clone());
        found.ok_or_else(|| format!("its recipe names the network `{network}`, but its networks are {}", known()))
    }

    /// Regions overlap in the output of one network, but not in a mask that was put together.
    fn check_regions(&self) -> Result<(), String> {
        if self.regions.is_empty() {
            return Ok(());
        }
        Region::check_all(&self.regions)?;
        let same = self.parts().next().filter(|(part, network)| {
            part.merge.is_none() && network.spec.regions == self.regions && network.spec.labels == self.labels
        });
        match (same, self.recipe.parts.len()) {
            (Some(_), 1) => Ok(()),
            _ => Err("it names regions, but its mask is not that of one network with these regions".into()),
        }
    }
}

impl super::Recipe {
    /// The names of the networks that it uses.
    pub(super) fn networks(&self) -> impl Iterator<Item = &String> {
        self.locate.iter().map(|locate| &locate.network).chain(self.parts.iter().map(|part| &part.network))
    }
}

fn check_locate(locate: &Locate, labels: &LabelTable) -> Result<(), String> {
    let network = &locate.network;
    if locate.labels.is_empty() {
        return Err(format!("its recipe looks for no label of the network `{network}`"));
    }
    distinct(&locate.labels).map_err(|label| format!("its recipe looks for label {label} twice"))?;
    if let Some(unknown) = locate.labels.iter().find(|label| labels.get(**label).is_none()) {
        return Err(format!("its recipe looks for label {unknown}, which the network `{network}` lacks"));
    }
    if !locate.margin_mm.iter().all(|mm| (0.0..=MAX_MARGIN_MM).contains(mm)) {
        return Err(format!(
            "the margin of its recipe must lie in 0 to {MAX_MARGIN_MM} mm, found {:?}",
            locate.margin_mm
        ));
    }
    locate.grid.iter().try_for_each(check_grid)
}

fn check_grid(grid: &CanonicalGrid) -> Result<(), String> {
    match grid.mm {
        Some(mm) if !mm.iter().all(|mm| SPACING_MM.contains(mm)) => Err(format!(
            "the voxel size of its recipe must lie in {} to {} mm, found {mm:?}",
            SPACING_MM.start(),
            SPACING_MM.end()
        )),
        _ => Ok(()),
    }
}

/// Each third must be longer than the margin.
fn check_split(rule: &SplitRule) -> Result<(), String> {
    let SplitRule { above_slices, margin, .. } = *rule;
    if margin == 0 || margin.checked_mul(3).is_none_or(|least| above_slices < least) {
        return Err(format!(
            "its recipe divides grids of more than {above_slices} slices with a margin of {margin}; the margin must be 1 or more and at \
             most a third of the slices"
        ));
    }
    Ok(())
}

fn check_part(part: &Part, own: &LabelTable, result: &LabelTable) -> Result<(), String> {
    let network = &part.network;
    let pairs: Vec<[Label; 2]> = match &part.merge {
        None => own.entries().iter().map(|entry| [entry.value; 2]).collect(),
        Some(pairs) => pairs.clone(),
    };
    if pairs.is_empty() {
        return Err(format!("its recipe takes no label of the network `{network}`"));
    }
    let sources: Vec<Label> = pairs.iter().map(|[from, _]| *from).collect();
    distinct(&sources)
        .map_err(|label| format!("its recipe takes label {label} of the network `{network}` twice"))?;
    for [from, to] in pairs {
        if own.get(from).is_none() {
            return Err(format!("its recipe takes label {from} of the network `{network}`, which lacks it"));
        }
        if result.get(to).is_none() {
            return Err(format!(
                "its recipe turns label {from} of the network `{network}` into {to}, which is no label of the pack"
            ));
        }
    }
    Ok(())
}

/// # Errors
/// The first label that occurs twice.
fn distinct(labels: &[Label]) -> Result<(), Label> {
    let mut seen = BTreeSet::new();
    labels.iter().find(|label| !seen.insert(**label)).map_or(Ok(()), |label| Err(*label))
}
