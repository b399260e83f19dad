//! One function per file format, which reads the bytes in every possible way. Reading may fail, but must not panic, and
//! the parts of a result must fit together.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use sulcus_dataset::Dataset;
use sulcus_dicom::read_segmentation_bytes;
use sulcus_io::dicom::read_series_bytes;
use sulcus_io::{
    IoError, LabelTableFormat, Scan, format_label_table, parse_label_table, read_info_bytes, read_labels_bytes,
    read_scan_bytes, read_scan_pair_bytes,
};
use sulcus_model::ModelSpec;
use sulcus_nnunet::ImportOptions;
use sulcus_pipeline::{InferenceSettings, PlannedModel, plan_inference};
use sulcus_plan::{DeviceKind, Optimizer, PlanFile};
use sulcus_runtime::NativePredictor;
use sulcus_train::{Checkpoint, InitSource};
use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

/// Processes bytes like a file. It must not panic or hang.
pub type Target = fn(&[u8]);

/// The functions by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("nifti", nifti),
    ("dicom", dicom),
    ("nrrd", nrrd),
    ("metaimage", metaimage),
    ("pictures", pictures),
    ("tables", tables),
    ("model", model),
    ("spec", spec),
    ("plan", plan),
    ("checkpoint", checkpoint),
    ("weights", weights),
    ("dataset", dataset),
    ("nnunet", nnunet),
];

/// `.nii`, `.nii.gz`, and a `.hdr`/`.img` pair.
pub fn nifti(data: &[u8]) {
    volume(data);
    // Also tests the data behind the checksum, which random changes rarely get past.
    volume(&gzip(data));
    let (header, voxels) = data.split_at(data.len().min(348));
    checked(read_scan_pair_bytes(header, voxels));
}

/// Separates the files of a DICOM series, or of a model of nnU-Net, in one input.
pub const NEXT_FILE: &[u8] = b"\nNEXT FILE\n";
/// Marks an input that is one compressed frame: transfer syntax, bits, rows and columns follow in one byte each.
pub const FRAME: &[u8] = b"FRAME";

/// The files of a DICOM series, each of which may also be a segmentation; or one frame for a codec, because random
/// changes rarely get past the elements around it.
pub fn dicom(data: &[u8]) {
    let files = dicom_files(data);
    let slices: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    match read_series_bytes(&slices, None) {
        Ok(scan) => {
            assert_eq!(scan.scan.image.data().len(), scan.scan.metadata.geometry().voxels());
            checked(Ok(scan.scan));
        }
        Err(error) => assert!(error.to_string().starts_with("cannot "), "{error}"),
    }
    for file in slices {
        match read_segmentation_bytes(file) {
            Ok((labels, _)) => assert_eq!(labels.data().len(), labels.geometry().voxels()),
            Err(error) => assert!(error.to_string().starts_with("cannot "), "{error}"),
        }
    }
}

/// The files in an input for [`dicom`].
pub fn dicom_files(data: &[u8]) -> Vec<Vec<u8>> {
    if let Some([syntax, bits, rows, columns, frame @ ..]) = data.strip_prefix(FRAME) {
        const SYNTAXES: [&str; 4] = [".5", ".4.70", ".4.80", ".4.90"];
        let syntax = SYNTAXES[usize::from(*syntax) % SYNTAXES.len()];
        let bits = if bits.is_multiple_of(2) { 8 } else { 16 };
        let size = [u16::from(*rows), u16::from(*columns)];
        return vec![elements::slice(syntax, bits, size, 0, &elements::fragments(&[&[], frame]))];
    }
    separated(data)
}

/// The files between [`NEXT_FILE`].
fn separated(data: &[u8]) -> Vec<Vec<u8>> {
    let mut files = vec![Vec::new()];
    let mut rest = data;
    while let Some((byte, tail)) = rest.split_first() {
        if let Some(next) = rest.strip_prefix(NEXT_FILE) {
            files.push(Vec::new());
            rest = next;
            continue;
        }
        files.last_mut().expect("there is one").push(*byte);
        rest = tail;
    }
    files
}

/// DICOM elements, explicit and little endian.
pub mod elements {
    /// One element.
    pub fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        if !value.len().is_multiple_of(2) {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        let mut out = [group.to_le_bytes(), number.to_le_bytes(), *vr].concat();
        if matches!(vr, b"OB" | b"OW" | b"SQ") {
            out.extend([0, 0]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
        out
    }

    /// A number of 16 bits.
    pub fn short(group: u16, number: u16, value: u16) -> Vec<u8> {
        element(group, number, b"US", &value.to_le_bytes())
    }

    /// A sequence.
    pub fn sequence(group: u16, number: u16, items: &[Vec<u8>]) -> Vec<u8> {
        let item =
            |item: &Vec<u8>| [&[0xfe, 0xff, 0x00, 0xe0][..], &(item.len() as u32).to_le_bytes(), item].concat();
        element(group, number, b"SQ", &items.iter().flat_map(item).collect::<Vec<u8>>())
    }

    /// Compressed pixels: a table of offsets, then the frames.
    pub fn fragments(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0xe0, 0x7f, 0x10, 0x00, b'O', b'B', 0, 0, 0xff, 0xff, 0xff, 0xff];
        for piece in pieces {
            let length = (piece.len() as u32).next_multiple_of(2);
            out.extend([0xfe, 0xff, 0x00, 0xe0]);
            out.extend(length.to_le_bytes());
            out.extend(*piece);
            out.resize(out.len() + length as usize - piece.len(), 0);
        }
        out.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        out
    }

    /// A file without preamble: the end of its transfer syntax, then the elements.
    pub fn file(syntax: &str, body: &[Vec<u8>]) -> Vec<u8> {
        let uid = format!("1.2.840.10008.1.2{syntax}");
        [element(0x0002, 0x0010, b"UI", uid.as_bytes()), body.concat()].concat()
    }

    /// The elements that describe the pixels of a file.
    pub fn pixels(bits: u16, [rows, columns]: [u16; 2]) -> Vec<u8> {
        let numbers =
            [(0x0002, 1), (0x0010, rows), (0x0011, columns), (0x0100, bits), (0x0101, bits), (0x0102, bits - 1)];
        numbers.into_iter().flat_map(|(number, value)| short(0x0028, number, value)).collect()
    }

    /// A slice at a height.
    pub fn slice(syntax: &str, bits: u16, size: [u16; 2], height: i32, pixel_data: &[u8]) -> Vec<u8> {
        let body = [
            element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.4"),
            element(0x0008, 0x0018, b"UI", b"1.2.3.4"),
            element(0x0008, 0x0060, b"CS", b"MR"),
            element(0x0018, 0x0050, b"DS", b"2.5"),
            element(0x0020, 0x000e, b"UI", b"1.2.3"),
            element(0x0020, 0x0032, b"DS", format!("-10\\20\\{height}").as_bytes()),
            element(0x0020, 0x0037, b"DS", b"1\\0\\0\\0\\1\\0"),
            element(0x0028, 0x0030, b"DS", b"0.5\\0.75"),
            pixels(bits, size),
            element(0x0028, 0x1052, b"DS", b"-1024"),
            element(0x0028, 0x1053, b"DS", b"2"),
            pixel_data.to_vec(),
        ];
        file(syntax, &body)
    }
}

/// `.nrrd` and `.seg.nrrd`.
pub fn nrrd(data: &[u8]) {
    volume(data);
    // The same voxels without the checksum of gzip data.
    if let Some(end) = data.windows(2).position(|two| two == b"\n\n") {
        let (header, voxels) = data.split_at(end + 2);
        volume(&[header, &gzip(voxels)].concat());
    }
}

/// PNG, JPEG and TIFF.
pub fn pictures(data: &[u8]) {
    volume(data);
    if let Err(error) = sulcus_io::announced(data) {
        assert!(error.to_string().starts_with("cannot "), "{error}");
    }
}

/// `.mha`.
pub fn metaimage(data: &[u8]) {
    volume(data);
    let key = b"ElementDataFile";
    let last = data.windows(key.len()).position(|word| word == key);
    let end = last.and_then(|at| Some(at + data.get(at..)?.iter().position(|b| *b == b'\n')? + 1));
    if let Some((header, voxels)) = end.map(|end| data.split_at(end)) {
        volume(&[header, &gzip(voxels)].concat());
    }
}

/// A label table of another program, which is written again in its own format.
pub fn tables(data: &[u8]) {
    if let Ok(table) = parse_label_table(data) {
        assert!(table.entries().iter().all(|entry| entry.value > 0));
        let format = LabelTableFormat::of_content(data).expect("it was read");
        let _ = parse_label_table(format_label_table(&table, format).as_bytes());
    }
}

/// A model file: its outer message, the specification in it, its weights, and its graph as the native engine reads it.
pub fn model(data: &[u8]) {
    if let Ok(spec) = sulcus_onnx::read_spec(data) {
        let again = sulcus_onnx::with_spec(data, &spec).expect("a file that was read accepts a specification");
        assert_eq!(sulcus_onnx::read_spec(&again).expect("a written file can be read"), spec);
    }
    let _ = sulcus_onnx::read_constants(data);
    // The graph, with its weights packed for the kernels.
    let _ = NativePredictor::new(data, Some(1));
}

/// The specification in a model file, and the plan of a prediction with it.
pub fn spec(data: &[u8]) {
    const LIMIT: u64 = 1 << 30;
    let Some(spec) = std::str::from_utf8(data).ok().and_then(|json| ModelSpec::from_json(json).ok()) else {
        return;
    };
    let json = spec.to_json().expect("a specification that was read can be written");
    assert_eq!(ModelSpec::from_json(&json).expect("what was written is read"), spec);
    for shape in [[20, 30, 10], [3000, 2000, 1000]] {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([0.5, 1.0, 100.0]).expect("positive"));
        let scan = Geometry::new(shape, map, OrientationSource::Sform).expect("a grid");
        let mut settings = InferenceSettings::default();
        settings.memory_limit = Some(LIMIT);
        if let Ok(plan) = plan_inference(&[PlannedModel::new(&spec)], &scan, &settings) {
            assert!(plan.peak_bytes <= LIMIT);
        }
    }
}

/// `plan.json`.
pub fn plan(data: &[u8]) {
    let file = scratch("plan.json", data);
    if let Ok(read) = PlanFile::read(&file) {
        assert!(read.plan.parameters() > 0 && read.plan.memory_bytes(&read.config, DeviceKind::Gpu) > 0);
        read.to_json().expect("a plan that was read can be written");
    }
}

/// A checkpoint: as it is, and with the right checksum, which random changes do not get past.
pub fn checkpoint(data: &[u8]) {
    const DIGEST_BYTES: usize = 32;
    let content = data.get(..data.len().saturating_sub(DIGEST_BYTES)).unwrap_or_default();
    for bytes in [data, &[content, &Sha256::digest(content)].concat()] {
        let file = scratch("x.ckpt", bytes);
        if let Ok(read) = Checkpoint::load(&file) {
            let _ = read.optimizer(Optimizer::Adam);
            let _ = read.optimizer(Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 });
        }
        // Builds the network and reads its weights.
        let _ = InitSource::read(&file);
    }
}

/// Weights of other programs: a PyTorch file, its pickle alone (random changes do not get past the archive's checksums), or
/// safetensors.
pub fn weights(data: &[u8]) {
    let file = match data {
        [b'P', b'K', ..] => scratch("x.pt", data),
        [0x80, ..] => scratch("x.pt", &pytorch_archive(data)),
        _ => scratch("x.safetensors", data),
    };
    let _ = InitSource::read(&file);
}

fn pytorch_archive(pickle: &[u8]) -> Vec<u8> {
    stored_archive([
        ("archive/data.pkl", pickle),
        ("archive/version", b"3"),
        ("archive/data/0", &[0; 288]),
        ("archive/data/1", &[0; 32]),
    ])
}

fn stored_archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in files {
        archive.start_file(name, stored).expect("memory can be written");
        archive.write_all(content).expect("memory can be written");
    }
    archive.finish().expect("memory can be written").into_inner()
}

/// A model of nnU-Net as its own program exports it.
pub const NNUNET_EXPORT: &[u8] = include_bytes!("../../../crates/sulcus-nnunet/tests/fixtures/plain_2d_bn.zip");
const NNUNET_FOLDER: &str = "nnUNetTrainerBN__nnUNetPlans__2d";
const NNUNET_CHECKPOINT: &str = "fold_0/checkpoint_final.pth";
const NNUNET_PICKLE: &str = "checkpoint_final/data.pkl";

/// The files in [`NNUNET_EXPORT`] by their names in the model's folder, and those in its checkpoint.
struct NnunetFiles {
    model: BTreeMap<String, Vec<u8>>,
    checkpoint: BTreeMap<String, Vec<u8>>,
}

static NNUNET_FILES: LazyLock<NnunetFiles> = LazyLock::new(|| {
    let model: BTreeMap<String, Vec<u8>> = files_of(NNUNET_EXPORT)
        .into_iter()
        .filter_map(|(name, bytes)| Some((name.split_once(&format!("{NNUNET_FOLDER}/"))?.1.to_owned(), bytes)))
        .collect();
    let checkpoint = files_of(&model[NNUNET_CHECKPOINT]);
    NnunetFiles { model, checkpoint }
});

fn files_of(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).expect("an archive of the tests");
    let number = archive.len();
    let content = |i| {
        let mut file = archive.by_index(i).expect("it has as many files");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("it can be read");
        (file.name().expect("UTF-8").into_owned(), bytes)
    };
    (0..number).map(content).collect()
}

/// `plans.json`, `dataset.json` and the checkpoint's pickle of a sound model of nnU-Net, as one input for [`nnunet`].
pub fn nnunet_parts() -> Vec<u8> {
    let files = &*NNUNET_FILES;
    [&files.model["plans.json"][..], &files.model["dataset.json"], &files.checkpoint[NNUNET_PICKLE]]
        .join(NEXT_FILE)
}

/// A model of nnU-Net: its export, or `plans.json`, `dataset.json` and the pickle of its checkpoint, separated by [`NEXT_FILE`], because
/// random changes do not get past the checksums of an archive.
pub fn nnunet(data: &[u8]) {
    let model = if data.starts_with(b"PK") {
        scratch("model.zip", data)
    } else {
        let parts = separated(data);
        let part = |i: usize| parts.get(i).map(Vec::as_slice).unwrap_or_default();
        let checkpoint = NNUNET_FILES.checkpoint.iter();
        let with_pickle =
            checkpoint.map(|(name, bytes)| (&**name, if name == NNUNET_PICKLE { part(2) } else { bytes }));
        let checkpoint = stored_archive(with_pickle);
        for (name, bytes) in [("plans.json", part(0)), ("dataset.json", part(1)), (NNUNET_CHECKPOINT, &checkpoint)]
        {
            scratch(&format!("{NNUNET_FOLDER}/{name}"), bytes);
        }
        scratch("last", &[]).with_file_name(NNUNET_FOLDER)
    };
    match sulcus_nnunet::import(&model, &ImportOptions::default()) {
        Ok(imported) => assert!(sulcus_onnx::read_spec(&imported.bytes).is_ok()),
        Err(error) => assert!(error.to_string().contains("cannot"), "{error}"),
    }
}

/// `dataset.json`.
pub fn dataset(data: &[u8]) {
    let file = scratch("dataset.json", data);
    if let Some(folder) = file.parent() {
        let _ = Dataset::open(folder);
    }
}

/// Writes a file for a function that reads only files. Each thread has a folder for its files.
fn scratch(name: &str, data: &[u8]) -> PathBuf {
    let of_thread = format!("sulcus-damaged-{}-{:?}", std::process::id(), std::thread::current().id());
    let folder = std::env::temp_dir().join(of_thread);
    let file = folder.join(name);
    std::fs::create_dir_all(file.parent().unwrap_or(&folder)).expect("the temporary folder can be written");
    std::fs::write(&file, data).expect("the temporary folder can be written");
    file
}

/// Removes the files of this thread.
pub fn remove_scratch() {
    let file = scratch("last", &[]);
    let _ = std::fs::remove_dir_all(file.parent().unwrap_or(Path::new("absent")));
}

fn volume(data: &[u8]) {
    checked(read_scan_bytes(data));
    if let Ok((labels, _)) = read_labels_bytes(data) {
        assert_eq!(labels.data().len(), labels.geometry().voxels());
    }
    if let Ok(info) = read_info_bytes(data) {
        assert!(info.min <= info.max && info.spacing_mm.iter().flatten().all(|mm| *mm > 0.0));
    }
}

fn checked(read: Result<Scan, IoError>) {
    match read {
        Ok(read) => {
            let image = &read.image;
            assert_eq!(image.data().len(), image.geometry().voxels() * image.channels());
            assert_eq!(read.info.shape.iter().product::<usize>(), image.data().len());
        }
        Err(error) => assert!(error.to_string().starts_with("cannot ")),
    }
}

/// One gzip member.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    use libdeflater::{CompressionLvl, Compressor};
    let mut compressor = Compressor::new(CompressionLvl::fastest());
    let mut out = vec![0; compressor.gzip_compress_bound(content.len())];
    let length = compressor.gzip_compress(content, &mut out).expect("the bound is enough");
    out.truncate(length);
    out
}
