//! Scores of masks against reference masks, collected case by case and printed as tables.

use std::collections::BTreeSet;
use std::path::Path;

use sulcus_io::VolumeMetadata;
use sulcus_metrics::{CaseScores, LabelScores, MeanScores, Summary, mask_ignored_voxels};
use sulcus_model::Structure;
use sulcus_pipeline::PipelineError;
use sulcus_volume::{GridUnit, Label, LabelMap, LabelTable};

use crate::error::{CliError, with_causes};
use crate::input::{cases, label_file};
use crate::{memory, output};

/// Which labels are scored.
#[derive(Debug, Clone)]
pub(crate) enum ScoredLabels {
    /// These structures; a mask with another value is an error.
    Known {
        /// The structures.
        structures: Vec<Structure>,
        /// Names and colours of the values, for figures.
        table: LabelTable,
    },
    /// All labels that occur in any mask.
    Present,
}

/// Collects the scores of a set of cases.
#[derive(Debug)]
pub(crate) struct ScoreCollector {
    labels: ScoredLabels,
    cases: Vec<CaseScores>,
    /// Number of voxels of each case.
    voxels: Vec<u64>,
    seen: BTreeSet<Label>,
    names: Option<LabelTable>,
    nsd_mm: f64,
    /// The value of unlabelled voxels in a truth.
    ignore: Option<Label>,
}

impl ScoreCollector {
    /// A collector without cases; `nsd_mm` is the tolerance of NSD in millimetres.
    pub(crate) fn new(labels: ScoredLabels, nsd_mm: f64) -> Self {
        Self {
            labels,
            cases: Vec::new(),
            voxels: Vec::new(),
            seen: BTreeSet::new(),
            names: None,
            nsd_mm,
            ignore: None,
        }
    }

    /// Leaves voxels with this value in the truth out of all scores.
    pub(crate) fn ignoring(mut self, ignore: Option<Label>) -> Self {
        self.ignore = ignore;
        self
    }

    /// Sets the names of the labels, where no structures are given.
    pub(crate) fn name_labels(&mut self, names: Option<&LabelTable>) {
        self.names = names.cloned();
    }

    /// Scores one case; the file names are only recorded.
    ///
    /// # Errors
    /// When the masks have different grids, or a value that the table lacks.
    pub(crate) fn add(
        &mut self,
        files: [String; 2],
        prediction: &LabelMap,
        truth: &LabelMap,
    ) -> Result<(), PipelineError> {
        let known;
        let (prediction, truth) = match self.ignore {
            Some(ignore) => {
                known = mask_ignored_voxels(prediction, truth, ignore)?;
                (&known.0, &known.1)
            }
            None => (prediction, truth),
        };
        let present = present_labels(prediction, truth);
        let structures = match &self.labels {
            ScoredLabels::Present => present.iter().copied().map(Structure::label).collect(),
            ScoredLabels::Known { structures, .. } => {
                let known: BTreeSet<Label> = structures.iter().flat_map(|s| s.values.iter().copied()).collect();
                let known: Vec<Label> = known.into_iter().collect();
                let found: Vec<Label> = present.iter().copied().filter(|value| !known.contains(value)).collect();
                if !found.is_empty() {
                    return Err(PipelineError::UnknownLabels { found, known });
                }
                structures.clone()
            }
        };
        self.cases.push(CaseScores::measure(files, prediction, truth, &structures, self.nsd_mm)?);
        self.seen.extend(&present);
        self.voxels.push(truth.data().len() as u64);
        Ok(())
    }

    /// The summary, its structures, and the table of the masks' values. A label that occurs in other cases only is scored as
    /// one that neither mask has: undefined, and counted as such.
    pub(crate) fn finish(mut self) -> (Summary, Vec<Structure>, LabelTable) {
        let (structures, table) = match self.labels {
            ScoredLabels::Known { structures, table } => (structures, table),
            ScoredLabels::Present => {
                let table = label_file::named_where_known(self.seen, self.names.as_ref());
                (Structure::all(&table, &[]), table)
            }
        };
        for (case, voxels) in self.cases.iter_mut().zip(self.voxels) {
            for structure in &structures {
                case.metrics.entry(structure.key()).or_insert_with(|| LabelScores::absent(voxels));
            }
        }
        (Summary::new(self.cases, self.nsd_mm), structures, table)
    }
}

/// The labels that occur in either mask.
pub(crate) fn present_labels(one: &LabelMap, other: &LabelMap) -> BTreeSet<Label> {
    one.counts().into_keys().chain(other.counts().into_keys()).filter(|label| *label != 0).collect()
}

/// Reads one of two masks that are compared.
///
/// # Errors
/// A message when it cannot be read, or two such masks would need more memory than there is.
pub(crate) fn read_mask(path: &Path) -> Result<(LabelMap, VolumeMetadata), String> {
    // Both masks are held at the same time.
    memory::check_volume(path, 2 * size_of::<Label>()).map_err(|error| error.message().to_owned())?;
    sulcus_io::read_labels(path).map_err(|error| with_causes(&error))
}

/// Maximum number of labels side by side in a table, so that it fits a terminal.
const MAX_SIDE_BY_SIDE: usize = 4;

/// Prints the cases, worst first, and the means.
pub(crate) fn print(summary: &Summary, structures: &[Structure]) -> Result<(), CliError> {
    let cases = if structures.len() > MAX_SIDE_BY_SIDE {
        worst_labels(summary, structures)
    } else {
        every_label(summary, structures)
    };
    output::table(&cases)?;
    output::line("")?;
    output::table(&means(summary, structures))
}

/// Rows of a table below a header: one case per row, worst first, with the scores of every label.
pub(crate) fn every_label(summary: &Summary, structures: &[Structure]) -> Vec<Vec<String>> {
    let mut header = vec!["case".to_owned()];
    for entry in structures {
        header.extend([format!("{} Dice", entry.name), "HD95".to_owned(), "NSD".to_owned()]);
    }
    header.push("mean Dice".to_owned());
    let mut rows = vec![header];
    for case in worst_first(summary) {
        let mut row = vec![name_of(case)];
        for entry in structures {
            let scores = case.metrics.get(&entry.key());
            row.extend(cells(scores));
        }
        row.push(score(case.mean_dice()));
        rows.push(row);
    }
    rows
}

/// Rows of a table below a header: one case per row, worst first, with the scores of its worst label.
fn worst_labels(summary: &Summary, structures: &[Structure]) -> Vec<Vec<String>> {
    let mut rows = vec![["case", "mean Dice", "worst label", "Dice", "HD95", "NSD"].map(str::to_owned).to_vec()];
    for case in worst_first(summary) {
        let scores = structures.iter().filter_map(|e| Some((&e.name, case.metrics.get(&e.key())?)));
        let worst = scores.filter(|(_, scores)| scores.Dice.is_some());
        let worst = worst.min_by(|(_, a), (_, b)| a.Dice.unwrap_or(1.0).total_cmp(&b.Dice.unwrap_or(1.0)));
        let name = worst.map_or_else(|| score(None), |(name, _)| name.clone());
        let mut row = vec![name_of(case), score(case.mean_dice()), name];
        row.extend(cells(worst.map(|(_, scores)| scores)));
        rows.push(row);
    }
    rows
}

/// Dice, HD95 and NSD.
fn cells(scores: Option<&LabelScores>) -> [String; 3] {
    let get = |f: fn(&LabelScores) -> Option<f64>| scores.and_then(f);
    [score(get(|s| s.Dice)), millimetres(get(|s| s.HD95)), score(get(|s| s.NSD))]
}

/// Rows of a table below a header: one label per row, then the mean over all labels.
pub(crate) fn means(summary: &Summary, structures: &[Structure]) -> Vec<Vec<String>> {
    let unit = distance_unit(summary);
    let nsd = summary.nsd_mm.map_or_else(|| "NSD".to_owned(), |distance| format!("NSD at {distance} {unit}"));
    // Pictures without the size of a pixel have no volumes.
    let has_volumes = summary.distance_unit() == GridUnit::Millimetre;
    let mut header = vec!["mean of".to_owned(), "Dice".into(), "IoU".into(), format!("HD95 in {unit}"), nsd];
    header.extend(has_volumes.then(|| "volume error in ml".to_owned()));
    header.push("cases".to_owned());
    let row = |name: &str, mean: &MeanScores| {
        let infinite =
            if mean.HD95_infinite > 0 { format!(", {} infinite", mean.HD95_infinite) } else { String::new() };
        let undefined = if mean.undefined > 0 { format!(", {} undefined", mean.undefined) } else { String::new() };
        let hd95 = format!("{}{infinite}", millimetres(mean.HD95));
        let mut row = vec![name.to_owned(), score(mean.Dice), score(mean.IoU), hd95, score(mean.NSD)];
        let volume_error = || mean.volume_abs_error_ml.map_or_else(|| score(None), |ml| format!("{ml:.3}"));
        row.extend(has_volumes.then(volume_error));
        row.push(format!("{}{undefined}", mean.cases));
        row
    };
    let mut rows = vec![header];
    for entry in structures {
        let mean = summary.mean.get(&entry.key()).copied().unwrap_or_default();
        rows.push(row(&entry.name, &mean));
    }
    if structures.len() > 1 {
        rows.push(row("all labels", &summary.foreground_mean));
    }
    rows
}

/// The unit of HD95 and of the tolerance of NSD.
pub(crate) fn distance_unit(summary: &Summary) -> &'static str {
    if summary.distance_unit() == GridUnit::Pixel { "pixels" } else { "mm" }
}

/// The name of a case, from the file of its truth.
pub(crate) fn name_of(case: &CaseScores) -> String {
    let path = std::path::Path::new(&case.reference_file);
    cases::case_name(path).unwrap_or_else(|| case.reference_file.clone())
}

/// The cases by ascending Dice; cases without a defined score come last.
pub(crate) fn worst_first(summary: &Summary) -> Vec<&CaseScores> {
    let mut order: Vec<&CaseScores> = summary.metric_per_case.iter().collect();
    let key = |case: &CaseScores| case.mean_dice().unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| key(a).total_cmp(&key(b)));
    order
}

/// A score with four decimals; `–` where it is undefined.
pub(crate) fn score(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"))
}

/// A distance with two decimals; `–` where it is undefined.
pub(crate) fn millimetres(value: Option<f64>) -> String {
    match value {
        Some(mm) if mm.is_infinite() => "inf".to_owned(),
        Some(mm) => format!("{mm:.2}"),
        None => score(None),
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn mask(values: [Label; 4]) -> LabelMap {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        LabelMap::new(Geometry::new([4, 1, 1], map, OrientationSource::Sform).unwrap(), values.to_vec()).unwrap()
    }

    fn known(structures: Vec<Structure>) -> ScoredLabels {
        ScoredLabels::Known { structures, table: LabelTable::default() }
    }

    fn files(case: &str) -> [String; 2] {
        [format!("p/{case}.nii.gz"), format!("t/{case}.nii.gz")]
    }

    #[test]
    fn label_of_one_case_is_undefined_in_the_other() {
        let mut scores = ScoreCollector::new(ScoredLabels::Present, 1.0);
        scores.add(files("a"), &mask([1, 1, 0, 0]), &mask([1, 0, 0, 0])).unwrap();
        scores.add(files("b"), &mask([2, 0, 0, 0]), &mask([2, 0, 0, 0])).unwrap();
        let (summary, labels, _) = scores.finish();
        assert_eq!(labels.len(), 2);
        let first = &summary.metric_per_case[0].metrics["2"];
        assert_eq!((first.Dice, first.TN, summary.mean["2"].undefined), (None, 4, 1));
        assert_eq!(summary.mean["2"].Dice, Some(1.0));
        let rows = every_label(&summary, &labels);
        assert_eq!(rows[0][1..5], ["label 1 Dice", "HD95", "NSD", "label 2 Dice"]);
        assert_eq!(rows[1], ["a", "0.6667", "1.00", "1.0000", "–", "–", "–", "0.6667"]);
        assert_eq!(worst_labels(&summary, &labels)[1], ["a", "0.6667", "label 1", "0.6667", "1.00", "1.0000"]);
        assert_eq!(means(&summary, &labels)[2].last().unwrap(), "1, 1 undefined");
    }

    #[test]
    fn case_without_labels_has_only_true_negatives() {
        let mut scores = ScoreCollector::new(ScoredLabels::Present, 1.0);
        scores.add(files("a"), &mask([0; 4]), &mask([0; 4])).unwrap();
        scores.add(files("b"), &mask([1, 0, 0, 0]), &mask([1, 0, 0, 0])).unwrap();
        let (summary, ..) = scores.finish();
        let empty = &summary.metric_per_case[0].metrics["1"];
        assert_eq!((empty.Dice, empty.TP, empty.TN), (None, 0, 4));
    }

    #[test]
    fn missed_structure_has_an_infinite_distance_and_is_counted() {
        let mut scores = ScoreCollector::new(ScoredLabels::Present, 1.0);
        scores.add(files("good"), &mask([1, 0, 0, 0]), &mask([1, 0, 0, 0])).unwrap();
        scores.add(files("missed"), &mask([0; 4]), &mask([1, 0, 0, 0])).unwrap();
        let (summary, labels, _) = scores.finish();
        assert_eq!(every_label(&summary, &labels)[1], ["missed", "0.0000", "inf", "0.0000", "0.0000"]);
        let expected = ["label 1", "0.5000", "0.5000", "0.00, 1 infinite", "0.5000", "0.001", "2"];
        assert_eq!(means(&summary, &labels)[1], expected);
    }

    #[test]
    fn regions_are_scored_as_unions_under_nnunet_keys() {
        let whole = Structure { name: "whole".into(), values: vec![1, 2], ..Structure::label(1) };
        let mut scores = ScoreCollector::new(known(vec![whole, Structure::label(2)]), 1.0);
        scores.add(files("a"), &mask([1, 2, 0, 0]), &mask([2, 1, 1, 0])).unwrap();
        let refused = scores.add(files("b"), &mask([3, 0, 0, 0]), &mask([1, 0, 0, 0])).unwrap_err().to_string();
        assert!(refused.contains("[3]") && refused.contains("[1, 2]"), "{refused}");
        let (summary, structures, _) = scores.finish();
        assert_eq!(summary.mean["(1, 2)"].Dice, Some(0.8));
        assert_eq!(summary.mean["2"].Dice, Some(0.0));
        assert_eq!(every_label(&summary, &structures)[0][1..5], ["whole Dice", "HD95", "NSD", "label 2 Dice"]);
    }

    #[test]
    fn value_outside_the_table_is_an_error() {
        let mut scores = ScoreCollector::new(known([1, 2].map(Structure::label).to_vec()), 1.0);
        let error = scores.add(files("a"), &mask([7, 1, 0, 0]), &mask([1; 4])).unwrap_err().to_string();
        assert!(error.contains("[7]"), "{error}");
        assert!(scores.finish().0.metric_per_case.is_empty());
    }
}
