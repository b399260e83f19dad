//! Small valid files of every format, with which fuzzing and mutation start.
//!
//! `tests/fuzz/seeds` has what only other programs write: `plan.json` of `sulcus plan`, with three stages of two or three channels; the
//! checkpoints of one epoch of `sulcus train` with it; a specification; the pickle of a PyTorch file with two tensors.

use super::targets::elements::{element, file, pixels, sequence, short, slice};
use super::targets::{FRAME, NEXT_FILE, NNUNET_EXPORT, gzip, nnunet_parts};
use sulcus_model::ModelSpec;
use sulcus_onnx::{Axis, GraphBuilder, attribute};
use sulcus_volume::{Geometry, GridUnit, LabelMap, LabelTable, Spacing};

/// A file, and the target that it is for.
pub struct Seed {
    /// The name of the target.
    pub target: &'static str,
    /// A unique name.
    pub name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

/// All seeds. `model` is a whole model file, whose specification is used for a small one.
pub fn all(model: &[u8]) -> Vec<Seed> {
    let spec = sulcus_onnx::read_spec(model).expect("the shipped model has a specification");
    let seed = |target, name, bytes| Seed { target, name, bytes };
    vec![
        seed("nifti", "uint8", Nifti { datatype: 2, ..Nifti::default() }.bytes()),
        seed("nifti", "int16-scaled-4d", Nifti { datatype: 4, dim: [4, 2, 3, 2, 2], slope: 0.5, ..Nifti::default() }.bytes()),
        seed("nifti", "float32-qform", Nifti { datatype: 16, forms: [1, 0], ..Nifti::default() }.bytes()),
        seed("nifti", "float64-big", Nifti { datatype: 64, big: true, ..Nifti::default() }.bytes()),
        seed("nifti", "unplaced", Nifti { datatype: 512, forms: [0, 0], ..Nifti::default() }.bytes()),
        seed("nifti", "pair", Nifti { datatype: 8, magic: *b"ni1\0", ..Nifti::default() }.bytes()),
        seed("dicom", "series", dicom_series()),
        seed("dicom", "preamble", [&[0; 128][..], b"DICM", &slice(".1", 8, [2, 3], 0, &native(6))].concat()),
        seed("dicom", "frames", dicom_frames()),
        seed("dicom", "mosaic", dicom_mosaic()),
        seed("dicom", "seg-binary", segmentation("BINARY", 1, &[0b0110_1001, 0b1000_0010])),
        seed("dicom", "seg-labelmap", segmentation("LABELMAP", 8, &[0, 1, 2, 0, 0, 2, 2, 0])),
        seed("dicom", "rle", include_bytes!("../../../crates/sulcus-dicom/tests/dicom/flat_rle.dcm").to_vec()),
        seed("dicom", "jpeg", JPEG.to_vec()),
        seed("dicom", "jpeg-lossless", JPEG_LOSSLESS.to_vec()),
        seed("dicom", "jpegls", JPEG_LS.to_vec()),
        seed("dicom", "jpeg2000", JPEG_2000.to_vec()),
        seed("dicom", "frame-rle", frame(0, 0, [2, 3], &rle())),
        seed("dicom", "frame-jpeg", frame_of(1, 0, JPEG)),
        seed("dicom", "frame-jpeg-lossless", frame_of(1, 1, JPEG_LOSSLESS)),
        seed("dicom", "frame-jpegls", frame_of(2, 1, JPEG_LS)),
        seed("dicom", "frame-jpegls-near", frame_of(2, 1, JPEG_LS_NEAR)),
        seed("dicom", "frame-jpeg2000", frame_of(3, 1, JPEG_2000)),
        seed("nrrd", "uint8", nrrd("type: uchar\nencoding: raw\n", &counting(24))),
        seed("nrrd", "int16-ascii", nrrd("type: short\nencoding: ascii\n", counted("-").as_bytes())),
        seed("nrrd", "float-big", nrrd("type: float\nendian: big\nencoding: raw\nbyte skip: -1\n", &counting(96))),
        seed("nrrd", "gzip", nrrd("type: uint16\nendian: little\nencoding: gzip\n", &gzip(&counting(48)))),
        seed("nrrd", "channels", CHANNELS.bytes().chain(counting(48)).collect()),
        seed("nrrd", "spacings", SPACINGS.bytes().chain(counting(24)).collect()),
        seed("nrrd", "segments", segments()),
        seed("pictures", "png", png()),
        seed("pictures", "tiff", tiff(false)),
        seed("pictures", "tiff-big", tiff(true)),
        seed("pictures", "jpeg", jpeg()),
        seed("metaimage", "uint8", metaimage("ElementType = MET_UCHAR\n", &counting(24))),
        seed("metaimage", "text", metaimage("BinaryData = False\nElementType = MET_FLOAT\n", counted(".5").as_bytes())),
        seed("metaimage", "zlib", metaimage("CompressedData = True\nElementType = MET_UCHAR\n", &zlib(&counting(24)))),
        seed("metaimage", "zlib-size", metaimage(&format!("CompressedData = True\nCompressedDataSize = {}\nElementType = MET_CHAR\n", zlib(&counting(24)).len()), &zlib(&counting(24)))),
        seed("metaimage", "channels", metaimage("ElementNumberOfChannels = 2\nElementByteOrderMSB = True\nElementType = MET_SHORT\n", &counting(96))),
        seed("metaimage", "to-end", metaimage("HeaderSize = -1\nElementType = MET_LONG_LONG\n", &counting(200))),
        seed("metaimage", "four-axes", FOUR_AXES.bytes().chain(counting(48)).collect()),
        seed("tables", "itk-snap", b"# ITK-SnAP\n    0     0    0    0        0  0  0    \"Clear Label\"\n    1   255    0    9        1  1  1    \"a b\"\n".to_vec()),
        seed("tables", "ctbl", b"# Color table file\n0 Background 0 0 0 0\n1 a_b 255 0 9 255\n".to_vec()),
        seed("tables", "csv", b"LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n1,\"a, b\",255,0,9,255\n".to_vec()),
        seed("tables", "niivue", br#"{"R":[0,255],"G":[0,0],"B":[0,9],"I":[0,7],"labels":["","a"]}"#.to_vec()),
        seed("spec", "shipped", spec.to_json().expect("a specification that was read can be written").into_bytes()),
        seed("spec", "resampled", RESAMPLED.to_vec()),
        seed("plan", "tiny", include_bytes!("../seeds/plan.json").to_vec()),
        seed("checkpoint", "best", include_bytes!("../seeds/best.ckpt").to_vec()),
        seed("checkpoint", "last", include_bytes!("../seeds/last.ckpt").to_vec()),
        seed("weights", "pickle", include_bytes!("../seeds/state_dict.pkl").to_vec()),
        seed("weights", "pytorch", include_bytes!("../../../crates/sulcus-train/tests/weights/plain_2d.pth").to_vec()),
        seed("weights", "safetensors", safetensors()),
        seed("dataset", "decathlon", DECATHLON.as_bytes().to_vec()),
        seed("dataset", "nnunet", NNUNET.as_bytes().to_vec()),
        seed("dataset", "listed", LISTED.as_bytes().to_vec()),
        seed("nnunet", "export", NNUNET_EXPORT.to_vec()),
        seed("nnunet", "parts", nnunet_parts()),
        seed("model", "small", small_model(&spec)),
        seed("model", "layers", small_unet(&spec)),
        seed("model", "bare", small_model(&ModelSpec { golden_case: None, ..spec })),
    ]
}

/// The specification of a 3-D network with regions, which resamples and crops.
const RESAMPLED: &[u8] = include_bytes!("../seeds/spec.json");

const DECATHLON: &str = r#"{"name":"Phantoms","modality":{"0":"MRI","1":"CT"},"labels":{"0":"background","1":"Ball","2":"Box"},"numTraining":2,"training":[{"image":"./imagesTr/a.nii.gz","label":"./labelsTr/a.nii.gz"},{"image":"./imagesTr/b.nii","label":"./labelsTr/b.nii"}]}"#;

const NNUNET: &str = r#"{"channel_names":{"0":"T1","1":"FLAIR"},"labels":{"background":0,"whole":[1,2],"core":2,"ignore":3},"regions_class_order":[1,2],"file_ending":".nii.gz"}"#;

const LISTED: &str = r#"{"channel_names":{"0":"T1"},"labels":{"background":0,"ball":1},"file_ending":".nii.gz","dataset":{"a":{"images":["imagesTr/a_0000.nii.gz"],"label":"labelsTr/a.nii.gz"}}}"#;

const DIRECTIONS: &str = "dimension: 3\nsizes: 2 3 4\nspace: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (10,-20,30)\n";

const CHANNELS: &str = "NRRD0004\ntype: uint8\ndimension: 4\nsizes: 2 2 3 4\nspace: right-anterior-superior\nspace directions: none (1,0,0) (0,0,2) (0,3,0)\nspace origin: (1,2,3)\nkinds: vector domain domain domain\nencoding: raw\nkey:=value\n# comment\n\n";

const SPACINGS: &str = "NRRD0001\r\ntype: int8\r\ndimension: 3\r\nsizes: 2 3 4\r\nspacings: 1 2.5 nan\r\naxis mins: 1 2 3\r\ncenterings: cell node cell\r\nkinds: domain domain domain\r\nencoding: raw\r\n\r\n";

const FOUR_AXES: &str = "NDims = 4\nDimSize = 2 3 4 2\nElementSpacing = 1 1 2 3\nOffset = 1 2 3 0\nTransformMatrix = 0 1 0 0 1 0 0 0 0 0 1 0 0 0 0 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n";

const JPEG: &[u8] = include_bytes!("../../../crates/sulcus-dicom/tests/dicom/u8_jpeg.dcm");
const JPEG_LOSSLESS: &[u8] = include_bytes!("../../../crates/sulcus-dicom/tests/dicom/flat_jpeg_lossless.dcm");
const JPEG_LS: &[u8] = include_bytes!("../../../crates/sulcus-dicom/tests/dicom/flat_jpegls.dcm");
const JPEG_LS_NEAR: &[u8] = include_bytes!("../../../crates/sulcus-dicom/tests/dicom/u12_jpegls_near.dcm");
const JPEG_2000: &[u8] = include_bytes!("../../../crates/sulcus-dicom/tests/dicom/flat_j2k.dcm");

/// Uncompressed pixels.
fn native(n: usize) -> Vec<u8> {
    element(0x7fe0, 0x0010, b"OW", &counting(n))
}

/// Three slices in three files.
fn dicom_series() -> Vec<u8> {
    [4, 0, 2].map(|height| slice(".1", 16, [2, 3], height, &native(12))).join(NEXT_FILE)
}

/// The position of a frame, in a functional group.
fn position(height: i32) -> Vec<u8> {
    let place = element(0x0020, 0x0032, b"DS", format!("1\\2\\{height}").as_bytes());
    sequence(0x0020, 0x9113, &[place])
}

/// The functional groups that frames share.
fn shared() -> Vec<u8> {
    let measures = [element(0x0018, 0x0050, b"DS", b"3"), element(0x0028, 0x0030, b"DS", b"0.5\\0.5")].concat();
    let orientation = element(0x0020, 0x0037, b"DS", b"1\\0\\0\\0\\1\\0");
    let groups = [sequence(0x0020, 0x9116, &[orientation]), sequence(0x0028, 0x9110, &[measures])].concat();
    sequence(0x5200, 0x9229, &[groups])
}

/// An enhanced file of three frames, each with its own slope.
fn dicom_frames() -> Vec<u8> {
    let frame = |(height, slope): (i32, &str)| {
        let scale = [element(0x0028, 0x1052, b"DS", b"-8"), element(0x0028, 0x1053, b"DS", slope.as_bytes())];
        [position(height), sequence(0x0028, 0x9145, &[scale.concat()])].concat()
    };
    let frames = [(3, "1"), (0, "0.5"), (6, "2")].map(frame);
    let body = [
        element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.4.1"),
        element(0x0020, 0x000e, b"UI", b"1.2.3"),
        element(0x0028, 0x0008, b"IS", b"3"),
        pixels(8, [2, 2]),
        shared(),
        sequence(0x5200, 0x9230, &frames),
        native(12),
    ];
    file(".1", &body)
}

/// Three slices of 2 × 3 pixels as tiles of one picture.
fn dicom_mosaic() -> Vec<u8> {
    let number = |n: usize| (n as u32).to_le_bytes();
    let field = |name: &str, values: &[&str]| {
        let mut out = name.as_bytes().to_vec();
        out.resize(64, 0);
        out.extend(
            [&number(values.len())[..], b"FD\0\0", &number(4), &number(values.len()), &number(77)].concat(),
        );
        for value in values {
            // Padded to a multiple of four.
            let length = number(value.len());
            let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
            out.extend([&length, &length, &number(77), &length, value.as_bytes(), &padding].concat());
        }
        out
    };
    let fields = [field("NumberOfImagesInMosaic", &["3"]), field("SliceNormalVector", &["0", "0", "-1.0"])];
    let csa = [b"SV10\x04\x03\x02\x01".as_slice(), &number(fields.len()), &number(77), &fields.concat()].concat();
    let picture: Vec<u8> = (0..24).map(|i| if i >= 12 && i % 6 >= 3 { 0 } else { i + 1 }).collect();
    let body = [
        element(0x0008, 0x0008, b"CS", b"ORIGINAL\\MOSAIC"),
        element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.4"),
        element(0x0018, 0x0088, b"DS", b"3"),
        element(0x0020, 0x000e, b"UI", b"1.2.3"),
        element(0x0020, 0x0032, b"DS", b"-10\\20\\5"),
        element(0x0020, 0x0037, b"DS", b"1\\0\\0\\0\\1\\0"),
        element(0x0028, 0x0030, b"DS", b"0.5\\0.75"),
        pixels(8, [4, 6]),
        element(0x0029, 0x0010, b"LO", b"SIEMENS CSA HEADER"),
        element(0x0029, 0x1010, b"OB", &csa),
        element(0x7fe0, 0x0010, b"OW", &picture),
    ];
    file(".1", &body)
}

/// Two segments on two planes of 2 × 2 pixels, or a label map on two such planes.
fn segmentation(kind: &str, bits: u16, values: &[u8]) -> Vec<u8> {
    let planes: &[(i32, u16)] = if bits == 1 { &[(0, 1), (3, 1), (0, 2), (3, 2)] } else { &[(0, 0), (3, 0)] };
    let frame = |(height, segment): &(i32, u16)| {
        let named = sequence(0x0062, 0x000a, &[short(0x0062, 0x000b, *segment)]);
        [position(*height), if bits == 1 { named } else { Vec::new() }].concat()
    };
    let segment = |(number, name, value): (u16, &str, &str)| {
        [
            short(0x0062, 0x0004, number),
            element(0x0062, 0x0005, b"LO", name.as_bytes()),
            element(0x0062, 0x0006, b"ST", value.as_bytes()),
            element(0x0062, 0x000d, b"US", &[0, 0x80, 1, 2, 3, 4]),
        ]
        .concat()
    };
    let frames: Vec<Vec<u8>> = planes.iter().map(frame).collect();
    let body = [
        element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.66.4"),
        element(0x0020, 0x000e, b"UI", b"1.2.3"),
        element(0x0028, 0x0008, b"IS", planes.len().to_string().as_bytes()),
        pixels(bits, [2, 2]),
        element(0x0062, 0x0001, b"CS", kind.as_bytes()),
        sequence(0x0062, 0x0002, &[(1, "a", "Label value 3"), (2, "b", "Label value 7")].map(segment)),
        shared(),
        sequence(0x5200, 0x9230, &frames),
        element(0x7fe0, 0x0010, b"OB", values),
    ];
    file(".1", &body)
}

/// One frame for a codec: the number of the codec among those of the targets, whether it has 16 bits, rows and columns.
fn frame(codec: u8, wide: u8, [rows, columns]: [u8; 2], data: &[u8]) -> Vec<u8> {
    [FRAME, &[codec, wide, rows, columns], data].concat()
}

/// The frame in a file with one slice.
fn frame_of(codec: u8, wide: u8, file: &[u8]) -> Vec<u8> {
    let after = |tag: [u8; 4], from: usize| {
        let at = file[from..].windows(4).position(|four| four == tag).expect("the file has it");
        from + at + 4
    };
    // Rows and columns have two bytes each, after their representation and length.
    let size = [0x10, 0x11].map(|number| file[after([0x28, 0, number, 0], 0) + 4]);
    let item = [0xfe, 0xff, 0x00, 0xe0];
    let start = after(item, after(item, after([0xe0, 0x7f, 0x10, 0], 0)));
    let length = u32::from_le_bytes([file[start], file[start + 1], file[start + 2], file[start + 3]]) as usize;
    frame(codec, wide, size, &file[start + 4..start + 4 + length])
}

/// Six bytes in one segment: a run of three, then three literal bytes.
fn rle() -> Vec<u8> {
    let mut out = vec![0; 64];
    out[0] = 1;
    out[4] = 64;
    out.extend([0xfe, 9, 2, 1, 2, 3]);
    out
}

fn nrrd(fields: &str, voxels: &[u8]) -> Vec<u8> {
    [format!("NRRD0005\n{DIRECTIONS}{fields}\n").as_bytes(), voxels].concat()
}

/// Two layers that do not overlap, in which value 1 is a different segment.
fn segments() -> Vec<u8> {
    let mut file = CHANNELS.trim_end().to_owned() + "\n";
    for i in 0..2 {
        file += &format!(
            "Segment{i}_Name:=part {i}\nSegment{i}_Color:=0.5 {i} 0\nSegment{i}_LabelValue:=1\nSegment{i}_Layer:={i}\n"
        );
    }
    let voxels = (0..24).flat_map(|i| [u8::from(i % 3 == 0), u8::from(i % 3 == 1)]);
    file.bytes().chain(*b"\n").chain(voxels).collect()
}

/// A mask with a palette.
fn png() -> Vec<u8> {
    let spacing = Spacing::new([1.0; 3]).expect("a size");
    let grid = Geometry::of_picture([5, 4, 1], spacing, GridUnit::Pixel).expect("a grid");
    let labels = LabelMap::new(grid, (0..20).map(|i| i % 3).collect()).expect("as many labels as pixels");
    let names = LabelTable::from_names([(1, "One".to_owned()), (2, "Two".to_owned())]).expect("names");
    sulcus_io::encode_labels_png(&labels, &grid.into(), &names).expect("a mask")
}

/// Two pages of 3 × 2 pixels of 8 bits, uncompressed.
fn tiff(big_endian: bool) -> Vec<u8> {
    let short = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let long = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut out = [if big_endian { b"MM" } else { b"II" }.as_slice(), &short(42), &long(8)].concat();
    for page in 0..2_u32 {
        // Width, length, bits, compression, meaning, offset, rows, bytes.
        let start = out.len() as u32 + 2 + 8 * 12 + 4;
        let tags = [(256, 3), (257, 2), (258, 8), (259, 1), (262, 1), (273, start), (278, 2), (279, 6)];
        out.extend(short(tags.len() as u16));
        for (tag, value) in tags {
            out.extend([short(tag), short(4)].concat());
            out.extend([long(1), long(value)].concat());
        }
        out.extend(long(if page == 0 { start + 6 } else { 0 }));
        out.extend(counting(6));
    }
    out
}

/// The picture in a DICOM file.
fn jpeg() -> Vec<u8> {
    let start = JPEG.windows(3).position(|bytes| bytes == [0xff, 0xd8, 0xff]).expect("a picture");
    JPEG.get(start..).expect("it is there").to_vec()
}

fn metaimage(fields: &str, voxels: &[u8]) -> Vec<u8> {
    let header = "ObjectType = Image\nNDims = 3\nDimSize = 2 3 4\nElementSpacing = 1 2 3\nOffset = 10 -20 30\nTransformMatrix = 0 1 0 -1 0 0 0 0 1\nAnatomicalOrientation = RAI\n";
    [format!("{header}{fields}ElementDataFile = LOCAL\n").as_bytes(), voxels].concat()
}

fn counting(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 7) as u8).collect()
}

/// The numbers up to 23 as text, with a word on one side.
fn counted(word: &str) -> String {
    let numbers = (0..24).map(|i| if word == "-" { format!("-{i}") } else { format!("{i}{word}") });
    numbers.collect::<Vec<_>>().join(" ")
}

fn zlib(content: &[u8]) -> Vec<u8> {
    use libdeflater::{CompressionLvl, Compressor};
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut out = vec![0; compressor.zlib_compress_bound(content.len())];
    let length = compressor.zlib_compress(content, &mut out).expect("the bound is enough");
    out.truncate(length);
    out
}

/// Two tensors in the safetensors format.
fn safetensors() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"encoder.0.0.conv.weight":{"dtype":"F32","shape":[2,1,3,3],"data_offsets":[0,72]},"encoder.0.0.conv.bias":{"dtype":"F16","shape":[2],"data_offsets":[72,76]}}"#;
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), &counting(76)].concat()
}

/// A NIfTI-1 header, field by field, with ascending voxel values.
struct Nifti {
    big: bool,
    dim: [i16; 5],
    datatype: i16,
    slope: f32,
    /// The codes of qform and sform.
    forms: [i16; 2],
    magic: [u8; 4],
}

impl Default for Nifti {
    fn default() -> Self {
        Self { big: false, dim: [3, 2, 3, 4, 1], datatype: 2, slope: 1.0, forms: [0, 1], magic: *b"n+1\0" }
    }
}

impl Nifti {
    fn bytes(&self) -> Vec<u8> {
        let bits: i16 = match self.datatype {
            2 => 8,
            4 | 512 => 16,
            8 | 16 => 32,
            _ => 64,
        };
        let mut file = vec![0; 352];
        let mut put = |at: usize, bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if self.big {
                bytes.reverse();
            }
            file[at..at + bytes.len()].copy_from_slice(&bytes);
        };
        put(0, &348_i32.to_le_bytes());
        for (i, n) in self.dim.into_iter().chain([1, 1, 1]).enumerate() {
            put(40 + 2 * i, &n.to_le_bytes());
        }
        put(70, &self.datatype.to_le_bytes());
        put(72, &bits.to_le_bytes());
        for (i, size) in [1.0_f32, 1.0, 2.0, 3.0, 1.0].into_iter().enumerate() {
            put(76 + 4 * i, &size.to_le_bytes());
        }
        put(108, &352_f32.to_le_bytes());
        put(112, &self.slope.to_le_bytes());
        put(252, &self.forms[0].to_le_bytes());
        put(254, &self.forms[1].to_le_bytes());
        for (i, v) in [0.1_f32, 0.7, -0.7, 1.0, 2.0, 3.0].into_iter().enumerate() {
            put(256 + 4 * i, &v.to_le_bytes());
        }
        let rows = [[-1.0_f32, 0.0, 0.0, 10.0], [0.0, 2.0, 0.0, -20.0], [0.0, 0.0, 3.0, 30.0]];
        for (i, v) in rows.as_flattened().iter().enumerate() {
            put(280 + 4 * i, &v.to_le_bytes());
        }
        file[344..348].copy_from_slice(&self.magic);
        let values: usize = self.dim[1..].iter().map(|n| *n as usize).product();
        file.extend((0..values * bits as usize / 8).map(|i| (i % 7) as u8));
        file
    }
}

/// Two levels with every kind of layer of a U-Net, with this specification.
fn small_unet(spec: &ModelSpec) -> Vec<u8> {
    let axes = |channels| [Axis::Dynamic("N"), Axis::Fixed(channels), Axis::Dynamic("H"), Axis::Dynamic("W")];
    let square = |edge: usize, stride: usize| {
        let (kernel, strides, pads) = ([edge; 2], [stride; 2], [edge / 2; 4]);
        vec![
            attribute::ints("kernel_shape", &kernel),
            attribute::ints("strides", &strides),
            attribute::ints("pads", &pads),
        ]
    };
    let mut graph = GraphBuilder::new("layers");
    graph.input("image", &axes(1), "");
    let mut constant = |name: &str, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 0.25 * (i % 7) as f32 - 0.5).collect();
        graph.constant(name, shape, &values);
    };
    constant("fine.weight", &[2, 1, 3, 3]);
    constant("fine.bias", &[2]);
    constant("scale", &[2]);
    constant("shift", &[2]);
    constant("coarse.weight", &[3, 2, 1, 1]);
    constant("up.weight", &[3, 2, 2, 2]);
    constant("last.weight", &[3, 4, 1, 1]);
    graph.node("Conv", &["image", "fine.weight", "fine.bias"], "fine", square(3, 1));
    let epsilon = vec![attribute::float("epsilon", 1e-5)];
    graph.node("InstanceNormalization", &["fine", "scale", "shift"], "normalised", epsilon);
    graph.node("LeakyRelu", &["normalised"], "active", vec![attribute::float("alpha", 0.01)]);
    let pool = |edge: &[usize]| vec![attribute::ints("kernel_shape", edge), attribute::ints("strides", edge)];
    graph.node("MaxPool", &["active"], "pooled", pool(&[2, 2]));
    graph.node("Conv", &["pooled", "coarse.weight"], "coarse", square(1, 1));
    graph.node("ConvTranspose", &["coarse", "up.weight"], "up", pool(&[2, 2]));
    graph.node("Concat", &["active", "up"], "joined", vec![attribute::int("axis", 1)]);
    graph.node("Conv", &["joined", "last.weight"], "logits", square(1, 1));
    graph.output("logits", &axes(3), "");
    graph.finish(spec, "", "0").expect("a specification that was read can be written")
}

/// A graph of one convolution with this specification.
fn small_model(spec: &ModelSpec) -> Vec<u8> {
    let axes = [Axis::Dynamic("N"), Axis::Fixed(1), Axis::Dynamic("H"), Axis::Dynamic("W")];
    let mut graph = GraphBuilder::new("small");
    graph.input("image", &axes, "a slice");
    graph.constant("weight", &[2, 1, 1, 1], &[0.5, -1.0]);
    graph.node("Conv", &["image", "weight"], "logits", vec![attribute::ints("strides", &[1, 1])]);
    graph.output("logits", &axes, "a value a class");
    graph.finish(spec, "", "0").expect("a specification that was read can be written")
}
