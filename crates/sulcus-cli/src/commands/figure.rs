//! `sulcus figure`: draws image, truth and prediction over the same slices.

use std::path::Path;

use sulcus_volume::{Geometry, LabelMap};

use crate::args::FigureArgs;
use crate::error::{CliError, Context};
use crate::figure::{self, Figure};
use crate::files;
use crate::input::{cases, label_file, scans};
use crate::output::Ui;

pub(crate) fn run(args: &FigureArgs, ui: Ui) -> Result<(), CliError> {
    if !args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        return Err(CliError::usage(format_args!(
            "the figure is a PNG picture, so -o must end in .png: {}",
            args.output.display()
        )));
    }
    scans::check_series(&args.image, args.series.as_deref())?;
    let image = scans::read_scan(&args.image, args.series.as_deref(), ui).context("reading the image")?.image;
    let truth = args.truth.as_deref().map(|path| mask_on(path, image.geometry(), "truth")).transpose()?;
    let prediction =
        args.prediction.as_deref().map(|path| mask_on(path, image.geometry(), "prediction")).transpose()?;
    if image.channels() > 1 {
        ui.note(format_args!("the image has {} channels, of which the first is drawn", image.channels()));
    }
    let labels = match &args.labels {
        Some(path) => label_file::read(path)?.table,
        None => {
            let masks = || truth.iter().chain(&prediction);
            let named = masks().find_map(|(_, table)| table.clone());
            let present = masks().flat_map(|(mask, _)| mask.counts().into_keys());
            label_file::named_where_known(present, named.as_ref())
        }
    };
    let title = cases::case_name(&args.image).unwrap_or_default();
    let figure = Figure {
        title: &title,
        image: Some(&image),
        truth: truth.as_ref().map(|(mask, _)| mask),
        prediction: prediction.as_ref().map(|(mask, _)| mask),
        labels: &labels,
    };
    let canvas = figure::draw(&figure).ok_or_else(|| CliError::failed("the image has no slice to draw"))?;
    files::ensure_writable(&files::folder_of(&args.output))?;
    files::write(&args.output, &canvas.png().context("encoding the picture")?)?;
    ui.note(format_args!("figure: {}", args.output.display()));
    Ok(())
}

type NamedMask = (LabelMap, Option<sulcus_volume::LabelTable>);

fn mask_on(path: &Path, grid: &Geometry, what: &str) -> Result<NamedMask, CliError> {
    let (mask, source) = sulcus_io::read_labels(path).context(format_args!("reading the {what}"))?;
    grid.check_same_grid(mask.geometry()).map_err(|error| {
        CliError::failed(format_args!("image and {what} do not belong together: {error}: {}", path.display()))
    })?;
    Ok((mask, source.label_table().cloned()))
}
