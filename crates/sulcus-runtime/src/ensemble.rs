//! Checks which models can be averaged.
//!
//! Models of an ensemble may differ in network, patch, orientation, voxel size and normalisation, as a 2-D and a 3-D model of the
//! same data do. They must agree on the meaning of their input channels and of their logits.

use sulcus_model::{CropRule, ModelSpec, OutputActivation, Postprocess};

use crate::{Error, ErrorKind};

/// The properties on which the models of an ensemble must agree, with their values as messages show them.
fn shared_properties(spec: &ModelSpec) -> [(&'static str, String); 5] {
    // Destructured completely, so that a new field does not compile until it is assigned to one group.
    let ModelSpec {
        channels,
        labels,
        regions,
        activation,
        // Voxels outside the crop are background, which another model would contradict.
        crop,
        // These may differ, because they only affect how logits are computed.
        network: _,
        networks: _,
        // Folds of one configuration must have the same; see `check_member`.
        previous: _,
        orientation: _,
        spacing: _,
        assumed_mm: _,
        patch: _,
        tiling: _,
        tile_step: _,
        mirror_axes: _,
        padding_multiple: _,
        // The steps that all models have are applied; see `common_postprocessing`.
        postprocessing: _,
        // Provenance.
        format_version: _,
        name: _,
        training: _,
        nnunet: _,
        // A scan is compared with the training scans of each model.
        training_scans: _,
        // Models of different precision can be averaged.
        precision: _,
        golden_case: _,
        // The caller decides whether such a model is accepted.
        unchecked: _,
    } = spec;
    let channels: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let labels: Vec<String> = labels.entries().iter().map(|l| format!("{} {}", l.value, l.name)).collect();
    let activation = match activation {
        OutputActivation::Softmax => "softmax",
        OutputActivation::Sigmoid => "sigmoid",
        OutputActivation::Regions => "regions",
    };
    let crop = match crop {
        CropRule::Whole => "whole scans",
        CropRule::Nonzero => "the bounding box of the nonzero voxels",
    };
    // Logits are averaged channel by channel, so that the order counts too.
    let regions: Vec<String> =
        regions.iter().map(|r| format!("{} {:?} written as {}", r.name, r.values, r.writes)).collect();
    [
        ("channels", format!("{} ({})", channels.len(), channels.join(", "))),
        ("labels", labels.join(", ")),
        ("regions", regions.join(", ")),
        ("activation", activation.to_owned()),
        ("crop", crop.to_owned()),
    ]
}

/// Checks that a model agrees with the first one. The names are for the message.
pub(crate) fn check_member(first: (&str, &ModelSpec), other: (&str, &ModelSpec)) -> Result<(), Error> {
    let refused = |field, expected: String, found: String| {
        let (first, other) = (first.0.to_owned(), other.0.to_owned());
        Err(ErrorKind::Ensemble { field, first, expected, other, found }.into())
    };
    for ((field, expected), (_, found)) in shared_properties(first.1).into_iter().zip(shared_properties(other.1)) {
        if expected != found {
            return refused(field, expected, found);
        }
    }
    // In nnU-Net the folds of the second stage of a cascade see the same mask: that of all folds of the first stage.
    let origins = first.1.nnunet.as_ref().zip(other.1.nnunet.as_ref());
    if origins.is_some_and(|(a, b)| a.has_configuration_of(b)) && first.1.previous != other.1.previous {
        return refused("previous network", previous(first.1), previous(other.1));
    }
    Ok(())
}

/// The previous network for a message.
fn previous(spec: &ModelSpec) -> String {
    let Some(previous) = &spec.previous else { return "none".to_owned() };
    let folds = previous.spec.nnunet.as_ref().map(|origin| origin.folds.join(", ")).unwrap_or_default();
    format!("{}, fold {folds}", previous.name)
}

/// The postprocessing steps that every model has, in the order of the first one. A step that was selected for the errors
/// of one model may remove structures that the others find, so only steps of all models are applied.
pub(crate) fn common_postprocessing(specs: &[&ModelSpec]) -> Vec<Postprocess> {
    let Some((first, others)) = specs.split_first() else { return Vec::new() };
    let in_all = |step: &&Postprocess| others.iter().all(|spec| spec.postprocessing.contains(step));
    first.postprocessing.iter().filter(in_all).cloned().collect()
}
