use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{IoError, IoErrorKind};
use crate::system_error::io_error_kind;

const ACTION: &str = "write the file";

/// Writes a file that is never visible in an incomplete state: it has a temporary name in the same folder until it is
/// complete. When `write` fails, an existing file stays unchanged, and no temporary file remains.
///
/// An existing path that is not a regular file (`/dev/null`, a pipe) is written directly.
///
/// # Errors
/// When the folder does not exist or is not writable, the disk is full, the path is a folder, or `write` fails.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), IoError> {
    StagedFile::new(path, write)?.commit()
}

/// The names of files that are not complete.
const TEMPORARY: [&str; 2] = [".sulcus-", ".tmp"];

/// Removes the temporary files of [`write_atomically`] from a folder. A process that was killed leaves them behind. Call it only
/// while no other process writes into the folder. A folder that does not exist has none.
///
/// # Errors
/// When the folder cannot be listed or a file cannot be removed.
pub fn remove_temporary_files(folder: &Path) -> Result<(), IoError> {
    const ACTION: &str = "remove an incomplete file";
    let fail = |path: &Path, cause| IoError::in_file(path, io_error_kind(ACTION, path, cause));
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|cause| fail(folder, cause))?,
    };
    let [prefix, suffix] = TEMPORARY;
    for entry in entries {
        let entry = entry.map_err(|cause| fail(folder, cause))?;
        let name = entry.file_name();
        let is_temporary = name.to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(suffix));
        if is_temporary && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs::remove_file(entry.path()).map_err(|cause| fail(&entry.path(), cause))?;
        }
    }
    Ok(())
}

/// A complete file under a temporary name. Both files of a pair are staged before the first gets its name, so that a full
/// disk never leaves a new file beside an old one.
pub(crate) struct StagedFile<'a> {
    path: &'a Path,
    /// `None` for a path that was written directly.
    file: Option<NamedTempFile>,
}

impl<'a> StagedFile<'a> {
    /// Writes the file.
    pub(crate) fn new(
        path: &'a Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self, IoError> {
        Ok(Self { path, file: stage(path, write)? })
    }

    /// Gives the file its final name.
    pub(crate) fn commit(self) -> Result<(), IoError> {
        let Some(file) = self.file else { return Ok(()) };
        let renamed = file.persist(self.path);
        renamed.map(drop).map_err(|e| IoError::in_file(self.path, io_error_kind(ACTION, self.path, e.error)))
    }
}

fn stage(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Option<NamedTempFile>, IoError> {
    let fail = |cause: io::Error| IoError::in_file(path, io_error_kind(ACTION, path, cause));
    if let Ok(metadata) = fs::metadata(path) {
        if metadata.is_dir() {
            return Err(IoError::in_file(path, IoErrorKind::Folder { action: ACTION }));
        }
        if !metadata.is_file() {
            let mut file = BufWriter::new(File::options().write(true).open(path).map_err(fail)?);
            return write(&mut file).and_then(|()| file.flush()).map(|()| None).map_err(fail);
        }
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let [prefix, suffix] = TEMPORARY;
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(suffix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The permissions of any new file, which the umask restricts.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder).map_err(fail)?;
    // Errors of `NamedTempFile` would show the temporary name, so the plain file is used.
    let mut file = BufWriter::new(temporary.as_file_mut());
    write(&mut file).and_then(|()| file.flush()).map_err(fail)?;
    drop(file);
    Ok(Some(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        remove_temporary_files(&folder.path().join("absent")).unwrap();
        // As a killed process leaves it.
        std::mem::forget(stage(&folder.path().join("last.ckpt"), |file| file.write_all(b"half")).unwrap());
        fs::create_dir(folder.path().join(".sulcus-folder.tmp")).unwrap();
        for name in [".sulcus-note.txt", "last.ckpt", "x.sulcus-1.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names().len(), 5);
        remove_temporary_files(folder.path()).unwrap();
        assert_eq!(names(), [".sulcus-folder.tmp", ".sulcus-note.txt", "last.ckpt", "x.sulcus-1.tmp"]);
    }

    #[test]
    fn system_errors_include_a_hint() {
        let message = |kind| {
            let path = Path::new("out.nii.gz");
            IoError::in_file(path, io_error_kind(ACTION, path, io::Error::from(kind))).to_string()
        };
        assert_eq!(
            message(ErrorKind::PermissionDenied),
            "cannot write the file: permission denied; ask for access, or use a folder of your own: out.nii.gz"
        );
        assert_eq!(
            message(ErrorKind::ReadOnlyFilesystem),
            "cannot write the file: the disk is read-only; use another one: out.nii.gz"
        );
        assert!(message(ErrorKind::TimedOut).starts_with("cannot write the file: timed out"));
    }
}
