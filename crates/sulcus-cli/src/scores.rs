//! Scores of masks against their truths, collected case by case.

use std::collections::BTreeSet;

use sulcus_pipeline::{CaseScores, LabelScores, PipelineError, Summary, count_labels};
use sulcus_volume::{Label, LabelMap, LabelTable};

use crate::ui::count;

/// Which labels are scored.
#[derive(Debug, Clone)]
pub(crate) enum Labels {
    /// Those of a table; a mask with another value is an error.
    Table(LabelTable),
    /// Those that occur in any mask.
    Present,
}

/// The scores so far.
#[derive(Debug)]
pub(crate) struct Scores {
    labels: Labels,
    cases: Vec<CaseScores>,
    /// Voxels of each case.
    voxels: Vec<u64>,
    seen: BTreeSet<Label>,
    names: Option<LabelTable>,
}

impl Scores {
    /// Nothing scored yet.
    pub(crate) fn new(labels: Labels) -> Self {
        Self { labels, cases: Vec::new(), voxels: Vec::new(), seen: BTreeSet::new(), names: None }
    }

    /// Names for the labels that occur, from a mask that carries them; the first ones count.
    pub(crate) fn suggest_names(&mut self, names: Option<&LabelTable>) {
        if self.names.is_none() {
            self.names = names.cloned();
        }
    }

    /// Scores one case; the file names are only passed on.
    ///
    /// # Errors
    /// When the masks lie on different grids, or hold a value that the table lacks.
    pub(crate) fn add(
        &mut self,
        files: [String; 2],
        prediction: &LabelMap,
        truth: &LabelMap,
    ) -> Result<(), PipelineError> {
        let mut present: BTreeSet<Label> =
            prediction.counts().into_keys().chain(truth.counts().into_keys()).collect();
        present.remove(&0);
        let labels: Vec<Label> = match &self.labels {
            Labels::Present => present.iter().copied().collect(),
            Labels::Table(table) => {
                let known: Vec<Label> = table.entries().iter().map(|entry| entry.value).collect();
                let found: Vec<Label> = present.iter().copied().filter(|value| !known.contains(value)).collect();
                if !found.is_empty() {
                    return Err(PipelineError::UnknownLabels { found, known });
                }
                known
            }
        };
        let counts = count_labels(prediction, truth, &labels)?;
        self.seen.extend(&labels);
        self.voxels.push(truth.data().len() as u64);
        let [prediction_file, truth_file] = files;
        self.cases.push(CaseScores::new(prediction_file, truth_file, &labels, &counts));
        Ok(())
    }

    /// The summary, and the labels in it. A label that a case does not have is scored there as one that neither
    /// mask has: undefined, and counted as such.
    pub(crate) fn finish(mut self) -> (Summary, LabelTable) {
        for (case, voxels) in self.cases.iter_mut().zip(self.voxels) {
            for label in &self.seen {
                case.metrics.entry(label.to_string()).or_insert(LabelScores {
                    Dice: None,
                    IoU: None,
                    TP: 0,
                    FP: 0,
                    FN: 0,
                    TN: voxels,
                    n_pred: 0,
                    n_ref: 0,
                });
            }
        }
        let table = match self.labels {
            Labels::Table(table) => table,
            Labels::Present => crate::label_file::named_where_known(self.seen, self.names.as_ref()),
        };
        (Summary::new(self.cases), table)
    }
}

/// The summary as rows of a table: a case a row, then the means; Dice and IoU a label.
pub(crate) fn table(summary: &Summary, labels: &LabelTable, order: &[&CaseScores]) -> Vec<Vec<String>> {
    let mut header = vec!["case".to_owned()];
    for entry in labels.entries() {
        header.extend([format!("{} Dice", entry.name), "IoU".to_owned()]);
    }
    header.push("mean Dice".to_owned());
    let mut rows = vec![header];
    for case in order {
        let mut row = vec![name_of(case)];
        for entry in labels.entries() {
            let scores = case.metrics.get(&entry.value.to_string());
            row.extend([score(scores.and_then(|s| s.Dice)), score(scores.and_then(|s| s.IoU))]);
        }
        row.push(score(case.mean_dice()));
        rows.push(row);
    }
    let mut means = vec!["mean".to_owned()];
    let mut over = vec!["over".to_owned()];
    for entry in labels.entries() {
        let mean = summary.mean.get(&entry.value.to_string()).copied().unwrap_or_default();
        means.extend([score(mean.Dice), score(mean.IoU)]);
        over.extend([count(mean.cases, "case"), String::new()]);
    }
    means.push(score(summary.foreground_mean.Dice));
    rows.push(means);
    if summary.foreground_mean.undefined > 0 {
        rows.push(over);
    }
    rows
}

/// The case's name, from its truth's file.
pub(crate) fn name_of(case: &CaseScores) -> String {
    let path = std::path::Path::new(&case.reference_file);
    crate::cases::case_name(path).unwrap_or_else(|| case.reference_file.clone())
}

/// Worst first; cases without a defined score come last.
pub(crate) fn worst_first(summary: &Summary) -> Vec<&CaseScores> {
    let mut order: Vec<&CaseScores> = summary.metric_per_case.iter().collect();
    let key = |case: &CaseScores| case.mean_dice().unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| key(a).total_cmp(&key(b)));
    order
}

/// A score as people read it; `–` where it is undefined.
pub(crate) fn score(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"))
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn mask(values: [Label; 4]) -> LabelMap {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        LabelMap::new(Geometry::new([4, 1, 1], map, OrientationSource::Sform).unwrap(), values.to_vec()).unwrap()
    }

    fn files(case: &str) -> [String; 2] {
        [format!("p/{case}.nii.gz"), format!("t/{case}.nii.gz")]
    }

    #[test]
    fn a_label_of_one_case_alone_is_undefined_in_the_other() {
        let mut scores = Scores::new(Labels::Present);
        scores.add(files("a"), &mask([1, 1, 0, 0]), &mask([1, 0, 0, 0])).unwrap();
        scores.add(files("b"), &mask([2, 0, 0, 0]), &mask([2, 0, 0, 0])).unwrap();
        let (summary, labels) = scores.finish();
        assert_eq!(labels.entries().len(), 2);
        let first = &summary.metric_per_case[0].metrics["2"];
        assert_eq!((first.Dice, first.TN, summary.mean["2"].undefined), (None, 4, 1));
        assert_eq!(summary.mean["2"].Dice, Some(1.0));
        let rows = table(&summary, &labels, &worst_first(&summary));
        assert_eq!(rows[1], ["a", "0.6667", "0.5000", "–", "–", "0.6667"]);
        assert_eq!(rows.last().unwrap()[1], "1 case");
    }

    #[test]
    fn a_case_without_any_label_has_all_its_voxels_as_true_negatives() {
        let mut scores = Scores::new(Labels::Present);
        scores.add(files("a"), &mask([0; 4]), &mask([0; 4])).unwrap();
        scores.add(files("b"), &mask([1, 0, 0, 0]), &mask([1, 0, 0, 0])).unwrap();
        let (summary, _) = scores.finish();
        let empty = &summary.metric_per_case[0].metrics["1"];
        assert_eq!((empty.Dice, empty.TP, empty.TN), (None, 0, 4));
    }

    #[test]
    fn a_value_outside_the_table_is_an_error_not_a_zero() {
        let mut scores = Scores::new(Labels::Table(crate::label_file::named_where_known([1, 2], None)));
        let error = scores.add(files("a"), &mask([7, 1, 0, 0]), &mask([1; 4])).unwrap_err().to_string();
        assert!(error.contains("[7]"), "{error}");
        assert!(scores.finish().0.metric_per_case.is_empty());
    }
}
