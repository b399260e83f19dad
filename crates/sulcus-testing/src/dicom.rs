//! DICOM series that are made from a bundled scan and written with dicom-rs, an implementation that is independent of the
//! reader under test.

use std::path::{Path, PathBuf};

use dicom_core::value::{DataSetSequence, PixelFragmentSequence, PrimitiveValue, Value};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use sulcus_dicom::DicomErrorKind;
use sulcus_io::dicom::{SeriesScan, read_series};
use sulcus_io::{IoError, IoErrorKind};
use sulcus_volume::{Geometry, Image, Orientation, OrientationSource, RasFromVoxel, VoxelIndex};

/// The transfer syntax Implicit VR Little Endian.
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
/// The transfer syntax Explicit VR Little Endian.
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
/// The transfer syntax Explicit VR Big Endian.
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
const MR_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";
/// The SOP class of enhanced MR images.
pub const ENHANCED_MR_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4.1";
/// The SeriesInstanceUID of all files.
pub const SERIES: &str = "1.2.3.4.1";

/// Rows.
pub const ROWS: Tag = Tag(0x0028, 0x0010);
/// Columns.
pub const COLUMNS: Tag = Tag(0x0028, 0x0011);
/// ImagePositionPatient.
pub const POSITION: Tag = Tag(0x0020, 0x0032);
/// ImageOrientationPatient.
pub const ORIENTATION: Tag = Tag(0x0020, 0x0037);
/// PixelSpacing.
pub const SPACING: Tag = Tag(0x0028, 0x0030);
/// PixelData.
pub const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
/// ImageType.
pub const IMAGE_TYPE: Tag = Tag(0x0008, 0x0008);
/// PhotometricInterpretation.
pub const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);

/// A bundled hippocampus scan with integer values from 0 to 1000.
pub fn bundled_image() -> Image {
    let folder = crate::bundled("hippocampus/imagesTr");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let read = sulcus_io::read_scan(&files[0]).unwrap();
    let max = read.info.max.unwrap() as f32;
    let data = read.image.data().iter().map(|v| (v / max * 1000.0).round()).collect();
    Image::new(*read.image.geometry(), 1, data).unwrap()
}

/// The image in another orientation, and optionally on an oblique anisotropic grid.
pub fn reoriented(image: &Image, to: Orientation, oblique: bool) -> Image {
    let turned = image.reoriented(to);
    if !oblique {
        return turned;
    }
    // A rotation by 20° and 35° about two axes, times the directions of the reoriented grid.
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
pub struct PixelFormat {
    /// BitsAllocated.
    pub allocated: u16,
    /// BitsStored.
    pub stored: u16,
    /// PixelRepresentation.
    pub signed: bool,
}

/// Signed 16-bit integers.
pub const INT16: PixelFormat = PixelFormat { allocated: 16, stored: 16, signed: true };

/// A text value.
pub fn text(value: impl Into<String>) -> PrimitiveValue {
    PrimitiveValue::from(value.into())
}

/// Decimal strings with ten digits after the point.
pub fn decimals(values: &[f64]) -> PrimitiveValue {
    text(values.iter().map(|v| format!("{v:.10}")).collect::<Vec<_>>().join("\\"))
}

/// Sets an element.
pub fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: PrimitiveValue) {
    object.put(DataElement::new(tag, vr, value));
}

/// Sets an unsigned 16-bit element.
pub fn short(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    put(object, tag, VR::US, PrimitiveValue::from(value));
}

/// The LPS position of the first voxel of a slice, the unit vectors along its rows and columns, and PixelSpacing.
pub fn slice_geometry(geometry: &Geometry, z: usize) -> ([f64; 3], [f64; 6], [f64; 2]) {
    let map = geometry.ras_from_voxel();
    let lps = |[x, y, z]: [f64; 3]| [-x, -y, z];
    let [sx, sy, _] = geometry.spacing().mm();
    let [a, b, c] = lps(map.column(0)).map(|v| v / sx);
    let [d, e, f] = lps(map.column(1)).map(|v| v / sy);
    (lps(map.apply([0.0, 0.0, z as f64]).0), [a, b, c, d, e, f], [sy, sx])
}

/// The voxels of one slice.
pub fn slice(image: &Image, z: usize) -> &[f32] {
    let [x, y, _] = image.geometry().shape();
    &image.data()[z * x * y..(z + 1) * x * y]
}

/// The bytes of the pixels, little-endian.
pub fn bytes(values: &[f32], stored: PixelFormat) -> Vec<u8> {
    values.iter().flat_map(|v| (*v as i64).to_le_bytes()[..usize::from(stored.allocated / 8)].to_vec()).collect()
}

/// The elements of a file with one slice.
pub fn slice_elements(image: &Image, z: usize, stored: PixelFormat) -> InMemDicomObject {
    let (position, orientation, spacing) = slice_geometry(image.geometry(), z);
    let mut object = image_elements(image, stored);
    let o = &mut object;
    put(o, Tag(0x0008, 0x0016), VR::UI, text(MR_STORAGE));
    put(o, Tag(0x0008, 0x0018), VR::UI, text(format!("1.2.3.4.2.{}", z + 1)));
    put(o, POSITION, VR::DS, decimals(&position));
    put(o, ORIENTATION, VR::DS, decimals(&orientation));
    put(o, SPACING, VR::DS, decimals(&spacing));
    pixels(o, &bytes(slice(image, z), stored), stored);
    object
}

/// The elements that all files of the series share.
pub fn image_elements(image: &Image, stored: PixelFormat) -> InMemDicomObject {
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

/// Sets the pixel data.
pub fn pixels(object: &mut InMemDicomObject, bytes: &[u8], stored: PixelFormat) {
    // As words, so that dicom-rs swaps their bytes for a big-endian transfer syntax.
    if stored.allocated == 16 {
        let words = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        put(object, PIXEL_DATA, VR::OW, PrimitiveValue::U16(words));
    } else {
        put(object, PIXEL_DATA, VR::OB, PrimitiveValue::from(bytes.to_vec()));
    }
}

/// Sets compressed pixel data.
pub fn compressed(object: &mut InMemDicomObject, fragments: Vec<Vec<u8>>) {
    let sequence = PixelFragmentSequence::new(Vec::<u32>::new(), fragments);
    object.put(DataElement::new(PIXEL_DATA, VR::OB, Value::PixelSequence(sequence)));
}

/// Sets a sequence.
pub fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// The bytes of a file in a transfer syntax.
pub fn file(object: InMemDicomObject, syntax: &str) -> Vec<u8> {
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid(MR_STORAGE)
        .media_storage_sop_instance_uid("1.2.3.4.2.1");
    let mut out = Vec::new();
    object.with_exact_meta(meta.build().unwrap()).write_all(&mut out).unwrap();
    out
}

/// The elements of the files of all slices.
pub fn slices(image: &Image) -> Vec<InMemDicomObject> {
    (0..image.geometry().shape()[2]).map(|z| slice_elements(image, z, INT16)).collect()
}

/// Writes files whose names do not follow the order of their positions.
pub fn write(folder: &Path, objects: Vec<InMemDicomObject>, syntax: &str) {
    let n = objects.len();
    for (z, object) in objects.into_iter().enumerate() {
        std::fs::write(folder.join(format!("{:03}", (z * 7 + 3) % n.max(1) * 1000 + z)), file(object, syntax))
            .unwrap();
    }
}

/// Writes a series into a temporary folder and reads it.
pub fn read_written(objects: Vec<InMemDicomObject>) -> Result<SeriesScan, IoError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), objects, EXPLICIT);
    read_series(folder.path(), None)
}

/// The kind and the message of the error that reading the series gives.
pub fn refused(objects: Vec<InMemDicomObject>) -> (DicomErrorKind, String) {
    error_kind(&read_written(objects).unwrap_err())
}

/// The kind and the message of a DICOM error, without its path.
pub fn error_kind(error: &IoError) -> (DicomErrorKind, String) {
    match error.kind() {
        IoErrorKind::Dicom(error) => (error.kind(), error.to_string()),
        other => panic!("{other}"),
    }
}

/// Positions and directions are written with ten decimals.
const POSITION_TOLERANCE_MM: f64 = 1e-6;

/// Asserts that every voxel of `read` is the voxel of `source` at the same position in the patient, and that both have the
/// same number of voxels.
pub fn assert_same_image(read: &Image, source: &Image, what: &str) {
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
                assert!(
                    there.iter().zip(index).all(|(v, n)| (v - n as f64).abs() < POSITION_TOLERANCE_MM),
                    "{what}"
                );
                assert_eq!(
                    source.channel(0)[source.geometry().offset(VoxelIndex(index)).unwrap()],
                    *at.next().unwrap(),
                    "{what}"
                );
            }
        }
    }
}
