//! Written masks and images, byte by byte, as other programs read them.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use sulcus_io::{
    Compression, StoredVolume, Texts, VolumeFormat, VolumeMetadata, encode_image, encode_labels,
    read_labels_bytes, read_scan_bytes, read_stored, write_labels, write_stored,
};
use sulcus_testing::{NiftiFile, gzip};
use sulcus_volume::{
    Geometry, Image, LabelEntry, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Rgb, Spacing,
};

fn table() -> LabelTable {
    let entry = |value, name: &str| LabelEntry { value, name: name.into(), color: Rgb([value as u8, 2, 3]) };
    LabelTable::new(vec![entry(1, "Anterior"), entry(2, "Hippocampe postérieur")]).unwrap()
}

/// A mask on the grid of a file, and the metadata of that file.
fn mask_like(file: &NiftiFile, value: impl Fn(usize) -> u16) -> (LabelMap, VolumeMetadata) {
    let read = read_scan_bytes(&file.bytes()).unwrap();
    let geometry = *read.image.geometry();
    (LabelMap::new(geometry, (0..geometry.voxels()).map(value).collect()).unwrap(), read.metadata)
}

/// An oblique file with three different transforms, and unusual bits that must be kept.
fn oblique(big: bool) -> NiftiFile {
    NiftiFile {
        big_endian: big,
        qform_code: 1,
        sform_code: 4,
        pixdim: [-1.0, 1.0, 2.0, 3.0, 2.5, f32::from_bits(0x7fc0_1234), -0.0, 1e-40],
        quatern: [0.1, -0.2, 0.3, 11.0, -12.0, 13.5],
        srow: [[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]],
        slope: 0.25,
        inter: -3.0,
        ..NiftiFile::default()
    }
}

#[test]
fn mask_copies_position_bit_for_bit_and_no_patient_data() {
    let expected = NiftiFile { big_endian: false, ..oblique(false) }.header();
    for big in [false, true] {
        let (labels, header) = mask_like(&oblique(big), |i| (i % 3) as u16);
        let mask = encode_labels(&labels, &header, &table(), Compression::None).unwrap();
        // pixdim; xyzt_units; the transforms, codes and all; dim_info.
        for range in [76..108, 123..124, 252..328, 39..40] {
            assert_eq!(mask[range.clone()], expected[range.clone()], "{range:?}, big-endian {big}");
        }
        let i16_at = |at: usize| i16::from_le_bytes([mask[at], mask[at + 1]]);
        let f32_at = |at: usize| f32::from_le_bytes([mask[at], mask[at + 1], mask[at + 2], mask[at + 3]]);
        assert_eq!((0..8).map(|i| i16_at(40 + 2 * i)).collect::<Vec<_>>(), [3, 2, 3, 4, 1, 1, 1, 1]);
        assert_eq!((i16_at(68), i16_at(70), i16_at(72)), (1002, 2, 8), "intent, datatype, bitpix");
        assert_eq!((f32_at(112), f32_at(116)), (1.0, 0.0), "slope, intercept");
        assert_eq!((f32_at(124), f32_at(128)), (0.0, 0.0), "cal_max, cal_min");
        assert_eq!(&mask[328..335], b"labels\0");
        assert_eq!(&mask[344..348], b"n+1\0");
        assert!(!mask.windows(7).any(|w| w == b"patient"), "the description is the patient's");
        let voxels = f32_at(108) as usize;
        assert_eq!((voxels % 16, mask.len()), (0, voxels + 24));
        assert_eq!(mask[voxels..], labels.data().iter().map(|v| *v as u8).collect::<Vec<_>>());
        let (back, header) = read_labels_bytes(&mask).unwrap();
        assert_eq!((back, header.label_table()), (labels, Some(&table())));
        assert!(header.label_text().is_some_and(|text| text.starts_with('{') && text.ends_with('}')));
    }
}

#[test]
fn mask_has_the_smallest_sufficient_type() {
    for (largest, datatype) in [(0, 2), (255, 2), (256, 512), (65535, 512)] {
        let (labels, header) = mask_like(&NiftiFile::default(), |i| if i == 5 { largest } else { 0 });
        for compression in [Compression::None, Compression::Gzip] {
            let mask = encode_labels(&labels, &header, &LabelTable::default(), compression).unwrap();
            let (back, header) = read_labels_bytes(&mask).unwrap();
            assert_eq!((&back, header.label_table()), (&labels, None));
            if compression == Compression::None {
                assert_eq!((mask[70], mask[71]), ((datatype & 255) as u8, (datatype >> 8) as u8));
                assert_eq!(mask[348..352], [0; 4], "no names, no extension");
            }
        }
    }
}

#[test]
fn masks_of_2d_and_4d_inputs_are_3d_on_the_same_grid() {
    let dims =
        [[4, 2, 3, 2, 2, 1, 1, 1], [2, 4, 6, 0, 0, 0, 0, 0], [7, 2, 3, 4, 1, 1, 1, 1], [1, 24, 9, 9, 9, 9, 9, 9]];
    for dim in dims {
        for sform_code in [0, 1] {
            // The third size of a 2-D image is meaningless, and must not move its mask.
            let (labels, header) =
                mask_like(&NiftiFile { dim, sform_code, ..NiftiFile::default() }, |i| (i % 2) as u16);
            let mask = encode_labels(&labels, &header, &table(), Compression::None).unwrap();
            assert_eq!(mask[40], 3);
            let (back, _) = read_labels_bytes(&mask).unwrap();
            assert_eq!(back, labels, "{dim:?}, sform {sform_code}");
        }
    }
}

#[test]
fn labels_of_another_grid_are_refused() {
    let (labels, _) = mask_like(&NiftiFile::default(), |_| 0);
    let (_, header) = mask_like(&oblique(false), |_| 0);
    let error = encode_labels(&labels, &header, &table(), Compression::None).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "cannot write the mask on the grid of its input: the two volumes lie on different grids: "
        ),
        "{error}"
    );
}

#[test]
fn images_keep_every_bit_and_channel() {
    let header = mask_like(&oblique(true), |_| 0).1;
    let values = [0.1, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::INFINITY, 1e-7];
    for channels in [1, 3] {
        let data: Vec<f32> = values.into_iter().cycle().take(24 * channels).collect();
        let image = Image::new(*header.geometry(), channels, data).unwrap();
        for compression in [Compression::None, Compression::Gzip] {
            let back = read_scan_bytes(&encode_image(&image, &header, compression).unwrap()).unwrap();
            assert_eq!((back.info.dtype, back.image.channels()), ("float32", channels));
            let bits = |i: &Image| i.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back.image), bits(&image));
            assert_eq!(back.image.geometry(), header.geometry());
        }
    }
}

#[test]
fn header_from_geometry_restores_the_geometry() {
    let spacing = Spacing::new([0.5, 1.25, 3.0]).unwrap();
    for orientation in Orientation::all() {
        for source in [OrientationSource::Sform, OrientationSource::None] {
            let map = RasFromVoxel::aligned(orientation, spacing);
            let geometry = Geometry::new([3, 4, 5], map, source).unwrap();
            let header = VolumeMetadata::from(geometry);
            let labels = LabelMap::new(geometry, (0..60).collect()).unwrap();
            let mask = encode_labels(&labels, &header, &table(), Compression::Gzip).unwrap();
            let (back, _) = read_labels_bytes(&mask).unwrap();
            back.geometry().check_same_grid(&geometry).unwrap();
            assert_eq!((back.geometry().orientation(), back.data()), (orientation, labels.data()));
        }
    }
    // An unknown position stays unknown.
    let unplaced = mask_like(&NiftiFile { sform_code: 0, ..NiftiFile::default() }, |_| 0).1;
    let labels = LabelMap::new(*unplaced.geometry(), vec![0; 24]).unwrap();
    let made = VolumeMetadata::from(*unplaced.geometry());
    let mask = encode_labels(&labels, &made, &table(), Compression::None).unwrap();
    assert_eq!(read_labels_bytes(&mask).unwrap().1.geometry(), unplaced.geometry());
}

#[test]
fn nifti_2_is_kept_and_used_for_long_axes() {
    for big in [false, true] {
        let file = NiftiFile { dim: [3, 2, 3, 4, 1, 1, 1, 1], ..oblique(big) };
        let expected = NiftiFile { big_endian: false, ..file.clone() }.bytes_version_2();
        let read = read_scan_bytes(&file.bytes_version_2()).unwrap();
        let same = read_scan_bytes(&file.bytes()).unwrap();
        assert_eq!((&read.image, read.info.format), (&same.image, Some(VolumeFormat::Nifti2)));
        let labels = LabelMap::new(*read.image.geometry(), vec![1; 24]).unwrap();
        let mask = encode_labels(&labels, &read.metadata, &table(), Compression::None).unwrap();
        // Size, magic and line ends; pixdim; transforms and codes; units; dim_info.
        for range in [0..12, 104..168, 344..496, 500..504, 524..525] {
            assert_eq!(mask[range.clone()], expected[range.clone()], "{range:?}, big-endian {big}");
        }
        assert!(!mask.windows(7).any(|w| w == b"patient"), "the description is the patient's");
        let (back, source) = read_labels_bytes(&mask).unwrap();
        assert_eq!((back, source.label_table()), (labels, Some(&table())));
    }
    let made = mask_like(&NiftiFile::default(), |_| 0).1;
    let long = Geometry::new([40000, 1, 1], *made.geometry().ras_from_voxel(), OrientationSource::Sform).unwrap();
    let labels = LabelMap::new(long, vec![3; 40000]).unwrap();
    let mask = encode_labels(&labels, &long.into(), &table(), Compression::Gzip).unwrap();
    let (back, source) = read_labels_bytes(&mask).unwrap();
    assert_eq!((back, source.format()), (labels, Some(VolumeFormat::Nifti2)));
    // The number of channels exceeds NIfTI-1, but the grid does not.
    let image = Image::new(*made.geometry(), 40000, vec![0.5; 24 * 40000]).unwrap();
    let back = read_scan_bytes(&encode_image(&image, &made, Compression::Gzip).unwrap()).unwrap();
    assert_eq!((back.image, back.info.format), (image, Some(VolumeFormat::Nifti2)));
}

#[test]
fn stored_volume_keeps_type_scale_and_optionally_texts() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<u8> = (0..24_i16).flat_map(|v| (v * 1000 - 9000).to_be_bytes()).collect();
    let extension = [&[16, 0, 0, 0, 6, 0, 0, 0], b"a note.\0".as_slice()].concat();
    let between = [vec![1, 0, 0, 0], extension.clone()].concat();
    let little = NiftiFile { datatype: 4, bitpix: 16, vox_offset: 368.0, between, ..oblique(false) };
    for big in [false, true] {
        let mut file = NiftiFile { big_endian: big, voxels: values.clone(), ..little.clone() };
        if big {
            // Size and code of the extension.
            file.between[4..8].reverse();
            file.between[8..12].reverse();
        } else {
            file.voxels.as_chunks_mut::<2>().0.iter_mut().for_each(|v| v.reverse());
        }
        let (input, output) = (folder.path().join("in.nii"), folder.path().join("out.nii.gz"));
        std::fs::write(&input, file.bytes()).unwrap();
        let stored = read_stored(&input).unwrap();
        assert_eq!((stored.slope_and_intercept(), stored.bytes().len()), (Some((0.25, -3.0)), 48));
        for (texts, kept) in [(Texts::Keep, true), (Texts::Drop, false)] {
            write_stored(&output, &stored, None, texts).unwrap();
            let back = read_stored(&output).unwrap();
            assert_eq!(back.bytes(), stored.bytes());
            assert_eq!(back.info(), stored.info());
            let bytes = inflated(&std::fs::read(&output).unwrap());
            assert_eq!(bytes.windows(7).any(|w| w == b"patient"), kept);
            assert_eq!(bytes.windows(7).any(|w| w == b"a note."), kept);
            assert_eq!(bytes[252..328], NiftiFile { big_endian: false, ..file.clone() }.header()[252..328]);
        }
        // The same values on another grid.
        let turned =
            Geometry::new([4, 3, 2], *stored.metadata().geometry().ras_from_voxel(), OrientationSource::Sform);
        let source = stored.metadata().on_grid(&turned.unwrap()).unwrap();
        let turned = StoredVolume::new(source, stored.bytes()).unwrap().scaled(0.25, -3.0).unwrap();
        write_stored(&output, &turned, None, Texts::Drop).unwrap();
        let back = read_stored(&output).unwrap();
        assert_eq!((back.info().shape, back.bytes()), (vec![4, 3, 2], stored.bytes()));
        back.metadata().geometry().check_same_grid(turned.metadata().geometry()).unwrap();
    }
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1 << 16];
    let length = libdeflater::Decompressor::new().gzip_decompress(bytes, &mut out).unwrap();
    out.truncate(length);
    out
}

#[test]
fn label_names_are_found_among_extensions_and_damaged_ones_ignored() {
    let (labels, header) = mask_like(&NiftiFile::default(), |_| 1);
    let mask = encode_labels(&labels, &header, &table(), Compression::None).unwrap();
    let voxels = mask.len() - 24;
    let ours = &mask[352..voxels];
    assert_eq!(
        std::str::from_utf8(&ours[8..]).unwrap().trim_end_matches('\0'),
        r#"{"format":"sulcus.labels","format_version":1,"labels":[{"value":1,"name":"Anterior","color":[1,2,3]},{"value":2,"name":"Hippocampe postérieur","color":[2,2,3]}]}"#
    );
    let read = |extensions: &[u8]| {
        let mut between = vec![1, 0, 0, 0];
        between.extend(extensions);
        let file = NiftiFile { vox_offset: (348 + between.len()) as f32, between, ..NiftiFile::default() };
        let (_, header) = read_labels_bytes(&gzip(&file.bytes(), false)).unwrap();
        header.label_table().cloned()
    };
    let comment = [&[16, 0, 0, 0, 6, 0, 0, 0], b"a note.\0".as_slice()].concat();
    assert_eq!(read(&[comment.as_slice(), ours].concat()), Some(table()));
    assert_eq!(read(&comment), None);
    assert_eq!(read(&[]), None);
    // Sizes of 0, below 0 and beyond the end, and text that is not a table, are ignored.
    for size in [[0, 0, 0, 0], [0xff; 4], [0, 0, 1, 0]] {
        assert_eq!(read(&[size.as_slice(), &ours[4..]].concat()), None);
    }
    let mut damaged = ours.to_vec();
    damaged[20] = b'}';
    assert_eq!(read(&damaged), None);
}

#[test]
fn output_name_selects_compression_in_any_case() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, header) = mask_like(&NiftiFile::default(), |i| (i % 3) as u16);
    for (name, gzipped) in [("a.nii", false), ("lab.seg.nii", false), ("X.NII.GZ", true), ("b.Nii.gz", true)] {
        let path = folder.path().join(name);
        write_labels(&path, &labels, &header, &table()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.starts_with(&[0x1f, 0x8b]), gzipped, "{name}");
        assert_eq!(read_labels_bytes(&bytes).unwrap().0, labels);
    }
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 4, "a file was renamed or left behind");
    for name in ["a.bmp", "a.analyze", "nii", "a"] {
        let path = folder.path().join(name);
        assert_eq!(
            write_labels(&path, &labels, &header, &table()).unwrap_err().to_string(),
            format!(
                "cannot write the volume: expected a file name that ends in .nii, .nii.gz, .hdr, .hdr.gz, .img, .img.gz, .nrrd, .seg.nrrd, .nhdr, .mha, .mhd, .png, .tif or .tiff; rename the output: {}",
                path.display()
            )
        );
    }
}

#[test]
fn pairs_are_written_to_two_files() {
    for (name, header, voxels) in [
        ("a.hdr", "a.hdr", "a.img"),
        ("a.img", "a.hdr", "a.img"),
        ("a.img.gz", "a.hdr.gz", "a.img.gz"),
        ("A.HDR", "A.HDR", "A.IMG"),
    ] {
        for version_2 in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let file = oblique(true);
            let bytes = if version_2 { file.bytes_version_2() } else { file.bytes() };
            let source = read_scan_bytes(&bytes).unwrap().metadata;
            let labels = LabelMap::new(*source.geometry(), (0..24).map(|i| i % 3).collect()).unwrap();
            let path = folder.path().join(name);
            write_labels(&path, &labels, &source, &table()).unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "two files and nothing else");
            let content = |name: &str| {
                let bytes = std::fs::read(folder.path().join(name)).unwrap();
                if name.to_ascii_lowercase().ends_with(".gz") { inflated(&bytes) } else { bytes }
            };
            let (header, voxels) = (content(header), content(voxels));
            assert_eq!(voxels, labels.data().iter().map(|v| *v as u8).collect::<Vec<_>>());
            if version_2 {
                assert_eq!((&header[4..8], &header[168..176]), (b"ni2\0".as_slice(), [0; 8].as_slice()));
            } else {
                assert_eq!((&header[344..348], &header[108..112]), (b"ni1\0".as_slice(), [0; 4].as_slice()));
            }
            // The file ends with the last extension, because a reader would look for another one after it.
            let size = if version_2 { 540 } else { 348 };
            let extension = i32::from_le_bytes(header[size + 4..size + 8].try_into().unwrap());
            assert_eq!(header.len(), size + 4 + extension as usize);
            let (back, found) = sulcus_io::read_labels(&path).unwrap();
            assert_eq!((back, found.label_table()), (labels, Some(&table())));
            found.geometry().check_same_grid(source.geometry()).unwrap();
        }
    }
}

#[test]
fn failed_write_of_a_pair_keeps_the_old_voxels() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, source) = mask_like(&NiftiFile::default(), |i| (i % 3) as u16);
    let path = folder.path().join("a.hdr");
    write_labels(&path, &labels, &source, &table()).unwrap();
    let before = std::fs::read(folder.path().join("a.img")).unwrap();
    // The header cannot get its name, so the voxel file must not get its name either.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (other, _) = mask_like(&NiftiFile::default(), |_| 1);
    let error = write_labels(&path, &other, &source, &table()).unwrap_err().to_string();
    assert!(error.contains("expected a file, found a folder"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("a.img")).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left behind");
}
