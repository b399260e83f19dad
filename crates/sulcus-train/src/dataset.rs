use std::path::{Path, PathBuf};

use sulcus_io::Source;
use sulcus_model::{Region, Structure};
use sulcus_volume::{Image, Label, LabelMap, LabelTable, VolumeError};

use crate::DatasetError;
use crate::layout::{self, Layout};

/// Scans with their masks, as they lie on disk. Opening one reads its description alone; the voxels are read and
/// checked by [`Dataset::survey`].
#[derive(Debug, Clone)]
pub struct Dataset {
    pub(crate) root: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) name: String,
    pub(crate) channels: Vec<String>,
    pub(crate) labels: LabelTable,
    pub(crate) regions: Vec<Region>,
    pub(crate) ignore: Option<Label>,
    pub(crate) cases: Vec<Case>,
    /// What opening it found that is worth knowing, besides the cases.
    pub(crate) notes: Vec<FileProblem>,
}

/// One scan and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// File name without its ending and channel number.
    pub name: String,
    /// One file a channel, or a single file with all of them.
    pub images: Vec<PathBuf>,
    /// The mask.
    pub label: PathBuf,
}

/// A case's voxels.
pub(crate) struct Scan {
    pub(crate) image: Image,
    pub(crate) labels: LabelMap,
    /// Header of the first image file, for masks that are written beside it.
    pub(crate) source: Source,
}

/// What is wrong with one file of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileProblem {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

impl Dataset {
    /// Opens a Medical Segmentation Decathlon task folder, an nnU-Net raw folder (of version 1 or 2), or a folder with
    /// `images/` and `labels/` whose files have equal names.
    ///
    /// Channels are indices of the fourth axis of one file, or files `CASE_0000`, `CASE_0001` and so on.
    ///
    /// The masks of a plain folder are read once here, as nothing else says which labels there are.
    ///
    /// # Errors
    /// When the folder has none of these forms, or its `dataset.json` cannot be used.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, DatasetError> {
        layout::open(root.as_ref())
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its name, from `dataset.json` or the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In which form its files lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Names of the image channels, in order.
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// The values in its masks. Unless it has regions they are the structures.
    pub fn labels(&self) -> &LabelTable {
        &self.labels
    }

    /// Structures that are unions of values (nnU-Net's regions), in the order of writing; empty in most data sets.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What is to be found: the regions, or where there are none the labels.
    pub fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.labels, &self.regions)
    }

    /// The value in its masks of voxels that nobody has labelled (nnU-Net's `ignore`): they count neither in a loss nor in
    /// a score. It is not in the label table.
    pub fn ignore(&self) -> Option<Label> {
        self.ignore
    }

    /// The cases with a mask, by name.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The case of this name.
    pub fn case(&self, name: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.name == name)
    }

    /// `splits_final.json` in the folder, where there is one.
    pub fn splits_file(&self) -> Option<PathBuf> {
        let file = self.root.join("splits_final.json");
        file.is_file().then_some(file)
    }
}

impl Case {
    /// Reads the image, its channels stacked, and what the first file says of the grid.
    pub(crate) fn read_image(&self) -> Result<(Image, Source), FileProblem> {
        let no_file = || FileProblem { file: self.label.clone(), what: "the mask has no image file".into() };
        self.read_channels().map_err(|problems| problems.into_iter().next().unwrap_or_else(no_file))
    }

    /// The same, with what is wrong with each file.
    pub(crate) fn read_channels(&self) -> Result<(Image, Source), Vec<FileProblem>> {
        let mut problems = Vec::new();
        let mut first: Option<(&Path, Image, Source)> = None;
        let mut data = Vec::new();
        let mut channels = 0;
        for file in &self.images {
            let mut wrong = |what: String| problems.push(FileProblem { file: file.clone(), what });
            if let Some(what) = missing(file, "image") {
                wrong(what);
                continue;
            }
            let read = match sulcus_io::read_scan(file) {
                Ok(read) => read,
                Err(e) => {
                    wrong(e.problem().to_string());
                    continue;
                }
            };
            channels += read.image.channels();
            match &first {
                None => first = Some((file, read.image, read.source)),
                Some((first, image, _)) => {
                    if let Err(e) = image.geometry().check_same_grid(read.image.geometry()) {
                        wrong(format!(
                            "its grid differs from that of the first channel, {}: {}; resample the channels onto one \
                             grid",
                            short(first),
                            difference(&e)
                        ));
                        continue;
                    }
                    if data.is_empty() {
                        data.extend_from_slice(image.data());
                    }
                    data.extend_from_slice(read.image.data());
                }
            }
        }
        let Some((_, image, source)) = first.filter(|_| problems.is_empty()) else { return Err(problems) };
        if data.is_empty() {
            return Ok((image, source));
        }
        let stacked = Image::new(*image.geometry(), channels, data);
        let wrong = |e: VolumeError| vec![FileProblem { file: self.label.clone(), what: e.to_string() }];
        Ok((stacked.map_err(wrong)?, source))
    }

    /// Reads the mask and what its file says of it.
    pub(crate) fn read_labels(&self) -> Result<(LabelMap, Source), FileProblem> {
        let problem = |what: String| FileProblem { file: self.label.clone(), what };
        if let Some(what) = missing(&self.label, "mask") {
            return Err(problem(what));
        }
        sulcus_io::read_labels(&self.label).map_err(|e| problem(e.problem().to_string()))
    }

    /// Reads image and mask.
    pub(crate) fn read(&self) -> Result<Scan, FileProblem> {
        let (image, source) = self.read_image()?;
        Ok(Scan { image, labels: self.read_labels()?.0, source })
    }
}

/// What to say of a file that is not there.
fn missing(file: &Path, what: &str) -> Option<String> {
    if file.exists() {
        return None;
    }
    Some(match std::fs::read_link(file) {
        Ok(target) => format!("the {what} file is a link to {}, which is missing", target.display()),
        Err(_) => format!("the {what} file is missing; add it, or take the case out"),
    })
}

/// A file with the folder that it lies in, which is what tells an image from its mask.
pub(crate) fn short(file: &Path) -> String {
    let name = |path: Option<&std::ffi::OsStr>| path.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    match file.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{}", folder.to_string_lossy(), name(file.file_name())),
        None => name(file.file_name()),
    }
}

/// In what two grids differ.
pub(crate) fn difference(error: &VolumeError) -> String {
    match error {
        VolumeError::GridMismatch(what) => what.clone(),
        other => other.to_string(),
    }
}

/// A number of things, in words.
pub(crate) fn count(number: usize, singular: &str) -> String {
    format!("{number} {singular}{}", if number == 1 { "" } else { "s" })
}
