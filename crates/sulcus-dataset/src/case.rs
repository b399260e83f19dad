use std::path::{Path, PathBuf};

use sulcus_io::VolumeMetadata;
use sulcus_volume::{Image, LabelMap, VolumeError};

use crate::finding::{FileFinding, Finding};
use crate::text::{difference, short};

/// The files of one scan and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Case {
    /// The file name without its ending and channel number.
    pub name: String,
    /// One file per channel, or a single file with all channels.
    pub images: Vec<PathBuf>,
    /// The mask's file.
    pub label: PathBuf,
}

/// The voxels of a case.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LabelledScan {
    /// The image, its channels stacked.
    pub image: Image,
    /// The mask.
    pub labels: LabelMap,
    /// The header of the first image file, for masks that are written on its grid.
    pub source: VolumeMetadata,
}

impl Case {
    /// Reads the image with its channels stacked, and the header of the first file.
    ///
    /// # Errors
    /// With the first file that cannot be read or lies on another grid.
    pub fn read_image(&self) -> Result<(Image, VolumeMetadata), Finding> {
        let no_file = || FileFinding { file: self.label.clone(), what: "the mask has no image file".into() };
        let first = |found: Vec<FileFinding>| found.into_iter().next().unwrap_or_else(no_file).in_case(&self.name);
        self.read_channels().map_err(first)
    }

    /// The same, with a finding for each file that cannot be used.
    pub(crate) fn read_channels(&self) -> Result<(Image, VolumeMetadata), Vec<FileFinding>> {
        let mut found = Vec::new();
        let mut first: Option<(&Path, Image, VolumeMetadata)> = None;
        let mut data = Vec::new();
        let mut channels = 0;
        for file in &self.images {
            let mut wrong = |what: String| found.push(FileFinding { file: file.clone(), what });
            if let Some(what) = missing(file, "image") {
                wrong(what);
                continue;
            }
            let read = match sulcus_io::read_scan(file) {
                Ok(read) => read,
                Err(e) => {
                    wrong(e.kind().to_string());
                    continue;
                }
            };
            channels += read.image.channels();
            match &first {
                None => first = Some((file, read.image, read.metadata)),
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
        let Some((_, image, source)) = first.filter(|_| found.is_empty()) else { return Err(found) };
        if data.is_empty() {
            return Ok((image, source));
        }
        let stacked = Image::new(*image.geometry(), channels, data);
        let wrong = |e: VolumeError| vec![FileFinding { file: self.label.clone(), what: e.to_string() }];
        Ok((stacked.map_err(wrong)?, source))
    }

    /// Reads the mask and its header.
    ///
    /// # Errors
    /// When the file is missing, damaged or not a mask.
    pub fn read_labels(&self) -> Result<(LabelMap, VolumeMetadata), Finding> {
        self.read_mask_file().map_err(|found| found.in_case(&self.name))
    }

    pub(crate) fn read_mask_file(&self) -> Result<(LabelMap, VolumeMetadata), FileFinding> {
        let problem = |what: String| FileFinding { file: self.label.clone(), what };
        if let Some(what) = missing(&self.label, "mask") {
            return Err(problem(what));
        }
        sulcus_io::read_labels(&self.label).map_err(|e| problem(e.kind().to_string()))
    }

    /// Reads image and mask.
    ///
    /// # Errors
    /// As [`Case::read_image`] and [`Case::read_labels`].
    pub fn read(&self) -> Result<LabelledScan, Finding> {
        let (image, source) = self.read_image()?;
        Ok(LabelledScan { image, labels: self.read_labels()?.0, source })
    }
}

/// The message about a file that does not exist; `None` if the file exists.
fn missing(file: &Path, what: &str) -> Option<String> {
    if file.exists() {
        return None;
    }
    Some(match std::fs::read_link(file) {
        Ok(target) => format!("the {what} file is a link to {}, which is missing", target.display()),
        Err(_) => format!("the {what} file is missing; add it, or remove the case"),
    })
}
