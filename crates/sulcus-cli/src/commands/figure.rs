//! `sulcus figure`: draws image, truth and prediction over the same slices.

use std::path::{Path, PathBuf};

use sulcus_volume::{Geometry, Label, LabelMap, LabelTable};

use crate::args::FigureArgs;
use crate::error::{CliError, Context};
use crate::figure::{self, Figure};
use crate::files;
use crate::input::{cases, label_file, scans};
use crate::memory;
use crate::output::Ui;

pub(crate) fn run(args: &FigureArgs, ui: Ui) -> Result<(), CliError> {
    if !args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        return Err(CliError::usage(format_args!(
            "the figure is a PNG picture, so -o must end in .png: {}",
            args.output.display()
        )));
    }
    scans::check_series(&args.image, args.series.as_deref())?;
    memory::check_volume(&args.image, size_of::<f32>())?;
    let (scan, _) = scans::read_scan(&args.image, args.series.as_deref(), ui).context("reading the image")?;
    let image = scan.image;
    let grid = image.geometry();
    let mut truth = args.truth.as_deref().map(|path| mask_on(path, grid, "truth")).transpose()?;
    let mut prediction = args.prediction.as_deref().map(|path| mask_on(path, grid, "prediction")).transpose()?;
    if image.channels() > 1 && !(grid.is_picture() && image.channels() == 3) {
        ui.note(format_args!("the image has {} channels, of which the first is drawn", image.channels()));
    }
    let given = args.labels.as_deref().map(label_file::read).transpose()?.map(|file| file.table);
    let of_masks = truth.iter().chain(&prediction).filter_map(|mask| mask.names.as_ref());
    let names = given.iter().chain(of_masks).fold(LabelTable::default(), |all, table| all.completed_by(table));
    for (mask, what) in [(&mut truth, "truth"), (&mut prediction, "prediction")] {
        if let Some(named) = mask.take() {
            *mask = Some(named.numbered_as(&names, what)?);
        }
    }
    let labels = if given.is_some() {
        names
    } else {
        let present = truth.iter().chain(&prediction).flat_map(|mask| mask.labels.counts().into_keys());
        label_file::named_where_known(present, Some(&names))
    };
    let title = cases::case_name(&args.image).unwrap_or_default();
    let figure = Figure {
        title: &title,
        image: Some(&image),
        truth: truth.as_ref().map(|mask| &mask.labels),
        prediction: prediction.as_ref().map(|mask| &mask.labels),
        labels: &labels,
    };
    let canvas = figure::draw(&figure).ok_or_else(|| CliError::failed("the image has no slice to draw"))?;
    files::ensure_writable(&files::folder_of(&args.output))?;
    files::write(&args.output, &canvas.png().context("encoding the picture")?)?;
    ui.note(format_args!("figure: {}", args.output.display()));
    Ok(())
}

/// A mask with the names that its file gives the labels.
struct NamedMask {
    labels: LabelMap,
    names: Option<LabelTable>,
    path: PathBuf,
}

impl NamedMask {
    /// The mask with the numbers that `reference` has for its names.
    fn numbered_as(self, reference: &LabelTable, what: &str) -> Result<Self, CliError> {
        let labels = self.labels.renumbered(self.names.as_ref(), reference);
        let labels = labels.context(format_args!("naming the labels of the {what} {}", self.path.display()))?;
        Ok(Self { labels, ..self })
    }
}

fn mask_on(path: &Path, grid: &Geometry, what: &str) -> Result<NamedMask, CliError> {
    memory::check_volume(path, size_of::<Label>())?;
    let (labels, source) = sulcus_io::read_labels(path).context(format_args!("reading the {what}"))?;
    grid.check_same_grid(labels.geometry()).map_err(|error| {
        CliError::failed(format_args!("image and {what} do not belong together: {error}: {}", path.display()))
    })?;
    Ok(NamedMask { labels, names: source.label_table().cloned(), path: path.to_path_buf() })
}
