//! DICOM series: a real scan that is written as DICOM is read back voxel by voxel at its position, whatever the encoding.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
extern crate sulcus_harness;

use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_dicom::{DicomErrorKind, holds_dicom, list_series};
use sulcus_io::VolumeFormat;
use sulcus_io::dicom::{read_series, read_series_bytes};
use sulcus_volume::Orientation;

use sulcus_testing::dicom::*;

#[test]
fn series_keep_their_position_in_every_orientation() {
    let source = bundled_image();
    for (i, orientation) in Orientation::all().enumerate() {
        let image = reoriented(&source, orientation, i % 3 == 1);
        let read = read_written(slices(&image)).unwrap();
        assert_same_image(&read.scan.image, &image, &orientation.to_string());
        let [x, y, z] = image.geometry().shape();
        assert_eq!(
            (read.scan.info.shape, read.scan.info.dtype, read.scan.info.format),
            (vec![x, y, z], "int16", Some(VolumeFormat::Dicom))
        );
    }
}

#[test]
fn all_bit_depths_and_byte_orders_are_read() {
    let image = reoriented(&bundled_image(), "LPS".parse().unwrap(), true);
    let kinds = [
        (8, 8, false),
        (16, 12, false),
        (16, 12, true),
        (16, 16, false),
        (16, 16, true),
        (32, 32, true),
        (32, 20, false),
    ];
    for (allocated, stored, signed) in kinds {
        let kind = PixelFormat { allocated, stored, signed };
        let shift = if signed { 500.0 } else { 0.0 };
        let least = if allocated == 8 { 4.0 } else { 1.0 };
        let data = image.data().iter().map(|v| (v / least - shift).round()).collect();
        let image = sulcus_volume::Image::new(*image.geometry(), 1, data).unwrap();
        for syntax in [IMPLICIT, EXPLICIT, BIG_ENDIAN] {
            if syntax == BIG_ENDIAN && allocated != 16 {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let objects = (0..image.geometry().shape()[2]).map(|z| slice_elements(&image, z, kind)).collect();
            write(folder.path(), objects, syntax);
            let read = read_series(folder.path(), None).unwrap();
            assert_same_image(&read.scan.image, &image, &format!("{allocated} {stored} {signed} {syntax}"));
        }
    }
}

#[test]
fn overlays_in_unused_bits_are_discarded() {
    let image = bundled_image();
    let kind = PixelFormat { allocated: 16, stored: 12, signed: false };
    let objects = (0..image.geometry().shape()[2]).map(|z| {
        let mut object = slice_elements(&image, z, kind);
        let marked: Vec<f32> = slice(&image, z).iter().map(|v| v + f32::from(0xF000_u16)).collect();
        pixels(&mut object, &bytes(&marked, kind), kind);
        object
    });
    assert_same_image(&read_written(objects.collect()).unwrap().scan.image, &image, "overlay");
}

#[test]
fn slices_may_have_different_slopes() {
    let image = bundled_image();
    let objects = slices(&image).into_iter().enumerate().map(|(z, mut object)| {
        let slope = 1.0 / (z + 1) as f64;
        let stored: Vec<f32> = slice(&image, z).iter().map(|v| (v + 10.0) * (z + 1) as f32).collect();
        pixels(&mut object, &bytes(&stored, INT16), INT16);
        put(&mut object, Tag(0x0028, 0x1053), VR::DS, text(format!("{slope:.14}")));
        put(&mut object, Tag(0x0028, 0x1052), VR::DS, text("-10"));
        object
    });
    let read = read_written(objects.collect()).unwrap();
    // Slopes have 14 decimals.
    let apart = read.scan.image.data().iter().zip(image.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn files_in_memory_equal_files_in_a_folder() {
    let image = reoriented(&bundled_image(), "SAR".parse().unwrap(), true);
    let files: Vec<Vec<u8>> = slices(&image).into_iter().rev().map(|object| file(object, EXPLICIT)).collect();
    let mut all: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    all.insert(3, b"no DICOM");
    let read = read_series_bytes(&all, None).unwrap();
    assert_same_image(&read.scan.image, &image, "in memory");
    assert_eq!(read.notes, ["1 file(s) that are not DICOM images were ignored"]);
    let cut = &files[5][..files[5].len() - 1000];
    all[6] = cut;
    let error = read_series_bytes(&all, None).unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.contains("file 7"), "{error}");
}

/// One file with all slices, whose frames are not in the order of their positions.
fn enhanced(image: &sulcus_volume::Image) -> InMemDicomObject {
    enhanced_with(image, 1, |_, _| {})
}

/// The same file with each slice `volumes` times; `volume` adds the attributes of each volume to a frame.
fn enhanced_with(
    image: &sulcus_volume::Image,
    volumes: usize,
    volume: impl Fn(usize, &mut InMemDicomObject),
) -> InMemDicomObject {
    let n = image.geometry().shape()[2];
    let mut object = image_elements(image, INT16);
    put(&mut object, Tag(0x0008, 0x0016), VR::UI, text(ENHANCED_MR_STORAGE));
    put(&mut object, Tag(0x0008, 0x0018), VR::UI, text("1.2.3.4.2.77"));
    put(&mut object, Tag(0x0028, 0x0008), VR::IS, text((n * volumes).to_string()));
    let item = |tag, vr, value| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tag, vr, value);
        item
    };
    let mut shared = InMemDicomObject::new_empty();
    let (_, orientation, spacing) = slice_geometry(image.geometry(), 0);
    sequence(&mut shared, Tag(0x0028, 0x9110), vec![item(SPACING, VR::DS, decimals(&spacing))]);
    sequence(&mut shared, Tag(0x0020, 0x9116), vec![item(ORIENTATION, VR::DS, decimals(&orientation))]);
    let order: Vec<usize> = (0..n).map(|i| (i * 7 + 3) % n).collect();
    let (mut frames, mut data) = (Vec::new(), Vec::new());
    for (i, z) in
        std::iter::repeat_n(order, volumes).enumerate().flat_map(|(i, o)| o.into_iter().map(move |z| (i, z)))
    {
        let mut frame = InMemDicomObject::new_empty();
        let (position, ..) = slice_geometry(image.geometry(), z);
        sequence(&mut frame, Tag(0x0020, 0x9113), vec![item(POSITION, VR::DS, decimals(&position))]);
        let mut rescale = item(Tag(0x0028, 0x1053), VR::DS, text("2"));
        put(&mut rescale, Tag(0x0028, 0x1052), VR::DS, text((-(z as i32)).to_string()));
        sequence(&mut frame, Tag(0x0028, 0x9145), vec![rescale]);
        volume(i, &mut frame);
        frames.push(frame);
        let stored: Vec<f32> = slice(image, z).iter().map(|v| (v + z as f32) / 2.0).collect();
        data.extend(bytes(&stored, INT16));
    }
    sequence(&mut object, Tag(0x5200, 0x9229), vec![shared]);
    sequence(&mut object, Tag(0x5200, 0x9230), frames);
    pixels(&mut object, &data, INT16);
    object
}

#[test]
fn frames_are_sorted_and_rescaled_individually() {
    let image = reoriented(&bundled_image(), "PSL".parse().unwrap(), true);
    let n = image.geometry().shape()[2];
    // 7 does not divide the number of slices, so the order is a permutation.
    assert_ne!(n % 7, 0);
    // Even numbers after the intercept of the slice is added, so that halving is exact.
    let [x, y, _] = image.geometry().shape();
    let even = |i: usize, v: &f32| v - (v + (i / (x * y)) as f32) % 2.0;
    let data = image.data().iter().enumerate().map(|(i, v)| even(i, v)).collect();
    let image = sulcus_volume::Image::new(*image.geometry(), 1, data).unwrap();
    for syntax in [IMPLICIT, EXPLICIT] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("enhanced");
        std::fs::write(&path, file(enhanced(&image), syntax)).unwrap();
        assert_same_image(&read_series(folder.path(), None).unwrap().scan.image, &image, syntax);
        assert_same_image(&read_series(&path, None).unwrap().scan.image, &image, "a file alone");
    }
}

/// The thickness of an enhanced file is in its functional groups. It was once read only at the top level.
#[test]
fn enhanced_file_with_one_frame_keeps_its_thickness() {
    let image = bundled_image();
    let [x, y, _] = image.geometry().shape();
    let thickness = |value: &str| {
        let mut measures = InMemDicomObject::new_empty();
        put(&mut measures, SPACING, VR::DS, decimals(&[1.5, 0.75]));
        put(&mut measures, Tag(0x0018, 0x0050), VR::DS, text(value));
        measures
    };
    for in_shared_group in [true, false] {
        let (position, orientation, _) = slice_geometry(image.geometry(), 0);
        let mut object = image_elements(&image, INT16);
        put(&mut object, Tag(0x0008, 0x0016), VR::UI, text(ENHANCED_MR_STORAGE));
        put(&mut object, Tag(0x0008, 0x0018), VR::UI, text("1.2.3.4.2.77"));
        put(&mut object, Tag(0x0028, 0x0008), VR::IS, text("1"));
        let (mut shared, mut own) = (InMemDicomObject::new_empty(), InMemDicomObject::new_empty());
        let mut plane = InMemDicomObject::new_empty();
        put(&mut plane, ORIENTATION, VR::DS, decimals(&orientation));
        sequence(&mut shared, Tag(0x0020, 0x9116), vec![plane]);
        let mut place = InMemDicomObject::new_empty();
        put(&mut place, POSITION, VR::DS, decimals(&position));
        sequence(&mut own, Tag(0x0020, 0x9113), vec![place]);
        let group = if in_shared_group { &mut shared } else { &mut own };
        sequence(group, Tag(0x0028, 0x9110), vec![thickness("5")]);
        sequence(&mut object, Tag(0x5200, 0x9229), vec![shared]);
        sequence(&mut object, Tag(0x5200, 0x9230), vec![own]);
        pixels(&mut object, &bytes(slice(&image, 0), INT16), INT16);
        let read = read_written(vec![object]).unwrap();
        assert_eq!(read.scan.image.geometry().shape(), [x, y, 1]);
        let spacing = read.scan.image.geometry().spacing().mm();
        assert!(spacing.iter().zip([0.75, 1.5, 5.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{spacing:?}");
        assert!(read.notes.is_empty(), "{:?}", read.notes);
    }
}

#[test]
fn volumes_in_one_file_are_distinguished_by_frame_attributes() {
    let image = bundled_image();
    let kinds: [(Tag, Tag, &str); 3] = [
        (Tag(0x0018, 0x9117), Tag(0x0018, 0x9087), "diffusion weighting (DiffusionBValue)"),
        (Tag(0x0018, 0x9114), Tag(0x0018, 0x9082), "echo (EchoTime)"),
        (Tag(0x0018, 0x9118), Tag(0x0020, 0x9153), "cardiac phase (TriggerTime)"),
    ];
    let read = |object| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("enhanced"), file(object, IMPLICIT)).unwrap();
        error_kind(&read_series(folder.path(), None).unwrap_err())
    };
    for (group, tag, name) in kinds {
        let (fault, said) = read(enhanced_with(&image, 2, |i, frame| {
            let mut item = InMemDicomObject::new_empty();
            put(&mut item, tag, VR::FD, dicom_core::PrimitiveValue::from(1000.0 * i as f64));
            sequence(frame, group, vec![item]);
        }));
        assert_eq!(fault, DicomErrorKind::MultipleVolumes, "{said}");
        assert!(said.contains(name) && said.contains("holds 2 volumes"), "{said}");
    }
    assert_eq!(read(enhanced_with(&image, 2, |_, _| {})).0, DicomErrorKind::DuplicateSlices);
}

#[test]
fn largest_or_requested_series_is_read() {
    let image = bundled_image();
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("study/series");
    std::fs::create_dir_all(&nested).unwrap();
    write(&nested, slices(&image), EXPLICIT);
    let other = "1.2.3.4.50";
    let few = slices(&image).into_iter().take(5).map(|mut object| {
        put(&mut object, Tag(0x0020, 0x000E), VR::UI, text(other));
        object
    });
    write(folder.path(), few.collect(), IMPLICIT);
    std::fs::write(folder.path().join("notes.txt"), "no DICOM").unwrap();
    assert!(holds_dicom(folder.path()));

    let list = list_series(folder.path()).unwrap();
    let found: Vec<(&str, usize)> = list.series.iter().map(|s| (s.uid.as_str(), s.slices)).collect();
    let [x, y, z] = image.geometry().shape();
    assert_eq!((found, list.other_files), (vec![(SERIES, z), (other, 5)], 1));
    let first = &list.series[0];
    assert_eq!(
        (first.rows, first.columns, first.modality.as_str(), first.description.as_deref()),
        (y, x, "MR", Some("Described"))
    );

    let largest = read_series(folder.path(), None).unwrap();
    assert_same_image(&largest.scan.image, &image, "largest");
    assert_eq!(largest.notes.len(), 2, "{:?}", largest.notes);
    assert_eq!(read_series(folder.path(), Some(other)).unwrap().scan.image.geometry().shape(), [x, y, 5]);
    let missing = read_series(folder.path(), Some("1.2.3")).unwrap_err();
    assert_eq!(error_kind(&missing).0, DicomErrorKind::SeriesNotFound);
}

#[test]
fn files_without_preamble_and_study_are_read() {
    let image = bundled_image();
    let folder = tempfile::tempdir().unwrap();
    for (z, mut object) in slices(&image).into_iter().enumerate() {
        for tag in
            [Tag(0x0020, 0x000D), Tag(0x0020, 0x000E), Tag(0x0020, 0x0052), Tag(0x0008, 0x0060), PHOTOMETRIC]
        {
            object.remove_element(tag);
        }
        let bytes = file(object, EXPLICIT);
        // From the first element after the meta information, which is of group 8.
        let start = bytes.windows(6).position(|w| w == [8, 0, 0x16, 0, b'U', b'I']).unwrap();
        let start = bytes.windows(6).position(|w| w == [8, 0, 0x20, 0, b'D', b'A']).unwrap().min(start);
        std::fs::write(folder.path().join(format!("{z}")), &bytes[start..]).unwrap();
    }
    assert_same_image(&read_series(folder.path(), None).unwrap().scan.image, &image, "bare");
    assert_eq!(list_series(folder.path()).unwrap().series[0].uid, "none");
}

#[test]
fn deflated_data_set_is_read() {
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    let image = bundled_image();
    let folder = tempfile::tempdir().unwrap();
    for (z, object) in slices(&image).into_iter().enumerate() {
        let bytes = file(object, EXPLICIT);
        let start = bytes.windows(6).position(|w| w == [8, 0, 0x16, 0, b'U', b'I']).unwrap();
        let mut meta = bytes[132..start].to_vec();
        let uid = meta.windows(19).position(|w| w == EXPLICIT.as_bytes()).unwrap();
        // The UID is three characters longer; with its padding the length is even again.
        meta.splice(uid - 2..uid + 20, [&[22, 0][..], DEFLATED.as_bytes()].concat());
        let body = miniz_oxide::deflate::compress_to_vec(&bytes[start..], 6);
        std::fs::write(folder.path().join(format!("{z}")), [&bytes[..132], &meta, &body].concat()).unwrap();
    }
    assert_same_image(&read_series(folder.path(), None).unwrap().scan.image, &image, "deflated");
}

#[test]
fn inverted_pixels_are_unchanged_and_noted() {
    let image = bundled_image();
    let objects = slices(&image).into_iter().map(|mut object| {
        put(&mut object, PHOTOMETRIC, VR::CS, text("MONOCHROME1"));
        object
    });
    let read = read_written(objects.collect()).unwrap();
    assert_same_image(&read.scan.image, &image, "inverted");
    assert!(read.notes.iter().any(|n| n.contains("MONOCHROME1")), "{:?}", read.notes);
}

/// The tolerance of the reference affine, which is stored in single precision.
const AFFINE_TOLERANCE: f64 = 1e-4;

#[test]
fn real_series_agree_with_dicom2nifti() {
    // dicom2nifti 2.6.2 without reorienting, and nibabel's statistics of it (tests/peers/dicom_affines.py).
    let crop = [[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]];
    let oblique = [
        [-0.429562066, 0.010491040, 0.043857143, 106.109001160],
        [-0.010884301, -0.414042161, -1.730857128, 186.371002197],
        [0.0, -0.114459191, 6.265161905, -42.796501160],
    ];
    for (name, shape, rows, range, mean) in [
        ("dicom_hippocampus_crop", [35, 51, 32], crop, [2.0, 154.0], 58.590_353_641_456_58),
        ("dicom_t2_oblique", [512, 512, 22], oblique, [0.0, 5921.0], 863.201_822_974_465_1),
    ] {
        let Some(folder) = sulcus_testing::shared_data(name) else { continue };
        let read = read_series(&folder, None).unwrap();
        assert_eq!(read.scan.image.geometry().shape(), shape);
        let found = read.scan.image.geometry().ras_from_voxel().rows();
        let apart =
            found.iter().flatten().zip(rows.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < AFFINE_TOLERANCE, "{name}: {apart}");
        assert_eq!([read.scan.info.min, read.scan.info.max], range.map(Some), "{name}");
        assert!((read.scan.info.mean.unwrap() / mean - 1.0).abs() < 1e-9, "{:?}", read.scan.info.mean);
    }
}

sulcus_harness::main!();
