use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{IoError, IoErrorKind};
use crate::system_error::io_error_kind;

const ACTION: &str = "write the file";

/// Writes a file that is never visible in an incomplete state: it has a temporary name in the same folder until it is
/// complete. When `write` fails, an existing file stays unchanged, and no temporary file remains. When this function returns, the
/// file and its name are on the disk: after a power failure there is the new file, and after one before that the old file.
///
/// A symbolic link is followed: the file that it leads to is replaced, and the link stays. A file that is replaced keeps its
/// permissions. An existing path that is not a regular file (`/dev/null`, a pipe) is written directly.
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
    draft: Option<Draft>,
}

/// A temporary file and the name that it will get.
struct Draft {
    file: NamedTempFile,
    target: PathBuf,
}

impl<'a> StagedFile<'a> {
    /// Writes the file.
    pub(crate) fn new(
        path: &'a Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self, IoError> {
        Ok(Self { path, draft: stage(path, write)? })
    }

    /// Gives the file its final name.
    pub(crate) fn commit(self) -> Result<(), IoError> {
        let Some(Draft { file, target }) = self.draft else { return Ok(()) };
        let renamed = file.persist(&target).map_err(|e| e.error).and_then(|_| sync_folder(folder_of(&target)));
        renamed.map_err(|cause| IoError::in_file(self.path, io_error_kind(ACTION, self.path, cause)))
    }
}

fn stage(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Option<Draft>, IoError> {
    let fail = |cause: io::Error| IoError::in_file(path, io_error_kind(ACTION, path, cause));
    let existing = fs::metadata(path).ok();
    if let Some(existing) = &existing {
        if existing.is_dir() {
            return Err(IoError::in_file(path, IoErrorKind::Folder { action: ACTION }));
        }
        if !existing.is_file() {
            let mut file = BufWriter::new(File::options().write(true).open(path).map_err(fail)?);
            return write(&mut file).and_then(|()| file.flush()).map(|()| None).map_err(fail);
        }
    }
    let target = follow_links(path).map_err(fail)?;
    let mut temporary = temporary_file(folder_of(&target), existing.as_ref()).map_err(fail)?;
    // Errors of `NamedTempFile` would show the temporary name, so the plain file is used.
    let mut file = BufWriter::new(temporary.as_file_mut());
    write(&mut file).and_then(|()| file.flush()).map_err(fail)?;
    drop(file);
    // Otherwise the rename could reach the disk before the content of the file.
    if_supported(temporary.as_file().sync_all()).map_err(fail)?;
    Ok(Some(Draft { file: temporary, target }))
}

/// A temporary file with the permissions of the file that it will replace.
#[cfg(unix)]
fn temporary_file(folder: &Path, existing: Option<&fs::Metadata>) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    /// The permissions of any new file, which the umask restricts.
    const NEW_FILE: u32 = 0o666;
    const OWNER_MAY_WRITE: u32 = 0o200;
    let kept = existing.map(|existing| existing.permissions().mode() & 0o777);
    let mode = kept.map_or(NEW_FILE, |kept| kept | OWNER_MAY_WRITE);
    let file = temporary_name().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
    if let Some(kept) = kept {
        file.as_file().set_permissions(fs::Permissions::from_mode(kept))?;
    }
    Ok(file)
}

#[cfg(not(unix))]
fn temporary_file(folder: &Path, _existing: Option<&fs::Metadata>) -> io::Result<NamedTempFile> {
    temporary_name().tempfile_in(folder)
}

fn temporary_name() -> tempfile::Builder<'static, 'static> {
    let [prefix, suffix] = TEMPORARY;
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(suffix);
    builder
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path to which a chain of symbolic links leads, whether there is a file or not; `path` itself if it is not a link.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    /// The number that Linux follows.
    const MAX_LINKS: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&target) else { return Ok(target) };
        target = folder_of(&target).join(next);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "it is a symbolic link that leads to itself"))
}

/// Writes the names of a folder to the disk, so that a rename in it is permanent.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    if_supported(File::open(folder).and_then(|folder| folder.sync_all()))
}

/// Other systems cannot sync folders.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The result of a sync on file systems that support it. Some network file systems do not, and a folder in which files may be
/// created but not listed cannot be opened.
fn if_supported(synced: io::Result<()>) -> io::Result<()> {
    match synced.as_ref().map_err(io::Error::kind) {
        Err(ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::PermissionDenied) => Ok(()),
        _ => synced,
    }
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
