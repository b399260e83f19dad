use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{IoError, Problem};

const ACTION: &str = "write the file";

/// Writes a file so that nobody ever sees half of it: under a temporary name in the same folder, renamed when whole.
/// When `write` fails, a file that was there before is left as it was, and nothing else is left behind. When this returns,
/// the file and its name are on the disk: a power cut after it leaves the new file, one during it the old file.
///
/// A symbolic link is followed: the file that it leads to is replaced, and the link stays. A file that is replaced keeps its
/// permissions. A path that exists and is no regular file (`/dev/null`, a pipe) is written to as it is.
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
    draft: Option<Draft>,
}

/// A temporary file and the name that it will get.
struct Draft {
    file: NamedTempFile,
    target: PathBuf,
}

impl<'a> Staged<'a> {
    /// Writes the file.
    pub(crate) fn new(
        path: &'a Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self, IoError> {
        Ok(Self { path, draft: stage(path, write)? })
    }

    /// Gives the file its name.
    pub(crate) fn commit(self) -> Result<(), IoError> {
        let Some(Draft { file, target }) = self.draft else { return Ok(()) };
        let renamed = file.persist(&target).map_err(|e| e.error).and_then(|_| sync_folder(folder_of(&target)));
        renamed.map_err(|error| IoError::in_file(self.path, system(ACTION, self.path, error)))
    }
}

fn stage(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Option<Draft>, IoError> {
    let fail = |source: io::Error| IoError::in_file(path, system(ACTION, path, source));
    let existing = fs::metadata(path).ok();
    if let Some(existing) = &existing {
        if existing.is_dir() {
            return Err(IoError::in_file(path, Problem::Folder { action: ACTION }));
        }
        if !existing.is_file() {
            let mut file = BufWriter::new(File::options().write(true).open(path).map_err(fail)?);
            return write(&mut file).and_then(|()| file.flush()).map(|()| None).map_err(fail);
        }
    }
    let target = follow_links(path).map_err(fail)?;
    let mut draft = temporary_in(folder_of(&target), existing.as_ref()).map_err(fail)?;
    // The plain file: errors of the other one tell its temporary name.
    let mut file = BufWriter::new(draft.as_file_mut());
    write(&mut file).and_then(|()| file.flush()).map_err(fail)?;
    drop(file);
    // A rename can reach the disk before the content of the file does.
    where_supported(draft.as_file().sync_all()).map_err(fail)?;
    Ok(Some(Draft { file: draft, target }))
}

/// A temporary file with the permissions of the one that it will replace.
#[cfg(unix)]
fn temporary_in(folder: &Path, existing: Option<&fs::Metadata>) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    /// What any other program's new file has; the umask takes its share.
    const NEW_FILE: u32 = 0o666;
    let kept = existing.map(|existing| existing.permissions().mode() & 0o777);
    // The owner may write while the file is made, and nobody else gets more than in the end.
    let mode = kept.map_or(NEW_FILE, |kept| kept | 0o200);
    let draft = builder().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
    if let Some(kept) = kept {
        draft.as_file().set_permissions(fs::Permissions::from_mode(kept))?;
    }
    Ok(draft)
}

#[cfg(not(unix))]
fn temporary_in(folder: &Path, _existing: Option<&fs::Metadata>) -> io::Result<NamedTempFile> {
    builder().tempfile_in(folder)
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sulcus-").suffix(".tmp");
    builder
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path at the end of a chain of symbolic links, whether there is a file or not. Any other path is its own end.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const MAX_LINKS: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&target) else { return Ok(target) };
        target = folder_of(&target).join(next);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "it is a symbolic link that leads to itself"))
}

/// Makes a rename last.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    where_supported(File::open(folder).and_then(|folder| folder.sync_all()))
}

/// Other systems do not sync folders.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The outcome of a sync, where the file system has it: some network file systems do not, and a folder in which files may be
/// made but not listed cannot be opened.
fn where_supported(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
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

    #[cfg(unix)]
    fn write_text(path: &Path, text: &str) -> Result<(), IoError> {
        write_atomically(path, |file| file.write_all(text.as_bytes()))
    }

    #[cfg(unix)]
    #[test]
    fn link_is_followed_and_stays_a_link() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("data")).unwrap();
        fs::write(at("data/old.nii"), "old").unwrap();
        symlink("data/old.nii", at("relative.nii")).unwrap();
        symlink(at("relative.nii"), at("absolute.nii")).unwrap();
        symlink("data/new.nii", at("dangling.nii")).unwrap();
        symlink("loop.nii", at("loop.nii")).unwrap();
        for (link, target) in
            [("relative.nii", "data/old.nii"), ("absolute.nii", "data/old.nii"), ("dangling.nii", "data/new.nii")]
        {
            write_text(&at(link), link).unwrap();
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(at(target)).unwrap(), link);
        }
        let error = write_text(&at("loop.nii"), "text").unwrap_err().to_string();
        assert!(error.contains("a symbolic link that leads to itself") && error.ends_with("loop.nii"), "{error}");
        assert!(fs::symlink_metadata(at("loop.nii")).unwrap().is_symlink());
        assert_eq!((fs::read_dir(at("")).unwrap().count(), fs::read_dir(at("data")).unwrap().count()), (5, 2));
    }

    #[cfg(unix)]
    #[test]
    fn replaced_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.nii");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        write_text(&path, "new").unwrap();
        for kept in [0o600, 0o640, 0o664, 0o666, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            write_text(&path, "newer").unwrap();
            assert_eq!(mode(), kept, "{kept:o}");
        }
        let failed = write_atomically(&path, |_| Err(ErrorKind::StorageFull.into()));
        assert!(failed.is_err() && mode() == 0o400 && fs::read_to_string(&path).unwrap() == "newer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
