//! `sulcus import totalsegmentator`: a task of TotalSegmentator as one file.

use std::path::Path;

use serde::Serialize;
use sulcus_nnunet::{ImportError, ImportedTask, TaskError, import_totalsegmentator, totalsegmentator_tasks};
use sulcus_onnx::{doc_string, join_networks};
use sulcus_runtime::ort::OrtLibrary;

use super::check::{Checked, agreement, check};
use super::check_output;
use crate::args::TotalsegmentatorArgs;
use crate::commands::export::engines::Engines;
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{self, Ui, count, human_bytes};

/// The result as JSON.
#[derive(Serialize)]
struct TaskRecord<'a> {
    task: &'a str,
    output: &'a Path,
    file_bytes: usize,
    labels: usize,
    networks: Vec<NetworkRecord<'a>>,
}

#[derive(Serialize)]
struct NetworkRecord<'a> {
    name: &'a str,
    model: &'a Path,
    /// How far the logits of other engines are from tract's.
    checked: &'a [String],
}

/// Writes a task as one file, after a check of each of its networks.
///
/// # Errors
/// When the task cannot be imported, an engine disagrees, or the file cannot be written.
pub(crate) fn totalsegmentator(args: &TotalsegmentatorArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    check_output(&args.output)?;
    let ImportedTask { mut pack, files, sources } = read(&args.weights, &args.task)?;
    let engines = Engines::find(library)?;
    let mut checked = Vec::new();
    for (network, file) in pack.networks.iter_mut().zip(&files) {
        let of_network = format_args!("checking the network {}", network.name);
        let Checked { spec, lines, native } = check(&engines, file, network.spec.clone())?;
        network.spec = spec;
        let alone = sulcus_onnx::with_spec(file, &network.spec).context(of_network)?;
        engines.replay_all(&alone, &network.spec, native)?;
        ui.note(format_args!("{}: {}", network.name, agreement(&lines)));
        checked.push(lines);
    }
    let doc = doc_string(format_args!("{}: {} with a recipe", pack.name, count(pack.networks.len(), "network")));
    let parts: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let bytes = join_networks(&parts, &pack, &doc, env!("CARGO_PKG_VERSION")).context("importing")?;
    files::write(&args.output, &bytes)?;
    ui.note(format_args!(
        "model: {} ({}); the task {} of TotalSegmentator: {}, {}",
        args.output.display(),
        human_bytes(bytes.len() as u64),
        args.task,
        count(pack.networks.len(), "network"),
        count(pack.labels.entries().len(), "label")
    ));
    if !args.json {
        return Ok(());
    }
    let networks = pack
        .networks
        .iter()
        .zip(sources.iter().zip(&checked))
        .map(|(network, (source, checked))| NetworkRecord { name: &network.name, model: source, checked });
    output::json(&TaskRecord {
        task: &args.task,
        output: &args.output,
        file_bytes: bytes.len(),
        labels: pack.labels.entries().len(),
        networks: networks.collect(),
    })
}

fn read(weights: &Path, task: &str) -> Result<ImportedTask, CliError> {
    import_totalsegmentator(weights, task).map_err(|error| match &error {
        ImportError::Task(
            TaskError::Unknown { .. } | TaskError::Licensed { .. } | TaskError::Unsupported { .. },
        ) => {
            let known = totalsegmentator_tasks().unwrap_or_default().join(", ");
            CliError::usage(&error).hint(format_args!("tasks that can be imported: {known}"))
        }
        _ => CliError::caused_by(&error),
    })
}
