use std::io::{Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use super::{CheckpointError, Source};

/// The zip archive that `torch.save` writes since PyTorch 1.6: one folder with `data.pkl` and `data/{key}` for each storage.
pub(super) struct Archive {
    zip: ZipArchive<Box<dyn Source>>,
    folder: String,
    file_bytes: u64,
}

/// Integers of 80 bits at the start of the older formats: the magic numbers of PyTorch before 1.6, as a pickle.
const LEGACY_START: &[u8] = &[0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

impl Archive {
    pub(super) fn open(mut source: Box<dyn Source>) -> Result<Self, CheckpointError> {
        let failed = |e: std::io::Error| CheckpointError::Archive { reason: e.to_string() };
        let file_bytes = source.seek(SeekFrom::End(0)).map_err(failed)?;
        source.rewind().map_err(failed)?;
        let mut start = Vec::new();
        (&mut source).take(LEGACY_START.len() as u64).read_to_end(&mut start).map_err(failed)?;
        source.rewind().map_err(failed)?;
        if start == LEGACY_START {
            return Err(CheckpointError::NotACheckpoint {
                found: "in the format of PyTorch before 1.6, which nnU-Net v2 never wrote",
            });
        }
        if start.starts_with(&[0x80]) {
            return Err(CheckpointError::NotACheckpoint { found: "a bare pickle" });
        }
        if !start.starts_with(b"PK") {
            return Err(CheckpointError::NotACheckpoint { found: "no zip archive" });
        }
        let zip = ZipArchive::new(source).map_err(|e| CheckpointError::Archive { reason: e.to_string() })?;
        let mut pickles =
            zip.file_names().filter_map(|name| name.ok()?.strip_suffix("/data.pkl").map(str::to_owned));
        let folder = match (pickles.next(), pickles.next()) {
            (Some(folder), None) => folder,
            (None, _) => {
                return Err(CheckpointError::NotACheckpoint { found: "a zip archive without data.pkl" });
            }
            (Some(_), Some(_)) => {
                return Err(CheckpointError::NotACheckpoint { found: "a zip archive with several data.pkl" });
            }
        };
        drop(pickles);
        let mut archive = Self { zip, folder, file_bytes };
        if archive.zip.index_for_name(&format!("{}/constants.pkl", archive.folder)).is_some() {
            return Err(CheckpointError::NotACheckpoint { found: "a TorchScript archive" });
        }
        let order = format!("{}/byteorder", archive.folder);
        if archive.zip.index_for_name(&order).is_some() && archive.read(&order, 16)? != b"little" {
            return Err(CheckpointError::NotACheckpoint { found: "from a machine with another byte order" });
        }
        Ok(archive)
    }

    /// The size of the whole file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn pickle(&mut self, most: u64) -> Result<Vec<u8>, CheckpointError> {
        self.read(&format!("{}/data.pkl", self.folder), most)
    }

    /// The values of a storage, which has exactly this many bytes.
    pub(super) fn storage(&mut self, key: &str, bytes: u64) -> Result<Vec<u8>, CheckpointError> {
        let name = format!("{}/data/{key}", self.folder);
        let found = self.read(&name, bytes)?;
        if found.len() as u64 != bytes {
            return Err(damaged(&name, format!("it has {} bytes, its tensors need {bytes}", found.len())));
        }
        Ok(found)
    }

    /// Reads an entry. Entries are stored as they are: PyTorch never compresses them, and a small compressed entry could inflate to
    /// any size. So no entry is longer than the file.
    fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, CheckpointError> {
        let file_bytes = self.file_bytes;
        let entry = self.zip.by_name(name).map_err(|e| damaged(name, e.to_string()))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(damaged(name, "it is compressed, which torch.save() never does".to_owned()));
        }
        let size = entry.size();
        if size > most || size > file_bytes {
            return Err(damaged(name, format!("it has {size} bytes, at most {} fit", most.min(file_bytes))));
        }
        let mut bytes = Vec::new();
        let room = usize::try_from(size).ok().and_then(|size| bytes.try_reserve_exact(size).ok());
        room.ok_or_else(|| damaged(name, format!("there is no memory for its {size} bytes")))?;
        // The checksum is compared when the end is reached, so one byte more is asked for.
        entry.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| damaged(name, e.to_string()))?;
        Ok(bytes)
    }
}

fn damaged(name: &str, reason: String) -> CheckpointError {
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).take(160).collect();
    CheckpointError::Archive { reason: format!("`{name}`: {reason}") }
}
