//! `sulcus convert` with label tables: names for a mask, and the names of one as a file of their own.

use std::path::Path;

use sulcus_io::LabelTableFormat;
use sulcus_volume::{LabelEntry, LabelMap, LabelTable};

use crate::args::ConvertArgs;
use crate::error::{CliError, Context, with_causes};
use crate::ui::{Ui, count};
use crate::{files, label_file, scans};

/// Whether a file of this name is written as a label table.
pub(crate) fn is_table(path: &Path) -> bool {
    LabelTableFormat::of_name(path).is_some()
}

/// Whether the format of a volume of this name cannot hold names.
pub(crate) fn has_no_place(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("mha") || e.eq_ignore_ascii_case("mhd"))
}

/// Writes the names and colours that IN has.
pub(crate) fn write_table(args: &ConvertArgs, ui: Ui) -> Result<(), CliError> {
    let for_volumes = [
        ("--orient", args.orient.is_some()),
        ("--spacing", args.spacing.is_some()),
        ("--like", args.like.is_some()),
        ("--interpolation", args.interpolation.is_some()),
        ("--names", args.names.is_some()),
        ("--outside", args.outside.is_some()),
        ("--keep-texts", args.keep_texts),
    ];
    if let Some((option, _)) = for_volumes.iter().find(|(_, given)| *given) {
        return Err(CliError::usage(format_args!(
            "OUT is a label table, for which {option} means nothing: {}",
            args.output.display()
        )));
    }
    let is_volume = sulcus_io::case_name(&args.input).is_some() || scans::is_dicom(&args.input);
    let table = if is_volume { carried(&args.input, ui)? } else { label_file::read(&args.input)?.table };
    files::ensure_writable(&files::folder_of(&args.output))?;
    sulcus_io::write_label_table(&args.output, &table).map_err(|error| CliError::failed(with_causes(&error)))?;
    ui.note(format_args!("{}: {}", args.output.display(), count(table.entries().len(), "label")));
    Ok(())
}

/// What a mask calls its labels; those that it doesn't name are called by their value.
fn carried(path: &Path, ui: Ui) -> Result<LabelTable, CliError> {
    let (mask, source) = sulcus_io::read_labels(path).context("reading the mask")?;
    let known = source.label_table().cloned().unwrap_or_default();
    let unnamed: Vec<_> =
        mask.counts().into_keys().filter(|value| *value != 0 && known.get(*value).is_none()).collect();
    if !unnamed.is_empty() {
        ui.note(format_args!(
            "the mask has no name for {} of its values, which are called by their number",
            unnamed.len()
        ));
    }
    let called = label_file::named_where_known(unnamed, None);
    let entries: Vec<LabelEntry> = known.entries().iter().chain(called.entries()).cloned().collect();
    if entries.is_empty() {
        return Err(CliError::failed(format_args!(
            "the mask has no label and carries no names, so there is no table to write: {}",
            path.display()
        )));
    }
    LabelTable::new(entries).context("naming the labels")
}

/// The names of a table for a mask, and those that the mask carries for what the table lacks.
pub(crate) fn given(
    path: &Path,
    mask: &LabelMap,
    carried: Option<&LabelTable>,
    ui: Ui,
) -> Result<LabelTable, CliError> {
    let table = label_file::read(path)?.table;
    let missing: Vec<_> = mask.counts().into_keys().filter(|v| *v != 0 && table.get(*v).is_none()).collect();
    let known = missing.iter().filter_map(|value| carried?.get(*value));
    let merged = LabelTable::new(table.entries().iter().chain(known).cloned().collect());
    // A carried name may be one of the table's as well, for another value: the table counts.
    let merged = merged.unwrap_or(table);
    let unnamed: Vec<String> =
        missing.iter().filter(|value| merged.get(**value).is_none()).map(ToString::to_string).collect();
    if !unnamed.is_empty() {
        ui.warn(format_args!(
            "the table has no name for {} {} of the mask: {}",
            if unnamed.len() == 1 { "value" } else { "the values" },
            unnamed.join(", "),
            path.display()
        ));
    }
    Ok(merged)
}
