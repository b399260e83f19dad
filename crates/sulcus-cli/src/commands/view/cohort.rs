//! The cases of a folder, for their review in the viewer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sulcus_serve::{SharedData, ViewerServer};

use crate::args::ViewArgs;
use crate::commands::predict::PROBABILITIES_SUFFIX;
use crate::error::CliError;
use crate::input::cases;
use crate::output::{Ui, count};

/// The name of the list on the server.
pub(super) const LIST: &str = "cases.json";

/// Names of the folders with the files of each role: images, masks, truths, maps.
const FOLDERS: [&[&str]; 4] = [
    &["images", "imagesTr", "imagesTs"],
    &["masks", "predictions"],
    &["truths", "labels", "labelsTr", "labelsTs"],
    &["maps", "probabilities", "uncertainty", "confidence"],
];
const IMAGE: usize = 0;
const MASK: usize = 1;
const TRUTH: usize = 2;
const MAP: usize = 3;

/// The files of a case: image, mask, truth and map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) name: String,
    files: [Option<PathBuf>; 4],
}

impl Case {
    pub(super) fn mask(&self) -> Option<&Path> {
        self.files[MASK].as_deref()
    }

    pub(super) fn truth(&self) -> Option<&Path> {
        self.files[TRUTH].as_deref()
    }

    pub(super) fn map(&self) -> Option<&Path> {
        self.files[MAP].as_deref()
    }
}

/// What the page reads.
#[derive(Serialize)]
struct List<'a> {
    format: &'static str,
    format_version: u32,
    /// Whether scores are still missing.
    scoring: bool,
    cases: &'a [Entry],
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Entry {
    name: String,
    image: Vec<SharedFile>,
    mask: Vec<SharedFile>,
    truth: Vec<SharedFile>,
    map: Vec<SharedFile>,
    /// The mean Dice over the labels of mask and truth.
    pub(super) dice: Option<f64>,
    /// The mean confidence in the labels of the mask.
    pub(super) confidence: Option<f64>,
    /// Why the case could not be scored.
    pub(super) problem: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct SharedFile {
    address: String,
    name: String,
}

/// A cohort that is served.
pub(super) struct Cohort {
    pub(super) cases: Vec<Case>,
    /// What the list has of each case.
    pub(super) entries: Vec<Entry>,
    pub(super) list: SharedData,
}

/// Serves the cases of a folder and the list of them, without scores.
///
/// # Errors
/// When there is no case, or a folder cannot be read.
pub(super) fn share(
    server: &mut ViewerServer,
    folder: &Path,
    args: &ViewArgs,
    ui: Ui,
) -> Result<Cohort, CliError> {
    let given = [None, args.mask.as_deref(), args.truth.as_deref(), args.map.as_deref()];
    let cases = find(folder, given, ui)?;
    let with = |role: usize| cases.iter().filter(|case| case.files[role].is_some()).count();
    ui.note(format_args!(
        "{}: {} with a mask, {} with a truth, {} with a map",
        count(cases.len(), "case"),
        with(MASK),
        with(TRUTH),
        with(MAP)
    ));
    let mut entries = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut entry = Entry { name: case.name.clone(), ..Entry::default() };
        let lists = [&mut entry.image, &mut entry.mask, &mut entry.truth, &mut entry.map];
        for (role, (list, path)) in lists.into_iter().zip(&case.files).enumerate() {
            // A volume may be in two files.
            let files = path.iter().flat_map(|path| sulcus_io::input_files(path));
            for (part, path) in files.enumerate() {
                let shared = format!("{number}.{role}.{part}");
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                list.push(SharedFile { address: format!("data/{shared}"), name });
                server.share_path(shared, path);
            }
        }
        entries.push(entry);
    }
    let list = SharedData::default();
    server.share_data(LIST, &list);
    list.set(json(&entries, false));
    Ok(Cohort { cases, entries, list })
}

/// The list as the page reads it.
pub(super) fn json(entries: &[Entry], scoring: bool) -> Vec<u8> {
    let list = List { format: "sulcus.cases", format_version: 1, scoring, cases: entries };
    // Texts and numbers, which JSON can hold.
    serde_json::to_vec(&list).unwrap_or_default()
}

/// The cases of a folder: its images, or those of a subfolder, with the files of the same names in the folders that are given for the
/// other roles, or in subfolders.
fn find(folder: &Path, given: [Option<&Path>; 4], ui: Ui) -> Result<Vec<Case>, CliError> {
    let mut folders: [Option<PathBuf>; 4] = FOLDERS.map(|names| {
        let subfolders = names.iter().map(|name| folder.join(name));
        subfolders.into_iter().find(|path| path.is_dir())
    });
    if !cases::volumes_in(folder)?.is_empty() {
        folders = [Some(folder.to_path_buf()), None, None, None];
    }
    for (role, path) in given.into_iter().enumerate() {
        let Some(path) = path else { continue };
        if !path.is_dir() {
            let message =
                format_args!("{}: expected a folder, as the images are in one: {}", ROLES[role], path.display());
            return Err(CliError::failed(message));
        }
        folders[role] = Some(path.to_path_buf());
    }
    let Some(images) = &folders[IMAGE] else {
        return Err(CliError::failed(format_args!(
            "the folder has no scans, neither in it nor in a subfolder `images`, `imagesTr` or `imagesTs`: {}",
            folder.display()
        )));
    };
    let images = by_name(images, true)?;
    if images.is_empty() {
        return Err(CliError::failed(format_args!("the folder has no scans: {}", folder.display())));
    }
    let mut found: BTreeMap<String, Case> = images
        .into_iter()
        .map(|(name, path)| (name.clone(), Case { name, files: [Some(path), None, None, None] }))
        .collect();
    for role in [MASK, TRUTH, MAP] {
        let Some(folder) = &folders[role] else { continue };
        let mut matched = 0;
        let mut alone = Vec::new();
        for (name, path) in by_name(folder, false)? {
            let (name, role) = match name.strip_suffix(PROBABILITIES_SUFFIX) {
                // `predict` writes them beside the masks.
                Some(case) if !found.contains_key(&name) => (case.to_owned(), MAP),
                _ => (name, role),
            };
            match found.get_mut(&name) {
                Some(case) => {
                    matched += 1;
                    case.files[role].get_or_insert(path);
                }
                None => alone.push(name),
            }
        }
        let what = ROLES[role];
        if matched == 0 && given[role].is_some() {
            return Err(CliError::failed(format_args!(
                "no {what} has the name of an image; they are matched by their names: {}",
                folder.display()
            )));
        }
        if let Some(first) = alone.first() {
            ui.warn(format_args!(
                "{} without an image, such as {first}: {}",
                count(alone.len(), what),
                folder.display()
            ));
        }
    }
    Ok(found.into_values().collect())
}

const ROLES: [&str; 4] = ["image", "mask", "truth", "map"];

/// The volumes of a folder by the names of their cases. Of the channels of an image, `CASE_0000`, `CASE_0001`, … the first is taken.
fn by_name(folder: &Path, are_images: bool) -> Result<BTreeMap<String, PathBuf>, CliError> {
    let mut found = BTreeMap::new();
    let files = cases::volumes_in(folder)?;
    let names: Vec<String> = files.iter().filter_map(|path| cases::case_name(path)).collect();
    for path in files {
        let Some(stem) = cases::case_name(&path) else { continue };
        let name = match cases::split_channel(&stem).filter(|_| are_images) {
            Some((name, 0)) => name,
            Some((name, _)) if names.contains(&format!("{name}_0000")) => continue,
            _ => stem.strip_suffix(".seg").unwrap_or(&stem),
        };
        let name = name.to_owned();
        cases::add_file(&mut found, name, path).map_err(CliError::failed)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            sulcus_testing::write_file(&folder.path().join(file), b"");
        }
        folder
    }

    fn found(folder: &Path, given: [Option<&Path>; 4]) -> Result<Vec<String>, String> {
        let cases = find(folder, given, Ui::new(true, true)).map_err(|error| error.message().to_owned())?;
        let shown = |case: &Case| {
            let files = case.files.iter().map(|file| {
                let path = file.as_deref().map(|file| file.strip_prefix(folder).unwrap_or(file));
                path.map_or("-".into(), |path| path.to_string_lossy().replace('\\', "/"))
            });
            [case.name.clone()].into_iter().chain(files).collect::<Vec<_>>().join(" ")
        };
        Ok(cases.iter().map(shown).collect())
    }

    const NONE: [Option<&Path>; 4] = [None; 4];

    #[test]
    fn files_of_a_case_are_matched_by_name() {
        let at = folder(&[
            "imagesTr/a_0000.nii.gz",
            "imagesTr/a_0001.nii.gz",
            "imagesTr/scan_2019.nii.gz",
            "labelsTr/a.nii.gz",
            "masks/a.seg.nrrd",
            "masks/a_probabilities.nii.gz",
            "masks/other.nii.gz",
            "notes.txt",
        ]);
        assert_eq!(
            found(at.path(), NONE).unwrap(),
            [
                "a imagesTr/a_0000.nii.gz masks/a.seg.nrrd labelsTr/a.nii.gz masks/a_probabilities.nii.gz",
                "scan_2019 imagesTr/scan_2019.nii.gz - - -"
            ]
        );
    }

    #[test]
    fn given_folders_replace_subfolders() {
        let at = folder(&["a.png", "masks/a.png", "run/a.png", "maps/x/readme"]);
        let run = at.path().join("run");
        let given = [None, Some(run.as_path()), None, None];
        assert_eq!(found(at.path(), NONE).unwrap(), ["a a.png - - -"], "images in the folder itself");
        assert_eq!(found(at.path(), given).unwrap(), ["a a.png run/a.png - -"]);
        let masks = at.path().join("maps");
        let error = found(at.path(), [None, None, Some(masks.as_path()), None]).unwrap_err();
        assert!(error.starts_with("no truth has the name of an image"), "{error}");
        let file = at.path().join("a.png");
        let error = found(at.path(), [None, Some(file.as_path()), None, None]).unwrap_err();
        assert!(error.starts_with("mask: expected a folder"), "{error}");
    }

    #[test]
    fn folders_without_cases_and_equal_names_are_refused() {
        let empty = folder(&["labels/a.nii.gz"]);
        assert!(found(empty.path(), NONE).unwrap_err().starts_with("the folder has no scans, neither in it"));
        let twice = folder(&["images/a.nii", "images/a.nii.gz"]);
        assert!(found(twice.path(), NONE).unwrap_err().starts_with("two files have the case name `a`"));
    }
}
