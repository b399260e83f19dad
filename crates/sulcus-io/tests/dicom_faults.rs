//! Series that are no even grid, files that lie, and damage: each named, none read wrong, none a panic.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test stops where it cannot go on")]

mod common;
mod slices;

use common::Random;
use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_io::dicom::{DicomFault, SegmentationOptions, encode_segmentation, read_segmentation, read_series};
use sulcus_volume::{Image, LabelMap, LabelTable};

use slices::*;

fn image() -> Image {
    turned(&bundled(), "LPS".parse().unwrap(), true)
}

/// The series with each slice changed.
fn changed(image: &Image, change: impl Fn(usize, &mut InMemDicomObject)) -> Vec<InMemDicomObject> {
    let mut objects = slices(image);
    objects.iter_mut().enumerate().for_each(|(z, object)| change(z, object));
    objects
}

fn moved(image: &Image, z: usize, by: [f64; 3]) -> dicom_core::PrimitiveValue {
    let (position, ..) = place(image.geometry(), z);
    decimals(&[position[0] + by[0], position[1] + by[1], position[2] + by[2]])
}

#[test]
fn a_missing_slice_is_counted() {
    let mut objects = slices(&image());
    let n = objects.len();
    objects.remove(10);
    let (fault, said) = refused(objects);
    assert_eq!(fault, DicomFault::MissingSlices);
    assert!(
        said.contains(&format!("found 1 missing of {n}, the first after slice 10; get the whole series again")),
        "{said}"
    );
}

#[test]
fn copies_and_volumes_at_one_place_are_told_apart() {
    let image = image();
    let mut copies = slices(&image);
    copies.push(slice_object(&image, 4, PLAIN));
    assert_eq!(refused(copies).0, DicomFault::Duplicates);

    let echoes = [3.5, 7.0].into_iter().flat_map(|echo| {
        changed(&image, move |_, object| put(object, Tag(0x0018, 0x0081), VR::DS, decimals(&[echo])))
    });
    let (fault, said) = refused(echoes.collect());
    assert_eq!(fault, DicomFault::Temporal);
    assert!(said.contains("differ in echo (EchoTime): the series holds 2 volumes"), "{said}");
}

#[test]
fn uneven_slices_are_refused_and_rounded_ones_are_not() {
    let image = image();
    let (_, o, _) = place(image.geometry(), 0);
    let normal = [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]];
    let along = |mm: f64| normal.map(|v| v * mm);
    let uneven = changed(&image, |z, object| {
        if z == 6 {
            put(object, POSITION, VR::DS, moved(&image, z, along(0.6)));
        }
    });
    assert_eq!(refused(uneven).0, DicomFault::UnevenSpacing);
    let aside = changed(&image, |z, object| {
        if z == 6 {
            put(object, POSITION, VR::DS, moved(&image, z, [o[0] * 0.5, o[1] * 0.5, o[2] * 0.5]));
        }
    });
    assert_eq!(refused(aside).0, DicomFault::UnevenSpacing);
    let rounded = changed(&image, |z, object| {
        let by = if z % 2 == 0 { 0.04 } else { -0.04 };
        put(object, POSITION, VR::DS, moved(&image, z, along(by)));
    });
    assert!(through(rounded).is_ok());
}

#[test]
fn a_tilted_gantry_is_refused_with_its_angle() {
    let image = image();
    let (_, o, _) = place(image.geometry(), 0);
    let tilt = 12_f64.to_radians().tan() * 2.5;
    let tilted = changed(&image, |z, object| {
        let by = z as f64 * tilt;
        put(object, POSITION, VR::DS, moved(&image, z, [o[3] * by, o[4] * by, o[5] * by]));
    });
    let (fault, said) = refused(tilted);
    assert_eq!(fault, DicomFault::Tilt);
    assert!(said.contains("leans by 12.0°"), "{said}");
}

#[test]
fn mixed_series_are_refused() {
    let image = image();
    let other = turned(&bundled(), "PSL".parse().unwrap(), false);
    let turned =
        slices(&image).into_iter().chain([slice_object(&image, 0, PLAIN)]).enumerate().map(|(z, mut object)| {
            if z == 3 {
                let (_, orientation, _) = place(other.geometry(), 0);
                put(&mut object, ORIENTATION, VR::DS, decimals(&orientation));
            }
            object
        });
    assert_eq!(refused(turned.collect()).0, DicomFault::MixedOrientations);

    let mut sizes = slices(&image);
    sizes.push(slice_object(&other, 3, PLAIN));
    assert_eq!(refused(sizes).0, DicomFault::MixedSizes);

    let spaced = changed(&image, |z, object| {
        if z == 2 {
            put(object, SPACING, VR::DS, decimals(&[0.5, 0.5]));
        }
    });
    assert_eq!(refused(spaced).0, DicomFault::MixedSizes);

    let localizer = changed(&image, |z, object| {
        if z == 0 {
            put(object, IMAGE_TYPE, VR::CS, text("ORIGINAL\\PRIMARY\\LOCALIZER"));
        }
    });
    assert_eq!(refused(localizer).0, DicomFault::Localizers);
}

fn remove(object: &mut InMemDicomObject, tag: Tag) {
    assert!(object.remove_element(tag));
}

#[test]
fn files_that_lie_about_themselves_are_refused() {
    let image = image();
    let first = |change: &dyn Fn(&mut InMemDicomObject)| {
        refused(changed(&image, |z, object| {
            if z == 1 {
                change(object);
            }
        }))
        .0
    };
    let [x, ..] = image.geometry().shape();
    let all = |change: &dyn Fn(&mut InMemDicomObject)| refused(changed(&image, |_, object| change(object))).0;
    assert_eq!(all(&|o| short(o, COLUMNS, x as u16 - 1)), DicomFault::PixelLength);
    assert_eq!(all(&|o| short(o, ROWS, 65535)), DicomFault::PixelLength);
    assert_eq!(all(&|o| put(o, Tag(0x0028, 0x0008), VR::IS, text("4000000000"))), DicomFault::PixelLength);
    assert_eq!(first(&|o| remove(o, PIXELS)), DicomFault::NoPixels);
    assert_eq!(first(&|o| remove(o, POSITION)), DicomFault::NoPlace);
    assert_eq!(first(&|o| remove(o, SPACING)), DicomFault::NoPlace);
    assert_eq!(first(&|o| put(o, SPACING, VR::DS, decimals(&[0.0, 1.0]))), DicomFault::Attribute);
    assert_eq!(first(&|o| put(o, ORIENTATION, VR::DS, decimals(&[0.0; 6]))), DicomFault::Attribute);
    assert_eq!(first(&|o| put(o, POSITION, VR::DS, text("1\\2\\nan"))), DicomFault::Attribute);
    assert_eq!(first(&|o| put(o, Tag(0x0028, 0x1053), VR::DS, text("0"))), DicomFault::Attribute);
    assert_eq!(first(&|o| put(o, PHOTOMETRIC, VR::CS, text("RGB"))), DicomFault::PixelFormat);
    assert_eq!(first(&|o| short(o, Tag(0x0028, 0x0002), 3)), DicomFault::PixelFormat);
    assert_eq!(first(&|o| short(o, Tag(0x0028, 0x0100), 12)), DicomFault::PixelFormat);
    assert_eq!(first(&|o| short(o, Tag(0x0028, 0x0101), 17)), DicomFault::PixelFormat);
}

#[test]
fn values_from_a_table_are_refused() {
    let (fault, said) = refused(changed(&image(), |_, object| {
        let mut table = InMemDicomObject::new_empty();
        put(&mut table, Tag(0x0028, 0x3004), VR::LO, text("US"));
        sequence(object, Tag(0x0028, 0x3000), vec![table]);
    }));
    assert_eq!(fault, DicomFault::PixelFormat);
    assert!(said.contains("values from a table (ModalityLUTSequence)"), "{said}");
}

#[test]
fn a_file_cut_short_is_named_and_nothing_of_the_patient_is() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), slices(&image), EXPLICIT);
    let cut = folder.path().join("cut");
    let bytes = file(slice_object(&image, 2, PLAIN), EXPLICIT);
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let error = read_series(folder.path(), None).unwrap_err();
    assert_eq!(fault(&error).0, DicomFault::Damaged);
    let said = format!("{error} {error:?}");
    assert!(error.to_string().contains("it was cut short") && error.to_string().ends_with("cut"), "{said}");
    for secret in ["Doe", "4711", "1970", "2020"] {
        assert!(!said.contains(secret), "{said}");
    }
    // So early that the series it belongs to can't be told.
    std::fs::write(&cut, &bytes[..400]).unwrap();
    assert_eq!(fault(&read_series(folder.path(), None).unwrap_err()).0, DicomFault::Damaged);
}

#[test]
fn what_is_no_series_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fault(&read_series(folder.path(), None).unwrap_err()).0, DicomFault::NoImages);
    let path = folder.path().join("one");
    std::fs::write(&path, file(slice_object(&image(), 0, PLAIN), EXPLICIT)).unwrap();
    let (fault, said) = fault(&read_series(&path, None).unwrap_err());
    assert_eq!(fault, DicomFault::NoImages);
    assert!(said.contains("give the folder"), "{said}");
}

#[test]
fn pixels_that_are_not_read_are_named() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let mut object = slice_object(&image, 0, PLAIN);
    compressed(&mut object, vec![vec![0; 64]]);
    let bytes = file(object, "1.2.840.10008.1.2.4.201");
    std::fs::write(folder.path().join("a"), bytes).unwrap();
    let (fault, said) = fault(&read_series(folder.path(), None).unwrap_err());
    assert_eq!(fault, DicomFault::TransferSyntax);
    assert!(
        said.contains("High-Throughput JPEG 2000 lossless (transfer syntax 1.2.840.10008.1.2.4.201)"),
        "{said}"
    );
}

/// Overwrites bytes with others or with extremes, drops or repeats a piece, cuts the end off.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.len() < 8 {
            return;
        }
        // Most of what can go wrong is in the header.
        let reach = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(1400) };
        let at = random.below(reach);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => bytes[at] = 0xff,
            3 => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(if random.below(2) == 0 { 0xff } else { 0 });
            }
            4 => bytes[at] = b'0' + random.below(10) as u8,
            _ => bytes[at] ^= 1 << random.below(8),
        }
    }
}

/// A small series of one compressed or plain slice each, a multi-frame file and a segmentation.
fn seeds() -> Vec<Vec<u8>> {
    let image = turned(&bundled(), "RAS".parse().unwrap(), true);
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom");
    let mut out: Vec<Vec<u8>> =
        [IMPLICIT, EXPLICIT, BIG_ENDIAN].iter().map(|s| file(slice_object(&image, 0, PLAIN), s)).collect();
    let mut files: Vec<_> = std::fs::read_dir(fixtures).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    out.extend(
        files.iter().filter(|p| p.extension().is_some_and(|e| e == "dcm")).map(|p| std::fs::read(p).unwrap()),
    );
    out
}

#[test]
fn no_damage_makes_reading_a_series_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut random = Random(0x0d1c_0412_3456_789b);
    let seeds = seeds();
    let (mut whole, mut refused) = (0, 0);
    for round in 0..8000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        damage(&mut bytes, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        match read_series(folder.path(), None) {
            Ok(scan) => {
                assert_eq!(scan.image.data().len(), scan.image.geometry().voxels());
                whole += 1;
            }
            Err(error) => {
                assert!(!error.to_string().contains("Doe"));
                refused += 1;
            }
        }
    }
    assert!(whole > 500 && refused > 500, "{whole} {refused}");
}

#[test]
fn no_damage_makes_reading_a_segmentation_panic() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let series = tempfile::tempdir().unwrap();
    write(series.path(), slices(&image), EXPLICIT);
    let series = read_series(series.path(), None).unwrap().series;
    let labels =
        LabelMap::new(*image.geometry(), image.data().iter().map(|v| (*v as u16 / 300).min(2)).collect()).unwrap();
    let seed =
        encode_segmentation(&labels, &series, &LabelTable::default(), &SegmentationOptions::new("0")).unwrap();
    let path = folder.path().join("a.dcm");
    let mut random = Random(0x05e9_0412_3456_789b);
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut bytes = seed.clone();
        damage(&mut bytes, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        match read_segmentation(&path) {
            Ok(_) => whole += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(whole > 100 && refused > 100, "{whole} {refused}");
}
