use std::path::{Path, PathBuf};

use sulcus_io::NiftiHeader;
use sulcus_volume::{Image, LabelMap, LabelTable};

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
    pub(crate) cases: Vec<Case>,
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
    pub(crate) header: NiftiHeader,
}

/// What is wrong with one file of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileProblem {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

impl Dataset {
    /// Opens a Medical Segmentation Decathlon task folder, an nnU-Net raw folder, or a folder with `images/` and
    /// `labels/` whose files have equal names.
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

    /// The structures in its masks.
    pub fn labels(&self) -> &LabelTable {
        &self.labels
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
    /// Reads the image, its channels stacked, and the first file's header.
    pub(crate) fn read_image(&self) -> Result<(Image, NiftiHeader), FileProblem> {
        let problem = |file: &Path, what: String| FileProblem { file: file.to_path_buf(), what };
        let mut first: Option<(Image, NiftiHeader)> = None;
        let mut data = Vec::new();
        let mut channels = 0;
        for file in &self.images {
            if !file.is_file() {
                return Err(problem(file, "the image file is missing".into()));
            }
            let read = sulcus_io::read_image(file).map_err(|e| problem(file, e.problem().to_string()))?;
            channels += read.image.channels();
            match &first {
                None => first = Some((read.image, read.header)),
                Some((image, _)) => {
                    image
                        .geometry()
                        .check_same_grid(read.image.geometry())
                        .map_err(|e| problem(file, format!("its grid differs from the first channel's: {e}")))?;
                    if data.is_empty() {
                        data.extend_from_slice(image.data());
                    }
                    data.extend_from_slice(read.image.data());
                }
            }
        }
        let Some((image, header)) = first else {
            return Err(problem(&self.label, "the mask has no image file".into()));
        };
        if data.is_empty() {
            return Ok((image, header));
        }
        let stacked = Image::new(*image.geometry(), channels, data);
        Ok((stacked.map_err(|e| problem(&self.label, e.to_string()))?, header))
    }

    /// Reads the mask.
    pub(crate) fn read_labels(&self) -> Result<LabelMap, FileProblem> {
        let problem = |what: String| FileProblem { file: self.label.clone(), what };
        if !self.label.is_file() {
            return Err(problem("the mask file is missing".into()));
        }
        sulcus_io::read_labels(&self.label).map(|(labels, _)| labels).map_err(|e| problem(e.problem().to_string()))
    }

    /// Reads image and mask.
    pub(crate) fn read(&self) -> Result<Scan, FileProblem> {
        let (image, header) = self.read_image()?;
        Ok(Scan { image, labels: self.read_labels()?, header })
    }
}
