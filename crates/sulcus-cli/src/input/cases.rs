//! Finds the cases of the paths that the user gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{CliError, Context};
use crate::output::count;

/// One scan to be predicted: one file per channel, or one file with all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// File name without extension and channel number.
    pub(crate) name: String,
    /// Its files by channel; the mask takes its header from the first one.
    pub(crate) files: Vec<PathBuf>,
}

/// An input that contains no case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadInput {
    /// As the user gave it.
    pub(crate) path: PathBuf,
    /// What is wrong with it, without the path.
    pub(crate) error: String,
}

/// The file name without its volume extension; `None` for other files and for hidden ones, such as the `._name` files of
/// macOS.
pub(crate) fn case_name(path: &Path) -> Option<String> {
    sulcus_io::case_name(path).filter(|name| !name.starts_with('.'))
}

/// `CASE_0001` → (`CASE`, 1), as nnU-Net names channels.
pub(crate) fn split_channel(stem: &str) -> Option<(&str, usize)> {
    let (case, number) = stem.rsplit_once('_')?;
    let is_number = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && !case.is_empty()).then_some((case, number.parse().ok()?))
}

/// The volumes of a folder, sorted; of a `.hdr/.img` pair only the header.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn volumes_in(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let doing = || format!("reading the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).context(doing())? {
        let path = entry.context(doing())?.path();
        // A link whose target is missing, for example a file that was never downloaded, is a case that fails. Skipping it
        // would make the cohort smaller without a message.
        if sulcus_io::is_volume_file(&path) && (path.is_file() || !path.exists()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Adds the file of a case.
///
/// # Errors
/// A message when another file has the same name.
pub(crate) fn add_file(found: &mut BTreeMap<String, PathBuf>, name: String, path: PathBuf) -> Result<(), String> {
    match found.insert(name.clone(), path.clone()) {
        Some(other) => {
            Err(format!("two files have the case name `{name}`: {} and {}", other.display(), path.display()))
        }
        None => Ok(()),
    }
}

/// The DICOM series of a folder: the folder itself when it contains DICOM files, otherwise each of its subfolders that does,
/// as in an export with one folder per patient.
fn series_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries.flatten().map(|entry| entry.path()).partition(|path| path.is_dir());
    // DICOMDIR is the index of an export, not a slice. Volumes are not opened: a cohort may have thousands.
    let is_index = |file: &Path| file.file_name().is_some_and(|name| name.eq_ignore_ascii_case("DICOMDIR"));
    let is_slice =
        |file: &Path| !is_index(file) && !sulcus_io::is_volume_file(file) && sulcus_dicom::is_dicom_file(file);
    if files.iter().any(|file| is_slice(file)) {
        return vec![folder.to_path_buf()];
    }
    let mut series: Vec<PathBuf> = folders.into_iter().filter(|f| sulcus_dicom::holds_dicom(f)).collect();
    series.sort();
    series
}

/// A DICOM series as a case, with the name of its folder or file.
fn series_case(path: PathBuf) -> Case {
    let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
    let file = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    let name = file.map_or_else(|| "series".to_owned(), |n| n.to_string_lossy().into_owned());
    Case { name, files: vec![path] }
}

/// Finds the cases of the inputs of `predict`. With `channels` > 1, the files `CASE_0000`, `CASE_0001`, … are the
/// channels of one case; with one channel, the number is removed from the name of the case.
///
/// # Errors
/// Wrong usage when two inputs have the same case name: one mask would overwrite the other.
pub(crate) fn find(inputs: &[PathBuf], channels: usize) -> Result<(Vec<Case>, Vec<BadInput>), CliError> {
    let mut files = Vec::new();
    let mut series = Vec::new();
    let mut bad = Vec::new();
    for input in inputs {
        let mut refuse = |error: &str| bad.push(BadInput { path: input.clone(), error: error.to_owned() });
        if input.is_dir() {
            match volumes_in(input) {
                Ok(found) => {
                    let of_dicom = series_in(input);
                    if found.is_empty() && of_dicom.is_empty() {
                        refuse(
                            "the folder has no volume (NIfTI, NRRD or MetaImage), no picture (PNG, JPEG or TIFF) and no DICOM series",
                        );
                    }
                    files.extend(found);
                    series.extend(of_dicom.into_iter().map(series_case));
                }
                Err(CliError::Failed { message, .. }) => refuse(&message),
                Err(other) => return Err(other),
            }
        } else if !input.exists() {
            refuse("there is no such file or folder");
        } else if case_name(input).is_some() {
            files.push(input.clone());
        } else if sulcus_dicom::is_dicom_file(input) {
            series.push(series_case(input.clone()));
        } else {
            refuse(
                "expected a volume whose name ends in .nii, .nii.gz, .hdr, .img, .nrrd, .nhdr, .mha or .mhd, a picture (.png, .jpg, \
                 .jpeg, .tif, .tiff), or a folder with DICOM",
            );
        }
    }
    let (files, surplus) = without_surplus_channels(files, channels);
    bad.extend(surplus);
    let mut cases = group(files, channels)?;
    for case in series {
        if let Some(other) = cases.iter().find(|other| other.name == case.name) {
            return Err(same_name(&case.name, &other.files, &case.files));
        }
        cases.push(case);
    }
    Ok((cases, bad))
}

/// Two cases whose masks would have the same name.
fn same_name(name: &str, one: &[PathBuf], other: &[PathBuf]) -> CliError {
    let shown = |files: &[PathBuf]| files.first().map(|f| f.display().to_string()).unwrap_or_default();
    CliError::usage(format_args!(
        "two inputs have the case name `{name}`, so one mask would overwrite the other: {} and {}",
        shown(one),
        shown(other)
    ))
    .hint("predict them in two runs with two output folders")
}

/// Removes the cases that have more numbered channels than the model. File names do not tell which channels the model was
/// trained on, and a mask from the wrong modality would not be noticed. A number without a file `_0000` beside it may have
/// another meaning, such as a year.
fn without_surplus_channels(files: Vec<PathBuf>, channels: usize) -> (Vec<PathBuf>, Vec<BadInput>) {
    let numbered = |file: &Path| {
        let stem = case_name(file)?;
        let (name, channel) = split_channel(&stem)?;
        Some((file.with_file_name(name), channel))
    };
    let mut found: BTreeMap<PathBuf, BTreeMap<usize, &PathBuf>> = BTreeMap::new();
    for file in &files {
        if let Some((case, channel)) = numbered(file) {
            found.entry(case).or_default().insert(channel, file);
        }
    }
    found.retain(|_, files| files.contains_key(&0) && files.keys().any(|channel| *channel >= channels));
    let bad = found.iter().map(|(case, files)| {
        let numbers: Vec<String> = files.keys().map(|channel| format!("{channel:04}")).collect();
        let (last, others) = numbers.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        BadInput {
            path: files.values().next().map_or_else(|| case.clone(), |file| (*file).clone()),
            error: format!(
                "the model takes {}, the folder has channels {} and {last} of case {}; \
                 give only the files of the model's channels",
                count(channels, "channel"),
                others.join(", "),
                case.file_name().unwrap_or_default().to_string_lossy()
            ),
        }
    });
    let bad = bad.collect();
    let refused: Vec<PathBuf> = found.into_keys().collect();
    let kept = |file: &PathBuf| numbered(file).is_none_or(|(case, _)| !refused.contains(&case));
    (files.iter().filter(|file| kept(file)).cloned().collect(), bad)
}

fn group(files: Vec<PathBuf>, channels: usize) -> Result<Vec<Case>, CliError> {
    let mut cases: Vec<Case> = Vec::new();
    let mut by_name: BTreeMap<String, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    for file in files {
        let Some(stem) = case_name(&file) else { continue };
        let (name, channel) = match split_channel(&stem) {
            Some((name, channel)) if channel < channels => (name.to_owned(), channel),
            _ => (stem, 0),
        };
        let known = by_name.entry(name.clone()).or_default();
        if known.is_empty() {
            cases.push(Case { name: name.clone(), files: Vec::new() });
        }
        if let Some(other) = known.insert(channel, file.clone()) {
            return Err(same_name(&name, &[other], &[file]));
        }
    }
    for case in &mut cases {
        case.files = by_name.remove(&case.name).unwrap_or_default().into_values().collect();
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str], channels: usize) -> Vec<(String, usize)> {
        let files = files.iter().map(PathBuf::from).collect();
        group(files, channels).unwrap().into_iter().map(|c| (c.name, c.files.len())).collect()
    }

    #[test]
    fn case_name_is_the_file_name_without_extension() {
        let name = |file: &str| case_name(Path::new(file));
        assert_eq!(name("a/lab.seg.nii").as_deref(), Some("lab.seg"));
        assert_eq!(name("X.NII.GZ").as_deref(), Some("X"));
        assert_eq!(name("pair.hdr").as_deref(), Some("pair"));
        assert_eq!((name("._x.nii.gz"), name(".nii.gz"), name("x.bmp")), (None, None, None));
    }

    #[test]
    fn channel_numbers_group_files_or_are_removed() {
        assert_eq!(
            names(&["c_0000.nii.gz", "c_0001.nii.gz", "d_0000.nii"], 2),
            [("c".into(), 2), ("d".into(), 1)]
        );
        assert_eq!(
            names(&["c_0000.nii.gz", "hippocampus_001.nii.gz"], 1),
            [("c".into(), 1), ("hippocampus_001".into(), 1)]
        );
        // No channel of a model with two channels: each file is a case.
        assert_eq!(names(&["scan_2019.nii.gz", "scan_2020.nii.gz"], 2).len(), 2);
    }

    #[test]
    fn more_channels_than_the_model_has_are_refused_by_name() {
        let sort = |files: &[&str], channels| {
            without_surplus_channels(files.iter().map(PathBuf::from).collect(), channels)
        };
        let (kept, bad) = sort(&["a/x_0000.nii.gz", "a/x_0001.nii.gz", "a/y_0000.nii.gz", "a/z.nii"], 1);
        assert_eq!(kept, ["a/y_0000.nii.gz", "a/z.nii"].map(PathBuf::from));
        assert_eq!((bad.len(), bad[0].path.as_path()), (1, Path::new("a/x_0000.nii.gz")));
        let expected = "the model takes 1 channel, the folder has channels 0000 and 0001 of case x";
        assert!(bad[0].error.starts_with(expected), "{}", bad[0].error);
        assert!(sort(&["a/x_0000.nii.gz", "a/x_0001.nii.gz"], 2).1.is_empty());
        assert!(sort(&["a/x_0000.nii.gz", "b/x_0001.nii.gz", "scan_2019.nii", "scan_2020.nii"], 1).1.is_empty());
    }

    #[test]
    fn equal_case_names_are_wrong_usage() {
        let files = ["a/x.nii.gz", "b/x.nii"].map(PathBuf::from).to_vec();
        let error = group(files, 1).unwrap_err();
        assert!(
            matches!(&error, CliError::Usage { message, .. } if message.contains("case name `x`")),
            "{error:?}"
        );
        assert!(group(["x.nii.gz", "x_0000.nii.gz"].map(PathBuf::from).to_vec(), 1).is_err());
    }
}
