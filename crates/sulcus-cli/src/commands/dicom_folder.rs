//! `sulcus info` on a folder with DICOM: one series as a volume, and the list of all.

use std::path::Path;

use serde::Serialize;
use sulcus_dicom::{Series, SeriesList, SeriesSummary, list_series};
use sulcus_io::dicom::read_series;
use sulcus_io::{IoError, VolumeInfo};

use super::info::volume_rows;
use crate::args::InfoArgs;
use crate::error::{CliError, Context, with_causes};
use crate::output;
use crate::ui::Ui;

/// The volume's own JSON, and the folder's series after it.
#[derive(Serialize)]
struct FolderInfo<'a> {
    #[serde(flatten)]
    volume: &'a VolumeInfo,
    /// Which of the series the volume is.
    series_uid: &'a str,
    series: Vec<Listed<'a>>,
    /// Files that are no DICOM images.
    other_files: usize,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    summary: &'a SeriesSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

pub(crate) fn info(path: &Path, args: &InfoArgs, ui: Ui) -> Result<(), CliError> {
    let list = list_series(path).map_err(IoError::from).context("listing the DICOM series")?;
    let read = read_series(path, args.series.as_deref()).map_err(|error| {
        // What else there is may be what was meant.
        table(&list, args.descriptions).iter().for_each(|line| ui.note(format_args!("series {line}")));
        let failed = CliError::failed(with_causes(&error));
        if list.series.len() > 1 { failed.hint("--series UID takes another series of the folder") } else { failed }
    })?;
    let info = &read.scan.info;
    let series = read.scan.metadata.series();
    let uid = series.map(Series::uid).unwrap_or_default();
    if args.json {
        let listed = |summary| Listed { summary, description: description(summary, args.descriptions) };
        return output::json(&FolderInfo {
            volume: info,
            series_uid: uid,
            series: list.series.iter().map(listed).collect(),
            other_files: list.other_files,
        });
    }
    read.notes.iter().for_each(|text| ui.note(text));
    let mut rows = volume_rows(path, info);
    rows.push(("modality", series.map(Series::modality).unwrap_or_default().to_owned()));
    rows.push(("series UID", uid.to_owned()));
    if list.series.len() > 1 {
        rows.push(("all series", table(&list, args.descriptions).join("\n")));
    }
    output::fields(&rows)
}

fn description(summary: &SeriesSummary, asked: bool) -> Option<&str> {
    summary.description.as_deref().filter(|_| asked)
}

fn table(list: &SeriesList, descriptions: bool) -> Vec<String> {
    list.series
        .iter()
        .map(|s| {
            let modality = if s.modality.is_empty() { "unknown" } else { &s.modality };
            let name = description(s, descriptions).map(|d| format!("  {d}")).unwrap_or_default();
            format!("{}  {modality}  {} × {} × {}{name}", s.uid, s.columns, s.rows, s.slices)
        })
        .collect()
}
