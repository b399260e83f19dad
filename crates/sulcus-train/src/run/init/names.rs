//! Maps the tensor names of other programs to those of Sulcus.
//!
//! nnU-Net's two networks (`PlainConvUNet` and `ResidualEncoderUNet` of the package dynamic-network-architectures) have the
//! same layers under other names, with one difference: their decoder concatenates the upsampled maps before the encoder's,
//! ours after them.

/// Prefixes under which PyTorch programs keep a network's weights, and those that wrappers of a network add.
const WRAPPERS: [&str; 7] =
    ["network_weights.", "state_dict.", "model_state_dict.", "model.", "network.", "module.", "_orig_mod."];

/// The name of a tensor in our networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MappedName {
    /// The name.
    pub(super) name: String,
    /// Whether the upsampled maps come first among its input channels.
    pub(super) upsampled_first: bool,
}

/// Removes the prefixes of wrappers. Names without the prefix are dropped if any name has it. Returns each name with the
/// name in the file.
pub(super) fn strip_wrappers(names: Vec<String>) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = names.into_iter().map(|name| (name.clone(), name)).collect();
    for wrapper in WRAPPERS {
        let inside = |(name, file_name): &(String, String)| {
            Some((name.strip_prefix(wrapper)?.to_owned(), file_name.clone()))
        };
        let found: Vec<_> = names.iter().filter_map(inside).collect();
        if !found.is_empty() {
            names = found;
        }
    }
    names
}

/// Whether an nnU-Net name is a second name of the same tensor.
pub(super) fn is_duplicate(name: &str) -> bool {
    name.starts_with("decoder.encoder.") || name.contains(".all_modules.")
}

/// Maps names to ours; `None` for unknown names. Decoder stages are counted from the coarsest, so that the number of stages
/// in the file and in our network (`decoder_stages`) decides which stages have the same resolution.
pub(super) fn map_names(names: &[&str], decoder_stages: usize) -> Vec<Option<MappedName>> {
    let stage = |name: &str, parts: &[&str]| {
        let rest = parts.iter().find_map(|part| name.strip_prefix(part))?;
        rest.split('.').next()?.parse::<usize>().ok()
    };
    let last = |parts: &[&str]| names.iter().filter_map(|name| stage(name, parts)).max();
    let theirs = last(&["decoder.stages.", "decoder.transpconvs.", "decoder."]).map_or(0, |i| i + 1);
    let heads = last(&["decoder.seg_layers."]).map_or(0, |i| i + 1);
    let map = |name: &&str| {
        let mut mapped = of_nnunet(name, heads).or_else(|| of_sulcus(name))?;
        if let Some((i, rest)) = mapped.name.strip_prefix("decoder.").and_then(|rest| rest.split_once('.')) {
            let i = (i.parse::<usize>().ok()? + decoder_stages).checked_sub(theirs)?;
            mapped.name = format!("decoder.{i}.{rest}");
        }
        Some(mapped)
    };
    names.iter().map(map).collect()
}

/// Maps a name of `PlainConvUNet` or `ResidualEncoderUNet`. `heads` is the number of resolutions with logits, the finest last.
fn of_nnunet(name: &str, heads: usize) -> Option<MappedName> {
    let parts: Vec<&str> = name.split('.').collect();
    let mut upsampled_first = false;
    let ours = match parts.as_slice() {
        ["encoder", "stem", "convs", "0", layer @ ..] => format!("stem.{}", layer_of(layer)?),
        ["encoder", "stages", stage, rest @ ..] => {
            // A stage with pooling, and every stage of the plain encoder, is a sequence that holds the convolutions.
            let rest = match rest {
                ["0" | "1", rest @ ..] => rest,
                rest => rest,
            };
            match rest {
                ["convs", block, layer @ ..] => format!("encoder.{stage}.{block}.{}", layer_of(layer)?),
                ["blocks", block, "conv1", layer @ ..] => {
                    format!("encoder.{stage}.{block}.first.{}", layer_of(layer)?)
                }
                ["blocks", block, "conv2", layer @ ..] => {
                    format!("encoder.{stage}.{block}.second.{}", layer_of(layer)?)
                }
                ["blocks", block, "skip", _, layer @ ..] => {
                    format!("encoder.{stage}.{block}.shortcut.{}", layer_of(layer)?)
                }
                _ => return None,
            }
        }
        ["decoder", "stages", stage, "convs", block, layer @ ..] => {
            upsampled_first = *block == "0" && *layer == ["conv", "weight"];
            format!("decoder.{stage}.{block}.{}", layer_of(layer)?)
        }
        ["decoder", "transpconvs", stage, part @ ("weight" | "bias")] => format!("decoder.{stage}.up.{part}"),
        ["decoder", "seg_layers", head, part @ ("weight" | "bias")] => {
            match heads.checked_sub(head.parse::<usize>().ok()? + 1)? {
                0 => format!("logits.{part}"),
                coarser => format!("side_heads.{}.{part}", coarser - 1),
            }
        }
        _ => return None,
    };
    Some(MappedName { name: ours, upsampled_first })
}

/// Maps `conv.weight`, `norm.weight` and so on.
fn layer_of(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["conv", part @ ("weight" | "bias")] => format!("conv.{part}"),
        ["norm", part] => format!("norm.{}", norm_part(part)?),
        _ => return None,
    })
}

fn norm_part(part: &str) -> Option<&'static str> {
    Some(match part {
        "weight" | "gamma" | "scale" => "scale",
        "bias" | "beta" | "shift" => "shift",
        "running_mean" | "mean" => "mean",
        "running_var" | "variance" => "variance",
        _ => return None,
    })
}

/// Maps a name of our graphs, or a name that Burn derives from the fields and variants of our network.
fn of_sulcus(name: &str) -> Option<MappedName> {
    const NOT_IN_GRAPHS: [&str; 5] = ["blocks", "Plain", "Residual", "Instance", "Batch"];
    let mut parts: Vec<&str> = name.split('.').filter(|part| !NOT_IN_GRAPHS.contains(part)).collect();
    for part in &mut parts {
        match *part {
            "head" => *part = "logits",
            "project" => *part = "shortcut",
            _ => {}
        }
    }
    if let [.., "norm", part] = parts.as_mut_slice() {
        *part = norm_part(part)?;
    }
    Some(MappedName { name: parts.join("."), upsampled_first: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped_names(names: &[&str], decoder_stages: usize) -> Vec<String> {
        let text = |mapped: Option<MappedName>| match mapped {
            None => "none".to_owned(),
            Some(MappedName { name, upsampled_first: true }) => format!("{name}, upsampled maps first"),
            Some(MappedName { name, .. }) => name,
        };
        map_names(names, decoder_stages).into_iter().map(text).collect()
    }

    #[test]
    fn nnunet_names_are_mapped() {
        let names = [
            "encoder.stem.convs.0.norm.bias",
            "encoder.stages.3.0.convs.1.conv.weight",
            "encoder.stages.2.blocks.4.conv2.norm.weight",
            "encoder.stages.2.blocks.0.skip.1.conv.weight",
            "decoder.stages.1.convs.0.conv.weight",
            "decoder.stages.1.convs.1.conv.weight",
            "decoder.transpconvs.0.bias",
            "decoder.seg_layers.1.weight",
            "decoder.seg_layers.0.weight",
            // An unknown layer keeps a name that no tensor of ours has.
            "encoder.stages.2.blocks.0.squeeze.weight",
        ];
        insta::assert_snapshot!(mapped_names(&names, 2).join("\n"), @"
        stem.norm.shift
        encoder.3.1.conv.weight
        encoder.2.4.second.norm.scale
        encoder.2.0.shortcut.conv.weight
        decoder.1.0.conv.weight, upsampled maps first
        decoder.1.1.conv.weight
        decoder.0.up.bias
        logits.weight
        side_heads.0.weight
        encoder.stages.2.0.squeeze.weight
        ");
    }

    #[test]
    fn burn_field_names_are_mapped() {
        let names = [
            "encoder.0.blocks.1.Residual.first.norm.Instance.gamma",
            "encoder.0.blocks.1.Residual.project.norm.Batch.running_var",
            "decoder.0.blocks.0.conv.weight",
            "head.bias",
        ];
        let ours = [
            "encoder.0.1.first.norm.scale",
            "encoder.0.1.shortcut.norm.variance",
            "decoder.0.0.conv.weight",
            "logits.bias",
        ];
        assert_eq!(mapped_names(&names, 1), ours);
        assert_eq!(mapped_names(&ours, 1), ours);
    }

    /// The finest stages of a deep and of a shallow network have the same resolution, the coarsest have not.
    #[test]
    fn decoder_stages_are_matched_by_resolution() {
        let names = ["decoder.0.up.weight", "decoder.1.up.weight", "decoder.2.up.weight"];
        assert_eq!(mapped_names(&names, 2), ["none", "decoder.0.up.weight", "decoder.1.up.weight"]);
        assert_eq!(mapped_names(&names[..2], 3), ["decoder.1.up.weight", "decoder.2.up.weight"]);
    }

    #[test]
    fn wrapper_prefixes_are_removed_with_unrelated_names() {
        let names = ["optimizer_state.state.0.momentum", "network_weights.module.encoder.x"].map(str::to_owned);
        assert_eq!(
            strip_wrappers(names.to_vec()),
            [("encoder.x".to_owned(), "network_weights.module.encoder.x".to_owned())]
        );
    }
}
