//! Saves the mask of the browser viewer as a DICOM segmentation of the series that is open.
//!
//! This is a WebAssembly module of its own, which is loaded into a worker when a segmentation is saved: writing DICOM takes more code than
//! reading it.

use sulcus_dicom::{FileStamp, SegmentationOptions, SeriesReader, encode_segmentation};
use sulcus_io::read_labels_bytes;
use sulcus_volume::LabelTable;
use wasm_bindgen::prelude::wasm_bindgen;

/// The files of a series, in any order, and possibly others.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct SeriesFiles {
    files: Vec<Vec<u8>>,
}

#[wasm_bindgen]
impl SeriesFiles {
    /// No files.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn add(&mut self, bytes: Vec<u8>) {
        self.files.push(bytes);
    }

    /// A mask, as an uncompressed NIfTI file on the grid of the series with this UID, as a DICOM segmentation of this series.
    /// `keep_patient` copies the patient's and the study's identity from the series. `unix_millis` is the time, `random` has at least
    /// 96 bytes of the browser's cryptographic random number generator, from which the identifiers of the file are made.
    ///
    /// # Errors
    /// A sentence that says why the series or the mask cannot be read, or that their grids differ.
    pub fn encode(
        &self,
        uid: &str,
        mask: &[u8],
        keep_patient: bool,
        unix_millis: f64,
        random: &[u8],
    ) -> Result<Vec<u8>, String> {
        let stamp = random.first_chunk().and_then(|bytes| FileStamp::new(unix_millis as i64, bytes));
        let stamp = stamp.ok_or("a file needs a date and 96 random bytes")?;
        let mut options = SegmentationOptions::new(env!("CARGO_PKG_VERSION")).with_stamp(stamp);
        options.keep_patient = keep_patient;
        let (labels, metadata) = read_labels_bytes(mask).map_err(|error| error.to_string())?;
        let no_names = LabelTable::default();
        let files: Vec<&[u8]> = self.files.iter().map(Vec::as_slice).collect();
        let reader = SeriesReader::from_bytes(&files, Some(uid)).map_err(|error| error.to_string())?;
        let table = metadata.label_table().unwrap_or(&no_names);
        encode_segmentation(&labels, reader.series(), table, &options).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use sulcus_dicom::{is_segmentation_bytes, list_series_bytes};
    use sulcus_io::dicom::{read_segmentation_bytes, read_series_stored_bytes};
    use sulcus_io::{Compression, Texts, encode_labels, encode_stored, read_image_bytes_without_statistics};
    use sulcus_testing::dicom::{EXPLICIT, bundled_image, file, put, slices, text};
    use sulcus_volume::{Geometry, GridUnit, LabelMap, Spacing};

    use super::*;

    #[test]
    fn mask_becomes_a_segmentation_of_the_series() {
        let image = bundled_image();
        let mut files = SeriesFiles::new();
        for mut slice in slices(&image) {
            put(&mut slice, dicom_core::Tag(0x0010, 0x0020), dicom_core::VR::LO, text("patient 7"));
            files.add(file(slice, EXPLICIT));
        }
        let borrowed: Vec<&[u8]> = files.files.iter().map(Vec::as_slice).collect();
        let uid = list_series_bytes(&borrowed).unwrap().series[0].uid.clone();
        let (stored, _) = read_series_stored_bytes(&borrowed, Some(&uid)).unwrap();
        let nifti = encode_stored(&stored, None, Texts::Drop, Compression::None).unwrap();
        let (grid, _) = read_image_bytes_without_statistics(&nifti).unwrap();
        let data = grid.channel(0).iter().map(|v| u16::from(*v > 500.0) * 3).collect();
        let labels = LabelMap::new(*grid.geometry(), data).unwrap();
        let table = LabelTable::from_names([(3, "Bright".to_owned())]).unwrap();
        let mask = encode_labels(&labels, &(*grid.geometry()).into(), &table, Compression::None).unwrap();
        let random: Vec<u8> = (0..96).collect();
        let encode = |mask: &[u8], keep, random: &[u8]| files.encode(&uid, mask, keep, 1.7e12, random);
        let seg = encode(&mask, false, &random).unwrap();
        assert!(is_segmentation_bytes(&seg));
        let contains = |file: &[u8], word: &[u8]| file.windows(word.len()).any(|w| w == word);
        assert!(!contains(&seg, b"patient 7") && contains(&seg, b"20231114") && contains(&seg, uid.as_bytes()));
        assert!(contains(&encode(&mask, true, &random).unwrap(), b"patient 7"));
        let (found, metadata) = read_segmentation_bytes(&seg).unwrap();
        assert_eq!(found.reoriented(labels.geometry().orientation()).data(), labels.data());
        assert_eq!(metadata.label_table().unwrap().get(3).unwrap().name, "Bright");

        assert!(encode(&mask, false, &random[1..]).unwrap_err().contains("96 random bytes"));
        let other = Geometry::of_picture([3, 2, 1], Spacing::new([1.0; 3]).unwrap(), GridUnit::Millimetre);
        let other = other.unwrap();
        let small = LabelMap::new(other, vec![3; 6]).unwrap();
        let small = encode_labels(&small, &other.into(), &table, Compression::None).unwrap();
        assert!(encode(&small, false, &random).unwrap_err().contains("grid"));
    }
}
