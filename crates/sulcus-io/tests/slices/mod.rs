//! DICOM series made from a bundled scan, written with dicom-rs: an implementation that the reader shares nothing with.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};

use dicom_core::value::{DataSetSequence, PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use sulcus_io::dicom::{DicomFault, DicomScan, read_series};
use sulcus_io::{IoError, Problem};
use sulcus_volume::{Geometry, Image, Orientation, OrientationSource, RasFromVoxel, VoxelIndex};

pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const MR_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";
pub(crate) const ENHANCED_MR_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4.1";
pub(crate) const SERIES: &str = "1.2.3.4.1";

pub(crate) const ROWS: Tag = Tag(0x0028, 0x0010);
pub(crate) const COLUMNS: Tag = Tag(0x0028, 0x0011);
pub(crate) const POSITION: Tag = Tag(0x0020, 0x0032);
pub(crate) const ORIENTATION: Tag = Tag(0x0020, 0x0037);
pub(crate) const SPACING: Tag = Tag(0x0028, 0x0030);
pub(crate) const PIXELS: Tag = Tag(0x7FE0, 0x0010);
pub(crate) const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
pub(crate) const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);

/// A bundled hippocampus scan with whole numbers from 0 to 1000 for values.
pub(crate) fn bundled() -> Image {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus/imagesTr");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let read = sulcus_io::read_scan(&files[0]).unwrap();
    let most = read.info.max.unwrap() as f32;
    let data = read.image.data().iter().map(|v| (v / most * 1000.0).round()).collect();
    Image::new(*read.image.geometry(), 1, data).unwrap()
}

/// The image turned to an orientation, and where given moved onto an oblique grid of odd spacing.
pub(crate) fn turned(image: &Image, to: Orientation, oblique: bool) -> Image {
    let turned = image.reoriented(to);
    if !oblique {
        return turned;
    }
    // A rotation by 20° and 35° about two axes, times the turned grid's own directions.
    let (s, c) = 20_f64.to_radians().sin_cos();
    let (t, d) = 35_f64.to_radians().sin_cos();
    let rotation = [[c, -s * d, s * t], [s, c * d, -c * t], [0.0, t, d]];
    let spacing = [0.7, 0.7, 2.5];
    let columns: [[f64; 3]; 3] = std::array::from_fn(|axis| {
        let own = turned.geometry().ras_from_voxel().column(axis);
        let length = own.iter().map(|v| v * v).sum::<f64>().sqrt();
        std::array::from_fn(|r| (0..3).map(|k| rotation[r][k] * own[k]).sum::<f64>() / length * spacing[axis])
    });
    let rows = std::array::from_fn(|r| [columns[0][r], columns[1][r], columns[2][r], [12.5, -31.25, 7.75][r]]);
    let map = RasFromVoxel::new(rows).unwrap();
    let geometry = Geometry::new(turned.geometry().shape(), map, OrientationSource::Sform).unwrap();
    Image::new(geometry, 1, turned.data().to_vec()).unwrap()
}

/// How the pixels are stored.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) allocated: u16,
    pub(crate) stored: u16,
    pub(crate) signed: bool,
}

pub(crate) const PLAIN: Stored = Stored { allocated: 16, stored: 16, signed: true };

pub(crate) fn text(value: impl Into<String>) -> PrimitiveValue {
    PrimitiveValue::from(value.into())
}

pub(crate) fn decimals(values: &[f64]) -> PrimitiveValue {
    text(values.iter().map(|v| format!("{v:.10}")).collect::<Vec<_>>().join("\\"))
}

pub(crate) fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: PrimitiveValue) {
    object.put(DataElement::new(tag, vr, value));
}

pub(crate) fn short(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    put(object, tag, VR::US, PrimitiveValue::from(value));
}

/// LPS position of a voxel, and the unit directions along its rows and columns with their spacing.
pub(crate) fn place(geometry: &Geometry, z: usize) -> ([f64; 3], [f64; 6], [f64; 2]) {
    let map = geometry.ras_from_voxel();
    let lps = |[x, y, z]: [f64; 3]| [-x, -y, z];
    let [sx, sy, _] = geometry.spacing().mm();
    let [a, b, c] = lps(map.column(0)).map(|v| v / sx);
    let [d, e, f] = lps(map.column(1)).map(|v| v / sy);
    (lps(map.apply([0.0, 0.0, z as f64]).0), [a, b, c, d, e, f], [sy, sx])
}

pub(crate) fn slice(image: &Image, z: usize) -> &[f32] {
    let [x, y, _] = image.geometry().shape();
    &image.data()[z * x * y..(z + 1) * x * y]
}

/// The pixels' bytes, little endian.
pub(crate) fn bytes(values: &[f32], stored: Stored) -> Vec<u8> {
    values.iter().flat_map(|v| (*v as i64).to_le_bytes()[..usize::from(stored.allocated / 8)].to_vec()).collect()
}

/// One slice as a file's elements, pixels included.
pub(crate) fn slice_object(image: &Image, z: usize, stored: Stored) -> InMemDicomObject {
    let (position, orientation, spacing) = place(image.geometry(), z);
    let mut object = base(image, stored);
    let o = &mut object;
    put(o, Tag(0x0008, 0x0016), VR::UI, text(MR_STORAGE));
    put(o, Tag(0x0008, 0x0018), VR::UI, text(format!("1.2.3.4.2.{}", z + 1)));
    put(o, POSITION, VR::DS, decimals(&position));
    put(o, ORIENTATION, VR::DS, decimals(&orientation));
    put(o, SPACING, VR::DS, decimals(&spacing));
    pixels(o, &bytes(slice(image, z), stored), stored);
    object
}

/// What every file of the series has.
pub(crate) fn base(image: &Image, stored: Stored) -> InMemDicomObject {
    let [x, y, _] = image.geometry().shape();
    let mut object = InMemDicomObject::new_empty();
    let o = &mut object;
    put(o, Tag(0x0008, 0x0060), VR::CS, text("MR"));
    put(o, Tag(0x0010, 0x0010), VR::PN, text("Doe^Jane"));
    put(o, Tag(0x0010, 0x0020), VR::LO, text("ID-4711"));
    put(o, Tag(0x0010, 0x0030), VR::DA, text("19700229"));
    put(o, Tag(0x0008, 0x0020), VR::DA, text("20200131"));
    put(o, Tag(0x0008, 0x103E), VR::LO, text("Described"));
    put(o, Tag(0x0020, 0x000D), VR::UI, text("1.2.3.4"));
    put(o, Tag(0x0020, 0x000E), VR::UI, text(SERIES));
    put(o, Tag(0x0020, 0x0052), VR::UI, text("1.2.3.4.9"));
    put(o, PHOTOMETRIC, VR::CS, text("MONOCHROME2"));
    short(o, Tag(0x0028, 0x0002), 1);
    short(o, ROWS, y as u16);
    short(o, COLUMNS, x as u16);
    short(o, Tag(0x0028, 0x0100), stored.allocated);
    short(o, Tag(0x0028, 0x0101), stored.stored);
    short(o, Tag(0x0028, 0x0102), stored.stored - 1);
    short(o, Tag(0x0028, 0x0103), u16::from(stored.signed));
    object
}

pub(crate) fn pixels(object: &mut InMemDicomObject, bytes: &[u8], stored: Stored) {
    // As words, so that dicom-rs turns them round where the transfer syntax is big endian.
    if stored.allocated == 16 {
        let words = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        put(object, PIXELS, VR::OW, PrimitiveValue::U16(words));
    } else {
        put(object, PIXELS, VR::OB, PrimitiveValue::from(bytes.to_vec()));
    }
}

pub(crate) fn compressed(object: &mut InMemDicomObject, fragments: Vec<Vec<u8>>) {
    let sequence = PixelFragmentSequence::new(Vec::<u32>::new(), fragments);
    object.put(DataElement::new(PIXELS, VR::OB, Value::PixelSequence(sequence)));
}

pub(crate) fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

pub(crate) fn file(object: InMemDicomObject, syntax: &str) -> Vec<u8> {
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid(MR_STORAGE)
        .media_storage_sop_instance_uid("1.2.3.4.2.1");
    let mut out = Vec::new();
    object.with_exact_meta(meta.build().unwrap()).write_all(&mut out).unwrap();
    out
}

/// All slices of an image, each as its elements.
pub(crate) fn slices(image: &Image) -> Vec<InMemDicomObject> {
    (0..image.geometry().shape()[2]).map(|z| slice_object(image, z, PLAIN)).collect()
}

/// Writes files in an order that has nothing to do with their places.
pub(crate) fn write(folder: &Path, objects: Vec<InMemDicomObject>, syntax: &str) {
    let n = objects.len();
    for (z, object) in objects.into_iter().enumerate() {
        std::fs::write(folder.join(format!("{:03}", (z * 7 + 3) % n.max(1) * 1000 + z)), file(object, syntax))
            .unwrap();
    }
}

/// Writes a series into a folder of its own and reads it.
pub(crate) fn through(objects: Vec<InMemDicomObject>) -> Result<DicomScan, IoError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), objects, EXPLICIT);
    read_series(folder.path(), None)
}

/// What a series is refused for, with its words.
pub(crate) fn refused(objects: Vec<InMemDicomObject>) -> (DicomFault, String) {
    fault(&through(objects).unwrap_err())
}

pub(crate) fn fault(error: &IoError) -> (DicomFault, String) {
    match error.problem() {
        Problem::Dicom(problem) => (problem.fault(), problem.to_string()),
        other => panic!("{other}"),
    }
}

/// Positions and directions are written with ten decimals.
const PLACE_TOLERANCE_MM: f64 = 1e-6;

/// Every voxel of `read` is the voxel of `source` at the same place in the patient, and there are no others.
pub(crate) fn assert_same_scan(read: &Image, source: &Image, what: &str) {
    let [x, y, z] = read.geometry().shape();
    assert_eq!(read.data().len(), source.data().len(), "{what}");
    let inverse = source.geometry().ras_from_voxel().inverse();
    let map = read.geometry().ras_from_voxel();
    let mut at = read.data().iter();
    for k in 0..z {
        for j in 0..y {
            for i in 0..x {
                let there = inverse.apply(map.apply([i as f64, j as f64, k as f64]));
                let index = there.map(|v| v.round() as usize);
                assert!(there.iter().zip(index).all(|(v, n)| (v - n as f64).abs() < PLACE_TOLERANCE_MM), "{what}");
                assert_eq!(
                    source.channel(0)[source.geometry().offset(VoxelIndex(index)).unwrap()],
                    *at.next().unwrap(),
                    "{what}"
                );
            }
        }
    }
}
