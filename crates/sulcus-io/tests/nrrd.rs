//! NRRD: all header fields, 3D Slicer's segmentations, and inconsistent files.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sulcus_io::{
    Texts, VolumeFormat, VolumeMetadata, VoxelType, read_info, read_labels, read_labels_bytes, read_metadata,
    read_scan, read_scan_bytes, read_stored, write_image, write_labels, write_stored,
};
use sulcus_testing::gzip;
use sulcus_volume::{Geometry, Image, LabelEntry, LabelMap, LabelTable, OrientationSource, RasFromVoxel, Rgb};

/// The header fields of a volume with 2 × 3 × 4 uint8 voxels of 1 × 2 × 3 mm, in LPS.
const FIELDS: [&str; 7] = [
    "type: uint8",
    "dimension: 3",
    "sizes: 2 3 4",
    "space: left-posterior-superior",
    "space directions: (1,0,0) (0,2,0) (0,0,3)",
    "space origin: (10,-20,30)",
    "encoding: raw",
];

/// A header in which `changes` replace the fields with the same names, or are added. A change without a value removes a field.
fn header(changes: &[&str]) -> String {
    let name = |field: &str| field.split(':').next().unwrap().to_owned();
    let kept = FIELDS.into_iter().filter(|field| !changes.iter().any(|c| name(c) == name(field)));
    let fields = kept.chain(changes.iter().copied()).filter(|field| !field.ends_with(": "));
    format!("NRRD0004\n# comment\n{}\n", fields.collect::<Vec<_>>().join("\n"))
}

fn file(changes: &[&str], voxels: &[u8]) -> Vec<u8> {
    [header(changes).as_bytes(), b"\n", voxels].concat()
}

fn counting(n: u8) -> Vec<u8> {
    (0..n).collect()
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
fn geometry_follows_space_directions() {
    let scan = read_scan_bytes(&file(&[], &counting(24))).unwrap();
    assert_eq!(scan.info.format, Some(VolumeFormat::Nrrd));
    assert_eq!((scan.info.shape, scan.info.dtype), (vec![2, 3, 4], "uint8"));
    assert_eq!((scan.info.min, scan.info.max, scan.info.mean), (Some(0.0), Some(23.0), Some(11.5)));
    assert_eq!(scan.info.orientation.to_string(), "LPS");
    let rows = scan.image.geometry().ras_from_voxel().rows();
    assert_eq!(rows, [[-1.0, 0.0, 0.0, -10.0], [0.0, -2.0, 0.0, 20.0], [0.0, 0.0, 3.0, 30.0]]);
    assert_eq!(scan.image.geometry().source(), OrientationSource::Directions);
}

#[test]
fn every_space_is_converted_to_ras() {
    for (space, signs, known) in [
        ("right-anterior-superior", [1.0, 1.0, 1.0], true),
        ("LAS", [-1.0, 1.0, 1.0], true),
        ("Left-Posterior-Superior", [-1.0, -1.0, 1.0], true),
        ("scanner-xyz", [-1.0, -1.0, 1.0], false),
    ] {
        let scan = read_scan_bytes(&file(&[&format!("space: {space}")], &counting(24))).unwrap();
        let map = scan.image.geometry().ras_from_voxel();
        assert_eq!(map.apply([0.0; 3]).0, [10.0 * signs[0], -20.0 * signs[1], 30.0 * signs[2]], "{space}");
        assert_eq!(map.column(1)[1], 2.0 * signs[1], "{space}");
        assert_eq!(scan.info.orientation_source.is_none(), known, "{space}");
    }
}

#[test]
fn missing_directions_mean_unknown_orientation() {
    let plain = ["space: ", "space directions: ", "space origin: "];
    let scan = read_scan_bytes(&file(&plain, &counting(24))).unwrap();
    assert_eq!(scan.info.spacing_mm, Some([1.0; 3]));
    assert_eq!(scan.info.orientation_source, Some(OrientationSource::None));
    let sized = ["spacings: 1 2.5 3", "axis mins: 5 6 7", "centerings: cell node ???"];
    let scan = read_scan_bytes(&file(&[&plain[..], &sized].concat(), &counting(24))).unwrap();
    assert_eq!(scan.info.spacing_mm, Some([1.0, 2.5, 3.0]));
    let map = scan.image.geometry().ras_from_voxel();
    assert_eq!(map.apply([0.0; 3]).0, [-5.5, -6.0, 8.5]);
}

#[test]
fn encodings_and_byte_orders_give_the_same_values() {
    let expected: Vec<f32> = (0..24).map(|v| v as f32).collect();
    let little: Vec<u8> = (0..24_i16).flat_map(i16::to_le_bytes).collect();
    let big: Vec<u8> = (0..24_i16).flat_map(i16::to_be_bytes).collect();
    let text: String = (0..24).map(|v| format!("{v}\n")).collect();
    let short = "type: short";
    assert_eq!(values(&file(&[short, "endian: little"], &little)), expected);
    assert_eq!(values(&file(&[short, "endian: big"], &big)), expected);
    assert_eq!(values(&file(&[short, "encoding: ascii"], text.as_bytes())), expected);
    assert_eq!(values(&file(&[short, "endian: big", "encoding: gzip"], &gzip(&big, true))), expected);
    let skipped = [b"ab\ncd\nxyz".as_slice(), &little].concat();
    assert_eq!(values(&file(&[short, "endian: little", "line skip: 2", "byte skip: 3"], &skipped)), expected);
    assert_eq!(values(&file(&[short, "endian: little", "byte skip: -1"], &skipped)), expected);
    let inside = gzip(&[b"xyz".as_slice(), &little].concat(), false);
    let skip = [short, "endian: little", "encoding: gz", "byteskip: 3"];
    assert_eq!(values(&file(&skip, &inside)), expected);
    let windows = header(&[]).replace('\n', "\r\n");
    assert_eq!(values(&[windows.as_bytes(), b"\r\n", &counting(24)].concat()), expected);
}

#[test]
fn axis_outside_space_becomes_channels() {
    for (sizes, directions, kinds, step) in [
        ("2 2 3 4", "none (1,0,0) (0,2,0) (0,0,3)", "vector domain domain domain", 1),
        ("2 2 3 4", "(1,0,0) none (0,2,0) (0,0,3)", "domain list domain domain", 2),
        ("2 3 2 4", "(1,0,0) (0,2,0) (nan,nan,nan) (0,0,3)", "domain domain list domain", 6),
        ("2 3 4 2", "(1,0,0) (0,2,0) (0,0,3) none", "domain domain domain list", 24),
    ] {
        let fields = [
            "dimension: 4".to_owned(),
            format!("sizes: {sizes}"),
            format!("space directions: {directions}"),
            format!("kinds: {kinds}"),
        ];
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let scan = read_scan_bytes(&file(&fields, &counting(48))).unwrap();
        assert_eq!(scan.info.shape, [2, 3, 4, 2], "{directions}");
        assert_eq!(scan.info.spacing_mm, Some([1.0, 2.0, 3.0]));
        // The second channel of the first voxel is `step` values after its first channel.
        assert_eq!((scan.image.channel(0)[0], scan.image.channel(1)[0]), (0.0, step as f32), "{directions}");
        let mut all = scan.image.data().to_vec();
        all.sort_by(f32::total_cmp);
        assert_eq!(all, (0..48).map(|v| v as f32).collect::<Vec<_>>());
    }
}

#[test]
fn two_dimensional_image_becomes_one_slice() {
    let fields = ["dimension: 2", "sizes: 4 6", "space directions: (0,1,0) (0,0,2)"];
    let scan = read_scan_bytes(&file(&fields, &counting(24))).unwrap();
    assert_eq!(scan.info.shape, [4, 6, 1]);
    assert_eq!(scan.image.geometry().ras_from_voxel().column(2), [-1.0, 0.0, 0.0]);
}

#[test]
fn millimetres_are_accepted_in_each_spelling() {
    let voxels = counting(24);
    for unit in ["mm", "MM", "millimeter", "millimetres", ""] {
        let units = format!("space units: \"{unit}\" \"{unit}\" \"{unit}\"");
        assert!(read_scan_bytes(&file(&[&units], &voxels)).is_ok(), "{units}");
    }
}

#[test]
fn range_of_an_axis_implies_its_spacing() {
    let lines = [
        "type: uint8",
        "dimension: 3",
        "sizes: 2 3 4",
        "encoding: raw",
        "axis mins: 0 10 -6",
        "axis maxs: 4 16 6",
    ];
    let read = |centers: &str| {
        let bytes = [format!("NRRD0004\n{}\n{centers}\n\n", lines.join("\n")).into_bytes(), counting(24)].concat();
        read_scan_bytes(&bytes).unwrap().info.spacing_mm.unwrap()
    };
    assert_eq!(read("centers: cell cell cell"), [2.0, 2.0, 3.0]);
    assert_eq!(read("centers: node node node"), [4.0, 3.0, 4.0]);
}

#[test]
fn inconsistent_fields_are_named() {
    let voxels = counting(24);
    for (change, part) in [
        (
            "type: block",
            "expected a type of whole numbers of 8 to 64 bits, float or double (`type`), found `block`",
        ),
        ("type: short", "expected `little` or `big` (`endian`), found none"),
        ("dimension: 1", "expected 2 to 8 axes (`dimension`), found `1`"),
        ("dimension: 4", "expected 4 whole numbers from 1 (`sizes`), found `2 3 4`"),
        ("sizes: 2 0 4", "expected 3 whole numbers from 1 (`sizes`), found `2 0 4`"),
        ("sizes: 2 3 5", "shape 2 × 3 × 5 of uint8, 30 bytes"),
        ("sizes: 4294967296 4294967296 4294967296", "fewer than 2^40 in all"),
        ("encoding: bzip2", "expected the encoding raw, gzip or ascii (`encoding`), found `bzip2`"),
        ("encoding: gzip", "gzip data"),
        ("encoding: ", "expected the field `encoding`, found none"),
        ("space: here-and-there", "expected a space of three dimensions"),
        ("space: right-anterior-superior-time", "without time"),
        ("space directions: (1,0,0) (0,2,0)", "for each of 3 axes (`space directions`)"),
        ("space directions: (1,0,0) (0,2,0) (0,0,x)", "`space directions`"),
        ("space directions: (1,0,0) (2,0,0) (0,0,1)", "its columns lie in a plane"),
        ("space directions: (1,0,0) none none", "at most one axis besides those in space"),
        ("space origin: 1 2 3", "expected a point (x,y,z) (`space origin`)"),
        ("space units: \"m\" \"m\" \"m\"", "expected positions in mm (`space units`), found `m`"),
        (
            "space units: \"mm\" \"mm\" \"micrometer\"",
            "expected positions in mm (`space units`), found `micrometer`",
        ),
        ("space units: \"UM\" \"UM\" \"UM\"", "expected positions in mm (`space units`), found `UM`"),
        ("units: \"mm\" \"um\" \"mm\"", "expected positions in mm (`units`), found `um`"),
        ("byte skip: -2", "`byte skip`"),
        ("line skip: x", "`line skip`"),
        ("sizes 2 3 4", "expected `field: value` or `key:=value`"),
        ("data file: a%02d.raw 1 4 1", "(`data file`), found a pattern of several file names"),
        ("data file: a.raw", "voxels are in a file beside it; give the path of the header"),
    ] {
        refused(&file(&[change], &voxels), part);
    }
    refused(b"NRRD0009\ntype: uint8\n\n", "NRRD0001 to NRRD0005");
    refused(header(&[]).as_bytes(), "an empty line that ends the header");
    for list in ["LIST", "LIST 2"] {
        // The names of the files follow without an empty line.
        let listed = header(&[&format!("data file: {list}")]) + "a0.raw\na1.raw\n";
        refused(
            listed.as_bytes(),
            "expected voxels in one file (`data file`), found a list of several files (LIST)",
        );
    }
    let twice = header(&[]) + "type: uint8\n\n";
    refused(twice.as_bytes(), "expected the field `type` once, found it twice");
    refused(
        &file(&["encoding: ascii"], b"1 2 3 x 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24"),
        "found `x`",
    );
}

#[test]
fn data_file_is_read_only_from_the_headers_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let here = inner.join("a.nhdr");
    fs::write(inner.join("a.raw"), counting(24)).unwrap();
    fs::write(folder.path().join("outside.raw"), counting(24)).unwrap();
    fs::write(&here, header(&["data file: a.raw"])).unwrap();
    assert_eq!(read_scan(&here).unwrap().info.max, Some(23.0));
    assert_eq!(read_metadata(&here).unwrap().file_shape(), [2, 3, 4]);
    for name in ["../outside.raw".to_owned(), folder.path().join("outside.raw").display().to_string()] {
        fs::write(&here, header(&[&format!("data file: {name}")])).unwrap();
        let error = read_info(&here).unwrap_err().to_string();
        assert!(error.contains("names a data file outside its own folder"), "{error}");
    }
    fs::write(&here, header(&["data file: no.raw"])).unwrap();
    assert!(read_info(&here).unwrap_err().to_string().contains("there is no such file"));
}

#[test]
fn slicer_segmentation_has_names_and_colours() {
    let segments = "Segment0_ID:=Segment_1\nSegment0_Name:=Left part\nSegment0_Color:=1 0 0.2\nSegment0_LabelValue:=3\n\
                    Segment0_Layer:=0\nSegment1_Name:=Rest\nSegment1_LabelValue:=1\nSegment1_Layer:=0";
    let voxels: Vec<u8> = (0..24).map(|i| [0, 1, 3][i % 3]).collect();
    let (labels, source) = read_labels_bytes(&file(&[segments], &voxels)).unwrap();
    assert_eq!(labels.data().iter().filter(|v| **v == 3).count(), 8);
    let table = source.label_table().unwrap();
    assert_eq!(
        table.get(3).unwrap(),
        &LabelEntry { value: 3, name: "Left part".into(), color: Rgb([255, 0, 51]) }
    );
    assert_eq!(table.get(1).unwrap().name, "Rest");
}

#[test]
fn segmentation_layers_are_merged() {
    let layered = |second: u8| {
        let fields = [
            "dimension: 4",
            "sizes: 2 2 3 4",
            "kinds: list domain domain domain",
            "space directions: none (1,0,0) (0,2,0) (0,0,3)",
            "Segment0_Name:=a\nSegment0_LabelValue:=1\nSegment0_Layer:=0\nSegment1_Name:=b\nSegment1_LabelValue:=1\n\
             Segment1_Layer:=1",
        ];
        let voxels: Vec<u8> = (0..24).flat_map(|i| [u8::from(i == 0), u8::from(i == second)]).collect();
        read_labels_bytes(&file(&fields, &voxels))
    };
    let (labels, source) = layered(1).unwrap();
    assert_eq!(labels.data()[..3], [1, 2, 0]);
    assert_eq!(source.label_table().unwrap().get(2).unwrap().name, "b");
    assert_eq!(source.file_shape(), [2, 3, 4]);
    assert!(layered(0).unwrap_err().to_string().contains("segments `a` and `b` overlap"));
}

fn grid(rows: [[f64; 4]; 3], source: OrientationSource) -> Geometry {
    Geometry::new([3, 4, 5], RasFromVoxel::new(rows).unwrap(), source).unwrap()
}

const OBLIQUE: [[f64; 4]; 3] =
    [[-0.9, 0.1, 0.2, 12.0 / 7.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0 / 3.0]];

#[test]
fn masks_survive_the_round_trip_with_grid_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let table =
        LabelTable::from_names([(1, "Anterior \\ upper".to_owned()), (300, "Posterior".to_owned())]).unwrap();
    for source in [OrientationSource::Directions, OrientationSource::None] {
        let geometry = grid(OBLIQUE, source);
        let labels = LabelMap::new(geometry, (0..60).map(|i| [0, 1, 300][i % 3]).collect()).unwrap();
        for name in ["m.seg.nrrd", "m.nrrd", "m.nhdr"] {
            let path = folder.path().join(name);
            write_labels(&path, &labels, &VolumeMetadata::from(geometry), &table).unwrap();
            let (read, source) = read_labels(&path).unwrap();
            assert_eq!(read, labels, "{name}");
            assert_eq!(source.label_table(), Some(&table), "{name}");
        }
    }
    assert!(folder.path().join("m.raw.gz").exists());
}

#[test]
fn written_segmentation_has_the_fields_slicer_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.seg.nrrd");
    let geometry = grid(OBLIQUE, OrientationSource::Directions);
    let mut voxels = vec![0; 60];
    (voxels[13], voxels[37]) = (2, 2);
    let table = LabelTable::from_names([(2, "Part".to_owned())]).unwrap();
    write_labels(&path, &LabelMap::new(geometry, voxels).unwrap(), &VolumeMetadata::from(geometry), &table)
        .unwrap();
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    for line in [
        "space: left-posterior-superior",
        "Segment0_Name:=Part",
        "Segment0_LabelValue:=2",
        // Voxels (1, 0, 1) and (1, 0, 3).
        "Segment0_Extent:=1 1 0 0 1 3",
        "Segmentation_MasterRepresentation:=Binary labelmap",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
}

fn written(path: &Path, image: &Image) -> Image {
    write_image(path, image, &VolumeMetadata::from(*image.geometry())).unwrap();
    read_scan(path).unwrap().image
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
        prop_assert_eq!(written(&folder.path().join("a.nrrd"), &image), image);
    }
}

#[test]
fn stored_volume_keeps_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<u8> = (-12..12_i16).flat_map(i16::to_be_bytes).collect();
    let path = folder.path().join("a.nrrd");
    fs::write(&path, file(&["type: short", "endian: big"], &values)).unwrap();
    let volume = read_stored(&path).unwrap();
    for name in ["b.nrrd", "b.mha", "b.nii.gz"] {
        let copy = folder.path().join(name);
        write_stored(&copy, &volume, None, Texts::Drop).unwrap();
        let read = read_stored(&copy).unwrap();
        assert_eq!(read.bytes(), volume.bytes(), "{name}");
        assert_eq!(read.metadata().voxel_type(), VoxelType::Int16);
        assert!(read.metadata().geometry().check_same_grid(volume.metadata().geometry()).is_ok());
    }
    // The format has no slope, so the real values are written.
    let scaled = volume.scaled(0.5, 3.0).unwrap();
    let copy = folder.path().join("c.nrrd");
    write_stored(&copy, &scaled, None, Texts::Drop).unwrap();
    assert_eq!(read_scan(&copy).unwrap().image.data()[..2], [-3.0, -2.5]);
}
