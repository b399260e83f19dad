//! Irregular series, inconsistent files and damage: each is an error that names the fault, and none causes a panic.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_dicom::{DicomErrorKind, SegmentationOptions, encode_segmentation, read_segmentation};
use sulcus_io::dicom::read_series;
use sulcus_testing::Random;
use sulcus_volume::{Image, LabelMap, LabelTable};

use sulcus_testing::dicom::*;

fn image() -> Image {
    reoriented(&bundled_image(), "LPS".parse().unwrap(), true)
}

/// The series with each slice changed.
fn changed(image: &Image, change: impl Fn(usize, &mut InMemDicomObject)) -> Vec<InMemDicomObject> {
    let mut objects = slices(image);
    objects.iter_mut().enumerate().for_each(|(z, object)| change(z, object));
    objects
}

fn moved(image: &Image, z: usize, by: [f64; 3]) -> dicom_core::PrimitiveValue {
    let (position, ..) = slice_geometry(image.geometry(), z);
    decimals(&[position[0] + by[0], position[1] + by[1], position[2] + by[2]])
}

#[test]
fn missing_slice_is_counted() {
    let mut objects = slices(&image());
    let n = objects.len();
    objects.remove(10);
    let (fault, said) = refused(objects);
    assert_eq!(fault, DicomErrorKind::MissingSlices);
    assert!(
        said.contains(&format!("found 1 missing of {n}, the first after slice 10; get the whole series again")),
        "{said}"
    );
}

#[test]
fn duplicate_slices_and_multiple_volumes_are_distinguished() {
    let image = image();
    let mut copies = slices(&image);
    copies.push(slice_elements(&image, 4, INT16));
    assert_eq!(refused(copies).0, DicomErrorKind::DuplicateSlices);

    let echoes = [3.5, 7.0].into_iter().flat_map(|echo| {
        changed(&image, move |_, object| put(object, Tag(0x0018, 0x0081), VR::DS, decimals(&[echo])))
    });
    let (fault, said) = refused(echoes.collect());
    assert_eq!(fault, DicomErrorKind::MultipleVolumes);
    assert!(said.contains("differ in echo (EchoTime): the series holds 2 volumes"), "{said}");
}

#[test]
fn uneven_slices_are_refused_rounded_positions_accepted() {
    let image = image();
    let (_, o, _) = slice_geometry(image.geometry(), 0);
    let normal = [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]];
    let along = |mm: f64| normal.map(|v| v * mm);
    let uneven = changed(&image, |z, object| {
        if z == 6 {
            put(object, POSITION, VR::DS, moved(&image, z, along(0.6)));
        }
    });
    assert_eq!(refused(uneven).0, DicomErrorKind::UnevenSpacing);
    let aside = changed(&image, |z, object| {
        if z == 6 {
            put(object, POSITION, VR::DS, moved(&image, z, [o[0] * 0.5, o[1] * 0.5, o[2] * 0.5]));
        }
    });
    assert_eq!(refused(aside).0, DicomErrorKind::UnevenSpacing);
    let rounded = changed(&image, |z, object| {
        let by = if z % 2 == 0 { 0.04 } else { -0.04 };
        put(object, POSITION, VR::DS, moved(&image, z, along(by)));
    });
    assert!(read_written(rounded).is_ok());
}

#[test]
fn gantry_tilt_is_refused_with_its_angle() {
    let image = image();
    let (_, o, _) = slice_geometry(image.geometry(), 0);
    let tilt = 12_f64.to_radians().tan() * 2.5;
    let tilted = changed(&image, |z, object| {
        let by = z as f64 * tilt;
        put(object, POSITION, VR::DS, moved(&image, z, [o[3] * by, o[4] * by, o[5] * by]));
    });
    let (fault, said) = refused(tilted);
    assert_eq!(fault, DicomErrorKind::GantryTilt);
    assert!(said.contains("tilted by 12.0°"), "{said}");
}

#[test]
fn mixed_series_are_refused() {
    let image = image();
    let other = reoriented(&bundled_image(), "PSL".parse().unwrap(), false);
    let turned =
        slices(&image).into_iter().chain([slice_elements(&image, 0, INT16)]).enumerate().map(|(z, mut object)| {
            if z == 3 {
                let (_, orientation, _) = slice_geometry(other.geometry(), 0);
                put(&mut object, ORIENTATION, VR::DS, decimals(&orientation));
            }
            object
        });
    assert_eq!(refused(turned.collect()).0, DicomErrorKind::MixedOrientations);

    let mut sizes = slices(&image);
    sizes.push(slice_elements(&other, 3, INT16));
    assert_eq!(refused(sizes).0, DicomErrorKind::MixedSizes);

    let spaced = changed(&image, |z, object| {
        if z == 2 {
            put(object, SPACING, VR::DS, decimals(&[0.5, 0.5]));
        }
    });
    assert_eq!(refused(spaced).0, DicomErrorKind::MixedSizes);

    let localizer = changed(&image, |z, object| {
        if z == 0 {
            put(object, IMAGE_TYPE, VR::CS, text("ORIGINAL\\PRIMARY\\LOCALIZER"));
        }
    });
    assert_eq!(refused(localizer).0, DicomErrorKind::Localizers);
}

/// The second half of the series with a changed attribute, in files beside the first half or between them, with and without a
/// SeriesInstanceUID.
#[test]
fn series_with_two_identities_is_refused() {
    let image = image();
    let n = image.geometry().shape()[2];
    let attributes: [(Tag, VR, &str, DicomErrorKind); 6] = [
        (Tag(0x0010, 0x0020), VR::LO, "ID-9999", DicomErrorKind::MixedPatients),
        (Tag(0x0020, 0x000D), VR::UI, "1.2.3.5", DicomErrorKind::MixedStudies),
        (Tag(0x0020, 0x0052), VR::UI, "1.2.3.4.10", DicomErrorKind::MixedFramesOfReference),
        (Tag(0x0008, 0x0060), VR::CS, "CT", DicomErrorKind::MixedModalities),
        (Tag(0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.7", DicomErrorKind::MixedModalities),
        (Tag(0x0010, 0x0010), VR::PN, "Roe^Richard", DicomErrorKind::MixedPatients),
    ];
    for (tag, vr, value, expected) in attributes {
        for interleaved in [false, true] {
            for without_uid in [false, true] {
                let objects = changed(&image, |z, object| {
                    if if interleaved { z % 2 == 1 } else { z >= n / 2 } {
                        put(object, tag, vr, text(value));
                    }
                    if without_uid {
                        remove(object, Tag(0x0020, 0x000E));
                    }
                    if tag == Tag(0x0010, 0x0010) {
                        remove(object, Tag(0x0010, 0x0020));
                    }
                });
                let (kind, message) = refused(objects);
                assert_eq!(kind, expected, "{tag}");
                assert!(message.contains("found 2;"), "{message}");
                for secret in ["Doe", "Roe", "4711", "9999"] {
                    assert!(!message.contains(secret), "{message}");
                }
            }
        }
    }
    // The spelling of a name does not matter if the identifiers agree, and a missing identifier is not compared.
    let spelled = changed(&image, |z, object| match z {
        1 => put(object, Tag(0x0010, 0x0010), VR::PN, text("DOE^JANE")),
        2 => remove(object, Tag(0x0010, 0x0020)),
        _ => {}
    });
    assert!(read_written(spelled).is_ok());
}

fn remove(object: &mut InMemDicomObject, tag: Tag) {
    assert!(object.remove_element(tag));
}

#[test]
fn inconsistent_files_are_refused() {
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
    assert_eq!(all(&|o| short(o, COLUMNS, x as u16 - 1)), DicomErrorKind::PixelLength);
    assert_eq!(all(&|o| short(o, ROWS, 65535)), DicomErrorKind::PixelLength);
    assert_eq!(all(&|o| put(o, Tag(0x0028, 0x0008), VR::IS, text("4000000000"))), DicomErrorKind::PixelLength);
    assert_eq!(first(&|o| remove(o, PIXEL_DATA)), DicomErrorKind::NoPixelData);
    assert_eq!(first(&|o| remove(o, POSITION)), DicomErrorKind::MissingGeometry);
    assert_eq!(first(&|o| remove(o, SPACING)), DicomErrorKind::MissingGeometry);
    assert_eq!(first(&|o| put(o, SPACING, VR::DS, decimals(&[0.0, 1.0]))), DicomErrorKind::InvalidAttribute);
    assert_eq!(first(&|o| put(o, ORIENTATION, VR::DS, decimals(&[0.0; 6]))), DicomErrorKind::InvalidAttribute);
    assert_eq!(first(&|o| put(o, POSITION, VR::DS, text("1\\2\\nan"))), DicomErrorKind::InvalidAttribute);
    assert_eq!(first(&|o| put(o, Tag(0x0028, 0x1053), VR::DS, text("0"))), DicomErrorKind::InvalidAttribute);
    assert_eq!(first(&|o| put(o, PHOTOMETRIC, VR::CS, text("RGB"))), DicomErrorKind::PixelFormat);
    assert_eq!(first(&|o| short(o, Tag(0x0028, 0x0002), 3)), DicomErrorKind::PixelFormat);
    assert_eq!(first(&|o| short(o, Tag(0x0028, 0x0100), 12)), DicomErrorKind::PixelFormat);
    assert_eq!(first(&|o| short(o, Tag(0x0028, 0x0101), 17)), DicomErrorKind::PixelFormat);
}

/// Some software appends zeros to the pixels. Other data after them mean that the header is wrong.
#[test]
fn zeros_after_the_pixels_are_padding() {
    let image = image();
    let padded = |padding: Vec<u8>| {
        changed(&image, |z, object| {
            let stored = [bytes(slice(&image, z), INT16), padding.clone()].concat();
            pixels(object, &stored, INT16);
        })
    };
    let [x, y, _] = image.geometry().shape();
    for length in [2, 128, 2 * x * y - 2] {
        assert_same_image(&read_written(padded(vec![0; length])).unwrap().scan.image, &image, "padded");
    }
    let message = |padding| {
        let (kind, message) = refused(padded(padding));
        assert_eq!(kind, DicomErrorKind::PixelLength);
        message
    };
    let other = message(vec![0, 0, 1, 0]);
    assert!(other.contains("found 4 bytes more, which are not padding; the header is wrong"), "{other}");
    let frame = message(vec![0; 2 * x * y]);
    assert!(frame.contains(&format!("found {} bytes more; the header is wrong", 2 * x * y)), "{frame}");
}

#[test]
fn modality_lut_is_refused() {
    let (fault, said) = refused(changed(&image(), |_, object| {
        let mut table = InMemDicomObject::new_empty();
        put(&mut table, Tag(0x0028, 0x3004), VR::LO, text("US"));
        sequence(object, Tag(0x0028, 0x3000), vec![table]);
    }));
    assert_eq!(fault, DicomErrorKind::PixelFormat);
    assert!(said.contains("values from a table (ModalityLUTSequence)"), "{said}");
}

#[test]
fn truncated_file_is_named_without_patient_data() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), slices(&image), EXPLICIT);
    let cut = folder.path().join("cut");
    let bytes = file(slice_elements(&image, 2, INT16), EXPLICIT);
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let error = read_series(folder.path(), None).unwrap_err();
    assert_eq!(error_kind(&error).0, DicomErrorKind::Damaged);
    let said = format!("{error} {error:?}");
    assert!(error.to_string().contains("it was cut short") && error.to_string().ends_with("cut"), "{said}");
    for secret in ["Doe", "4711", "1970", "2020"] {
        assert!(!said.contains(secret), "{said}");
    }
    // Truncated before the attribute that identifies its series.
    std::fs::write(&cut, &bytes[..400]).unwrap();
    assert_eq!(error_kind(&read_series(folder.path(), None).unwrap_err()).0, DicomErrorKind::Damaged);
}

#[test]
fn missing_series_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(error_kind(&read_series(folder.path(), None).unwrap_err()).0, DicomErrorKind::NoImages);
    let path = folder.path().join("one");
    std::fs::write(&path, file(slice_elements(&image(), 0, INT16), EXPLICIT)).unwrap();
    let (fault, said) = error_kind(&read_series(&path, None).unwrap_err());
    assert_eq!(fault, DicomErrorKind::NoImages);
    assert!(said.contains("give the folder"), "{said}");
}

#[test]
fn unsupported_transfer_syntax_is_named() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let mut object = slice_elements(&image, 0, INT16);
    compressed(&mut object, vec![vec![0; 64]]);
    let bytes = file(object, "1.2.840.10008.1.2.4.201");
    std::fs::write(folder.path().join("a"), bytes).unwrap();
    let (fault, said) = error_kind(&read_series(folder.path(), None).unwrap_err());
    assert_eq!(fault, DicomErrorKind::TransferSyntax);
    assert!(
        said.contains("High-Throughput JPEG 2000 lossless (transfer syntax 1.2.840.10008.1.2.4.201)"),
        "{said}"
    );
}

/// Overwrites bytes, removes a part, or truncates the file.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.len() < 8 {
            return;
        }
        // Most damage is in the header, where it matters.
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

/// Files with one slice each, uncompressed in all transfer syntaxes and with every codec.
fn seeds() -> Vec<Vec<u8>> {
    let image = reoriented(&bundled_image(), "RAS".parse().unwrap(), true);
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom");
    let mut out: Vec<Vec<u8>> =
        [IMPLICIT, EXPLICIT, BIG_ENDIAN].iter().map(|s| file(slice_elements(&image, 0, INT16), s)).collect();
    let mut files: Vec<_> = std::fs::read_dir(fixtures).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    out.extend(
        files.iter().filter(|p| p.extension().is_some_and(|e| e == "dcm")).map(|p| std::fs::read(p).unwrap()),
    );
    out
}

#[test]
fn damaged_series_never_panic() {
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
                assert_eq!(scan.scan.image.data().len(), scan.scan.image.geometry().voxels());
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
fn damaged_segmentations_never_panic() {
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let series = tempfile::tempdir().unwrap();
    write(series.path(), slices(&image), EXPLICIT);
    let series = read_series(series.path(), None).unwrap().scan.metadata.series().unwrap().clone();
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

/// The picture of a mosaic that does not describe its tiles is refused in each form in which scanners mark it. Enhanced files, whose frames are slices, may keep the word.
#[test]
fn mosaic_is_refused() {
    let image = image();
    let mosaic = text("ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC");
    let by_type = changed(&image, |_, object| put(object, IMAGE_TYPE, VR::CS, mosaic.clone()));
    let (kind, message) = refused(by_type);
    assert_eq!(kind, DicomErrorKind::Mosaic);
    assert!(message.contains("dcm2niix"), "{message}");

    let by_count = |creator: &'static str| {
        changed(&image, move |_, object| {
            put(object, Tag(0x0019, 0x0010), VR::LO, text(creator));
            short(object, Tag(0x0019, 0x100A), 36);
        })
    };
    let (kind, message) = refused(by_count("SIEMENS MR HEADER"));
    assert_eq!(kind, DicomErrorKind::Mosaic);
    assert!(message.contains("a mosaic of 36 slices"), "{message}");
    assert!(
        read_written(by_count("ANOTHER VENDOR")).is_ok(),
        "the element of another vendor means something else"
    );
}

/// A localizer has more voxels than the scan, and is still not the series that is read.
#[test]
fn localizer_series_ranks_after_the_scan() {
    let image = image();
    let n = slices(&image).len();
    let mut objects = slices(&image);
    objects.truncate(6);
    objects.extend(changed(&image, |z, object| {
        put(object, IMAGE_TYPE, VR::CS, text("ORIGINAL\\PRIMARY\\LOCALIZER"));
        put(object, Tag(0x0020, 0x000E), VR::UI, text("1.2.3.4.99"));
        put(object, Tag(0x0008, 0x0018), VR::UI, text(format!("1.2.3.4.98.{z}")));
    }));
    assert!(n > 6);
    let read = read_written(objects).unwrap();
    assert_eq!(read.scan.image.geometry().shape()[2], 6);
}
