//! `sulcus pack`: a rough model that finds the part of a scan that another model sees, and that model, in one file.

use std::path::Path;

use serde::Serialize;
use sulcus_model::{Locate, ModelSpec, NothingFound, PACK_VERSION, PackNetwork, PackSpec, Part, Recipe};
use sulcus_onnx::{doc_string, join_networks};
use sulcus_volume::Label;

use super::import::check_output;
use crate::args::PackArgs;
use crate::error::{CliError, Context};
use crate::files;
use crate::input::label_file;
use crate::output::{self, Ui, human_bytes, join};

/// The names of the two networks in the file.
const ROUGH: &str = "rough";
const FINE: &str = "fine";

/// The result as JSON.
#[derive(Serialize)]
struct PackRecord<'a> {
    output: &'a Path,
    file_bytes: usize,
    name: &'a str,
    rough: &'a Path,
    fine: &'a Path,
    labels: &'a [Label],
    margin_mm: f64,
    nothing_found: NothingFound,
}

pub(crate) fn run(args: &PackArgs, ui: Ui) -> Result<(), CliError> {
    check_output(&args.output)?;
    let (rough_bytes, rough) = read(&args.rough)?;
    let (fine_bytes, fine) = read(&args.fine)?;
    check_channels(args, &rough, &fine)?;
    let labels = labels(&args.label, &rough, &args.rough)?;
    let pack = PackSpec {
        format_version: PACK_VERSION,
        name: fine.name.clone(),
        labels: fine.labels.clone(),
        regions: fine.regions.clone(),
        recipe: Recipe {
            locate: Some(Locate {
                network: ROUGH.to_owned(),
                grid: None,
                labels: labels.clone(),
                margin_mm: [args.margin; 3],
                nothing_found: args.nothing_found.into(),
            }),
            grid: None,
            split: None,
            parts: vec![Part { network: FINE.to_owned(), merge: None }],
        },
        networks: vec![
            PackNetwork { name: ROUGH.to_owned(), spec: rough },
            PackNetwork { name: FINE.to_owned(), spec: fine },
        ],
    };
    pack.check().context("putting the models into one file")?;
    let doc = doc_string(format_args!(
        "{}: a rough network that finds the part of a scan that the other one sees",
        pack.name
    ));
    let bytes = join_networks(&[&rough_bytes, &fine_bytes], &pack, &doc, env!("CARGO_PKG_VERSION"))
        .context("putting the models into one file")?;
    files::write(&args.output, &bytes)?;
    ui.note(format_args!(
        "model: {} ({}); sees {} mm around the label(s) {} of the rough network",
        args.output.display(),
        human_bytes(bytes.len() as u64),
        args.margin,
        join(&labels, ", ")
    ));
    if !args.json {
        return Ok(());
    }
    output::json(&PackRecord {
        output: &args.output,
        file_bytes: bytes.len(),
        name: &pack.name,
        rough: &args.rough,
        fine: &args.fine,
        labels: &labels,
        margin_mm: args.margin,
        nothing_found: args.nothing_found.into(),
    })
}

fn read(path: &Path) -> Result<(Vec<u8>, ModelSpec), CliError> {
    let doing = || format!("reading the model {}", path.display());
    let bytes = std::fs::read(path).context(doing())?;
    let spec = sulcus_onnx::read_spec(&bytes).context(doing())?;
    Ok((bytes, spec))
}

/// Both networks see the same scan.
fn check_channels(args: &PackArgs, rough: &ModelSpec, fine: &ModelSpec) -> Result<(), CliError> {
    let names = |spec: &ModelSpec| spec.channels.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    if names(rough) == names(fine) {
        return Ok(());
    }
    Err(CliError::failed(format_args!(
        "the models cannot see the same scan: the channels are {} in {} and {} in {}",
        names(rough).join(", "),
        args.rough.display(),
        names(fine).join(", "),
        args.fine.display()
    )))
}

/// The labels with these names or values; all labels if none is named.
fn labels(wanted: &[String], rough: &ModelSpec, path: &Path) -> Result<Vec<Label>, CliError> {
    let entries = rough.labels.entries();
    if wanted.is_empty() {
        return Ok(entries.iter().map(|entry| entry.value).collect());
    }
    let known = || entries.iter().map(|e| format!("{} {}", e.value, e.name)).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = label_file::find(&rough.labels, name).map(|entry| entry.value);
        found.ok_or_else(|| {
            CliError::usage(format_args!("the rough model has no label `{name}`: {}", path.display()))
                .hint(format_args!("its labels are {}", known()))
        })
    };
    let mut labels: Vec<Label> = wanted.iter().map(find).collect::<Result<_, _>>()?;
    labels.sort_unstable();
    labels.dedup();
    Ok(labels)
}
