//! TotalSegmentator's tasks (Wasserthal et al. 2023, doi:10.1148/ryai.230024) as packs, from a folder with its weights.

mod tasks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sulcus_model::{
    CanonicalGrid, Locate, ModelSpec, NothingFound, PACK_VERSION, PackNetwork, PackSpec, Part, Recipe, SplitRule,
};
use sulcus_volume::{Label, LabelTable};

use crate::error::ImportError;
use crate::folder::Fold;
use crate::task_error::TaskError;
use crate::{ImportOptions, import};
use tasks::{Rough, Tables, Task, label_named};

/// The plans of all weights that TotalSegmentator uses by default.
const PLANS: &str = "nnUNetPlans";
/// The folders of the weights inside TotalSegmentator's own folder.
const RESULTS: [&str; 2] = ["", "nnunet/results"];
/// The step of the rough networks.
const ROUGH_TILE_STEP: f64 = 0.8;
/// Around what the rough network found (`crop_addon` in `python_api.py`).
const MARGIN_MM: [f64; 3] = [20.0; 3];
/// When a grid is divided into three (`nr_voxels_thr` in `nnunet.py`); only for tasks with several networks.
const SPLIT: SplitRule = SplitRule { above_voxels: 512 * 512 * 900, above_slices: 200, margin: 20 };

/// A task whose networks were imported.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedTask {
    /// The recipe and the networks. They have no golden cases, because those need an engine.
    pub pack: PackSpec,
    /// The file of each network, in the order of [`PackSpec::networks`].
    pub files: Vec<Vec<u8>>,
    /// The folder of each network.
    pub sources: Vec<PathBuf>,
}

/// The names of the tasks that can be imported.
///
/// # Errors
/// If the tables of this build are damaged.
pub fn totalsegmentator_tasks() -> Result<Vec<String>, ImportError> {
    Ok(Tables::read()?.tasks.into_keys().collect())
}

/// Imports a task of TotalSegmentator from the folder that holds its weights: `DatasetNNN_…/TRAINER__nnUNetPlans__CONFIGURATION`, or a
/// folder with `nnunet/results` above them.
///
/// # Errors
/// [`ImportError::Task`] if the task cannot be imported or its weights are missing, and those of [`import`].
pub fn import_totalsegmentator(weights: &Path, task: &str) -> Result<ImportedTask, ImportError> {
    let tables = Tables::read()?;
    let wanted = tables.task(task)?;
    let rough = wanted.locate.as_ref();
    let datasets: Vec<u32> = rough.map(|rough| rough.dataset).into_iter().chain(wanted.datasets.clone()).collect();
    let folders = find(&tables, weights, task, &datasets)?;
    let mut networks =
        NetworkReader { folders: &folders, networks: Vec::new(), files: Vec::new(), sources: Vec::new() };
    let mut recipe = Recipe {
        locate: None,
        grid: Some(CanonicalGrid { mm: wanted.mm }),
        split: (wanted.datasets.len() > 1).then_some(SPLIT),
        parts: Vec::new(),
    };
    if let Some(rough) = rough {
        let spec =
            networks.add(rough.dataset, &rough.trainer, "3d_fullres", &[Fold::Number(0)], ROUGH_TILE_STEP)?;
        let locate = locate(&tables, rough)?;
        check_labels(task, &spec, locate.labels.iter().copied(), networks.folder(rough.dataset))?;
        recipe.locate = Some(locate);
    }
    let folds: Vec<Fold> = wanted.folds.iter().flatten().map(|fold| Fold::Number(*fold)).collect();
    let mut names = BTreeMap::new();
    for dataset in &wanted.datasets {
        let spec = networks.add(*dataset, &wanted.trainer, &wanted.configuration, &folds, wanted.tile_step)?;
        let merge = merge_table(&tables, wanted, *dataset, &spec)?;
        check_labels(task, &spec, merge.iter().map(|[from, _]| *from), networks.folder(*dataset))?;
        name_labels(tables.labels_of(&wanted.labels)?, &merge, &spec, &mut names);
        recipe.parts.push(Part { network: network_name(*dataset), merge: Some(merge) });
    }
    let damaged = |reason: String| TaskError::Tables { reason };
    let NetworkReader { networks, files, sources, .. } = networks;
    let pack = PackSpec {
        format_version: PACK_VERSION,
        name: format!("TotalSegmentator_{task}"),
        labels: LabelTable::from_names(names).map_err(|e| damaged(e.to_string()))?,
        regions: Vec::new(),
        recipe,
        networks,
    };
    pack.check().map_err(|e| damaged(e.to_string()))?;
    Ok(ImportedTask { pack, files, sources })
}

/// The name of a network in the file.
fn network_name(dataset: u32) -> String {
    format!("dataset_{dataset:03}")
}

/// The folder of each data set.
fn find(
    tables: &Tables,
    weights: &Path,
    task: &str,
    datasets: &[u32],
) -> Result<BTreeMap<u32, PathBuf>, ImportError> {
    let mut folders = BTreeMap::new();
    let mut missing = Vec::new();
    for dataset in datasets {
        match find_dataset(weights, *dataset)?.as_slice() {
            [folder] => {
                folders.insert(*dataset, folder.clone());
            }
            [] => missing
                .push(tables.folders.get(dataset).cloned().unwrap_or_else(|| format!("Dataset{dataset:03}_…"))),
            several => {
                let names: Vec<String> = several.iter().map(|folder| folder.display().to_string()).collect();
                return Err(ImportError::Layout {
                    reason: format!("there are several folders of data set {dataset}: {}", names.join(", ")),
                    path: weights.to_path_buf(),
                });
            }
        }
    }
    if missing.is_empty() {
        return Ok(folders);
    }
    Err(TaskError::MissingWeights { task: task.to_owned(), missing, path: weights.to_path_buf() }.into())
}

/// The folders `DatasetNNN_…`. The rest of the name does not matter to nnU-Net.
fn find_dataset(weights: &Path, dataset: u32) -> Result<Vec<PathBuf>, ImportError> {
    let prefix = format!("Dataset{dataset:03}_");
    let mut found = Vec::new();
    for inside in RESULTS {
        let folder = weights.join(inside);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(_) if !inside.is_empty() => continue,
            Err(source) => return Err(ImportError::Read { path: folder, source }),
        };
        for entry in entries {
            let entry = entry.map_err(|source| ImportError::Read { path: folder.clone(), source })?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) && entry.path().is_dir() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The networks of a task as they are read.
struct NetworkReader<'a> {
    folders: &'a BTreeMap<u32, PathBuf>,
    networks: Vec<PackNetwork>,
    files: Vec<Vec<u8>>,
    sources: Vec<PathBuf>,
}

impl NetworkReader<'_> {
    fn folder(&self, dataset: u32) -> &Path {
        self.folders.get(&dataset).map_or(Path::new(""), PathBuf::as_path)
    }

    /// Adds the network of a data set.
    fn add(
        &mut self,
        dataset: u32,
        trainer: &str,
        configuration: &str,
        folds: &[Fold],
        tile_step: f64,
    ) -> Result<ModelSpec, ImportError> {
        let folder = self.folder(dataset).to_path_buf();
        let path = folder.join(format!("{trainer}__{PLANS}__{configuration}"));
        if !path.is_dir() {
            return Err(ImportError::Layout {
                reason: format!("there is no folder {trainer}__{PLANS}__{configuration} in it"),
                path: folder,
            });
        }
        let options = ImportOptions { folds: folds.to_vec(), ..ImportOptions::default() };
        let mut model = import(&path, &options)?;
        model.spec.tile_step = tile_step;
        let spec = model.spec.clone();
        self.networks.push(PackNetwork { name: network_name(dataset), spec: model.spec });
        self.files.push(model.bytes);
        self.sources.push(model.source);
        Ok(spec)
    }
}

fn locate(tables: &Tables, rough: &Rough) -> Result<Locate, TaskError> {
    let names = tables.labels_of(&rough.labels)?;
    let labels: Vec<Label> = rough.inside.iter().map(|name| label_named(names, name)).collect::<Result<_, _>>()?;
    Ok(Locate {
        network: network_name(rough.dataset),
        grid: Some(CanonicalGrid { mm: Some(rough.mm) }),
        labels,
        margin_mm: MARGIN_MM,
        nothing_found: NothingFound::EmptyMask,
    })
}

/// Which label of the result each label of a network becomes. Of a task with one network, labels keep their numbers, also those for
/// which TotalSegmentator has no name.
fn merge_table(
    tables: &Tables,
    task: &Task,
    dataset: u32,
    spec: &ModelSpec,
) -> Result<Vec<[Label; 2]>, TaskError> {
    let names = tables.labels_of(&task.labels)?;
    if task.datasets.len() > 1 {
        let parts = tables.part_labels.get(&dataset).map(Vec::as_slice).unwrap_or_default();
        return parts.iter().map(|name| Ok([label_named(parts, name)?, label_named(names, name)?])).collect();
    }
    let auxiliary = tables.auxiliary_labels.get(&task.labels).map(Vec::as_slice).unwrap_or_default();
    let named = (1..=names.len()).filter_map(|value| Label::try_from(value).ok());
    let further = spec.labels.entries().iter().map(|entry| entry.value);
    let mut values: Vec<Label> = named.chain(further).filter(|value| !auxiliary.contains(value)).collect();
    values.sort_unstable();
    values.dedup();
    Ok(values.into_iter().map(|value| [value; 2]).collect())
}

/// The network must have the labels that the task takes of it.
fn check_labels(
    task: &str,
    spec: &ModelSpec,
    needed: impl IntoIterator<Item = Label>,
    folder: &Path,
) -> Result<(), TaskError> {
    match needed.into_iter().find(|label| spec.labels.get(*label).is_none()) {
        None => Ok(()),
        Some(label) => Err(TaskError::OtherWeights {
            task: task.to_owned(),
            reason: format!("the network has no label {label}, its labels end with {}", greatest(spec)),
            path: folder.to_path_buf(),
        }),
    }
}

fn greatest(spec: &ModelSpec) -> Label {
    spec.labels.entries().iter().map(|entry| entry.value).max().unwrap_or(0)
}

/// Names the labels of the result: as the task names them, or else as the network does.
fn name_labels(of_task: &[String], merge: &[[Label; 2]], spec: &ModelSpec, names: &mut BTreeMap<Label, String>) {
    for [from, to] in merge {
        let name = of_task.get(usize::from(*to).saturating_sub(1)).cloned();
        let own = spec.labels.get(*from).map(|entry| entry.name.clone());
        let is_new = |name: &String| !of_task.contains(name) && !names.values().any(|other| other == name);
        let name = name.or_else(|| own.filter(is_new)).unwrap_or_else(|| format!("label {to}"));
        names.insert(*to, name);
    }
}
