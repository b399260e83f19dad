//! MetaImage: all header fields, and inconsistent files.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;

use proptest::prelude::*;
use sulcus_io::{
    VolumeFormat, VolumeMetadata, read_info, read_labels, read_metadata, read_scan, read_scan_bytes, write_image,
    write_labels,
};
use sulcus_testing::gzip;
use sulcus_volume::{Geometry, Image, LabelMap, LabelTable, OrientationSource, RasFromVoxel};

/// The header lines of a volume with 2 × 3 × 4 uint8 voxels of 1 × 2 × 3 mm, in LPS.
const LINES: [&str; 7] = [
    "ObjectType = Image",
    "NDims = 3",
    "TransformMatrix = 1 0 0 0 1 0 0 0 1",
    "Offset = 10 -20 30",
    "ElementSpacing = 1 2 3",
    "DimSize = 2 3 4",
    "ElementType = MET_UCHAR",
];

/// A header in which `changes` replace the lines with the same keys, or are added. A change without a value removes a line.
fn header(changes: &[&str], data: &str) -> String {
    let key = |line: &str| line.split('=').next().unwrap().trim().to_owned();
    let kept = LINES.into_iter().filter(|line| !changes.iter().any(|c| key(c) == key(line)));
    let lines = kept.chain(changes.iter().copied()).filter(|line| !line.ends_with("= "));
    format!("{}\nElementDataFile = {data}\n", lines.collect::<Vec<_>>().join("\n"))
}

fn file(changes: &[&str], voxels: &[u8]) -> Vec<u8> {
    [header(changes, "LOCAL").as_bytes(), voxels].concat()
}

fn counting(n: u8) -> Vec<u8> {
    (0..n).collect()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec_zlib(content, 6)
}

#[track_caller]
fn values(bytes: &[u8]) -> Vec<f32> {
    read_scan_bytes(bytes).unwrap().image.data().to_vec()
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let error = read_scan_bytes(bytes).unwrap_err().to_string();
    assert!(error.starts_with("cannot ") && error.contains(part), "{error}");
}

#[test]
fn geometry_follows_transform_matrix() {
    let scan = read_scan_bytes(&file(&[], &counting(24))).unwrap();
    assert_eq!(scan.info.format, Some(VolumeFormat::MetaImage));
    assert_eq!((scan.info.shape, scan.info.dtype), (vec![2, 3, 4], "uint8"));
    assert_eq!((scan.info.min, scan.info.max, scan.info.mean), (Some(0.0), Some(23.0), Some(11.5)));
    assert_eq!(scan.info.orientation.to_string(), "LPS");
    // The matrix contains the direction of one axis after the other.
    let turned = ["TransformMatrix = 0 1 0 0 0 1 1 0 0", "AnatomicalOrientation = RAI"];
    let map = *read_scan_bytes(&file(&turned, &counting(24))).unwrap().image.geometry().ras_from_voxel();
    assert_eq!(map.rows(), [[0.0, 0.0, -3.0, -10.0], [-1.0, 0.0, 0.0, 20.0], [0.0, 2.0, 0.0, 30.0]]);
}

#[test]
fn older_keys_are_read_and_missing_matrix_means_unknown_orientation() {
    let old = [
        "TransformMatrix = ",
        "Offset = ",
        "ElementSpacing = ",
        "Rotation = 0 1 0 -1 0 0 0 0 1",
        "Position = 1 2 3",
        "ElementSize = 4 5 6",
    ];
    let scan = read_scan_bytes(&file(&old, &counting(24))).unwrap();
    assert_eq!(scan.info.spacing_mm, Some([4.0, 5.0, 6.0]));
    assert_eq!(scan.image.geometry().ras_from_voxel().apply([0.0; 3]).0, [-1.0, -2.0, 3.0]);
    assert_eq!(scan.image.geometry().ras_from_voxel().column(0), [0.0, -4.0, 0.0]);
    let scan = read_scan_bytes(&file(&["TransformMatrix = "], &counting(24))).unwrap();
    assert_eq!(scan.info.orientation_source, Some(OrientationSource::None));
    // A negative size turns its axis, as in ITK.
    let scan = read_scan_bytes(&file(&["ElementSpacing = 1 -2 3"], &counting(24))).unwrap();
    assert_eq!(scan.info.orientation.to_string(), "LAS");
}

#[test]
fn encodings_and_byte_orders_give_the_same_values() {
    let expected: Vec<f32> = (0..24).map(|v| v as f32).collect();
    let little: Vec<u8> = (0..24_i16).flat_map(i16::to_le_bytes).collect();
    let big: Vec<u8> = (0..24_i16).flat_map(i16::to_be_bytes).collect();
    let text: String = (0..24).map(|v| format!("{v} ")).collect();
    let short = "ElementType = MET_SHORT";
    let packed = "CompressedData = True";
    assert_eq!(values(&file(&[short], &little)), expected);
    assert_eq!(values(&file(&[short, "ElementByteOrderMSB = True"], &big)), expected);
    assert_eq!(values(&file(&[short, "BinaryDataByteOrderMSB = True"], &big)), expected);
    assert_eq!(values(&file(&[short, "BinaryData = False"], text.as_bytes())), expected);
    assert_eq!(values(&file(&[short, packed], &zlib(&little))), expected);
    assert_eq!(values(&file(&[short, packed], &gzip(&little, false))), expected);
    // The data end at their checksum. Some writers state another size, and ITK does not notice.
    for size in [zlib(&little).len(), zlib(&little).len() - 1, 1_000_000] {
        let size = format!("CompressedDataSize = {size}");
        assert_eq!(values(&file(&[short, packed, &size], &zlib(&little))), expected, "{size}");
        assert_eq!(values(&file(&[short, packed, &size], &[zlib(&little), vec![7; 9]].concat())), expected);
    }
    refused(&file(&[short, packed], &zlib(&little)[..zlib(&little).len() - 1]), "zlib data end after");
    let late = [b"junk".as_slice(), &little].concat();
    assert_eq!(values(&file(&[short, "HeaderSize = -1"], &late)), expected);
    assert_eq!(
        values(&file(&["ElementType = MET_LONG"], &(0..24_i32).flat_map(i32::to_le_bytes).collect::<Vec<_>>())),
        expected
    );
}

/// As ITK does: before the first key, between keys, and in another encoding than UTF-8.
#[test]
fn other_text_in_a_header_is_ignored() {
    let extra = ["a comment", "Comment = caf\u{e9}", "# Original file", "Patient name of the study"].join("\n");
    let extra: Vec<u8> = extra.chars().map(|c| c as u8).chain(*b"\n\n").collect();
    let bytes = [extra.clone(), b"NDims = 3\n".to_vec(), extra, file(&["NDims = "], &counting(24))].concat();
    let scan = read_scan_bytes(&bytes).unwrap();
    assert_eq!((scan.info.shape, scan.info.spacing_mm), (vec![2, 3, 4], Some([1.0, 2.0, 3.0])));
}

#[test]
fn channels_are_interleaved_or_a_fourth_axis() {
    let together = ["ElementNumberOfChannels = 2"];
    let scan = read_scan_bytes(&file(&together, &counting(48))).unwrap();
    assert_eq!(scan.info.shape, [2, 3, 4, 2]);
    assert_eq!((scan.image.channel(0)[1], scan.image.channel(1)[1]), (2.0, 3.0));
    let fourth = [
        "NDims = 4",
        "DimSize = 2 3 4 2",
        "ElementSpacing = 1 2 3 1.5",
        "Offset = 10 -20 30 0",
        "TransformMatrix = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
    ];
    let scan = read_scan_bytes(&file(&fourth, &counting(48))).unwrap();
    assert_eq!((scan.image.channel(0)[1], scan.image.channel(1)[1]), (1.0, 25.0));
    assert_eq!(scan.info.spacing_mm, Some([1.0, 2.0, 3.0]));
    let flat = ["NDims = 2", "DimSize = 4 6", "ElementSpacing = 1 2", "Offset = 1 2", "TransformMatrix = 0 1 1 0"];
    assert_eq!(read_scan_bytes(&file(&flat, &counting(24))).unwrap().info.shape, [4, 6, 1]);
}

#[test]
fn inconsistent_fields_are_named() {
    let voxels = counting(24);
    for (change, part) in [
        ("ObjectType = Mesh", "expected an image (ObjectType), found `Mesh`"),
        ("NDims = 5", "expected 2 to 4 axes (NDims), found `5`"),
        ("DimSize = 2 3", "expected 3 whole numbers from 1 (DimSize), found `2 3`"),
        ("DimSize = 2 3 5", "shape 2 × 3 × 5 of uint8, 30 bytes"),
        ("DimSize = 4294967296 4294967296 4294967296", "fewer than 2^40 in all"),
        ("ElementType = MET_STRING", "(ElementType), found `MET_STRING`"),
        ("ElementType = ", "expected the key ElementType, found none"),
        ("ElementSpacing = 1 0 1", "one of its columns is zero"),
        ("ElementSpacing = 1 x 1", "expected 3 numbers (ElementSpacing), found `1 x 1`"),
        ("TransformMatrix = 1 0 0 1 0 0 0 0 1", "its columns lie in a plane"),
        ("TransformMatrix = 1 0 0", "expected 9 numbers (TransformMatrix), found `1 0 0`"),
        ("Offset = 1 2 nan", "not a finite number"),
        ("DistanceUnits = um", "expected distances in mm (DistanceUnits), found `um`"),
        ("CompressedData = perhaps", "expected True or False (CompressedData), found `perhaps`"),
        ("CompressedData = True", "zlib data are damaged"),
        ("HeaderSize = -2", "(HeaderSize), found `-2`"),
        ("HeaderSize = 5", "voxels that begin after the header"),
        ("ElementNumberOfChannels = 0", "(ElementNumberOfChannels), found `0`"),
        ("ElementToIntensityFunctionSlope = 2", "expected 1 (ElementToIntensityFunctionSlope), found `2`"),
        ("BinaryData = False\nCompressedData = True", "binary data where they are compressed"),
        ("BinaryDataByteOrderMSB = True\nElementByteOrderMSB = False", "expected one byte order"),
        (
            "ElementSpacing 4 5 6",
            "expected `Key = value` in each line of the header, found `ElementSpacing 4 5 6`",
        ),
        ("a line with a \u{7} control character", "expected `Key = value` in each line"),
    ] {
        refused(&file(&[change], &voxels), part);
    }
    // Without this line the voxels would be read as uncompressed.
    let damaged = [b"\xff\xffCompressedData = True\n".as_slice(), &file(&[], &voxels)].concat();
    refused(&damaged, "expected `Key = value` in each line");
    refused(LINES.join("\n").as_bytes(), "expected the key ElementDataFile, the last of a header");
    refused(header(&[], "LIST").as_bytes(), "found a list of several files (LIST)");
    refused(header(&[], "slice%02d.raw 1 4 1").as_bytes(), "found a pattern of several file names");
    refused(header(&[], "a.raw").as_bytes(), "voxels are in a file beside it");
    refused((LINES.join("\n") + "\nNDims = 3\n").as_bytes(), "expected the key NDims once");
}

#[test]
fn data_file_is_read_only_from_the_headers_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let here = inner.join("a.mhd");
    fs::write(inner.join("a b.raw"), [b"skip".as_slice(), &counting(24)].concat()).unwrap();
    fs::write(folder.path().join("outside.raw"), counting(24)).unwrap();
    fs::write(&here, header(&["HeaderSize = 4"], "a b.raw")).unwrap();
    assert_eq!(read_scan(&here).unwrap().info.max, Some(23.0));
    assert_eq!(read_metadata(&here).unwrap().file_shape(), [2, 3, 4]);
    for name in ["../outside.raw".to_owned(), folder.path().join("outside.raw").display().to_string()] {
        fs::write(&here, header(&[], &name)).unwrap();
        let error = read_info(&here).unwrap_err().to_string();
        assert!(error.contains("names a data file outside its own folder"), "{error}");
    }
}

#[test]
fn masks_survive_the_round_trip_in_one_file_and_two() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [[-0.9, 0.1, 0.2, 12.0 / 7.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0 / 3.0]];
    let geometry =
        Geometry::new([3, 4, 5], RasFromVoxel::new(rows).unwrap(), OrientationSource::Directions).unwrap();
    for values in [[0, 1, 2], [0, 1, 300]] {
        let labels = LabelMap::new(geometry, (0..60).map(|i| values[i % 3]).collect()).unwrap();
        for name in ["m.mha", "m.mhd"] {
            let path = folder.path().join(name);
            write_labels(&path, &labels, &VolumeMetadata::from(geometry), &LabelTable::default()).unwrap();
            let (read, _) = read_labels(&path).unwrap();
            assert_eq!(read.data(), labels.data(), "{name}");
            assert_near(read.geometry(), &geometry);
        }
    }
    assert!(folder.path().join("m.zraw").exists());
}

/// The format stores directions and spacing separately, so their product is rounded.
fn assert_near(read: &Geometry, expected: &Geometry) {
    const ROUNDING: f64 = 1e-12;
    let (a, b) = (read.ras_from_voxel().rows(), expected.ras_from_voxel().rows());
    for (a, b) in a.as_flattened().iter().zip(b.as_flattened()) {
        assert!((a - b).abs() <= ROUNDING * b.abs().max(1.0), "{a} {b}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn images_survive_the_round_trip(
        shape in [1_usize..6, 1..6, 1..6],
        channels in 1_usize..4,
        steps in [0.01_f64..4.0, 0.01..4.0, 0.01..4.0],
        shear in [-0.3_f64..0.3, -0.3..0.3, -0.3..0.3],
        origin in [-500.0_f64..500.0, -500.0..500.0, -500.0..500.0],
        seed in any::<u32>(),
    ) {
        let rows = [
            [steps[0], shear[0] * steps[1], shear[1] * steps[2], origin[0]],
            [0.0, -steps[1], shear[2] * steps[2], origin[1]],
            [0.0, 0.0, steps[2], origin[2]],
        ];
        let geometry = Geometry::new(shape, RasFromVoxel::new(rows).unwrap(), OrientationSource::Directions).unwrap();
        let n = shape.iter().product::<usize>() * channels;
        let data = (0..n as u32).map(|i| f32::from_bits(i.wrapping_mul(seed | 1) >> 4)).collect();
        let image = Image::new(geometry, channels, data).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mha");
        write_image(&path, &image, &VolumeMetadata::from(geometry)).unwrap();
        let read = read_scan(&path).unwrap().image;
        prop_assert_eq!(read.data(), image.data());
        assert_near(read.geometry(), &geometry);
    }
}
