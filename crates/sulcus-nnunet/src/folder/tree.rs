use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::checkpoint::Source;
use crate::error::ImportError;

/// The files of a folder or of an archive, by their path inside it with `/` between its parts.
pub(super) struct Tree {
    path: PathBuf,
    files: Vec<String>,
    zip: Option<ZipArchive<BufReader<File>>>,
}

/// `Dataset/Trainer__Plans__Configuration/fold_X/checkpoint`, and one level above it.
const MAX_DEPTH: usize = 5;
/// Results of a cross-validation lie beside the checkpoints.
const MAX_FILES: usize = 100_000;
/// A compressed file may inflate to this many times the archive's size: weights do not become much smaller, but the state of an
/// optimiser that was not used does.
const MAX_INFLATION: u64 = 20;
/// A small file may be all that an archive has.
const ALWAYS_INFLATED: u64 = 1 << 20;

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        if path.is_dir() {
            let mut files = Vec::new();
            list(path, "", 0, &mut files)
                .map_err(|source| ImportError::Read { path: path.to_path_buf(), source })?;
            files.sort();
            return Ok(Self { path: path.to_path_buf(), files, zip: None });
        }
        let layout = |reason: String| ImportError::Layout { reason, path: path.to_path_buf() };
        let file = File::open(path).map_err(|source| ImportError::Read { path: path.to_path_buf(), source })?;
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("pth")) {
            return Err(layout(
                "it is a checkpoint alone; give the folder that holds plans.json, dataset.json and fold_X"
                    .to_owned(),
            ));
        }
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| layout(format!("it is neither a folder nor an archive that can be read: {e}")))?;
        let mut files: Vec<String> =
            zip.file_names().take(MAX_FILES).filter_map(|name| Some(name.ok()?.replace('\\', "/"))).collect();
        files.sort();
        Ok(Self { path: path.to_path_buf(), files, zip: Some(zip) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn files(&self) -> &[String] {
        &self.files
    }

    /// Reads a file of at most this many bytes.
    pub(super) fn read(&mut self, file: &str, most: u64) -> Result<Vec<u8>, ImportError> {
        let path = self.path.join(file);
        let failed = |source| ImportError::Read { path: path.clone(), source };
        let Some(zip) = &mut self.zip else {
            return read_at_most(File::open(&path).map_err(failed)?, most).map_err(failed);
        };
        let size = std::fs::metadata(&self.path).map_err(failed)?.len();
        let most = most.min(size.saturating_mul(MAX_INFLATION).saturating_add(ALWAYS_INFLATED));
        let entry = entry(zip, file).ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let entry = zip.by_index(entry).map_err(|e| failed(std::io::Error::other(e)))?;
        read_at_most(entry, most).map_err(failed)
    }

    /// Opens a file and computes its SHA-256.
    pub(super) fn open_file(&mut self, file: &str) -> Result<(Box<dyn Source>, String), ImportError> {
        let path = self.path.join(file);
        let failed = |source| ImportError::Read { path: path.clone(), source };
        if self.zip.is_some() {
            let bytes = self.read(file, u64::MAX)?;
            let sha256 = hex(&Sha256::digest(&bytes));
            return Ok((Box::new(Cursor::new(bytes)), sha256));
        }
        let mut opened = File::open(&path).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match opened.read(&mut buffer).map_err(failed)? {
                0 => break,
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
        opened.rewind().map_err(failed)?;
        Ok((Box::new(BufReader::new(opened)), hex(&hasher.finalize())))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The index of an entry, whose name may have backslashes.
fn entry(zip: &ZipArchive<BufReader<File>>, file: &str) -> Option<usize> {
    zip.index_for_name(file).or_else(|| zip.index_for_name(&file.replace('/', "\\")))
}

pub(super) fn read_at_most(source: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn list(folder: &Path, inside: &str, depth: usize, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if path.is_dir() {
            if depth + 1 < MAX_DEPTH {
                list(&path, &format!("{inside}{name}/"), depth + 1, files)?;
            }
        } else if files.len() < MAX_FILES {
            files.push(format!("{inside}{name}"));
        }
    }
    Ok(())
}
