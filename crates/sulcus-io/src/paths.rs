use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sulcus_volume::{Geometry, Image, LabelMap, LabelTable};

use crate::atomic::{Staged, system, write_atomically};
#[cfg(feature = "dicom")]
use crate::dicom::{self, SegmentationOptions};
use crate::error::{IoError, Problem};
use crate::grid::Grid;
use crate::info::VolumeInfo;
use crate::names::{self, Output};
use crate::nifti::{self, Encoded, Layout, NiftiHeader, Texts};
use crate::read::{self, Scan};
use crate::source::Source;
use crate::stored::StoredVolume;
use crate::{gzip, headed};

const ACTION: &str = "read the volume";

/// Reads an image: `.nii`, `.nii.gz`, either file of a `.hdr`/`.img` pair, or, with the feature `dicom`, the folder of a
/// DICOM series (of several the largest). What a file is, and whether it is gzipped,
/// its content says, not its name.
///
/// # Errors
/// When a file is missing or can't be read, or as [`read_scan_bytes`](crate::read_scan_bytes).
pub fn read_scan(path: &Path) -> Result<Scan, IoError> {
    #[cfg(feature = "dicom")]
    if is_dicom(path) {
        return Ok(dicom::read_series(path, None)?.into());
    }
    let opened = Opened::new(path)?;
    if !is_of_pair(path) && gzip::is_gzip(&opened.start) {
        // Straight from the compressed bytes.
        return opened.whole().and_then(|bytes| read::scan(bytes.into()).map_err(|p| IoError::in_file(path, p)));
    }
    open_started(path, opened)?.finish(StoredVolume::scan)
}

/// Reads a label map; with the feature `dicom` a DICOM SEG file as well. Names that it carries are in [`Source::label_table`].
///
/// # Errors
/// As [`read_scan`]; also when there are channels, or a value is no whole number from 0 to 65535.
pub fn read_labels(path: &Path) -> Result<(LabelMap, Source), IoError> {
    #[cfg(feature = "dicom")]
    if is_dicom(path) {
        return dicom::read_segmentation_source(path);
    }
    open(path)?.finish(StoredVolume::labels)
}

/// Describes a volume.
///
/// # Errors
/// As [`read_scan`].
pub fn read_info(path: &Path) -> Result<VolumeInfo, IoError> {
    #[cfg(feature = "dicom")]
    if dicom::is_segmentation(path) {
        return Ok(read_stored(path)?.info());
    }
    #[cfg(feature = "dicom")]
    if is_dicom(path) {
        return Ok(dicom::read_series(path, None)?.info);
    }
    open(path)?.finish(|stored| Ok(stored.info()))
}

/// Reads what stands before the voxels, which tells grid, channels and type without them. Label names, which may lie
/// between header and voxels, are not read.
///
/// # Errors
/// When the file, or the header of a `.hdr`/`.img` pair, is missing or unusable.
pub fn read_source(path: &Path) -> Result<Source, IoError> {
    #[cfg(feature = "dicom")]
    if is_dicom(path) {
        return dicom::read_series_source(path, None);
    }
    let header = if ending(path).starts_with(".img") {
        partner(path, "hdr").map_err(|p| IoError::in_file(path, p))?
    } else {
        path.to_path_buf()
    };
    let opened = Opened::new(&header)?;
    let fail = |problem| IoError::in_file(&header, problem);
    if headed::starts(&opened.start) {
        let (read, _) = headed::Header::parse(&opened.first(headed::MOST_BYTES)?).map_err(fail)?;
        return read.source().map_err(fail);
    }
    Ok(nifti::header_in(&opened.start).map_err(fail)?.into_source())
}

/// Writes a label map on the grid of `like`, in the format that the name's ending says (`.nii`, `.nii.gz`, `.hdr` with an
/// `.img` beside it, NRRD, MetaImage, or `.dcm` where `like` is a DICOM series), under a temporary name until it is whole. NIfTI is
/// written as [`encode_labels`](crate::encode_labels) says.
///
/// # Errors
/// When the labels lie on another grid, the name is none of a volume's file, or the file can't be written.
pub fn write_labels(path: &Path, labels: &LabelMap, like: &Source, table: &LabelTable) -> Result<(), IoError> {
    #[cfg(feature = "dicom")]
    if let (true, Some(series)) = (names::is_dicom(path), like.series()) {
        let options = SegmentationOptions::new(env!("CARGO_PKG_VERSION"));
        return dicom::write_segmentation(path, labels, series, table, &options);
    }
    let output = output(path)?;
    if output.is_headed() {
        check_grid(path, like, labels.geometry())?;
        let grid = Grid::from_labels(labels, *like.geometry()).map_err(|p| IoError::in_file(path, p))?;
        return headed::write(path, output, &grid, Some(table));
    }
    let encoded =
        Encoded::labels(labels, like, table, layout(output)).map_err(|problem| IoError::in_file(path, problem))?;
    write(path, output, &encoded)
}

/// Writes an image as float32 on the grid of `like`, 4-D when it has channels, in the format that the name says.
///
/// # Errors
/// As [`write_labels`].
pub fn write_image(path: &Path, image: &Image, like: &Source) -> Result<(), IoError> {
    let output = output(path)?;
    if output.is_headed() {
        check_grid(path, like, image.geometry())?;
        let grid = Grid::from_image(image, *like.geometry()).map_err(|p| IoError::in_file(path, p))?;
        return headed::write(path, output, &grid, None);
    }
    let encoded =
        Encoded::image(image, like, layout(output)).map_err(|problem| IoError::in_file(path, problem))?;
    write(path, output, &encoded)
}

/// Reads a volume in the type of its file, of whatever shape, for programs that copy values without touching them.
///
/// # Errors
/// As [`read_scan`], but for what makes an image of it.
pub fn read_stored(path: &Path) -> Result<StoredVolume<'static>, IoError> {
    #[cfg(feature = "dicom")]
    if dicom::is_segmentation(path) {
        let (labels, source) = dicom::read_segmentation_source(path)?;
        let values: Vec<u8> = labels.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        return StoredVolume::new(source, values).map_err(|error| error.at(path));
    }
    #[cfg(feature = "dicom")]
    if is_dicom(path) {
        return Ok(dicom::read_series_stored(path, None)?.0);
    }
    open(path)?.finish(Ok)
}

/// Writes a volume in its own type and scale, in the format that the name says; as a label map with these names when
/// there is a `table`.
///
/// # Errors
/// As [`write_labels`].
pub fn write_stored(
    path: &Path,
    volume: &StoredVolume<'_>,
    table: Option<&LabelTable>,
    texts: Texts,
) -> Result<(), IoError> {
    let output = output(path)?;
    if output.is_headed() {
        let grid = Grid::from_stored(volume).map_err(|p| IoError::in_file(path, p))?;
        return headed::write(path, output, &grid, table);
    }
    let encoded = Encoded::stored(volume, table, texts, layout(output));
    let encoded = encoded.map_err(|problem| IoError::in_file(path, problem))?;
    write(path, output, &encoded)
}

fn layout(output: Output) -> Layout {
    if matches!(output, Output::NiftiPair(_)) { Layout::Pair } else { Layout::Single }
}

/// Writes NIfTI. Both files of a pair are whole before the first of them gets its name, and the header gets its last.
fn write(path: &Path, output: Output, encoded: &Encoded<'_>) -> Result<(), IoError> {
    match output {
        Output::Nifti(compression) => write_atomically(path, |file| encoded.write(compression, file)),
        Output::NiftiPair(compression) => {
            let (header, voxels) = output.files(path);
            let voxels = voxels.unwrap_or_else(|| path.to_path_buf());
            let voxels = Staged::new(&voxels, |file| encoded.write_voxels(compression, file))?;
            let header = Staged::new(&header, |file| encoded.write_header(compression, file))?;
            voxels.commit()?;
            header.commit()
        }
        Output::Nrrd | Output::NrrdPair | Output::MetaImage | Output::MetaImagePair => {
            Err(IoError::in_file(path, Problem::OutputName))
        }
    }
}

/// A folder that holds DICOM files, or such a file.
#[cfg(feature = "dicom")]
fn is_dicom(path: &Path) -> bool {
    if path.is_dir() { dicom::holds_dicom(path) } else { dicom::is_dicom_file(path) }
}

fn check_grid(path: &Path, like: &Source, geometry: &Geometry) -> Result<(), IoError> {
    like.geometry().check_same_grid(geometry).map_err(|source| {
        let source = source.into();
        IoError::in_file(path, Problem::Volume { action: "write the volume on the grid of its input", source })
    })
}

fn output(path: &Path) -> Result<Output, IoError> {
    Output::of(path).ok_or_else(|| IoError::in_file(path, Problem::OutputName))
}

/// The volume ending of a name in small letters, empty where it has none.
fn ending(path: &Path) -> String {
    let split = path.file_name().and_then(|n| n.to_str()).and_then(names::split);
    split.map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default()
}

/// A volume that was opened, and the file to name when something is wrong with its voxels.
struct Found {
    stored: StoredVolume<'static>,
    file: PathBuf,
}

impl Found {
    fn finish<T>(self, f: impl FnOnce(StoredVolume<'static>) -> Result<T, Problem>) -> Result<T, IoError> {
        f(self.stored).map_err(|problem| IoError::in_file(&self.file, problem))
    }
}

/// The files that reading a volume from a path opens: that one, and where header and voxels lie apart, the other one
/// too. Of a path that holds no volume, the path.
pub fn read_files(path: &Path) -> Vec<PathBuf> {
    let other = || -> Option<PathBuf> {
        let ending = ending(path);
        if ending.starts_with(".img") {
            return partner(path, "hdr").ok();
        }
        let opened = Some(path).filter(|p| p.is_file()).map(Opened::new)?.ok()?;
        if ending.starts_with(".hdr") && !nifti::header_in(&opened.start).ok()?.is_single_file() {
            return partner(path, "img").ok();
        }
        if !headed::starts(&opened.start) {
            return None;
        }
        let (header, _) = headed::Header::parse(&opened.first(headed::MOST_BYTES).ok()?).ok()?;
        header.data_file(path).ok()?
    };
    std::iter::once(path.to_path_buf()).chain(other()).collect()
}

/// Whether writing a volume to `output` would replace a file that a volume is read from at `input`.
pub fn would_replace(input: &Path, output: &Path) -> bool {
    // A file that does not exist yet has no canonical path, and is none that could be lost.
    let there = |paths: Vec<PathBuf>| paths.into_iter().filter_map(|path| path.canonicalize().ok());
    let read: Vec<PathBuf> = there(read_files(input)).collect();
    there(names::written_files(output)).any(|path| read.contains(&path))
}

fn open(path: &Path) -> Result<Found, IoError> {
    open_started(path, Opened::new(path)?)
}

/// Whether a name is that of a pair, of which either may be the one that is there.
fn is_of_pair(path: &Path) -> bool {
    [".hdr", ".img"].iter().any(|start| ending(path).starts_with(start))
}

fn open_started(path: &Path, opened: Opened<'_>) -> Result<Found, IoError> {
    let fail = |problem| IoError::in_file(path, problem);
    let ending = ending(path);
    if ending.starts_with(".img") {
        return open_pair(&partner(path, "hdr").map_err(fail)?, path);
    }
    if ending.starts_with(".hdr") && !nifti::header_in(&opened.start).map_err(fail)?.is_single_file() {
        return open_pair(path, &partner(path, "img").map_err(fail)?);
    }
    if headed::starts(&opened.start) {
        return open_headed(path, opened);
    }
    let header = nifti::header_of_single(&opened.start).map_err(fail)?;
    opened.check_length(&header).map_err(fail)?;
    let stored = read::open(opened.whole()?.into()).map_err(fail)?;
    Ok(Found { stored, file: path.to_path_buf() })
}

/// NRRD or MetaImage, in one file or two.
fn open_headed(path: &Path, opened: Opened<'_>) -> Result<Found, IoError> {
    let fail = |problem| IoError::in_file(path, problem);
    let bytes = opened.whole()?;
    let (header, start) = headed::Header::parse(&bytes).map_err(fail)?;
    let Some(data) = header.data_file(path).map_err(fail)? else {
        let stored = header.read(bytes.into(), start).map_err(fail)?;
        return Ok(Found { stored, file: path.to_path_buf() });
    };
    let voxels = Opened::new(&data)?.whole()?;
    let stored = header.read(voxels.into(), 0).map_err(|problem| IoError::in_file(&data, problem))?;
    Ok(Found { stored, file: data })
}

fn open_pair(header: &Path, voxels: &Path) -> Result<Found, IoError> {
    let header_bytes = Opened::new(header)?.whole()?;
    let checked = nifti::header_of_pair(&header_bytes).map_err(|p| IoError::in_file(header, p))?;
    let fail = |problem| IoError::in_file(voxels, problem);
    let opened = Opened::new(voxels)?;
    opened.check_length(&checked).map_err(fail)?;
    let stored = nifti::read_pair(&header_bytes, opened.whole()?.into()).map_err(fail)?;
    Ok(Found { stored, file: voxels.to_path_buf() })
}
/// An opened file, and enough of its start to judge it before the rest is read.
struct Opened<'a> {
    path: &'a Path,
    file: File,
    start: Vec<u8>,
    length: u64,
}

impl<'a> Opened<'a> {
    fn new(path: &'a Path) -> Result<Self, IoError> {
        const START_BYTES: u64 = 1 << 16;
        let fail = |source| IoError::in_file(path, system(ACTION, path, source));
        let there = fs::metadata(path).map_err(fail)?;
        if there.is_dir() {
            return Err(IoError::in_file(path, Problem::Folder { action: ACTION }));
        }
        let mut file = File::open(path).map_err(fail)?;
        let mut start = Vec::new();
        file.by_ref().take(START_BYTES).read_to_end(&mut start).map_err(fail)?;
        if start.is_empty() {
            return Err(IoError::in_file(path, Problem::Empty));
        }
        // A pipe has no length that could be known.
        let length = if there.is_file() { there.len() } else { u64::MAX };
        Ok(Self { path, file, start, length })
    }

    /// That the file can hold the voxels that the header announces, before they are read.
    fn check_length(&self, header: &NiftiHeader) -> Result<(), Problem> {
        if gzip::is_gzip(&self.start) { Ok(()) } else { header.check_length(self.length, false) }
    }

    /// At most so many bytes from the start.
    fn first(self, most: usize) -> Result<Vec<u8>, IoError> {
        let Self { path, mut file, start: mut bytes, .. } = self;
        let rest = most.saturating_sub(bytes.len()) as u64;
        let read = file.by_ref().take(rest).read_to_end(&mut bytes);
        read.map_err(|source| IoError::in_file(path, system(ACTION, path, source)))?;
        Ok(bytes)
    }

    fn whole(self) -> Result<Vec<u8>, IoError> {
        let Self { path, mut file, start: mut bytes, length } = self;
        let fail = |source| IoError::in_file(path, system(ACTION, path, source));
        let rest = length.saturating_sub(bytes.len() as u64);
        if length < u64::MAX {
            let memory = |_| IoError::in_file(path, Problem::Memory { action: ACTION, bytes: length });
            bytes.try_reserve_exact(usize::try_from(rest).unwrap_or(usize::MAX)).map_err(memory)?;
        }
        file.read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }
}

/// The other file of a pair: the same name with the other ending, in the same case. Gzipped or not may differ, but where
/// there are both, the one that is packed as this one belongs to it.
fn partner(path: &Path, ending: &str) -> Result<PathBuf, Problem> {
    let [plain, packed] = ["", ".gz"].map(|suffix| names::with_ending(path, &format!(".{ending}{suffix}")));
    let packed_itself = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let candidates = if packed_itself { [packed, plain] } else { [plain, packed] };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    candidates
        .iter()
        .find(|p| p.exists())
        .cloned()
        .ok_or_else(|| Problem::Partner { found: name(path), expected: candidates.map(|p| name(&p)).join(" or ") })
}
