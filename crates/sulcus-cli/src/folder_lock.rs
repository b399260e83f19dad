//! Locks that keep two processes from writing the same results into one folder.
//!
//! The operating system releases a lock when its process ends, even if the process is killed: a lock file that was left
//! behind is not locked, and the next process takes it over. The lock file is removed by its last holder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{CliError, Context};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    path: PathBuf,
    /// Absent on file systems without locks.
    file: Option<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Exclusive,
    Shared,
}

impl FolderLock {
    /// Name of the lock file of a training run.
    pub(crate) const RUN: &str = ".sulcus.lock";

    /// Locks a folder against every other holder of this name.
    ///
    /// # Errors
    /// When another process holds the lock, or the lock file cannot be created.
    pub(crate) fn exclusive(folder: &Path, name: &str) -> Result<Self, CliError> {
        Self::acquire(folder, name, Access::Exclusive)
    }

    /// Locks a folder against exclusive holders of this name.
    ///
    /// # Errors
    /// As [`Self::exclusive`].
    pub(crate) fn shared(folder: &Path, name: &str) -> Result<Self, CliError> {
        Self::acquire(folder, name, Access::Shared)
    }

    fn acquire(folder: &Path, name: &str, access: Access) -> Result<Self, CliError> {
        let path = folder.join(name);
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .context(format_args!("creating the lock file {}", path.display()))?;
            let locked = match access {
                Access::Exclusive => file.try_lock(),
                Access::Shared => file.try_lock_shared(),
            };
            match locked {
                Ok(()) if has_path(&file, &path) => {}
                // The last holder removed the file after this process had opened it.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => return Err(in_use(folder, &path)),
                Err(TryLockError::Error(error)) => {
                    tracing::info!("no lock on this file system: {error}: {}", path.display());
                    return Ok(Self { path, file: None });
                }
            }
            // The process ID is only shown to people: without it the lock is as good.
            let _ = write_process_id(&file);
            return Ok(Self { path, file: Some(file) });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        // Shared holders may remain, and the file is theirs as well.
        let is_last = file.unlock().is_ok() && file.try_lock().is_ok();
        if is_last && has_path(file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write_process_id(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    write!(file, "{}", std::process::id())
}

fn in_use(folder: &Path, lock: &Path) -> CliError {
    let process = fs::read_to_string(lock).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let process = process.map(|id| format!(" (process {id})")).unwrap_or_default();
    CliError::failed(format_args!(
        "another sulcus process{process} is writing into this folder: {}",
        folder.display()
    ))
    .hint("wait until it ends, or choose another folder with -o")
}

/// Whether an open file is still the one with this path.
#[cfg(unix)]
fn has_path(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(own), Ok(named)) => id(own) == id(named),
        _ => false,
    }
}

/// Open files keep their paths on other systems.
#[cfg(not(unix))]
fn has_path(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn second_exclusive_lock_is_refused_with_folder_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::exclusive(folder.path(), "x.lock").unwrap();
        for second in [FolderLock::exclusive(folder.path(), "x.lock"), FolderLock::shared(folder.path(), "x.lock")]
        {
            let Err(CliError::Failed { message, hint: Some(_) }) = second else { panic!("expected a failure") };
            assert!(message.contains(&folder.path().display().to_string()), "{message}");
            #[cfg(unix)]
            assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        }
        drop(first);
        assert_eq!(entries(folder.path()), 0, "the lock file is removed");
        drop(FolderLock::exclusive(folder.path(), "x.lock").unwrap());
    }

    #[test]
    fn shared_locks_exclude_an_exclusive_one_until_the_last_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| FolderLock::shared(folder.path(), "x.lock").unwrap());
        assert!(FolderLock::exclusive(folder.path(), "x.lock").is_err());
        drop(first);
        assert!(FolderLock::exclusive(folder.path(), "x.lock").is_err());
        drop(second);
        assert_eq!(entries(folder.path()), 0);
        drop(FolderLock::exclusive(folder.path(), "x.lock").unwrap());
    }

    #[test]
    fn file_left_by_a_killed_process_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.lock"), "4242").unwrap();
        let lock = FolderLock::exclusive(folder.path(), "x.lock").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("x.lock")).unwrap(), std::process::id().to_string());
        drop(lock);
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn names_lock_independently() {
        let folder = tempfile::tempdir().unwrap();
        let _first = FolderLock::exclusive(folder.path(), "a.lock").unwrap();
        let _second = FolderLock::exclusive(folder.path(), "b.lock").unwrap();
    }
}
