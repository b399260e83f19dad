//! Files whose header is text, NRRD and MetaImage: which of the two, where the voxels are, and how they are written.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use sulcus_volume::LabelTable;

use crate::atomic::Staged;
use crate::error::{IoError, Problem};
use crate::grid::Grid;
use crate::names::Output;
use crate::source::Source;
use crate::stored::StoredVolume;
use crate::text::MOST_HEADER_BYTES;
use crate::{metaimage, nrrd};

/// A header that was checked.
#[derive(Debug)]
pub(crate) enum Header {
    Nrrd(nrrd::Header),
    MetaImage(metaimage::Header),
}

/// As many bytes from the start of a file as a header can have.
pub(crate) const MOST_BYTES: usize = MOST_HEADER_BYTES + (1 << 16);

/// Whether a file starts with such a header.
pub(crate) fn starts(bytes: &[u8]) -> bool {
    nrrd::is_nrrd(bytes) || metaimage::is_metaimage(bytes)
}

impl Header {
    /// Checks and reads the header that `bytes` start with; returns where it ends.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, usize), Problem> {
        let (header, rest) = if nrrd::is_nrrd(bytes) {
            let (header, rest) = nrrd::Header::parse(bytes)?;
            (Self::Nrrd(header), rest)
        } else {
            let (header, rest) = metaimage::Header::parse(bytes)?;
            (Self::MetaImage(header), rest)
        };
        Ok((header, bytes.len() - rest.len()))
    }

    /// The file in which the voxels are, if it isn't the header's own.
    pub(crate) fn data_file(&self, header: &Path) -> Result<Option<PathBuf>, Problem> {
        self.named().map(|name| beside(header, name)).transpose()
    }

    fn named(&self) -> Option<&str> {
        match self {
            Self::Nrrd(header) => header.data_file(),
            Self::MetaImage(header) => header.data_file(),
        }
    }

    /// The volume. `file` is the one with the voxels, which begin at `start` or after it.
    pub(crate) fn read(self, file: Cow<'_, [u8]>, start: usize) -> Result<StoredVolume<'_>, Problem> {
        match self {
            Self::Nrrd(header) => header.read(file, start),
            Self::MetaImage(header) => header.read(file, start),
        }
    }

    /// What the header alone says.
    pub(crate) fn source(&self) -> Result<Source, Problem> {
        match self {
            Self::Nrrd(header) => header.source(),
            Self::MetaImage(header) => Ok(header.source()),
        }
    }
}

/// A volume that is whole in one file.
pub(crate) fn read_single(bytes: Cow<'_, [u8]>) -> Result<StoredVolume<'_>, Problem> {
    let (header, start) = Header::parse(&bytes)?;
    if header.named().is_some() { Err(Problem::DataFileMissing) } else { header.read(bytes, start) }
}

/// A file that a header names for its voxels: a plain name in the header's own folder, so that a header from elsewhere
/// can't make a program read any other file.
fn beside(header: &Path, name: &str) -> Result<PathBuf, Problem> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = !name.is_empty() && !name.contains(['/', '\\', ':', '\0']) && name != "..";
    if plain { Ok(header.with_file_name(name)) } else { Err(Problem::DataFileOutside) }
}

/// Writes a volume in one of the two formats, each file under a temporary name until both are whole: the voxels get
/// theirs first, so that there is never a header without them.
pub(crate) fn write(
    path: &Path,
    output: Output,
    grid: &Grid<'_>,
    table: Option<&LabelTable>,
) -> Result<(), IoError> {
    let fail = |problem| IoError::in_file(path, problem);
    let (_, beside) = output.files(path);
    let name = beside.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let (header, voxels) = match output {
        Output::Nrrd => (nrrd::encode(grid, table), None),
        Output::MetaImage => (metaimage::encode(grid), None),
        Output::NrrdPair => {
            let voxels = nrrd::voxels(grid).map_err(fail)?;
            (Ok(nrrd::header(grid, table, name).into_bytes()), Some(voxels))
        }
        Output::MetaImagePair => {
            let voxels = metaimage::voxels(grid).map_err(fail)?;
            (Ok(metaimage::header(grid, voxels.len(), name).into_bytes()), Some(voxels))
        }
        Output::Nifti(_) | Output::NiftiPair(_) => (Err(Problem::OutputName), None),
    };
    let header = header.map_err(fail)?;
    let stage = |path, bytes: &[u8]| Staged::new(path, |file| file.write_all(bytes));
    let voxels = beside.as_deref().zip(voxels.as_deref()).map(|(path, bytes)| stage(path, bytes)).transpose()?;
    let header = stage(path, &header)?;
    voxels.map_or(Ok(()), Staged::commit)?;
    header.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_is_in_the_headers_folder_or_none() {
        let header = Path::new("folder/a.nhdr");
        assert_eq!(beside(header, "./a b.raw").unwrap(), Path::new("folder/a b.raw"));
        for name in ["../a.raw", "/etc/passwd", "x/a.raw", "..", "", "C:a.raw", "..\\a.raw", "a\0"] {
            assert!(beside(header, name).is_err(), "{name}");
        }
    }
}
