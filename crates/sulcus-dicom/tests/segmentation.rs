//! DICOM SEG: written by us, inspected with dicom-rs, and read back by us.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
extern crate sulcus_harness;

use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_dicom::{DicomErrorKind, SegmentationOptions, Series, read_segmentation, read_segmentation_bytes};
use sulcus_io::dicom::{read_series, write_segmentation};
use sulcus_volume::{Image, LabelEntry, LabelMap, LabelTable, Rgb};

use sulcus_testing::dicom::*;

fn series(image: &Image) -> Series {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), slices(image), EXPLICIT);
    read_series(folder.path(), None).unwrap().scan.metadata.series().unwrap().clone()
}

/// Three labels by intensity. The first and last slices are empty.
fn labels(image: &Image) -> LabelMap {
    let [x, y, z] = image.geometry().shape();
    let label = |(i, v): (usize, &f32)| {
        let slice = i / (x * y);
        if slice < 2 || slice + 3 > z { 0 } else { [0, 1, 2, 5][(*v as usize / 200).min(3)] }
    };
    LabelMap::new(*image.geometry(), image.data().iter().enumerate().map(label).collect()).unwrap()
}

fn table() -> LabelTable {
    let entry = |value, name: &str, color| LabelEntry { value, name: name.into(), color: Rgb(color) };
    LabelTable::new(vec![
        entry(1, "Hippocampus", [230, 159, 0]),
        entry(2, "White matter", [86, 180, 233]),
        entry(5, "Something", [12, 34, 56]),
    ])
    .unwrap()
}

#[test]
fn masks_survive_the_round_trip_with_grid_names_and_colours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.dcm");
    for orientation in ["LPS", "RAS", "PSL", "AIR"] {
        let image = reoriented(&bundled_image(), orientation.parse().unwrap(), true);
        let series = series(&image);
        let labels = labels(&image);
        write_segmentation(&path, &labels, &series, &table(), &SegmentationOptions::new("1.0").by_model("net"))
            .unwrap();
        let (read, names) = read_segmentation(&path).unwrap();
        read.geometry().check_same_grid(series.geometry()).unwrap();
        let expected = labels.reoriented(read.geometry().orientation());
        expected.geometry().check_same_grid(read.geometry()).unwrap();
        assert_eq!(read.data(), expected.data(), "{orientation}");
        let found: Vec<_> = names.entries().iter().map(|e| (e.value, e.name.as_str(), e.color.0)).collect();
        assert_eq!(
            found,
            [
                (1, "Hippocampus", [230, 159, 0]),
                (2, "White matter", [86, 180, 233]),
                (5, "Something", [12, 34, 56])
            ]
        );
    }
}

/// Segments are numbered from 1 without gaps, as the standard requires. The numbers remain if a program rewrites the
/// descriptions.
#[test]
fn segment_numbers_are_labels_unless_all_descriptions_name_labels() {
    let image = reoriented(&bundled_image(), "LPS".parse().unwrap(), true);
    let (series, folder) = (series(&image), tempfile::tempdir().unwrap());
    let path = folder.path().join("mask.dcm");
    write_segmentation(&path, &labels(&image), &series, &table(), &SegmentationOptions::new("1.0")).unwrap();
    const SEGMENTS: Tag = Tag(0x0062, 0x0002);
    let object = dicom_object::open_file(&path).unwrap();
    let segments = object.element(SEGMENTS).unwrap().items().unwrap().to_vec();
    let number = |segment: &dicom_object::InMemDicomObject| {
        segment.element(Tag(0x0062, 0x0004)).unwrap().to_int::<u16>().unwrap()
    };
    assert_eq!(segments.iter().map(number).collect::<Vec<_>>(), [1, 2, 3]);

    const NUMBERS: [u16; 6] = [0, 1, 2, 0, 0, 3];
    let expected = labels(&image).map(|v| NUMBERS[usize::from(*v)]);
    for word in [Some("Label value 2"), Some("a lesion"), Some("Label value 0"), Some("Label value 70000"), None] {
        let mut segments = segments.clone();
        let description = Tag(0x0062, 0x0006);
        match word {
            Some(word) => put(&mut segments[2], description, VR::ST, text(word)),
            None => assert!(segments[2].remove_element(description)),
        }
        let mut changed = object.clone();
        sequence(&mut changed, SEGMENTS, segments);
        let other = folder.path().join("other.dcm");
        changed.write_to_file(&other).unwrap();
        let (read, names) = read_segmentation(&other).unwrap();
        assert_eq!(read.data(), expected.data(), "{word:?}");
        assert_eq!(names.entries().iter().map(|e| e.value).collect::<Vec<_>>(), [1, 2, 3], "{word:?}");
    }
}

#[test]
fn file_references_slices_and_contains_no_patient_data() {
    let image = reoriented(&bundled_image(), "LPS".parse().unwrap(), false);
    let (series, folder) = (series(&image), tempfile::tempdir().unwrap());
    let path = folder.path().join("mask.dcm");
    write_segmentation(&path, &labels(&image), &series, &table(), &SegmentationOptions::new("1.0")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for secret in ["Doe", "ID-4711", "19700229", "20200131", "Described"] {
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret}");
    }
    let object = dicom_object::open_file(&path).unwrap();
    let text = |tag| object.element(tag).unwrap().to_str().unwrap().trim_end_matches('\0').to_owned();
    assert_eq!(text(Tag(0x0010, 0x0010)), "");
    assert_eq!(text(Tag(0x0020, 0x000D)), "1.2.3.4");
    assert_eq!(text(Tag(0x0020, 0x0052)), "1.2.3.4.9");
    assert_eq!(text(Tag(0x0062, 0x0001)), "BINARY");
    let items = |tag| object.element(tag).unwrap().items().unwrap().to_vec();
    let referenced = items(Tag(0x0008, 0x1115))[0].element(Tag(0x0008, 0x114A)).unwrap().items().unwrap().len();
    assert_eq!(referenced, image.geometry().shape()[2]);
    let kind = |i: usize| {
        let code = items(Tag(0x0062, 0x0002))[i].element(Tag(0x0062, 0x000F)).unwrap().items().unwrap()[0].clone();
        code.element(Tag(0x0008, 0x0100)).unwrap().to_str().unwrap().into_owned()
    };
    assert_eq!([kind(0), kind(1), kind(2)], ["5366008", "389080008", "85756007"]);

    let kept = SegmentationOptions::new("1.0").with_patient();
    write_segmentation(&path, &labels(&image), &series, &table(), &kept).unwrap();
    let object = dicom_object::open_file(&path).unwrap();
    assert_eq!(object.element(Tag(0x0010, 0x0010)).unwrap().to_str().unwrap(), "Doe^Jane");
}

#[test]
fn masks_of_another_grid_and_empty_masks_are_refused() {
    let image = reoriented(&bundled_image(), "LPS".parse().unwrap(), true);
    let (series, folder) = (series(&image), tempfile::tempdir().unwrap());
    let path = folder.path().join("mask.dcm");
    let options = SegmentationOptions::new("1.0");
    let elsewhere = reoriented(&bundled_image(), "LPS".parse().unwrap(), false);
    let error = write_segmentation(&path, &labels(&elsewhere), &series, &table(), &options).unwrap_err();
    assert!(error.to_string().contains("lies at"), "{error}");
    let nothing = labels(&image).map(|_| 0);
    let error = write_segmentation(&path, &nothing, &series, &LabelTable::default(), &options).unwrap_err();
    assert_eq!(error_kind(&error).0, DicomErrorKind::Segmentation);
    assert!(!path.exists());
    // Named labels are sufficient for a file, even if the mask is empty.
    write_segmentation(&path, &nothing, &series, &table(), &options).unwrap();
    let (read, _) = read_segmentation(&path).unwrap();
    assert!(read.data().iter().all(|v| *v == 0));
    read.geometry().check_same_grid(series.geometry()).unwrap();
}

#[test]
fn scan_is_refused_as_segmentation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.dcm");
    std::fs::write(&path, file(slice_elements(&bundled_image(), 0, INT16), EXPLICIT)).unwrap();
    assert_eq!(read_segmentation(&path).unwrap_err().kind(), DicomErrorKind::Segmentation);
}

/// A label map segmentation of 2 frames that lie `distance_mm` apart, with a SpacingBetweenSlices of 2.5 mm.
fn label_map_segmentation(distance_mm: f64) -> InMemDicomObject {
    let item = |fill: &dyn Fn(&mut InMemDicomObject)| {
        let mut object = InMemDicomObject::new_empty();
        fill(&mut object);
        object
    };
    let mut object = InMemDicomObject::new_empty();
    let o = &mut object;
    put(o, Tag(0x0008, 0x0016), VR::UI, text("1.2.840.10008.5.1.4.1.1.66.7"));
    put(o, Tag(0x0008, 0x0018), VR::UI, text("1.2.3.4.5"));
    put(o, Tag(0x0008, 0x0060), VR::CS, text("SEG"));
    put(o, Tag(0x0020, 0x000E), VR::UI, text("1.2.3.4.6"));
    put(o, PHOTOMETRIC, VR::CS, text("MONOCHROME2"));
    put(o, Tag(0x0028, 0x0008), VR::IS, text("2"));
    for (tag, value) in
        [(ROWS, 2), (COLUMNS, 3), (Tag(0x0028, 0x0002), 1), (Tag(0x0028, 0x0100), 8), (Tag(0x0028, 0x0101), 8)]
    {
        short(o, tag, value);
    }
    short(o, Tag(0x0028, 0x0102), 7);
    short(o, Tag(0x0028, 0x0103), 0);
    put(o, Tag(0x0062, 0x0001), VR::CS, text("LABELMAP"));
    let segment = item(&|s| {
        short(s, Tag(0x0062, 0x0004), 1);
        put(s, Tag(0x0062, 0x0005), VR::LO, text("Liver"));
    });
    sequence(o, Tag(0x0062, 0x0002), vec![segment]);
    let measures = item(&|m| {
        put(m, Tag(0x0018, 0x0050), VR::DS, text("2.5"));
        put(m, Tag(0x0018, 0x0088), VR::DS, text("2.5"));
        put(m, SPACING, VR::DS, decimals(&[0.7, 0.7]));
    });
    let plane = item(&|p| put(p, ORIENTATION, VR::DS, decimals(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])));
    let shared = item(&|s| {
        sequence(s, Tag(0x0028, 0x9110), vec![measures.clone()]);
        sequence(s, Tag(0x0020, 0x9116), vec![plane.clone()]);
    });
    sequence(o, Tag(0x5200, 0x9229), vec![shared]);
    let frame = |z: f64| {
        let position = item(&|p| put(p, POSITION, VR::DS, decimals(&[46.5, 5.0, z])));
        item(&|f| sequence(f, Tag(0x0020, 0x9113), vec![position.clone()]))
    };
    sequence(o, Tag(0x5200, 0x9230), vec![frame(-177.75), frame(-177.75 + distance_mm)]);
    put(o, PIXEL_DATA, VR::OB, dicom_core::PrimitiveValue::from(vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    object
}

#[test]
fn padding_of_a_label_map_is_background() {
    let read = |padding: u16, described: bool| {
        let mut object = label_map_segmentation(2.5);
        put(
            &mut object,
            PIXEL_DATA,
            VR::OB,
            dicom_core::PrimitiveValue::from(vec![1, 5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1]),
        );
        short(&mut object, Tag(0x0028, 0x0120), padding);
        if described {
            let mut segment = InMemDicomObject::new_empty();
            short(&mut segment, Tag(0x0062, 0x0004), 5);
            put(&mut segment, Tag(0x0062, 0x0005), VR::LO, text("Spine"));
            sequence(&mut object, Tag(0x0062, 0x0002), vec![segment]);
        }
        read_segmentation_bytes(&file(object, EXPLICIT)).unwrap().0.data().to_vec()
    };
    assert_eq!(read(5, false), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(read(5, true), [1, 5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1]);
    assert_eq!(read(7, false), [1, 5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1]);
}

#[test]
fn frames_over_too_many_planes_are_refused() {
    let error = read_segmentation_bytes(&file(label_map_segmentation(2.5 * 80.0), EXPLICIT)).unwrap_err();
    assert!(
        error.to_string().contains("expected at most 80 planes for 2 frames, found frames over 81 planes"),
        "{error}"
    );
    assert!(read_segmentation_bytes(&file(label_map_segmentation(2.5 * 79.0), EXPLICIT)).is_ok());
}

#[test]
fn compressed_segmentations_are_read_or_refused_by_name() {
    const RLE: &str = "1.2.840.10008.1.2.5";
    let native = read_segmentation_bytes(&file(label_map_segmentation(2.5), EXPLICIT)).unwrap();
    let frame = |values: [u8; 6]| {
        let mut data = vec![0; 64];
        (data[0], data[4]) = (1, 64);
        data.extend([&[5][..], &values, &[0]].concat());
        data
    };
    let mut rle = label_map_segmentation(2.5);
    compressed(&mut rle, vec![frame([1, 0, 0, 0, 0, 0]), frame([0, 0, 0, 0, 0, 1])]);
    assert_eq!(read_segmentation_bytes(&file(rle.clone(), RLE)).unwrap(), native);

    let message = |object: &InMemDicomObject, syntax: &str| {
        let error = read_segmentation_bytes(&file(object.clone(), syntax)).unwrap_err();
        assert_eq!(error.kind(), DicomErrorKind::TransferSyntax);
        error.to_string()
    };
    // Lossy codecs would change segment numbers.
    assert_eq!(
        message(&rle, "1.2.840.10008.1.2.4.90"),
        "cannot read the DICOM segmentation: expected uncompressed or RLE pixels, found JPEG 2000 pixels; decompress \
         the file first, for example with gdcmconv --raw"
    );
    let deflated = message(&rle, "1.2.840.10008.1.2.8.1");
    assert!(
        deflated.contains("expected uncompressed or RLE pixels, found Deflated Image Frame Compression"),
        "{deflated}"
    );
    let mut binary = rle;
    put(&mut binary, Tag(0x0062, 0x0001), VR::CS, text("BINARY"));
    short(&mut binary, Tag(0x0028, 0x0100), 1);
    assert!(message(&binary, RLE).contains("expected uncompressed pixels, found RLE pixels"));
}

/// Label map segmentations were once read as image series, which have no omitted planes: 2 slices of 5 mm instead of 3 of
/// 2.5 mm.
#[test]
fn omitted_planes_of_a_label_map_segmentation_are_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.dcm");
    for (distance_mm, planes) in [(2.5, 2), (5.0, 3), (10.0, 5)] {
        std::fs::write(&path, file(label_map_segmentation(distance_mm), EXPLICIT)).unwrap();
        assert!(sulcus_dicom::is_segmentation(&path));
        let (labels, metadata) = sulcus_io::read_stored(&path).unwrap().into_labels().unwrap();
        assert_eq!(labels.geometry().shape(), [3, 2, planes]);
        assert!((labels.geometry().spacing().mm()[2] - 2.5).abs() < 1e-9);
        let found: Vec<usize> = (0..labels.data().len()).filter(|i| labels.data()[*i] == 1).collect();
        assert_eq!(found, [0, 6 * planes - 1]);
        assert_eq!(metadata.label_table().unwrap().get(1).unwrap().name, "Liver");
        // It is not a series of images.
        let (kind, message) = error_kind(&read_series(&path, None).unwrap_err());
        assert_eq!(kind, DicomErrorKind::NoImages);
        assert!(message.contains("expected a series of images, found a segmentation (DICOM SEG)"), "{message}");
    }
}

#[test]
fn real_sparse_segmentations_have_three_planes() {
    for name in ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"] {
        let Some(path) = sulcus_testing::shared_data(&format!("odd/dcmqi/segmentations/{name}")) else { continue };
        let (labels, _) = sulcus_io::read_labels(&path).unwrap();
        assert_eq!(labels.geometry().shape(), [24, 38, 3]);
        assert!((labels.geometry().spacing().mm()[2] - 2.5).abs() < 1e-6);
        assert_eq!(sulcus_io::read_info(&path).unwrap().shape, [24, 38, 3]);
    }
}

sulcus_harness::main!();
