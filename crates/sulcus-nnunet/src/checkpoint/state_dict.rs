use std::collections::BTreeMap;

use super::CheckpointError;
use super::archive::Archive;
use super::storage::View;
use crate::pickle::{ElementType, Pickle, Value};

/// Prefixes that wrappers of a network add to the names: DataParallel, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Weights and file have about the same size; half-precision values double in memory.
const MAX_GROWTH: u64 = 4;
/// How many names an error lists.
const NAMES_SHOWN: usize = 6;

/// The weights of a network under their canonical names.
///
/// nnU-Net's networks register most layers twice, and the encoder is also a part of the decoder, so a tensor can have four names. They
/// are one tensor here, under the shortest of them. A network takes its tensors by name; what is left over at the end is an error.
pub(crate) struct StateDict {
    archive: Archive,
    tensors: BTreeMap<String, Named>,
    /// Bytes that may still be read.
    budget: u64,
    /// Bytes of the tensors that were taken, in single precision.
    bytes: u64,
}

/// A tensor with all its names.
struct Named {
    /// The first is the reference, the others must equal it.
    views: Vec<(String, View)>,
    is_used: bool,
}

impl StateDict {
    pub(super) fn new(archive: Archive, pickle: Pickle) -> Result<Self, CheckpointError> {
        let missing = || CheckpointError::Entry { entry: "network_weights", expected: "a dictionary of tensors" };
        let weights = pickle.entry(pickle.top(), "network_weights").ok_or_else(missing)?;
        let entries = pickle.entries(weights).filter(|entries| !entries.is_empty()).ok_or_else(missing)?;
        let mut tensors: BTreeMap<String, Named> = BTreeMap::new();
        for (name, value) in entries {
            let unusable = |reason| CheckpointError::Tensor { name: printable(name), reason };
            let Value::Tensor(tensor) = *pickle.value(value) else {
                return Err(unusable("it is not a tensor".to_owned()));
            };
            let view = View::new(&pickle, tensor).map_err(unusable)?;
            let named =
                tensors.entry(canonical_name(name)).or_insert_with(|| Named { views: Vec::new(), is_used: false });
            named.views.push((printable(name), view));
        }
        // The shortest name is the one that the layer has in the plan's network.
        tensors.values_mut().for_each(|named| named.views.sort_by_key(|(name, _)| name.len()));
        let budget = archive.file_bytes().saturating_mul(MAX_GROWTH).saturating_add(1 << 20);
        Ok(Self { archive, tensors, budget, bytes: 0 })
    }

    /// Whether a tensor of this name exists.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether any name ends like this.
    pub(crate) fn any_ends_with(&self, end: &str) -> bool {
        self.tensors.keys().any(|name| name.ends_with(end))
    }

    /// Reads a tensor of this shape, last axis fastest.
    ///
    /// # Errors
    /// When it is missing, has another shape or type, is not finite, or its names hold different values.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let weights = |reason| CheckpointError::Weights { reason };
        let named =
            self.tensors.get_mut(name).ok_or_else(|| weights(format!("the tensor `{name}` is missing")))?;
        named.is_used = true;
        let mut views = named.views.iter();
        let Some((file_name, first)) = views.next() else {
            return Err(weights(format!("the tensor `{name}` is missing")));
        };
        if first.shape != shape {
            return Err(weights(format!(
                "the tensor `{file_name}` has shape {:?}, the plan's network has {shape:?}",
                first.shape
            )));
        }
        let unusable = |name: &str, reason: &str| CheckpointError::Tensor {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        if matches!(first.kind, ElementType::Other(_)) {
            return Err(unusable(file_name, "its values are not floating-point numbers"));
        }
        let values = read(&mut self.archive, &mut self.budget, file_name, first)?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(unusable(file_name, "its values are not all finite, so the training has diverged"));
        }
        for (other_name, other) in views {
            let is_same = other == first
                || other.shape == first.shape
                    && other.kind == first.kind
                    && read(&mut self.archive, &mut self.budget, other_name, other)? == values;
            if !is_same {
                return Err(weights(format!(
                    "`{file_name}` and `{other_name}` are names of one tensor, but hold different values"
                )));
            }
        }
        self.bytes = self.bytes.saturating_add(values.len() as u64 * size_of::<f32>() as u64);
        Ok(values)
    }

    /// Marks a tensor as known although the network does not need it.
    pub(crate) fn ignore(&mut self, name: &str) {
        if let Some(named) = self.tensors.get_mut(name) {
            named.is_used = true;
        }
    }

    /// The bytes of the tensors that were taken.
    ///
    /// # Errors
    /// If a tensor was not used: the network is another than the plan's.
    pub(crate) fn finish(self) -> Result<u64, CheckpointError> {
        let unused: Vec<&str> =
            self.tensors.iter().filter(|(_, named)| !named.is_used).map(|(name, _)| name.as_str()).collect();
        if unused.is_empty() {
            return Ok(self.bytes);
        }
        let shown: Vec<String> = unused.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
        let more = match unused.len().saturating_sub(NAMES_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(CheckpointError::Weights {
            reason: format!("it has no layer for {} tensor(s): {}{more}", unused.len(), shown.join(", ")),
        })
    }
}

fn read(archive: &mut Archive, budget: &mut u64, name: &str, view: &View) -> Result<Vec<f32>, CheckpointError> {
    // Thousands of tensors that share one large storage would read it as often.
    *budget = budget.checked_sub(view.cost()).ok_or_else(|| CheckpointError::Tensor {
        name: name.to_owned(),
        reason: format!("its tensors take more than {MAX_GROWTH} times the file's size"),
    })?;
    view.read(archive)
}

/// The shortest name of a tensor.
fn canonical_name(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    let name = name.strip_prefix("decoder.").filter(|rest| rest.starts_with("encoder.")).unwrap_or(name);
    // A block's layers are also elements of a sequence: the convolution first, then dropout, normalisation and activation, of which
    // only the normalisation has parameters.
    let Some((block, rest)) = name.split_once(".all_modules.") else { return printable(name) };
    match rest.split_once('.') {
        Some(("0", parameter)) => printable(&format!("{block}.conv.{parameter}")),
        Some((_, parameter)) => printable(&format!("{block}.norm.{parameter}")),
        None => printable(name),
    }
}

/// A name from a file for messages.
fn printable(name: &str) -> String {
    const MOST: usize = 200;
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_names_are_one_tensor() {
        for name in [
            "encoder.stages.0.0.convs.1.norm.weight",
            "encoder.stages.0.0.convs.1.all_modules.1.weight",
            "decoder.encoder.stages.0.0.convs.1.norm.weight",
            "module._orig_mod.decoder.encoder.stages.0.0.convs.1.all_modules.2.weight",
        ] {
            assert_eq!(canonical_name(name), "encoder.stages.0.0.convs.1.norm.weight");
        }
        assert_eq!(
            canonical_name("decoder.stages.0.convs.0.all_modules.0.bias"),
            "decoder.stages.0.convs.0.conv.bias"
        );
        assert_eq!(canonical_name("decoder.seg_layers.1.weight"), "decoder.seg_layers.1.weight");
    }
}
