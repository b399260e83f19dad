use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{IoError, Problem};

const ACTION: &str = "write the file";

/// Writes a file so that nobody ever sees half of it: under a temporary name in the same folder, renamed when whole.
/// When `write` fails, a file that was there before is left as it was, and nothing else is left behind.
///
/// A path that exists and is no regular file (`/dev/null`, a pipe) is written to as it is.
///
/// # Errors
/// When the folder is missing or can't be written to, the disk is full, the path is a folder, or `write` fails.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), IoError> {
    Staged::new(path, write)?.commit()
}

/// A file that is whole, under a temporary name. What belongs to it is staged too before any of them gets its name, so
/// that a full disk leaves no half of a pair beside an older other half.
pub(crate) struct Staged<'a> {
    path: &'a Path,
    /// None for a path that was written to as it is.
    file: Option<NamedTempFile>,
}

impl<'a> Staged<'a> {
    /// Writes the file.
    pub(crate) fn new(
        path: &'a Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self, IoError> {
        Ok(Self { path, file: stage(path, write)? })
    }

    /// Gives the file its name.
    pub(crate) fn commit(self) -> Result<(), IoError> {
        let Some(file) = self.file else { return Ok(()) };
        let renamed = file.persist(self.path);
        renamed.map(drop).map_err(|e| IoError::in_file(self.path, system(ACTION, self.path, e.error)))
    }
}

fn stage(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Option<NamedTempFile>, IoError> {
    let fail = |source: io::Error| IoError::in_file(path, system(ACTION, path, source));
    if let Ok(there) = fs::metadata(path) {
        if there.is_dir() {
            return Err(IoError::in_file(path, Problem::Folder { action: ACTION }));
        }
        if !there.is_file() {
            let mut file = BufWriter::new(File::options().write(true).open(path).map_err(fail)?);
            return write(&mut file).and_then(|()| file.flush()).map(|()| None).map_err(fail);
        }
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sulcus-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What any other program's new file would have; the umask takes its share.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut draft = builder.tempfile_in(folder).map_err(fail)?;
    // The plain file: errors of the other one tell its temporary name.
    let mut file = BufWriter::new(draft.as_file_mut());
    write(&mut file).and_then(|()| file.flush()).map_err(fail)?;
    drop(file);
    Ok(Some(draft))
}

/// What the system's refusal means, and what to do.
pub(crate) fn system(action: &'static str, path: &Path, source: io::Error) -> Problem {
    let reason = match source.kind() {
        ErrorKind::NotFound => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.exists() => {
                    "its folder does not exist; create it or correct the path".into()
                }
                _ => "there is no such file; check the path".into(),
            }
        }
        ErrorKind::PermissionDenied => "permission denied; ask for access, or use a folder of your own".into(),
        ErrorKind::StorageFull => "the disk is full; free some space or use another disk".into(),
        ErrorKind::ReadOnlyFilesystem => "the disk is read-only; use another one".into(),
        ErrorKind::QuotaExceeded => "your disk quota is used up; free some space".into(),
        _ => source.to_string(),
    };
    Problem::System { action, reason, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_system_say_what_to_do() {
        let says = |kind| {
            let path = Path::new("out.nii.gz");
            IoError::in_file(path, system(ACTION, path, io::Error::from(kind))).to_string()
        };
        assert_eq!(
            says(ErrorKind::PermissionDenied),
            "cannot write the file: permission denied; ask for access, or use a folder of your own: out.nii.gz"
        );
        assert_eq!(
            says(ErrorKind::ReadOnlyFilesystem),
            "cannot write the file: the disk is read-only; use another one: out.nii.gz"
        );
        assert!(says(ErrorKind::TimedOut).starts_with("cannot write the file: timed out"));
    }
}
