//! DICOM files in memory.

use sulcus_dicom::{DicomError, Rescale, SeriesReader, is_segmentation_bytes, list_series_bytes};
use sulcus_io::dicom::{read_segmentation_bytes, read_series_stored_bytes};
use sulcus_io::{Compression, IoError, encode_labels};
use sulcus_volume::{LabelTable, WindowLevel};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::volumes::as_nifti;

/// Files that were dropped together, in any order.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct DicomFiles {
    images: Vec<Vec<u8>>,
    names: Vec<String>,
    segmentations: Vec<Vec<u8>>,
}

#[wasm_bindgen]
impl DicomFiles {
    /// No files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file. Returns whether it is a segmentation; segmentations are numbered from 0.
    pub fn add(&mut self, bytes: Vec<u8>, name: String) -> bool {
        let is_segmentation = is_segmentation_bytes(&bytes);
        if is_segmentation {
            self.segmentations.push(bytes);
        } else {
            self.images.push(bytes);
            self.names.push(name);
        }
        is_segmentation
    }

    /// The series of images, the largest first, one a line: UID, modality, slices, rows, columns and description, divided by
    /// tabs.
    ///
    /// # Errors
    /// A sentence, when a damaged file may belong to any series.
    pub fn series(&self) -> Result<String, String> {
        let list = list_series_bytes(&self.borrowed()).map_err(|error| self.told(error.into()))?;
        let clean = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let line = |s: &sulcus_dicom::SeriesSummary| {
            let description = clean(s.description.as_deref().unwrap_or_default());
            let fields = [
                clean(&s.uid),
                clean(&s.modality),
                s.slices.to_string(),
                s.rows.to_string(),
                s.columns.to_string(),
                description,
            ];
            fields.join("\t") + "\n"
        };
        Ok(list.series.iter().filter(|s| s.slices > 0).map(line).collect())
    }

    /// A small picture of the middle slice of a series: width, height, and a grey value for each pixel. Empty if the series
    /// cannot be read.
    pub fn thumbnail(&self, uid: &str) -> Vec<u8> {
        self.middle_slice(uid).ok().flatten().unwrap_or_default()
    }

    /// A series as a NIfTI file.
    ///
    /// # Errors
    /// A sentence that says why the series cannot be read.
    pub fn series_as_nifti(&self, uid: &str) -> Result<Vec<u8>, String> {
        let read = read_series_stored_bytes(&self.borrowed(), Some(uid));
        read.and_then(|(volume, _)| as_nifti(&volume)).map_err(|error| self.told(error))
    }

    /// A segmentation as a NIfTI file with the names of its segments.
    ///
    /// # Errors
    /// A sentence that says why the segmentation cannot be read.
    pub fn segmentation_as_nifti(&self, number: usize) -> Result<Vec<u8>, String> {
        let bytes = self.segmentations.get(number).map(Vec::as_slice).unwrap_or_default();
        let encoded = read_segmentation_bytes(bytes).and_then(|(labels, metadata)| {
            let no_names = LabelTable::default();
            let table = metadata.label_table().unwrap_or(&no_names);
            encode_labels(&labels, &metadata, table, Compression::None)
        });
        encoded.map_err(|error| error.to_string())
    }
}

impl DicomFiles {
    fn borrowed(&self) -> Vec<&[u8]> {
        self.images.iter().map(Vec::as_slice).collect()
    }

    /// An error with the name of the file instead of its number.
    fn told(&self, error: IoError) -> String {
        let number = error.path().and_then(|path| path.to_str()?.strip_prefix("file ")?.parse::<usize>().ok());
        let name = number.and_then(|number| self.names.get(number.checked_sub(1)?));
        name.map_or_else(|| error.to_string(), |name| format!("{}: {name}", error.kind()))
    }

    fn middle_slice(&self, uid: &str) -> Result<Option<Vec<u8>>, DicomError> {
        /// The longest side, in pixels.
        const SIDE: usize = 96;
        let files = self.borrowed();
        let reader = SeriesReader::from_bytes(&files, Some(uid))?;
        let [columns, rows, slices] = reader.series().geometry().shape();
        let Some(values) = reader.slice(slices / 2, Rescale::Apply)? else { return Ok(None) };
        let step = columns.max(rows).div_ceil(SIDE);
        let pixels =
            (0..rows).step_by(step).flat_map(|y| (0..columns).step_by(step).map(move |x| y * columns + x));
        let values: Vec<f32> = pixels.map(|at| values.get(at).map_or(f32::NAN, |v| *v as f32)).collect();
        let window = WindowLevel::auto(&values);
        let size = [columns, rows].map(|n| n.div_ceil(step) as u8);
        Ok(Some(size.into_iter().chain(values.iter().map(|v| window.grey(*v))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use sulcus_io::{read_image_bytes_without_statistics, read_labels_bytes};
    use sulcus_testing::dicom::{bundled_image, file, put, slices, text};

    use super::*;

    const EXPLICIT: &str = "1.2.840.10008.1.2.1";

    #[test]
    fn series_and_segmentations_are_listed_and_converted() {
        let image = bundled_image();
        let mut files = DicomFiles::new();
        let all = slices(&image);
        let count = all.len();
        for (number, slice) in all.into_iter().enumerate().rev() {
            assert!(!files.add(file(slice, EXPLICIT), format!("{number}.dcm")));
        }
        files.add(b"no DICOM".to_vec(), "notes".into());
        let list = files.series().unwrap();
        let fields: Vec<&str> = list.lines().next().unwrap().split('\t').collect();
        let [columns, rows, _] = image.geometry().shape();
        assert_eq!(list.lines().count(), 1);
        assert_eq!(fields[2..5], [count, rows, columns].map(|n| n.to_string()), "{list}");
        let nifti = files.series_as_nifti(fields[0]).unwrap();
        let (found, _) = read_image_bytes_without_statistics(&nifti).unwrap();
        sulcus_testing::dicom::assert_same_image(&found, &image, "series");
        let picture = files.thumbnail(fields[0]);
        assert_eq!(picture.len(), 2 + usize::from(picture[0]) * usize::from(picture[1]));
        assert!(picture[2..].iter().any(|v| *v > 200) && picture[2..].iter().any(|v| *v < 50));
        assert!(files.thumbnail("1.2.3").is_empty());
        assert!(files.series_as_nifti("1.2.3").unwrap_err().contains("series"));
        assert!(files.segmentation_as_nifti(0).is_err());
    }

    #[test]
    fn errors_name_the_file() {
        let image = bundled_image();
        let mut files = DicomFiles::new();
        for (number, slice) in slices(&image).into_iter().enumerate() {
            let bytes = file(slice, EXPLICIT);
            let bytes = if number == 3 { bytes[..bytes.len() - 100].to_vec() } else { bytes };
            files.add(bytes, format!("folder/{number}.dcm"));
        }
        let list = files.series().unwrap();
        let error = files.series_as_nifti(list.split('\t').next().unwrap()).unwrap_err();
        assert!(error.ends_with(": folder/3.dcm") && error.contains("cut short"), "{error}");
    }

    #[test]
    fn descriptions_cannot_break_the_list() {
        let image = bundled_image();
        let mut files = DicomFiles::new();
        for mut slice in slices(&image) {
            let tag = dicom_core::Tag(0x0008, 0x103e);
            put(&mut slice, tag, dicom_core::VR::LO, text("a\tb <img src=x>"));
            files.add(file(slice, EXPLICIT), String::new());
        }
        assert!(files.series().unwrap().ends_with("\ta b <img src=x>\n"));
    }

    #[test]
    fn segmentation_keeps_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let image = bundled_image();
        sulcus_testing::dicom::write(folder.path(), slices(&image), EXPLICIT);
        let like = sulcus_io::dicom::read_series_metadata(folder.path(), None).unwrap();
        let data = image.channel(0).iter().map(|v| u16::from(*v > 500.0)).collect();
        let labels = sulcus_volume::LabelMap::new(*like.geometry(), data).unwrap();
        let table = LabelTable::from_names([(1, "Bright".to_owned())]).unwrap();
        let path = folder.path().join("mask.dcm");
        sulcus_io::write_labels(&path, &labels, &like, &table).unwrap();
        let mut files = DicomFiles::new();
        assert!(files.add(std::fs::read(path).unwrap(), "mask.dcm".into()));
        let (found, metadata) = read_labels_bytes(&files.segmentation_as_nifti(0).unwrap()).unwrap();
        assert_eq!(
            found.data().iter().filter(|v| **v == 1).count(),
            labels.data().iter().filter(|v| **v == 1).count()
        );
        assert_eq!(metadata.label_table().unwrap().get(1).unwrap().name, "Bright");
    }
}
