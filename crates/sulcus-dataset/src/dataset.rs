use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sulcus_model::{Region, Structure};
use sulcus_volume::{Label, LabelTable};

use crate::case::Case;
use crate::finding::FileFinding;
use crate::patients::Patients;

/// A folder of scans with their masks.
///
/// [`Dataset::open`] reads only the description (and, for a folder without one, the masks' label values);
/// [`Dataset::survey`] reads and checks every voxel.
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
    /// Findings made while opening the folder.
    pub(crate) notes: Vec<FileFinding>,
    pub(crate) patients: Patients,
    /// Two cases that may be of one patient, as far as their names tell.
    pub(crate) unclear_patients: Option<[String; 2]>,
}

/// How the files of a data set are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// Medical Segmentation Decathlon: `dataset.json` lists pairs; 4-D files hold channels.
    Decathlon,
    /// nnU-Net raw: one file per channel, `imagesTr/CASE_0000.nii.gz`, and `labelsTr/CASE.nii.gz`. The
    /// `dataset.json` of version 1 has the Decathlon's form, that of version 2 has `channel_names`.
    NnUnet,
    /// The folders `images/` and `labels/` (or `masks/`), whose files have the same names; `CASE_0000`, `CASE_0001` are channels.
    Folders,
}

impl Dataset {
    /// The data set's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The data set's name, from `dataset.json` or the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its files are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The names of the image channels, in order.
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// The label values of its masks. They are the structures, unless the data set has regions.
    pub fn labels(&self) -> &LabelTable {
        &self.labels
    }

    /// Structures that are unions of label values (nnU-Net's regions), in the order in which they are written to a mask.
    /// Most data sets have none.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The structures to segment: the regions, or the labels if there are no regions.
    pub fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.labels, &self.regions)
    }

    /// The label value of voxels without an annotation (nnU-Net's `ignore`), which are part of no loss and no score. The
    /// value is not in the label table.
    pub fn ignore(&self) -> Option<Label> {
        self.ignore
    }

    /// The cases, sorted by name.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The case with this name.
    pub fn case(&self, name: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.name == name)
    }

    /// The path of `splits_final.json`, if the folder has one.
    pub fn splits_file(&self) -> Option<PathBuf> {
        let file = self.root.join("splits_final.json");
        file.is_file().then_some(file)
    }
}
