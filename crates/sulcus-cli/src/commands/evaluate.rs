//! `sulcus evaluate`: scores masks against reference masks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sulcus_metrics::Summary;
use sulcus_model::Structure;
use sulcus_volume::{LabelMap, LabelTable};

use super::predict::PROBABILITIES_SUFFIX;
use crate::args::EvaluateArgs;
use crate::error::{CliError, with_causes};
use crate::files;
use crate::input::{cases, label_file};
use crate::output::{self, Ui, count, printable};
use crate::report::{self, Report};
use crate::scores::{self, ScoreCollector, ScoredLabels};

/// A truth and its prediction.
struct Pair {
    name: String,
    truth: PathBuf,
    prediction: Option<PathBuf>,
}

/// The output of `--json`: nnU-Net's summary, and the failed cases.
#[derive(Serialize)]
struct SummaryWithFailures<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// Cases that could not be scored; they are in no mean.
    failed: &'a [Failure],
}

/// A case that could not be scored.
#[derive(Serialize)]
struct Failure {
    case: String,
    /// The prediction, or the truth if the prediction is missing.
    file: String,
    error: String,
}

pub(crate) fn run(args: &EvaluateArgs, ui: Ui) -> Result<(), CliError> {
    if let Some(report) = &args.report
        && !report.extension().is_some_and(|e| e.eq_ignore_ascii_case("html") || e.eq_ignore_ascii_case("htm"))
    {
        return Err(CliError::usage(format_args!(
            "the report is an HTML page, so --report must end in .html or .htm: {}",
            report.display()
        )));
    }
    let pairs = pair_up(&args.prediction, &args.truth, ui)?;
    let (labels, ignore, mut known) = match &args.labels {
        Some(path) => {
            let file = label_file::read(path)?;
            let (structures, table) = (file.structures(), file.table.clone());
            (ScoredLabels::Known { structures, table: file.table }, file.ignore, Some(table))
        }
        None => (ScoredLabels::Present, None, None),
    };
    if let Some(report) = &args.report {
        files::ensure_writable(&files::folder_of(report))?;
    }

    let mut scores = ScoreCollector::new(labels, args.nsd_mm).ignoring(ignore);
    let mut failures: Vec<Failure> = Vec::new();
    let bar = ui.bar(pairs.len() as u64);
    for pair in &pairs {
        bar.set_message(printable(&pair.name).into_owned());
        if let Err(why) = add(&mut scores, pair, &args.prediction, &mut known) {
            bar.suspend(|| ui.error(format_args!("{}: {why}", pair.name)));
            let file = pair.prediction.as_ref().unwrap_or(&pair.truth).display().to_string();
            failures.push(Failure { case: pair.name.clone(), file, error: why });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    let (summary, structures, table) = scores.finish();
    if args.json {
        output::pretty_json(&SummaryWithFailures { summary: &summary, failed: &failures })?;
    } else if !summary.metric_per_case.is_empty() {
        scores::print(&summary, &structures)?;
    }
    if let Some(path) = &args.report {
        write_report(path, args, &summary, (&structures, &table), &failures)?;
        ui.note(format_args!("report: {}", path.display()));
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(CliError::SomeFailed { failed: failures.len(), total: pairs.len(), what: "case" })
    }
}

/// Scores a pair. Where masks have names for their labels, their numbers become those of `known`. It is completed by the names
/// of each truth, then of each prediction.
fn add(
    scores: &mut ScoreCollector,
    pair: &Pair,
    predictions: &Path,
    known: &mut Option<LabelTable>,
) -> Result<(), String> {
    let Some(prediction) = &pair.prediction else {
        return Err(format!("there is no prediction with this name in {}", predictions.display()));
    };
    let read = |what: &str, path: &Path| scores::read_mask(path).map_err(|error| format!("{what}: {error}"));
    let (predicted, source) = read("the prediction", prediction)?;
    let (truth, truth_source) = read("the truth", &pair.truth)?;
    let mut by_name = |what: &str, path: &Path, mask: LabelMap, own: Option<&LabelTable>| {
        let reference = known.take().unwrap_or_default().completed_by(own.unwrap_or(&LabelTable::default()));
        let reference = known.insert(reference);
        mask.renumbered(own, reference).map_err(|error| {
            format!(
                "{what}: {error}; correct the names, for example with `sulcus convert --names TABLE --rename`: {}",
                path.display()
            )
        })
    };
    let truth = by_name("the truth", &pair.truth, truth, truth_source.label_table())?;
    let predicted = by_name("the prediction", prediction, predicted, source.label_table())?;
    scores.name_labels(known.as_ref());
    let names = [prediction, &pair.truth].map(|path| path.display().to_string());
    scores.add(names, &predicted, &truth).map_err(|error| {
        format!("{}: {} against {}", with_causes(&error), prediction.display(), pair.truth.display())
    })
}

fn pair_up(prediction: &Path, truth: &Path, ui: Ui) -> Result<Vec<Pair>, CliError> {
    for (path, flag) in [(prediction, "-p"), (truth, "-t")] {
        if !path.exists() {
            return Err(CliError::failed(format_args!(
                "{flag}: there is no such file or folder: {}",
                path.display()
            )));
        }
    }
    let name = |path: &Path| cases::case_name(path).unwrap_or_else(|| path.display().to_string());
    match (prediction.is_dir(), truth.is_dir()) {
        (false, false) => Ok(vec![Pair {
            name: name(truth),
            truth: truth.to_path_buf(),
            prediction: Some(prediction.to_path_buf()),
        }]),
        (true, true) => {
            let truths = by_name(truth)?;
            let mut predictions = by_name(prediction)?;
            if truths.is_empty() {
                return Err(CliError::failed(format_args!(
                    "the truth folder has no volume (NIfTI, NRRD or MetaImage): {}",
                    truth.display()
                )));
            }
            let pairs = truths
                .into_iter()
                .map(|(name, truth)| Pair { prediction: predictions.remove(&name), name, truth })
                .collect();
            predictions.retain(|name, _| !name.ends_with(PROBABILITIES_SUFFIX));
            if !predictions.is_empty() {
                let names: Vec<String> = predictions.into_keys().collect();
                ui.warn(format_args!(
                    "{} without a truth, not scored: {}",
                    count(names.len(), "prediction"),
                    names.join(", ")
                ));
            }
            Ok(pairs)
        }
        _ => Err(CliError::usage("-p and -t must be two files or two folders, found one of each")),
    }
}

fn by_name(folder: &Path) -> Result<BTreeMap<String, PathBuf>, CliError> {
    let mut found = BTreeMap::new();
    for path in cases::volumes_in(folder)? {
        let Some(name) = cases::case_name(&path) else { continue };
        cases::add_file(&mut found, name, path).map_err(CliError::usage)?;
    }
    Ok(found)
}

fn write_report(
    path: &Path,
    args: &EvaluateArgs,
    summary: &Summary,
    (structures, table): (&[Structure], &LabelTable),
    failures: &[Failure],
) -> Result<(), CliError> {
    let not_scored: Vec<(String, String)> = failures.iter().map(|f| (f.case.clone(), f.error.clone())).collect();
    let report = Report {
        title: "Sulcus: evaluation",
        facts: vec![
            ("predictions", args.prediction.display().to_string()),
            ("truth", args.truth.display().to_string()),
            ("cases", format!("{} scored, {} failed", summary.metric_per_case.len(), failures.len())),
        ],
        summary: Some(summary),
        structures: structures.to_vec(),
        failures: &not_scored,
        pictures: report::worst_and_median(summary, table),
        curves_svg: None,
        reasons: Vec::new(),
        details: Vec::new(),
    };
    files::write(path, report::document(&report).as_bytes())
}
