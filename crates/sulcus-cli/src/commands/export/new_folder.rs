//! Folders that appear only when they are complete.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

use crate::error::CliError;

/// A folder with a temporary name for incomplete results. Other users may read it later, so it gets the permissions of any new folder.
pub(super) fn temporary_folder(folder: &Path) -> Result<TempDir, CliError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sulcus-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(folder).map_err(|error| write_error(&error, folder))
}

/// Renames a complete folder. An existing folder with content is kept, and the call fails.
pub(super) fn rename_to(made: TempDir, name: &Path) -> Result<(), CliError> {
    // Windows cannot rename to the path of an existing folder, even an empty one. Folders with content are not removed.
    let _ = fs::remove_dir(name);
    fs::rename(made.path(), name).map_err(|error| write_error(&error, name))?;
    // The temporary name no longer exists and must not be removed.
    let _ = made.keep();
    Ok(())
}

/// Refuses a folder that has content, before anything is computed.
pub(super) fn check_empty(folder: &Path, option: &str) -> Result<(), CliError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(CliError::usage(format_args!(
            "{option} writes a new folder, but this one has content: {}",
            folder.display()
        ))
        .hint("choose another folder, or remove this one")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            crate::files::ensure_writable(&crate::files::folder_of(folder))
        }
        Err(error) => Err(write_error(&error, folder)),
    }
}

pub(super) fn write_error(error: &io::Error, path: &Path) -> CliError {
    CliError::failed(format_args!("writing a folder: {error}: {}", path.display()))
}
