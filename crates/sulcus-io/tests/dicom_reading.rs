//! DICOM series: a real scan written as DICOM comes back voxel for voxel at its place, whatever way it was written.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says when it skips, and stops where it cannot go on"
)]

#[macro_use]
extern crate sulcus_harness;

mod slices;

use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_io::VolumeFormat;
use sulcus_io::dicom::{DicomFault, holds_dicom, list_series, read_series, read_series_bytes};
use sulcus_volume::Orientation;

use slices::*;

#[test]
fn a_scan_lies_at_its_place_in_every_orientation_and_oblique() {
    let source = bundled();
    for (i, orientation) in Orientation::all().enumerate() {
        let image = turned(&source, orientation, i % 3 == 1);
        let read = through(slices(&image)).unwrap();
        assert_same_scan(&read.image, &image, &orientation.to_string());
        let [x, y, z] = image.geometry().shape();
        assert_eq!(
            (read.info.shape, read.info.dtype, read.info.format),
            (vec![x, y, z], "int16", Some(VolumeFormat::Dicom))
        );
    }
}

#[test]
fn every_number_of_bits_and_every_byte_order_gives_the_same_values() {
    let image = turned(&bundled(), "LPS".parse().unwrap(), true);
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
        let kind = Stored { allocated, stored, signed };
        let shift = if signed { 500.0 } else { 0.0 };
        let least = if allocated == 8 { 4.0 } else { 1.0 };
        let data = image.data().iter().map(|v| (v / least - shift).round()).collect();
        let image = sulcus_volume::Image::new(*image.geometry(), 1, data).unwrap();
        for syntax in [IMPLICIT, EXPLICIT, BIG_ENDIAN] {
            if syntax == BIG_ENDIAN && allocated != 16 {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let objects = (0..image.geometry().shape()[2]).map(|z| slice_object(&image, z, kind)).collect();
            write(folder.path(), objects, syntax);
            let read = read_series(folder.path(), None).unwrap();
            assert_same_scan(&read.image, &image, &format!("{allocated} {stored} {signed} {syntax}"));
        }
    }
}

#[test]
fn overlays_in_the_unused_bits_are_left_out() {
    let image = bundled();
    let kind = Stored { allocated: 16, stored: 12, signed: false };
    let objects = (0..image.geometry().shape()[2]).map(|z| {
        let mut object = slice_object(&image, z, kind);
        let marked: Vec<f32> = slice(&image, z).iter().map(|v| v + f32::from(0xF000_u16)).collect();
        pixels(&mut object, &bytes(&marked, kind), kind);
        object
    });
    assert_same_scan(&through(objects.collect()).unwrap().image, &image, "overlay");
}

#[test]
fn each_slice_has_its_own_slope_and_intercept() {
    let image = bundled();
    let objects = slices(&image).into_iter().enumerate().map(|(z, mut object)| {
        let slope = 1.0 / (z + 1) as f64;
        let stored: Vec<f32> = slice(&image, z).iter().map(|v| (v + 10.0) * (z + 1) as f32).collect();
        pixels(&mut object, &bytes(&stored, PLAIN), PLAIN);
        put(&mut object, Tag(0x0028, 0x1053), VR::DS, text(format!("{slope:.14}")));
        put(&mut object, Tag(0x0028, 0x1052), VR::DS, text("-10"));
        object
    });
    let read = through(objects.collect()).unwrap();
    // Slopes have 14 decimals.
    let apart = read.image.data().iter().zip(image.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn files_in_memory_are_read_as_files_in_a_folder() {
    let image = turned(&bundled(), "SAR".parse().unwrap(), true);
    let files: Vec<Vec<u8>> = slices(&image).into_iter().rev().map(|object| file(object, EXPLICIT)).collect();
    let mut all: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    all.insert(3, b"no DICOM");
    let read = read_series_bytes(&all, None).unwrap();
    assert_same_scan(&read.image, &image, "in memory");
    assert_eq!(read.notes, ["1 file(s) that are no DICOM images were left out"]);
    let cut = &files[5][..files[5].len() - 1000];
    all[6] = cut;
    let error = read_series_bytes(&all, None).unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.contains("file 7"), "{error}");
}

/// One file with all slices, the frames in another order than their places.
fn enhanced(image: &sulcus_volume::Image) -> InMemDicomObject {
    enhanced_with(image, 1, |_, _| {})
}

/// The same with each slice so many times, `volume` being told to what makes the difference.
fn enhanced_with(
    image: &sulcus_volume::Image,
    volumes: usize,
    volume: impl Fn(usize, &mut InMemDicomObject),
) -> InMemDicomObject {
    let n = image.geometry().shape()[2];
    let mut object = base(image, PLAIN);
    put(&mut object, Tag(0x0008, 0x0016), VR::UI, text(ENHANCED_MR_STORAGE));
    put(&mut object, Tag(0x0008, 0x0018), VR::UI, text("1.2.3.4.2.77"));
    put(&mut object, Tag(0x0028, 0x0008), VR::IS, text((n * volumes).to_string()));
    let item = |tag, vr, value| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tag, vr, value);
        item
    };
    let mut shared = InMemDicomObject::new_empty();
    let (_, orientation, spacing) = place(image.geometry(), 0);
    sequence(&mut shared, Tag(0x0028, 0x9110), vec![item(SPACING, VR::DS, decimals(&spacing))]);
    sequence(&mut shared, Tag(0x0020, 0x9116), vec![item(ORIENTATION, VR::DS, decimals(&orientation))]);
    let order: Vec<usize> = (0..n).map(|i| (i * 7 + 3) % n).collect();
    let (mut frames, mut data) = (Vec::new(), Vec::new());
    for (i, z) in
        std::iter::repeat_n(order, volumes).enumerate().flat_map(|(i, o)| o.into_iter().map(move |z| (i, z)))
    {
        let mut frame = InMemDicomObject::new_empty();
        let (position, ..) = place(image.geometry(), z);
        sequence(&mut frame, Tag(0x0020, 0x9113), vec![item(POSITION, VR::DS, decimals(&position))]);
        let mut rescale = item(Tag(0x0028, 0x1053), VR::DS, text("2"));
        put(&mut rescale, Tag(0x0028, 0x1052), VR::DS, text((-(z as i32)).to_string()));
        sequence(&mut frame, Tag(0x0028, 0x9145), vec![rescale]);
        volume(i, &mut frame);
        frames.push(frame);
        let stored: Vec<f32> = slice(image, z).iter().map(|v| (v + z as f32) / 2.0).collect();
        data.extend(bytes(&stored, PLAIN));
    }
    sequence(&mut object, Tag(0x5200, 0x9229), vec![shared]);
    sequence(&mut object, Tag(0x5200, 0x9230), frames);
    pixels(&mut object, &data, PLAIN);
    object
}

#[test]
fn a_multi_frame_file_is_sorted_and_rescaled_frame_by_frame() {
    let image = turned(&bundled(), "PSL".parse().unwrap(), true);
    let n = image.geometry().shape()[2];
    // A number of slices that 7 does not divide, so that the order is one of all frames.
    assert_ne!(n % 7, 0);
    // Even numbers once the slice's own intercept is added, so that halving them is exact.
    let [x, y, _] = image.geometry().shape();
    let even = |i: usize, v: &f32| v - (v + (i / (x * y)) as f32) % 2.0;
    let data = image.data().iter().enumerate().map(|(i, v)| even(i, v)).collect();
    let image = sulcus_volume::Image::new(*image.geometry(), 1, data).unwrap();
    for syntax in [IMPLICIT, EXPLICIT] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("enhanced");
        std::fs::write(&path, file(enhanced(&image), syntax)).unwrap();
        assert_same_scan(&read_series(folder.path(), None).unwrap().image, &image, syntax);
        assert_same_scan(&read_series(&path, None).unwrap().image, &image, "a file alone");
    }
}

#[test]
fn several_volumes_in_one_file_are_told_apart_by_what_their_frames_say() {
    let image = bundled();
    let kinds: [(Tag, Tag, &str); 3] = [
        (Tag(0x0018, 0x9117), Tag(0x0018, 0x9087), "diffusion weighting (DiffusionBValue)"),
        (Tag(0x0018, 0x9114), Tag(0x0018, 0x9082), "echo (EchoTime)"),
        (Tag(0x0018, 0x9118), Tag(0x0020, 0x9153), "phase of the heart (TriggerTime)"),
    ];
    let read = |object| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("enhanced"), file(object, IMPLICIT)).unwrap();
        fault(&read_series(folder.path(), None).unwrap_err())
    };
    for (group, tag, name) in kinds {
        let (fault, said) = read(enhanced_with(&image, 2, |i, frame| {
            let mut item = InMemDicomObject::new_empty();
            put(&mut item, tag, VR::FD, dicom_core::PrimitiveValue::from(1000.0 * i as f64));
            sequence(frame, group, vec![item]);
        }));
        assert_eq!(fault, DicomFault::Temporal, "{said}");
        assert!(said.contains(name) && said.contains("holds 2 volumes"), "{said}");
    }
    assert_eq!(read(enhanced_with(&image, 2, |_, _| {})).0, DicomFault::Duplicates);
}

#[test]
fn of_several_series_the_largest_is_taken_or_the_one_asked_for() {
    let image = bundled();
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
    assert_same_scan(&largest.image, &image, "largest");
    assert_eq!(largest.notes.len(), 2, "{:?}", largest.notes);
    assert_eq!(read_series(folder.path(), Some(other)).unwrap().image.geometry().shape(), [x, y, 5]);
    let missing = read_series(folder.path(), Some("1.2.3")).unwrap_err();
    assert_eq!(fault(&missing).0, DicomFault::NoSuchSeries);
}

#[test]
fn files_without_preamble_or_study_are_read() {
    let image = bundled();
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
    assert_same_scan(&read_series(folder.path(), None).unwrap().image, &image, "bare");
    assert_eq!(list_series(folder.path()).unwrap().series[0].uid, "none");
}

#[test]
fn a_deflated_data_set_is_inflated() {
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    let image = bundled();
    let folder = tempfile::tempdir().unwrap();
    for (z, object) in slices(&image).into_iter().enumerate() {
        let bytes = file(object, EXPLICIT);
        let start = bytes.windows(6).position(|w| w == [8, 0, 0x16, 0, b'U', b'I']).unwrap();
        let mut meta = bytes[132..start].to_vec();
        let uid = meta.windows(19).position(|w| w == EXPLICIT.as_bytes()).unwrap();
        // The identifier is longer by three: of even length with its padding, as before.
        meta.splice(uid - 2..uid + 20, [&[22, 0][..], DEFLATED.as_bytes()].concat());
        let body = miniz_oxide::deflate::compress_to_vec(&bytes[start..], 6);
        std::fs::write(folder.path().join(format!("{z}")), [&bytes[..132], &meta, &body].concat()).unwrap();
    }
    assert_same_scan(&read_series(folder.path(), None).unwrap().image, &image, "deflated");
}

#[test]
fn inverted_pixels_are_kept_and_said() {
    let image = bundled();
    let objects = slices(&image).into_iter().map(|mut object| {
        put(&mut object, PHOTOMETRIC, VR::CS, text("MONOCHROME1"));
        object
    });
    let read = through(objects.collect()).unwrap();
    assert_same_scan(&read.image, &image, "inverted");
    assert!(read.notes.iter().any(|n| n.contains("MONOCHROME1")), "{:?}", read.notes);
}

/// What the reference tool's affine may differ by; its file holds single precision.
const AFFINE_TOLERANCE: f64 = 1e-4;

#[test]
fn real_series_lie_where_dicom2nifti_puts_them() {
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
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
        if !folder.exists() {
            sulcus_harness::skip_part(format_args!("{name} is not on this machine"));
            continue;
        }
        let read = read_series(&folder, None).unwrap();
        assert_eq!(read.image.geometry().shape(), shape);
        let found = read.image.geometry().ras_from_voxel().rows();
        let apart =
            found.iter().flatten().zip(rows.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < AFFINE_TOLERANCE, "{name}: {apart}");
        assert_eq!([read.info.min, read.info.max], range.map(Some), "{name}");
        assert!((read.info.mean.unwrap() / mean - 1.0).abs() < 1e-9, "{:?}", read.info.mean);
    }
}

sulcus_harness::main!();
