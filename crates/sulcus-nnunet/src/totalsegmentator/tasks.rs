//! TotalSegmentator's tables of tasks, as data.

use std::collections::BTreeMap;

use serde::Deserialize;
use sulcus_volume::Label;

use crate::task_error::TaskError;

/// Written by `tests/peers/totalsegmentator_tasks.py`.
const TABLES: &str = include_str!("tasks.json");

/// TotalSegmentator's tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    /// Which version they are from.
    #[serde(rename = "source")]
    _source: String,
    /// The folder of each data set's model.
    pub(super) folders: BTreeMap<u32, String>,
    pub(super) tasks: BTreeMap<String, Task>,
    /// The names of the labels 1, 2, 3, … of a task.
    pub(super) labels: BTreeMap<String, Vec<String>>,
    /// Labels of a task's network that are not in its result.
    pub(super) auxiliary_labels: BTreeMap<String, Vec<Label>>,
    /// The names of the labels 1, 2, 3, … of the networks of tasks with several.
    pub(super) part_labels: BTreeMap<u32, Vec<String>>,
    /// Tasks whose weights need a licence number.
    licensed: Vec<String>,
    /// Tasks that a recipe cannot express, and why.
    unsupported: BTreeMap<String, String>,
}

/// How a task segments a scan.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Task {
    /// Its entry among the names of labels.
    pub(super) labels: String,
    pub(super) configuration: String,
    pub(super) trainer: String,
    /// The folds; all that there are if it names none.
    pub(super) folds: Option<Vec<u16>>,
    /// The voxel size on which its networks see a scan.
    pub(super) mm: Option<[f64; 3]>,
    pub(super) tile_step: f64,
    /// The data sets of its networks.
    pub(super) datasets: Vec<u32>,
    #[serde(default)]
    pub(super) locate: Option<Rough>,
}

/// The rough network of a task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rough {
    pub(super) dataset: u32,
    pub(super) trainer: String,
    pub(super) mm: [f64; 3],
    /// Its entry among the names of labels.
    pub(super) labels: String,
    /// The names of the labels whose box the networks see.
    pub(super) inside: Vec<String>,
}

impl Tables {
    /// # Errors
    /// If this build has damaged tables.
    pub(super) fn read() -> Result<Self, TaskError> {
        serde_json::from_str(TABLES).map_err(|e| TaskError::Tables { reason: e.to_string() })
    }

    /// The task of a name.
    ///
    /// # Errors
    /// [`TaskError`], which says why it cannot be imported.
    pub(super) fn task(&self, name: &str) -> Result<&Task, TaskError> {
        let task = || name.to_owned();
        if self.licensed.iter().any(|licensed| licensed == name) {
            return Err(TaskError::Licensed { task: task() });
        }
        if let Some(reason) = self.unsupported.get(name) {
            return Err(TaskError::Unsupported { task: task(), reason: reason.clone() });
        }
        let known = || self.tasks.keys().cloned().collect();
        self.tasks.get(name).ok_or_else(|| TaskError::Unknown { task: task(), known: known() })
    }

    /// # Errors
    /// If the tables contradict each other.
    pub(super) fn labels_of(&self, name: &str) -> Result<&[String], TaskError> {
        let labels = self.labels.get(name).map(Vec::as_slice);
        labels.ok_or_else(|| TaskError::Tables { reason: format!("there are no labels of `{name}`") })
    }
}

/// The label of a name in a list whose first entry is label 1.
pub(super) fn label_named(names: &[String], name: &str) -> Result<Label, TaskError> {
    let at = names.iter().position(|other| other == name).and_then(|at| Label::try_from(at + 1).ok());
    at.ok_or_else(|| TaskError::Tables { reason: format!("there is no label named `{name}`") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_agree_with_each_other() {
        let tables = Tables::read().unwrap();
        assert_eq!(tables.tasks.len(), 35);
        for (name, task) in &tables.tasks {
            let labels = tables.labels_of(&task.labels).unwrap();
            let datasets = task.datasets.iter().chain(task.locate.iter().map(|rough| &rough.dataset));
            assert!(datasets.clone().all(|dataset| tables.folders.contains_key(dataset)), "{name}");
            assert!(task.tile_step > 0.0 && task.mm.is_none_or(|mm| mm.iter().all(|mm| *mm > 0.0)), "{name}");
            if let Some(rough) = &task.locate {
                let of_rough = tables.labels_of(&rough.labels).unwrap();
                rough.inside.iter().for_each(|inside| assert!(label_named(of_rough, inside).unwrap() > 0));
            }
            if task.datasets.len() > 1 {
                // Every label is that of one part, and every label of a part is one of the result.
                let parts = task.datasets.iter().flat_map(|dataset| &tables.part_labels[dataset]);
                parts.clone().for_each(|part| assert!(label_named(labels, part).unwrap() > 0, "{name}: {part}"));
                assert!(labels.iter().all(|label| parts.clone().any(|part| part == label)), "{name}");
            }
        }
        let total = &tables.tasks["total"];
        assert_eq!((total.datasets.as_slice(), total.tile_step), (&[291, 292, 293, 294, 295][..], 0.8));
        assert_eq!(label_named(&tables.labels["total"], "liver").unwrap(), 5);
    }

    #[test]
    fn tasks_that_cannot_be_imported_say_why() {
        let tables = Tables::read().unwrap();
        let refused = |name: &str| tables.task(name).unwrap_err().to_string();
        insta::assert_snapshot!(refused("tissue_types"), @"TotalSegmentator gives the weights of the task `tissue_types` only to those who have a licence number, so Sulcus does not import it");
        insta::assert_snapshot!(refused("body"), @"the task `body` cannot be imported: TotalSegmentator removes small components of its mask");
        assert!(refused("totl").contains("total, total_fast, total_fastest, total_mr"), "{}", refused("totl"));
    }
}
