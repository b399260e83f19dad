//! `sulcus info` of a data set: cases, ranges of their properties, and outliers.

use std::collections::BTreeSet;
use std::path::Path;

use sulcus_dataset::{Dataset, DatasetSummary, MAX_ROBUST_SDS, Outlier};
use sulcus_model::AxisRange;

use super::json_text;
use crate::error::{CliError, Context};
use crate::output::{self, Ui, count, rounded, rules};

/// Maximum number of outliers that are listed; `--json` has all of them.
const MAX_LISTED_CASES: usize = 20;

pub(super) fn info(path: &Path, json: bool, ui: Ui) -> Result<(), CliError> {
    let dataset = Dataset::open(path).context("reading the data set")?;
    let bar = ui.bar(dataset.cases().len() as u64);
    bar.set_message("reading every case");
    let survey = dataset.survey_watched(&[], &|| bar.inc(1));
    bar.finish_and_clear();
    let summary = dataset.summary(&survey);
    if json {
        output::json(&summary)?;
    } else {
        output::fields(&rows(path, &summary))?;
        output::line("")?;
        output::table(&ranges(&summary))?;
        outliers(&summary)?;
    }
    summary.warnings.iter().for_each(|text| ui.warn(text));
    summary.problems.iter().for_each(|text| ui.warn(format_args!("must be fixed before training: {text}")));
    Ok(())
}

fn rows(path: &Path, summary: &DatasetSummary) -> Vec<(&'static str, String)> {
    /// The row with the number of cases.
    const CASES: usize = 3;
    let orientations: Vec<String> = summary
        .orientation_cases
        .iter()
        .map(|(code, cases)| format!("{code} in {}", count(*cases, "case")))
        .collect();
    let foreground = summary.intensities.iter().filter_map(|channel| {
        let f = channel.foreground?;
        let (mean, sd) = (rounded(f.mean), rounded(f.sd));
        Some(format!("{}: {mean} ± {sd}, {} to {}", channel.name, rounded(f.min), rounded(f.max)))
    });
    let mut rows = vec![
        ("data set", path.display().to_string()),
        ("name", summary.name.clone()),
        ("layout", json_text(&summary.layout)),
        ("cases", summary.cases.to_string()),
        ("channels", summary.channels.join(", ")),
        ("orientations", orientations.join(", ")),
        ("foreground", foreground.collect::<Vec<_>>().join("\n")),
        ("splits_final.json", if summary.splits { "yes" } else { "no" }.to_owned()),
        ("problems", summary.problems.len().to_string()),
    ];
    if let Some(patients) = &summary.patients {
        rows.insert(CASES + 1, ("patients", rules::patients(patients)));
    }
    rows
}

/// Minimum, median and maximum over the cases of every numeric property.
fn ranges(summary: &DatasetSummary) -> Vec<Vec<String>> {
    let mut rows = vec![["over the cases", "min", "median", "max", "cases"].map(str::to_owned).to_vec()];
    let read = summary.per_case.len();
    let mut row = |name: String, [min, median, max]: [f64; 3], cases: usize| {
        let numbers = [min, median, max].map(rounded);
        rows.push([vec![name], numbers.to_vec(), vec![cases.to_string()]].concat());
    };
    let mut triple = |what: &str, range: &AxisRange| {
        for (axis, letter) in ["R", "A", "S"].into_iter().enumerate() {
            row(format!("{what} along {letter}"), [range.min[axis], range.median[axis], range.max[axis]], read);
        }
    };
    triple("voxels", &summary.shape);
    triple("spacing in mm", &summary.spacing_mm);
    for channel in &summary.intensities {
        let p = &channel.percentiles;
        for (name, values) in [("0.5th percentile", p.p00_5), ("median", p.p50), ("99.5th percentile", p.p99_5)] {
            row(format!("{}, {name}", channel.name), values, read);
        }
    }
    for label in &summary.labels {
        let (unit, size) = size(label.ml, label.pixels);
        row(format!("label {} {}, {unit}", label.value, label.name), size, label.cases);
    }
    for region in &summary.regions {
        let (unit, size) = size(region.ml, region.pixels);
        row(format!("region {} {:?}, {unit}", region.name, region.values), size, region.cases);
    }
    rows
}

/// The sizes of a structure and their unit.
fn size(ml: Option<[f64; 3]>, pixels: Option<[f64; 3]>) -> (&'static str, [f64; 3]) {
    let unit = if ml.is_some() || pixels.is_none() { "ml" } else { "pixels" };
    (unit, ml.or(pixels).unwrap_or_default())
}

/// Cases that differ from the others, one per line, the most different first.
fn outliers(summary: &DatasetSummary) -> Result<(), CliError> {
    let mut cases: Vec<(&str, Vec<&Outlier>)> = Vec::new();
    for outlier in &summary.outliers {
        match cases.iter_mut().find(|(case, _)| *case == outlier.case) {
            Some((_, of_case)) => of_case.push(outlier),
            None => cases.push((&outlier.case, vec![outlier])),
        }
    }
    if cases.is_empty() {
        return Ok(());
    }
    output::line("")?;
    output::line(format_args!(
        "cases that differ from the others (numeric values by more than {MAX_ROBUST_SDS} robust standard deviations from the median):"
    ))?;
    for (case, of_case) in cases.iter().take(MAX_LISTED_CASES) {
        let found = of_case.iter().map(|o| format!("{} {} (usual: {})", o.what, o.found, o.usual));
        let files: BTreeSet<String> = of_case.iter().map(|o| o.file.display().to_string()).collect();
        let files: Vec<String> = files.into_iter().collect();
        output::line(format_args!("- {case}: {}: {}", found.collect::<Vec<_>>().join("; "), files.join(" and ")))?;
    }
    let more = cases.len().saturating_sub(MAX_LISTED_CASES);
    if more > 0 {
        output::line(format_args!("- and {}, which --json lists", count(more, "more case")))?;
    }
    Ok(())
}
