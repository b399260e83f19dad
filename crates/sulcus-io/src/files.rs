use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sulcus_volume::{Image, LabelMap, LabelTable};

use crate::atomic::{system, write_atomically};
use crate::decode::{NiftiImage, Stored, header_in, header_of_pair, header_of_single};
use crate::encode::{Compression, encode_image, encode_labels};
use crate::error::{IoError, Problem};
use crate::header::NiftiHeader;
use crate::info::VolumeInfo;
use crate::{gzip, names};

const ACTION: &str = "read the volume";

/// Reads an image: `.nii`, `.nii.gz`, or either file of a `.hdr`/`.img` pair. Whether a file is gzipped its content
/// says, not its name.
///
/// # Errors
/// When a file is missing or can't be read, or as [`read_image_bytes`](crate::read_image_bytes).
pub fn read_image(path: &Path) -> Result<NiftiImage, IoError> {
    read(path, |stored| stored.image())
}

/// Reads a label map. Names that it carries are in [`NiftiHeader::label_table`].
///
/// # Errors
/// As [`read_image`]; also when there are channels, or a value is no whole number from 0 to 65535.
pub fn read_labels(path: &Path) -> Result<(LabelMap, NiftiHeader), IoError> {
    read(path, |stored| stored.labels())
}

/// Describes a volume.
///
/// # Errors
/// As [`read_image`].
pub fn read_info(path: &Path) -> Result<VolumeInfo, IoError> {
    read(path, |stored| Ok(stored.info()))
}

/// Reads the header alone, which tells grid, channels and type without the voxels. Label names, which lie between
/// header and voxels, are not read.
///
/// # Errors
/// When the file, or the header of a `.hdr`/`.img` pair, is missing or is no usable NIfTI-1 header.
pub fn read_header(path: &Path) -> Result<NiftiHeader, IoError> {
    let ending = path.file_name().and_then(|n| n.to_str()).and_then(names::split).map(|(_, end)| end);
    let voxels_alone = ending.is_some_and(|end| end.to_ascii_lowercase().starts_with(".img"));
    let header = if voxels_alone {
        partner(path, "hdr").map_err(|p| IoError::in_file(path, p))?
    } else {
        path.to_path_buf()
    };
    header_in(&Opened::new(&header)?.start).map_err(|problem| IoError::in_file(&header, problem))
}

/// Writes a label map on the grid of `like` as [`encode_labels`] says, gzipped when the name ends in `.gz`, under a
/// temporary name until it is whole.
///
/// # Errors
/// When the labels lie on another grid, the name is none of a NIfTI file, or the file can't be written.
pub fn write_labels(
    path: &Path,
    labels: &LabelMap,
    like: &NiftiHeader,
    table: &LabelTable,
) -> Result<(), IoError> {
    let compression = compression(path)?;
    let bytes = encode_labels(labels, like, table, compression).map_err(|e| e.at(path))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Writes an image as float32 on the grid of `like`, 4-D when it has channels, gzipped when the name ends in `.gz`.
///
/// # Errors
/// As [`write_labels`].
pub fn write_image(path: &Path, image: &Image, like: &NiftiHeader) -> Result<(), IoError> {
    let compression = compression(path)?;
    let bytes = encode_image(image, like, compression).map_err(|e| e.at(path))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

fn compression(path: &Path) -> Result<Compression, IoError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let ending = names::split(name).map(|(_, end)| end.to_ascii_lowercase());
    match ending.as_deref() {
        Some(".nii") => Ok(Compression::None),
        Some(".nii.gz") => Ok(Compression::Gzip),
        _ => Err(IoError::in_file(path, Problem::OutputName)),
    }
}

fn read<T>(path: &Path, finish: impl FnOnce(Stored<'_>) -> Result<T, Problem>) -> Result<T, IoError> {
    let fail = |problem| IoError::in_file(path, problem);
    let ending =
        path.file_name().and_then(|n| n.to_str()).and_then(names::split).map(|(_, e)| e.to_ascii_lowercase());
    let ending = ending.unwrap_or_default();
    if ending.starts_with(".img") {
        let header = partner(path, "hdr").map_err(fail)?;
        return read_pair(&header, path, finish);
    }
    if ending.starts_with(".hdr") {
        let start = Opened::new(path)?;
        let header = header_in(&start.start).map_err(fail)?;
        if !header.is_single_file() {
            let voxels = partner(path, "img").map_err(fail)?;
            return read_pair(path, &voxels, finish);
        }
    }
    let opened = Opened::new(path)?;
    let header = header_of_single(&opened.start).map_err(fail)?;
    opened.check_length(&header).map_err(fail)?;
    let bytes = opened.whole()?;
    Stored::single(&bytes).and_then(finish).map_err(fail)
}

fn read_pair<T>(
    header: &Path,
    voxels: &Path,
    finish: impl FnOnce(Stored<'_>) -> Result<T, Problem>,
) -> Result<T, IoError> {
    let header_bytes = Opened::new(header)?.whole()?;
    let checked = header_of_pair(&header_bytes).map_err(|p| IoError::in_file(header, p))?;
    let fail = |problem| IoError::in_file(voxels, problem);
    let opened = Opened::new(voxels)?;
    opened.check_length(&checked).map_err(fail)?;
    let voxel_bytes = opened.whole()?;
    Stored::pair(&header_bytes, &voxel_bytes).and_then(finish).map_err(fail)
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

/// The other file of a pair: the same name with the other ending, in the same case, gzipped or not.
fn partner(path: &Path, ending: &str) -> Result<PathBuf, Problem> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let (stem, own) = names::split(name).unwrap_or((name, ""));
    let upper = own.chars().any(|c| c.is_ascii_uppercase());
    let named = |suffix: &str| {
        let end = format!(".{ending}{suffix}");
        OsString::from(format!("{stem}{}", if upper { end.to_ascii_uppercase() } else { end }))
    };
    let candidates = [path.with_file_name(named("")), path.with_file_name(named(".gz"))];
    candidates.into_iter().find(|p| p.exists()).ok_or_else(|| Problem::Partner {
        found: name.to_owned(),
        expected: format!("{} or {}", named("").to_string_lossy(), named(".gz").to_string_lossy()),
    })
}
