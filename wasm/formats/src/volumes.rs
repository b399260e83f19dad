//! Volumes in one file or two.

use sulcus_io::{
    Compression, IoError, StoredVolume, Texts, encode_stored, read_stored_bytes, read_stored_pair_bytes,
};
use wasm_bindgen::prelude::wasm_bindgen;

/// Converts a file of any format but DICOM to NIfTI. Type, scale and label names stay; texts that may name the patient do not.
///
/// # Errors
/// A sentence that says why the file cannot be read.
#[wasm_bindgen]
pub fn to_nifti(bytes: &[u8]) -> Result<Vec<u8>, String> {
    read_stored_bytes(bytes).and_then(|volume| as_nifti(&volume)).map_err(|e| e.to_string())
}

/// Converts a volume in two files to NIfTI: `.hdr` and `.img`, `.nhdr` or `.mhd` and the file that it names.
///
/// # Errors
/// As [`to_nifti`].
#[wasm_bindgen]
pub fn pair_to_nifti(header: &[u8], voxels: &[u8]) -> Result<Vec<u8>, String> {
    read_stored_pair_bytes(header, voxels).and_then(|volume| as_nifti(&volume)).map_err(|e| e.to_string())
}

pub(crate) fn as_nifti(volume: &StoredVolume<'_>) -> Result<Vec<u8>, IoError> {
    encode_stored(volume, volume.metadata().label_table(), Texts::Drop, Compression::None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sulcus_io::{
        read_image_bytes_without_statistics, read_labels_bytes, read_scan, write_image, write_labels,
    };
    use sulcus_volume::LabelTable;

    use super::*;

    fn example(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/case").join(name)
    }

    #[test]
    fn every_format_becomes_the_same_volume() {
        let scan = read_scan(&example("image.nii.gz")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["scan.nrrd", "scan.mha", "scan.nii.gz"] {
            let path = folder.path().join(name);
            write_image(&path, &scan.image, &scan.metadata).unwrap();
            let nifti = to_nifti(&std::fs::read(&path).unwrap()).unwrap();
            let (image, _) = read_image_bytes_without_statistics(&nifti).unwrap();
            assert_eq!(image.data(), scan.image.data(), "{name}");
            image.geometry().check_same_grid(scan.image.geometry()).unwrap();
        }
        for (header, voxels) in [("scan.nhdr", "scan.raw.gz"), ("scan.mhd", "scan.zraw"), ("scan.hdr", "scan.img")]
        {
            let path = folder.path().join(header);
            write_image(&path, &scan.image, &scan.metadata).unwrap();
            let [header, voxels] = [header, voxels].map(|name| std::fs::read(folder.path().join(name)).unwrap());
            let nifti = pair_to_nifti(&header, &voxels).unwrap();
            assert_eq!(read_image_bytes_without_statistics(&nifti).unwrap().0.data(), scan.image.data());
            assert!(to_nifti(&header).is_err(), "the voxels are missing");
        }
    }

    #[test]
    fn names_of_labels_stay() {
        let (labels, like) = sulcus_io::read_labels(&example("truth.nii.gz")).unwrap();
        let table = LabelTable::from_names([(1, "Head".to_owned()), (2, "Tail".to_owned())]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.seg.nrrd");
        write_labels(&path, &labels, &like, &table).unwrap();
        let (found, metadata) = read_labels_bytes(&to_nifti(&std::fs::read(&path).unwrap()).unwrap()).unwrap();
        assert_eq!(found.data(), labels.data());
        assert_eq!(metadata.label_table().unwrap().get(2).unwrap().name, "Tail");
        assert!(metadata.is_label_map());
    }

    #[test]
    fn other_files_are_refused_with_the_reason() {
        assert!(to_nifti(b"").unwrap_err().contains("empty"));
        assert!(to_nifti(&[7; 4000]).unwrap_err().starts_with("cannot read a volume"));
    }
}
