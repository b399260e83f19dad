//! `sulcus convert` with label tables: names for the labels of a mask, and label tables as output.

use std::path::Path;

use sulcus_io::LabelTableFormat;
use sulcus_volume::{LabelEntry, LabelMap, LabelTable};

use crate::args::ConvertArgs;
use crate::error::{CliError, Context};
use crate::files;
use crate::input::{label_file, scans};
use crate::output::{Ui, count};

/// Whether a file of this name is written as a label table.
pub(super) fn is_table(path: &Path) -> bool {
    LabelTableFormat::of_name(path).is_some()
}

/// Whether the format of a volume of this name can store label names; MetaImage and TIFF
/// cannot.
pub(super) fn can_store(path: &Path) -> bool {
    const WITHOUT_NAMES: [&str; 4] = ["mha", "mhd", "tif", "tiff"];
    !path.extension().is_some_and(|e| WITHOUT_NAMES.iter().any(|without| e.eq_ignore_ascii_case(without)))
}

/// Writes the names and colours of IN as a label table.
pub(super) fn write_table(args: &ConvertArgs, ui: Ui) -> Result<(), CliError> {
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
            "{option} does not apply to a label table: {}",
            args.output.display()
        )));
    }
    let is_volume = sulcus_io::case_name(&args.input).is_some() || scans::is_dicom(&args.input);
    let table = if is_volume { of_mask(&args.input, ui)? } else { label_file::read(&args.input)?.table };
    files::ensure_writable(&files::folder_of(&args.output))?;
    sulcus_io::write_label_table(&args.output, &table).map_err(|error| CliError::caused_by(&error))?;
    ui.note(format_args!("{}: {}", args.output.display(), count(table.entries().len(), "label")));
    Ok(())
}

/// The labels of a mask; unnamed labels get a name from their value.
fn of_mask(path: &Path, ui: Ui) -> Result<LabelTable, CliError> {
    let (mask, source) = sulcus_io::read_labels(path).context("reading the mask")?;
    let known = source.label_table().cloned().unwrap_or_default();
    let unnamed: Vec<_> =
        mask.counts().into_keys().filter(|value| *value != 0 && known.get(*value).is_none()).collect();
    if !unnamed.is_empty() {
        ui.note(format_args!(
            "the mask has no name for {} of its values, which get a name from their number",
            unnamed.len()
        ));
    }
    let generated = label_file::named_where_known(unnamed, None);
    let entries: Vec<LabelEntry> = known.entries().iter().chain(generated.entries()).cloned().collect();
    if entries.is_empty() {
        return Err(CliError::failed(format_args!(
            "the mask has neither labels nor label names, so there is no table to write: {}",
            path.display()
        )));
    }
    LabelTable::new(entries).context("naming the labels")
}

/// The mask with the names of a label table, and its own names for values that the table lacks.
///
/// Where mask and table have the same name for different numbers, the mask gets the number of the table. With `--rename` the
/// numbers stay and the table replaces the names.
///
/// # Errors
/// When the table cannot be read, or its names contradict those of the mask.
pub(super) fn named(
    mask: LabelMap,
    own: Option<&LabelTable>,
    path: &Path,
    args: &ConvertArgs,
    ui: Ui,
) -> Result<(LabelMap, LabelTable), CliError> {
    let table = label_file::read(path)?.table;
    let numbers = match own.filter(|_| !args.rename) {
        Some(own) => table.numbers_by_name(own, mask.counts().into_keys()),
        None => Ok(Vec::new()),
    };
    let numbers = numbers.context(format_args!("naming the labels of {}", args.input.display()))?;
    let mask = match mask.with_numbers(&numbers) {
        None => mask,
        Some(renumbered) => {
            let changed = numbers.iter().filter(|(from, to)| from != to);
            let changed: Vec<String> = changed.map(|(from, to)| format!("{from} becomes {to}")).collect();
            ui.note(format_args!(
                "the labels get the numbers that the table has for their names: {}",
                changed.join(", ")
            ));
            renumbered
        }
    };
    let missing: Vec<_> = mask.counts().into_keys().filter(|v| *v != 0 && table.get(*v).is_none()).collect();
    let kept: Vec<LabelEntry> = missing.iter().filter_map(|value| own?.get(*value)).cloned().collect();
    let names = table.completed_by(&LabelTable::new(kept).context("naming the labels")?);
    let unnamed: Vec<String> =
        missing.iter().filter(|value| names.get(**value).is_none()).map(ToString::to_string).collect();
    if !unnamed.is_empty() {
        ui.warn(format_args!(
            "the table has no name for {} {} of the mask: {}",
            if unnamed.len() == 1 { "value" } else { "the values" },
            unnamed.join(", "),
            path.display()
        ));
    }
    Ok((mask, names))
}
