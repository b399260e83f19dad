//! One function a file format: reads the bytes in every way there is. It may refuse them; it must not panic, and what
//! it reads must fit together.

use sulcus_io::{
    IoError, LabelTableFormat, Scan, format_label_table, parse_label_table, read_info_bytes, read_labels_bytes,
    read_scan_bytes, read_scan_pair_bytes,
};

/// Does with bytes what the kit does with a file, and must come back from it.
pub type Target = fn(&[u8]);

/// The functions by name.
pub const TARGETS: &[(&str, Target)] =
    &[("nifti", nifti), ("nrrd", nrrd), ("metaimage", metaimage), ("tables", tables), ("model", model)];

/// `.nii`, `.nii.gz`, and a `.hdr`/`.img` pair.
pub fn nifti(data: &[u8]) {
    volume(data);
    // Past the checksum, which random changes don't get through.
    volume(&gzip(data));
    let (header, voxels) = data.split_at(data.len().min(348));
    checked(read_scan_pair_bytes(header, voxels));
}

/// `.nrrd` and `.seg.nrrd`.
pub fn nrrd(data: &[u8]) {
    volume(data);
    // The same voxels past the checksum of gzip data.
    if let Some(end) = data.windows(2).position(|two| two == b"\n\n") {
        let (header, voxels) = data.split_at(end + 2);
        volume(&[header, &gzip(voxels)].concat());
    }
}

/// `.mha`.
pub fn metaimage(data: &[u8]) {
    volume(data);
    let key = b"ElementDataFile";
    let last = data.windows(key.len()).position(|word| word == key);
    let end = last.and_then(|at| Some(at + data.get(at..)?.iter().position(|b| *b == b'\n')? + 1));
    if let Some((header, voxels)) = end.map(|end| data.split_at(end)) {
        volume(&[header, &gzip(voxels)].concat());
    }
}

/// A label table of another program, which is written again in its own format.
pub fn tables(data: &[u8]) {
    if let Ok(table) = parse_label_table(data) {
        assert!(table.entries().iter().all(|entry| entry.value > 0));
        let format = LabelTableFormat::of_content(data).expect("it was read");
        let _ = parse_label_table(format_label_table(&table, format).as_bytes());
    }
}

/// A model file: its outer layer, the specification in it, and its weights.
pub fn model(data: &[u8]) {
    if let Ok(spec) = sulcus_onnx::read_spec(data) {
        let again = sulcus_onnx::with_spec(data, &spec).expect("a file that was read takes a specification");
        assert_eq!(sulcus_onnx::read_spec(&again).expect("what was written is read"), spec);
    }
    let _ = sulcus_onnx::read_constants(data);
}

fn volume(data: &[u8]) {
    checked(read_scan_bytes(data));
    if let Ok((labels, _)) = read_labels_bytes(data) {
        assert_eq!(labels.data().len(), labels.geometry().voxels());
    }
    if let Ok(info) = read_info_bytes(data) {
        assert!(info.min <= info.max && info.spacing_mm.iter().all(|mm| *mm > 0.0));
    }
}

fn checked(read: Result<Scan, IoError>) {
    match read {
        Ok(read) => {
            let image = &read.image;
            assert_eq!(image.data().len(), image.geometry().voxels() * image.channels());
            assert_eq!(read.info.shape.iter().product::<usize>(), image.data().len());
        }
        Err(error) => assert!(error.to_string().starts_with("cannot ")),
    }
}

/// One gzip member.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    use libdeflater::{CompressionLvl, Compressor};
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut out = vec![0; compressor.gzip_compress_bound(content.len())];
    let length = compressor.gzip_compress(content, &mut out).expect("the bound is enough");
    out.truncate(length);
    out
}
