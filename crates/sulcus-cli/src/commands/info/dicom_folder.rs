//! `sulcus info` of a folder with DICOM: one series as a volume, and a list of all series.

use std::path::Path;

use serde::Serialize;
use sulcus_dicom::{Series, SeriesList, SeriesSummary, list_series};
use sulcus_io::dicom::read_series;
use sulcus_io::{IoError, VolumeInfo};

use super::volume;
use crate::args::InfoArgs;
use crate::error::{CliError, Context};
use crate::output::{self, Ui, count};

/// The JSON of the volume, followed by the series of the folder.
#[derive(Serialize)]
struct FolderInfo<'a> {
    #[serde(flatten)]
    volume: &'a VolumeInfo,
    /// The series of the volume.
    series_uid: &'a str,
    series: Vec<ListedSeries<'a>>,
    /// Number of files that are no DICOM images.
    other_files: usize,
    /// What the reader decided, such as which of several series it took.
    notes: &'a [String],
}

#[derive(Serialize)]
struct ListedSeries<'a> {
    #[serde(flatten)]
    summary: &'a SeriesSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

pub(super) fn info(path: &Path, args: &InfoArgs, ui: Ui) -> Result<(), CliError> {
    let list = list_series(path).map_err(IoError::from).context("listing the DICOM series")?;
    let read = read_series(path, args.series.as_deref()).map_err(|error| {
        // Another series of the folder may be the intended one.
        table(&list, args.descriptions).iter().for_each(|line| ui.note(format_args!("series {line}")));
        let failed = CliError::caused_by(&error);
        if list.series.len() > 1 {
            failed.hint("--series UID selects another series of the folder")
        } else {
            failed
        }
    })?;
    read.notes.iter().for_each(|text| ui.note(text));
    let info = &read.scan.info;
    let series = read.scan.metadata.series();
    let uid = series.map(Series::uid).unwrap_or_default();
    if args.json {
        let listed = |summary| ListedSeries { summary, description: description(summary, args.descriptions) };
        return output::json(&FolderInfo {
            volume: info,
            series_uid: uid,
            series: list.series.iter().map(listed).collect(),
            other_files: list.other_files,
            notes: &read.notes,
        });
    }
    let mut rows = volume::rows(path, info);
    rows.push(("modality", series.map(Series::modality).unwrap_or_default().to_owned()));
    rows.push(("series UID", uid.to_owned()));
    if list.series.len() > 1 {
        rows.push(("all series", table(&list, args.descriptions).join("\n")));
    }
    output::fields(&rows)
}

fn description(summary: &SeriesSummary, requested: bool) -> Option<&str> {
    summary.description.as_deref().filter(|_| requested)
}

fn table(list: &SeriesList, descriptions: bool) -> Vec<String> {
    list.series
        .iter()
        .map(|s| {
            let uid = if matches!(s.uid.as_str(), "" | "none") { "without a UID" } else { &s.uid };
            let modality = if s.modality.is_empty() { "modality unknown" } else { &s.modality };
            let size = match (s.columns, s.rows, s.slices) {
                (_, _, 0) => "no images".to_owned(),
                (columns, rows, slices) => format!("{columns} × {rows} pixels, {}", count(slices, "slice")),
            };
            let name = description(s, descriptions).map(|d| format!("  {d}")).unwrap_or_default();
            format!("{uid}  {modality}  {size}{name}")
        })
        .collect()
}
