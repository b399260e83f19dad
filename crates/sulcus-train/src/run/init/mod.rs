//! Starts a network from pretrained weights.
//!
//! [`InitSource`] reads a file and maps the name of every tensor to the name in our networks; [`initialise`] copies the
//! tensors with the same name and shape into a network, and reports the rest.

mod error;
mod names;
mod safetensors;
mod source;

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

pub use error::InitError;
pub use source::InitSource;

use crate::network::UNet;
use crate::network::tensors::{NetworkTensor, network_tensors};
use source::FileTensor;

/// The result of starting a network from pretrained weights.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InitReport {
    /// The file of the weights.
    pub record: InitRecord,
    /// Tensors of the network that keep random weights because the file has them in another shape.
    pub other_shape: Vec<OtherShape>,
    /// Tensors of the network that keep random weights because the file lacks them.
    pub missing: Vec<String>,
    /// Tensors of the file that the network lacks, by their names in the file.
    pub unused: Vec<String>,
    /// Whether the file is a model in which batch normalisation is folded into the convolutions, so that the network's batch
    /// normalisation starts from its initial values.
    pub folded: bool,
}

/// The pretrained weights of a run, as recorded in its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRecord {
    /// The file's name.
    pub file: String,
    /// The file's SHA-256.
    pub sha256: String,
    /// Number of tensors that were copied.
    pub matched: usize,
    /// Number of tensors of the network.
    pub total: usize,
}

/// A tensor with different shapes in file and network, such as the logits for different classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherShape {
    /// The name in our network.
    pub name: String,
    /// The shape in the file.
    pub found: Vec<usize>,
    /// The shape in the network.
    pub expected: Vec<usize>,
}

/// Replaces the weights of a network by those of a file where name and shape agree. The other weights stay unchanged.
///
/// Weights of 2-D networks may lack the depth axis, which Sulcus stores with size 1. Input channels of a decoder's first convolution in nnU-Net's
/// order are reordered.
///
/// # Errors
/// When the file has no matching convolution.
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
    let (mut known, unknown) = source.by_mapped_name(network.decoder.len());

    let mut targets = network_tensors(network);
    let ours = targets.first().map_or(String::new(), |(name, tensor)| example(name, &tensor.shape()));
    report.record.total = targets.len();
    let mut convolutions = 0;
    for (name, target) in &mut targets {
        let expected = target.shape();
        match known.remove(name) {
            Some((found, upsampled_first)) if fits(&found.shape, &expected) => {
                let values = match upsampled_first {
                    true => halves_swapped(&found.values, &expected),
                    false => found.values,
                };
                target.replace(values, device);
                report.record.matched += 1;
                convolutions += usize::from(matches!(target, NetworkTensor::Weight(_)));
            }
            Some((found, _)) => {
                report.other_shape.push(OtherShape { name: name.clone(), found: found.shape, expected });
            }
            None => {
                report.folded |= is_model && matches!(target, NetworkTensor::Running(_));
                report.missing.push(name.clone());
            }
        }
    }
    if convolutions == 0 {
        let total = report.record.total;
        let example = format!("The file has {in_file} tensors, {theirs}; the network {total}, {ours}");
        return Err(InitError::NothingFits { example, path });
    }
    report.unused = unused_names(known, unknown);
    Ok(report)
}

fn unused_names(known: BTreeMap<String, (FileTensor, bool)>, unknown: Vec<String>) -> Vec<String> {
    known.into_values().map(|(found, _)| found.file_name).chain(unknown).collect()
}

/// Whether the shapes are equal, possibly after inserting a depth axis of one voxel.
fn fits(found: &[usize], expected: &[usize]) -> bool {
    match (found, expected) {
        ([first, second, height, width], expected) => *expected == [*first, *second, 1, *height, *width],
        _ => found == expected,
    }
}

/// Swaps the two halves of the input channels.
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

/// A summary for people.
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
