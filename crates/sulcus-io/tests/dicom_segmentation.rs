//! DICOM SEG: written by us, looked at with dicom-rs, read back by us.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test stops where it cannot go on")]

mod slices;

use dicom_core::{Tag, VR};
use sulcus_io::dicom::{
    DicomFault, SegmentationOptions, Series, read_segmentation, read_series, write_segmentation,
};
use sulcus_volume::{Image, LabelEntry, LabelMap, LabelTable, Rgb};

use slices::*;

fn series(image: &Image) -> Series {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), slices(image), EXPLICIT);
    read_series(folder.path(), None).unwrap().series
}

/// Three labels by brightness, with the first and last slices empty.
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
fn a_mask_comes_back_with_its_grid_names_and_colours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mask.dcm");
    for orientation in ["LPS", "RAS", "PSL", "AIR"] {
        let image = turned(&bundled(), orientation.parse().unwrap(), true);
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

/// Segments are numbered from 1 without gaps, as the standard asks. A program that rewrites descriptions leaves those.
#[test]
fn the_numbers_of_segments_count_unless_every_description_names_a_label() {
    let image = turned(&bundled(), "LPS".parse().unwrap(), true);
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
fn the_file_refers_to_its_slices_and_to_nobody() {
    let image = turned(&bundled(), "LPS".parse().unwrap(), false);
    let (series, folder) = (series(&image), tempfile::tempdir().unwrap());
    let path = folder.path().join("mask.dcm");
    write_segmentation(&path, &labels(&image), &series, &table(), &SegmentationOptions::new("1.0")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for secret in ["Doe", "4711", "19700229", "20200131", "Described"] {
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
fn a_mask_of_another_scan_and_a_mask_of_nothing_are_refused() {
    let image = turned(&bundled(), "LPS".parse().unwrap(), true);
    let (series, folder) = (series(&image), tempfile::tempdir().unwrap());
    let path = folder.path().join("mask.dcm");
    let options = SegmentationOptions::new("1.0");
    let elsewhere = turned(&bundled(), "LPS".parse().unwrap(), false);
    let error = write_segmentation(&path, &labels(&elsewhere), &series, &table(), &options).unwrap_err();
    assert!(error.to_string().contains("lies at"), "{error}");
    let nothing = labels(&image).map(|_| 0);
    let error = write_segmentation(&path, &nothing, &series, &LabelTable::default(), &options).unwrap_err();
    assert_eq!(fault(&error).0, DicomFault::Segmentation);
    assert!(!path.exists());
    // Named labels make a file even of an empty mask.
    write_segmentation(&path, &nothing, &series, &table(), &options).unwrap();
    let (read, _) = read_segmentation(&path).unwrap();
    assert!(read.data().iter().all(|v| *v == 0));
    read.geometry().check_same_grid(series.geometry()).unwrap();
}

#[test]
fn a_scan_is_no_segmentation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.dcm");
    std::fs::write(&path, file(slice_object(&bundled(), 0, PLAIN), EXPLICIT)).unwrap();
    assert_eq!(fault(&read_segmentation(&path).unwrap_err()).0, DicomFault::Segmentation);
}
