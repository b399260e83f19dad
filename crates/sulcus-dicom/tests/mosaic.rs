//! Siemens mosaics: cut into their slices, or refused.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
extern crate sulcus_harness;

use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_dicom::{
    DicomErrorKind, SegmentationOptions, encode_segmentation, list_series, read_segmentation_bytes,
};
use sulcus_io::dicom::{read_series, read_series_bytes};
use sulcus_testing::Random;
use sulcus_testing::dicom::*;
use sulcus_volume::{Image, LabelMap, LabelTable};

const CSA_CREATOR: Tag = Tag(0x0029, 0x0010);
const CSA_IMAGE_HEADER: Tag = Tag(0x0029, 0x1010);
const CREATOR: Tag = Tag(0x0019, 0x0010);
const IMAGES_IN_MOSAIC: Tag = Tag(0x0019, 0x100A);
const SPACING_BETWEEN_SLICES: Tag = Tag(0x0018, 0x0088);
const ACQUISITION_MATRIX: Tag = Tag(0x0018, 0x1310);

/// A CSA header with these fields. As in real ones, empty values follow.
fn csa(fields: &[(&str, Vec<String>)]) -> Vec<u8> {
    let number = |n: usize| (n as u32).to_le_bytes();
    let mut out = [b"SV10\x04\x03\x02\x01".as_slice(), &number(fields.len()), &number(77)].concat();
    for (name, values) in fields {
        let mut field = name.as_bytes().to_vec();
        field.resize(64, 0);
        out.extend([&field, &number(values.len())[..], b"FD\0\0", &number(4), &number(6), &number(77)].concat());
        for item in 0..6 {
            let mut value = values.get(item).map(|v| [v.as_bytes(), b"\0"].concat()).unwrap_or_default();
            let length = number(value.len());
            value.resize(value.len().next_multiple_of(4), 0);
            out.extend([&length, &length, &number(77), &length, &value[..]].concat());
        }
    }
    out
}

fn texts(values: &[f64]) -> Vec<String> {
    values.iter().map(|v| format!("{v:.8}")).collect()
}

fn csa_of(slices: usize, normal: &[f64]) -> Vec<u8> {
    csa(&[
        ("EchoLinePosition", vec!["32".into()]),
        ("NumberOfImagesInMosaic", vec![slices.to_string()]),
        ("SliceNormalVector", texts(normal)),
    ])
}

/// The direction from one slice to the next, in LPS.
fn normal(image: &Image) -> [f64; 3] {
    let geometry = image.geometry();
    let [x, y, z] = geometry.ras_from_voxel().column(2).map(|v| v / geometry.spacing().mm()[2]);
    [-x, -y, z]
}

/// The number of tiles along each edge of the picture.
fn grid(image: &Image) -> usize {
    (1..).find(|n| n * n >= image.geometry().shape()[2]).unwrap()
}

/// The image as one picture, as Siemens scanners export it.
fn mosaic(image: &Image) -> InMemDicomObject {
    let [x, y, z] = image.geometry().shape();
    let n = grid(image);
    let mut picture = vec![0.0; n * n * x * y];
    for k in 0..z {
        for (j, row) in slice(image, k).chunks_exact(x).enumerate() {
            let at = ((k / n * y + j) * n + k % n) * x;
            picture[at..at + x].copy_from_slice(row);
        }
    }
    let mut object = slice_elements(image, 0, INT16);
    let o = &mut object;
    let (first, orientation, [down, across]) = slice_geometry(image.geometry(), 0);
    let half = (n - 1) as f64 / 2.0;
    let position: [f64; 3] = std::array::from_fn(|i| {
        first[i] - half * (x as f64 * across * orientation[i] + y as f64 * down * orientation[i + 3])
    });
    put(o, POSITION, VR::DS, decimals(&position));
    put(o, IMAGE_TYPE, VR::CS, text("ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"));
    short(o, ROWS, (n * y) as u16);
    short(o, COLUMNS, (n * x) as u16);
    put(o, SPACING_BETWEEN_SLICES, VR::DS, decimals(&[image.geometry().spacing().mm()[2]]));
    put(o, CREATOR, VR::LO, text("SIEMENS MR HEADER"));
    short(o, IMAGES_IN_MOSAIC, z as u16);
    put(o, CSA_CREATOR, VR::LO, text("SIEMENS CSA HEADER"));
    put(o, CSA_IMAGE_HEADER, VR::OB, PrimitiveValue::from(csa_of(z, &normal(image))));
    pixels(o, &bytes(&picture, INT16), INT16);
    object
}

/// The second orientation has its slices against the normal of the picture, which only the CSA header says.
#[test]
fn tiles_are_slices_at_their_position_in_the_patient() {
    let mut unused_tiles = Vec::new();
    for orientation in ["LPS", "LPI", "PIR", "RIA"] {
        let image = reoriented(&bundled_image(), orientation.parse().unwrap(), true);
        unused_tiles.push(grid(&image).pow(2) - image.geometry().shape()[2]);
        for syntax in [EXPLICIT, IMPLICIT] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), vec![mosaic(&image)], syntax);
            let read = read_series(folder.path(), None).unwrap();
            assert_same_image(&read.scan.image, &image, orientation);
            assert_eq!(read.notes, ["the slices are the tiles of a Siemens mosaic"]);
            let list = list_series(folder.path()).unwrap();
            let [x, y, z] = image.geometry().shape();
            assert_eq!((list.series[0].columns, list.series[0].rows, list.series[0].slices), (x, y, z));
        }
    }
    assert!(unused_tiles.contains(&0) && unused_tiles.iter().any(|n| *n > 0), "{unused_tiles:?}");
}

/// The volume that dcm2niix 1.0.20260724 writes, whose rows it reverses, and the sums of its slices.
#[test]
fn real_mosaic_agrees_with_dcm2niix() {
    const SUMS: [u32; 36] = [
        191305, 207309, 219610, 234359, 262522, 296978, 327133, 326397, 345220, 418148, 493871, 565334, 620620,
        647247, 686315, 712148, 719203, 723138, 706469, 707300, 696015, 684200, 670981, 651613, 625419, 592589,
        551778, 513659, 459277, 403379, 334145, 267215, 189550, 108588, 58123, 47125,
    ];
    const ROWS: [[f64; 4]; 3] = [
        [-3.203125, 0.0, 0.0, 102.5],
        [0.0, -3.178_563_12, -0.444_965_33, 128.871_363_64],
        [0.0, -0.395_911_01, 3.572_394_85, -48.637_112_41],
    ];
    // dcm2niix writes single precision.
    const TOLERANCE_MM: f64 = 1e-4;
    let Some(folder) = sulcus_testing::shared_data("odd/siemens_mosaic") else { return };
    let read = read_series(&folder.join("IM-0001-0001.dcm"), None).unwrap().scan;
    let geometry = read.image.geometry();
    assert_eq!(geometry.shape(), [64, 64, 36]);
    let found = geometry.ras_from_voxel().rows();
    for (a, b) in found.as_flattened().iter().zip(ROWS.as_flattened()) {
        assert!((a - b).abs() < TOLERANCE_MM, "{found:?}");
    }
    let sums: Vec<u32> = (0..36).map(|z| slice(&read.image, z).iter().map(|v| *v as u32).sum()).collect();
    assert_eq!(sums, SUMS);
    for ([x, y, z], value) in
        [([10, 20, 0], 31.0), ([33, 12, 5], 11.0), ([20, 50, 17], 457.0), ([45, 30, 35], 10.0)]
    {
        assert_eq!(slice(&read.image, z)[y * 64 + x], value);
    }
    // Six time points.
    let (kind, message) = error_kind(&read_series(&folder, None).unwrap_err());
    assert_eq!(kind, DicomErrorKind::MultipleVolumes);
    assert!(message.contains("the series holds 6 volumes"), "{message}");
}

#[test]
fn mosaic_that_does_not_describe_its_slices_is_refused() {
    let image = reoriented(&bundled_image(), "LPS".parse().unwrap(), true);
    let z = image.geometry().shape()[2];
    let message = |change: &dyn Fn(&mut InMemDicomObject)| {
        let mut object = mosaic(&image);
        change(&mut object);
        let (kind, message) = refused(vec![object]);
        assert_eq!(kind, DicomErrorKind::Mosaic, "{message}");
        let found = message.split_once(", found ").unwrap().1;
        found.split_once("; convert the series to NIfTI with dcm2niix").unwrap().0.replace(&z.to_string(), "Z")
    };
    let header =
        |bytes: Vec<u8>| message(&move |o| put(o, CSA_IMAGE_HEADER, VR::OB, PrimitiveValue::from(bytes.clone())));
    let remove = |tag| message(&move |o| assert!(o.remove_element(tag)));
    let along = normal(&image);
    assert_eq!(
        remove(CSA_IMAGE_HEADER),
        "a mosaic of Z slices in one picture, without the CSA header that describes its tiles"
    );
    assert_eq!(
        message(&|o| put(o, CSA_CREATOR, VR::LO, text("ANOTHER VENDOR"))),
        "a mosaic of Z slices in one picture, without the CSA header that describes its tiles"
    );
    assert_eq!(
        header(csa(&[("SliceNormalVector", texts(&along))])),
        "a mosaic of Z slices in one picture, without a number of slices in its CSA header"
    );
    assert_eq!(
        header(csa_of(z - 1, &along)).replace(&(z - 1).to_string(), "Z - 1"),
        "a mosaic of Z slices in one picture, and of Z - 1 according to its CSA header"
    );
    for directions in [&[][..], &along[..2], &[along, along].concat(), &[f64::NAN; 3]] {
        assert_eq!(
            header(csa_of(z, directions)),
            "a mosaic of Z slices in one picture, without the direction of its slices (SliceNormalVector)"
        );
    }
    let [a, b, c] = along;
    for direction in [[b, c, a], [0.0; 3], along.map(|v| 2.0 * v)] {
        assert_eq!(
            header(csa_of(z, &direction)),
            "a mosaic whose slices are not perpendicular to their direction (SliceNormalVector)"
        );
    }
    assert_eq!(
        remove(SPACING_BETWEEN_SLICES),
        "a mosaic of Z slices in one picture, without the distance of its slices (SpacingBetweenSlices)"
    );
    // A slice that was cut out by other software.
    assert!(
        message(&|o| put(
            o,
            ACQUISITION_MATRIX,
            VR::US,
            PrimitiveValue::U16([96, 0, 0, 96].into_iter().collect())
        ))
        .ends_with("are smaller than the acquired matrix (96 samples)")
    );
    let n = grid(&image);
    assert!(
        message(&|o| short(o, COLUMNS, (n * image.geometry().shape()[0] + 1) as u16)).ends_with("equal tiles")
    );
    // The number of slices is smaller than that of the pictures. The private elements agree on it.
    assert_eq!(
        message(&|o| {
            short(o, IMAGES_IN_MOSAIC, z as u16 - 2);
            put(o, CSA_IMAGE_HEADER, VR::OB, PrimitiveValue::from(csa_of(z - 2, &along)));
        })
        .replace(&(z - 2).to_string(), "Z - 2"),
        "a mosaic of Z - 2 slices with pixels in further tiles"
    );
}

/// A mask of a mosaic references the file. It names no frames, which the file does not have.
#[test]
fn segmentation_of_a_mosaic_lies_on_its_slices() {
    let image = reoriented(&bundled_image(), "LPI".parse().unwrap(), true);
    let scan = read_written(vec![mosaic(&image)]).unwrap().scan;
    let data = scan.image.data().iter().map(|v| u16::from(*v > 500.0)).collect();
    let labels = LabelMap::new(*scan.image.geometry(), data).unwrap();
    let series = scan.metadata.series().unwrap();
    let encoded =
        encode_segmentation(&labels, series, &LabelTable::default(), &SegmentationOptions::new("0")).unwrap();
    let (read, _) = read_segmentation_bytes(&encoded).unwrap();
    read.geometry().check_same_grid(labels.geometry()).unwrap();
    assert_eq!(read.data(), labels.data());
    // ReferencedFrameNumber.
    assert!(!encoded.windows(4).any(|bytes| bytes == [0x08, 0x00, 0x60, 0x11]));
}

#[test]
fn damaged_csa_headers_never_panic() {
    let image = reoriented(&bundled_image(), "LPS".parse().unwrap(), true);
    let sound = csa_of(image.geometry().shape()[2], &normal(&image));
    let file = file(mosaic(&image), EXPLICIT);
    let start = file.windows(sound.len()).position(|bytes| bytes == sound).unwrap();
    let mut random = Random(0x0c5a_0412_3456_789b);
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = file.clone();
        for _ in 0..=random.below(3) {
            let at = start + random.below(sound.len());
            bytes[at] = [0, 0xff, b'1', bytes[at] ^ 1 << random.below(8)][random.below(4)];
        }
        match read_series_bytes(&[&bytes], None) {
            Ok(read) => {
                assert_eq!(read.scan.image.data().len(), image.data().len());
                whole += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(whole > 200 && refused > 200, "{whole} {refused}");
}

sulcus_harness::main!();
