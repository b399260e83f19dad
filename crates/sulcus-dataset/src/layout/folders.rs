//! A data set without a description: `images/`, and `labels/` or `masks/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sulcus_volume::{Label, LabelTable};

use super::description::check_count;
use super::files::{channel_of, files, folder_name, volume_parts, volume_stem};
use super::unused_volumes::unused_volumes;
use crate::case::Case;
use crate::dataset::{Dataset, Layout};
use crate::error::DatasetError;
use crate::parallel::map_parallel;
use crate::patients::Patients;

/// Opens such a folder. The label values come from the masks, the number of channels from the images' headers.
pub(super) fn open(root: &Path) -> Result<Dataset, DatasetError> {
    let (images, labels) = (root.join("images"), labels_folder(root));
    let mut cases = pair([&images, &labels], files(&images)?, files(&labels)?);
    let channels = channels(&cases);
    complete(&mut cases, channels);
    let table = label_table(&cases).map_err(|what| DatasetError::Description { what, file: labels.clone() })?;
    let channels = match channels {
        1 => vec!["image".to_owned()],
        n => (0..n).map(|c| format!("image {c}")).collect(),
    };
    let notes = unused_volumes(&cases);
    Ok(Dataset {
        root: root.to_path_buf(),
        layout: Layout::Folders,
        name: folder_name(root),
        channels,
        labels: table,
        regions: Vec::new(),
        ignore: None,
        cases,
        notes,
        patients: Patients::each_case(),
        unclear_patients: None,
    })
}

/// The folder of the masks.
pub(crate) fn labels_folder(root: &Path) -> PathBuf {
    let masks = root.join("masks");
    if !root.join("labels").is_dir() && masks.is_dir() { masks } else { root.join("labels") }
}

/// Pairs images and masks of equal names; their endings may differ. `CASE_0000`, `CASE_0001` are channels of
/// `CASE`, unless there is a mask `CASE_0000`. A name with several images or masks becomes several cases, so that the
/// check finds them.
fn pair(folders: [&Path; 2], images: Vec<PathBuf>, labels: Vec<PathBuf>) -> Vec<Case> {
    let mut masks: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for label in labels {
        if let Some(stem) = volume_stem(&label) {
            masks.entry(stem).or_default().push(label);
        }
    }
    let stems: Vec<(String, PathBuf)> =
        images.into_iter().filter_map(|image| volume_stem(&image).map(|stem| (stem, image))).collect();
    let channel = |stem: &str| match channel_of(stem) {
        Some((case, number)) if !masks.contains_key(stem) => Some((case.to_owned(), number)),
        _ => None,
    };
    let numbered = stems.iter().any(|(stem, _)| channel(stem).is_some_and(|(case, _)| masks.contains_key(&case)));

    let mut sets: BTreeMap<String, Vec<Vec<PathBuf>>> = BTreeMap::new();
    let mut channels: BTreeMap<String, Vec<(usize, PathBuf)>> = BTreeMap::new();
    for (stem, image) in stems {
        match channel(&stem).filter(|_| numbered) {
            Some((case, number)) => channels.entry(case).or_default().push((number, image)),
            None => sets.entry(stem).or_default().push(vec![image]),
        }
    }
    for (case, mut files) in channels {
        files.sort();
        sets.entry(case).or_default().push(files.into_iter().map(|(_, file)| file).collect());
    }

    let mut cases = Vec::new();
    let names: BTreeSet<String> = sets.keys().chain(masks.keys()).cloned().collect();
    for name in names {
        let (images, labels) = (sets.remove(&name).unwrap_or_default(), masks.remove(&name).unwrap_or_default());
        // A missing file gets the path where it is expected, with the ending of its counterpart.
        for i in 0..images.len().max(labels.len()) {
            let image = images.get(i).or(images.first());
            let label = labels.get(i).or(labels.first());
            let number = if numbered { "_0000" } else { "" };
            let expected_image = || vec![folders[0].join(format!("{name}{number}{}", ending(label)))];
            let expected_label =
                || folders[1].join(format!("{name}{}", ending(image.and_then(|files| files.first()))));
            cases.push(Case {
                images: image.cloned().unwrap_or_else(expected_image),
                label: label.cloned().unwrap_or_else(expected_label),
                name: name.clone(),
            });
        }
    }
    cases
}

/// The ending of a file that belongs to `file`.
fn ending(file: Option<&PathBuf>) -> &str {
    file.and_then(|file| volume_parts(file)).map_or(".nii.gz", |(_, ending)| ending)
}

/// The channel number in a file's name, if the file is one channel of the case.
fn number(case: &Case, file: &Path) -> Option<usize> {
    let stem = volume_stem(file).filter(|stem| *stem != case.name)?;
    channel_of(&stem).map(|(_, number)| number)
}

/// The number of channels that most cases have. The check reports the cases that differ.
fn channels(cases: &[Case]) -> usize {
    let counts = map_parallel(cases, |case| match case.images.as_slice() {
        [.., last] if number(case, last).is_some() => number(case, last).map(|n| n + 1),
        [file, ..] => sulcus_io::read_metadata(file).ok().map(|source| source.image_channels()),
        [] => None,
    });
    let mut cases_with: BTreeMap<usize, usize> = BTreeMap::new();
    counts.into_iter().flatten().for_each(|channels| *cases_with.entry(channels).or_default() += 1);
    // On a tie the larger number wins: a missing file is likelier than an extra one.
    cases_with.into_iter().max_by_key(|(_, cases)| *cases).map_or(1, |(channels, _)| channels)
}

/// Adds the paths of channels that a case lacks, so that the check names them.
fn complete(cases: &mut [Case], channels: usize) {
    for case in cases {
        let Some(first) = case.images.first().cloned().filter(|file| number(case, file).is_some()) else {
            continue;
        };
        let ending = ending(Some(&first));
        for channel in 0..channels {
            if !case.images.iter().any(|file| number(case, file) == Some(channel)) {
                let name = format!("{}_{channel:04}{ending}", case.name);
                case.images.push(first.with_file_name(name));
            }
        }
        let named = |file: &PathBuf| number(case, file);
        let mut images = case.images.clone();
        images.sort_by_key(named);
        case.images = images;
    }
}

/// The label values in the masks, with the names that masks may carry. The check reports masks that cannot be read.
fn label_table(cases: &[Case]) -> Result<LabelTable, String> {
    let masks = map_parallel(cases, |case| {
        let (mask, source) = sulcus_io::read_labels(&case.label).ok()?;
        let names = source.label_table().cloned().unwrap_or_default();
        Some((mask.counts().into_keys().filter(|value| *value != 0).collect::<Vec<Label>>(), names))
    });
    let mut names: BTreeMap<Label, Option<String>> = BTreeMap::new();
    for (values, table) in masks.into_iter().flatten() {
        for value in values {
            let name = names.entry(value).or_default();
            *name = name.take().or_else(|| table.get(value).map(|entry| entry.name.clone()));
        }
    }
    check_count(names.len()).map_err(|what| format!("{what}; are these masks, or images?"))?;
    let alone = names.len() == 1;
    let named = |(value, name): (Label, Option<String>)| {
        (value, name.unwrap_or_else(|| if alone { "Foreground".to_owned() } else { format!("Label {value}") }))
    };
    LabelTable::from_names(names.into_iter().map(named)).map_err(|e| e.to_string())
}
