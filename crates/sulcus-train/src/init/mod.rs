//! Starting from trained weights instead of random ones.
//!
//! [`InitSource`] reads a file and gives every tensor in it the name that it would have in one of our networks;
//! [`initialise`] puts those into a network that are of the same name and shape, and tells what became of the rest.

mod error;
mod names;
mod slots;
mod source;

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

pub use error::InitError;
pub use source::InitSource;

use crate::UNet;
use slots::{Slot, slots};
use source::Found;

/// What came of starting a network from trained weights.
#[derive(Debug, Clone, PartialEq)]
pub struct InitReport {
    /// Where the weights came from.
    pub record: InitRecord,
    /// Tensors of the network that stay fresh since the file has them in another shape.
    pub other_shape: Vec<OtherShape>,
    /// Tensors of the network that stay fresh since the file doesn't have them.
    pub missing: Vec<String>,
    /// Tensors of the file that the network has no place for, by the names that they have there.
    pub unused: Vec<String>,
    /// The file is a model, where batch normalisation is part of the convolutions: the network's own starts afresh.
    pub folded: bool,
}

/// Weights that a run started from, as its manifest keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRecord {
    /// The file's name.
    pub file: String,
    /// Its hash.
    pub sha256: String,
    /// Tensors of the network that were taken from it.
    pub matched: usize,
    /// Tensors of the network.
    pub total: usize,
}

/// A tensor that two networks have in different shapes, such as logits of different classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherShape {
    /// Its name in our network.
    pub name: String,
    /// In the file.
    pub found: Vec<usize>,
    /// In the network.
    pub expected: Vec<usize>,
}

/// Replaces the weights of a network by those of a file, wherever name and shape agree; all others stay as they are.
///
/// Weights of 2-D networks may lack the depth axis that ours have. Where a decoder's first convolution takes its input
/// channels in nnU-Net's order, they are brought into ours.
///
/// # Errors
/// When no convolution of the network has its like in the file.
pub fn initialise(network: &mut UNet, source: InitSource, device: &Device) -> Result<InitReport, InitError> {
    let path = source.path.clone();
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let record = InitRecord { file, sha256: source.sha256.clone(), matched: 0, total: 0 };
    let mut report =
        InitReport { record, other_shape: Vec::new(), missing: Vec::new(), unused: Vec::new(), folded: false };
    let is_model = source.is_model;
    let example = |name: &str, shape: &[usize]| format!("such as `{name}` {shape:?}");
    let theirs = source.tensors.first().map_or("none".into(), |found| example(&found.file_name, &found.shape));
    let in_file = source.tensors.len();
    let (mut known, unknown) = source.by_meaning(network.decoder.len());

    let mut slots = slots(network);
    let ours = slots.first().map_or(String::new(), |(name, slot)| example(name, &slot.shape()));
    report.record.total = slots.len();
    let mut convolutions = 0;
    for (name, slot) in &mut slots {
        let expected = slot.shape();
        match known.remove(name) {
            Some((found, below_first)) if fits(&found.shape, &expected) => {
                let values = match below_first {
                    true => halves_swapped(&found.values, &expected),
                    false => found.values,
                };
                slot.replace(values, device);
                report.record.matched += 1;
                convolutions += usize::from(matches!(slot, Slot::Weight(_)));
            }
            Some((found, _)) => {
                report.other_shape.push(OtherShape { name: name.clone(), found: found.shape, expected });
            }
            None => {
                report.folded |= is_model && matches!(slot, Slot::Running(_));
                report.missing.push(name.clone());
            }
        }
    }
    if convolutions == 0 {
        let total = report.record.total;
        let example = format!("The file has {in_file} tensors, {theirs}; the network {total}, {ours}");
        return Err(InitError::NothingFits { example, path });
    }
    report.unused = left(known, unknown);
    Ok(report)
}

fn left(known: BTreeMap<String, (Found, bool)>, unknown: Vec<String>) -> Vec<String> {
    known.into_values().map(|(found, _)| found.file_name).chain(unknown).collect()
}

/// Whether the shapes are the same, or would be with a depth axis of one voxel.
fn fits(found: &[usize], expected: &[usize]) -> bool {
    match (found, expected) {
        ([first, second, height, width], expected) => *expected == [*first, *second, 1, *height, *width],
        _ => found == expected,
    }
}

/// The same weights for an input whose second half of channels comes first.
///
/// # Shapes
/// `[out, in, …]`, with an even number of inputs.
fn halves_swapped(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let per_output: usize = shape.iter().skip(1).product();
    let mut swapped = values.to_vec();
    for kernels in swapped.chunks_exact_mut(per_output.max(1)) {
        kernels.rotate_left(per_output / 2);
    }
    swapped
}

/// A few lines for people.
impl fmt::Display for InitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InitRecord { file, matched, total, .. } = &self.record;
        write!(f, "starting from {file}: {matched} of the network's {total} tensors are taken from it")?;
        let shapes = self
            .other_shape
            .iter()
            .map(|other| format!("{} (file {:?}, network {:?})", other.name, other.found, other.expected));
        for (what, names) in [
            ("fresh, of another shape in the file", shapes.collect::<Vec<_>>()),
            ("fresh, not in the file", self.missing.clone()),
            ("in the file, without a place in the network", self.unused.clone()),
        ] {
            if !names.is_empty() {
                write!(f, "\n  {} {what}: {}", names.len(), first_few(&names))?;
            }
        }
        if self.folded {
            write!(
                f,
                "\n  a model file has its batch normalisation inside the convolutions, so the network's starts afresh; \
                 the run's checkpoint has it on its own"
            )?;
        }
        Ok(())
    }
}

fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
