//! `sulcus info` of a pack.

use std::path::Path;

use sulcus_model::{CanonicalGrid, Locate, ModelSpec, NothingFound, PackNetwork, PackSpec, Part, SplitRule};
use sulcus_volume::{Label, LabelTable};

use crate::output::rules::{normalisation, spacing};
use crate::output::{count, human_bytes, join, significant};

pub(super) fn rows(path: &Path, bytes: usize, pack: &PackSpec) -> Vec<(&'static str, String)> {
    let channels: Vec<String> =
        pack.channels().iter().map(|c| format!("{} ({})", c.name, normalisation(&c.normalisation))).collect();
    let labels: Vec<String> = pack.labels.entries().iter().map(|l| format!("{} {}", l.value, l.name)).collect();
    let recipe = &pack.recipe;
    let rows = vec![
        ("model", path.display().to_string()),
        ("name", pack.name.clone()),
        ("size", human_bytes(bytes as u64)),
        ("channels", channels.join(", ")),
        ("looks for", recipe.locate.as_ref().map(|rule| locate(rule, pack)).unwrap_or_default()),
        ("grid", recipe.grid.as_ref().map(grid).unwrap_or_default()),
        ("divided", recipe.split.as_ref().map(split).unwrap_or_default()),
        ("parts", pack.parts().map(|(part, network)| describe_part(part, network)).collect::<Vec<_>>().join("\n")),
        ("networks", pack.networks.iter().map(network).collect::<Vec<_>>().join("\n")),
        ("labels", labels.join("\n")),
    ];
    rows.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

fn locate(rule: &Locate, pack: &PackSpec) -> String {
    let table = pack.network(&rule.network).map(|network| &network.spec.labels);
    let then = match rule.nothing_found {
        NothingFound::EmptyMask => "the mask is empty",
        NothingFound::WholeScan => "the whole scan is segmented",
    };
    format!(
        "{} with {}{}; the parts see its box and {} mm around it; where nothing is found, {then}",
        names(&rule.labels, table),
        rule.network,
        rule.grid.as_ref().map(|rule| format!(" ({})", grid(rule))).unwrap_or_default(),
        rule.margin_mm.map(significant).join(" × "),
    )
}

fn names(labels: &[Label], table: Option<&LabelTable>) -> String {
    let name = |label: &Label| {
        table.and_then(|table| table.get(*label)).map_or_else(|| label.to_string(), |entry| entry.name.clone())
    };
    labels.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn grid(rule: &CanonicalGrid) -> String {
    match rule.mm {
        None => "turned to RAS".to_owned(),
        Some(mm) => format!(
            "turned to RAS, resampled to {} mm (first and last voxels keep their centres), whole numbers",
            mm.map(significant).join(" × ")
        ),
    }
}

fn split(rule: &SplitRule) -> String {
    let SplitRule { above_voxels, above_slices, margin } = rule;
    format!(
        "in three above {above_voxels} voxels and {above_slices} slices, with {margin} slices around each part"
    )
}

fn describe_part(part: &Part, network: &PackNetwork) -> String {
    let taken = part.merge.as_ref().map_or(network.spec.labels.entries().len(), Vec::len);
    format!("{}: {}", part.network, count(taken, "label"))
}

fn network(network: &PackNetwork) -> String {
    let ModelSpec { network: own, spacing: rule, patch, training, .. } = &network.spec;
    let features: Vec<usize> = own.stages.iter().map(|stage| stage.channels).collect();
    let before: String =
        network.spec.previous_networks().map(|before| format!(", after {}", before.name)).collect();
    format!(
        "{}: {}, {}-D, features {}, {}, patch {}{before}, trained on {} by {}",
        network.name,
        own.name,
        own.dimensions.count(),
        join(&features, "–"),
        spacing(rule),
        join(patch, " × "),
        training.dataset,
        training.tool_version
    )
}
