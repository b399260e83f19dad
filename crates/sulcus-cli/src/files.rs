//! Result files: written completely or not at all, and never over an input.

use std::path::{Path, PathBuf};

use crate::error::{CliError, Context};

/// Writes a file under a temporary name in the same folder, then renames it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    sulcus_io::write_atomically(path, |file| file.write_all(bytes)).context("writing a result")
}

/// Creates a folder, and checks that files can be written into it before hours of computation.
///
/// # Errors
/// When it cannot be created or written into.
pub(crate) fn ensure_writable(folder: &Path) -> Result<(), CliError> {
    let refused = |error: std::io::Error| {
        CliError::failed(format_args!(
            "cannot write into the output folder: {}: {}",
            error.kind(),
            folder.display()
        ))
        .hint("choose another place with -o, or change the folder's permissions")
    };
    std::fs::create_dir_all(folder).map_err(refused)?;
    tempfile::Builder::new().prefix(".sulcus-").suffix(".tmp").tempfile_in(folder).map_err(refused)?;
    Ok(())
}

/// The folder of a file, which need not exist yet.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether two paths name the same file; the second file need not exist yet.
pub(crate) fn same_file(existing: &Path, other: &Path) -> bool {
    resolved(existing).is_some_and(|path| resolved(other) == Some(path))
}

/// The canonical path of a file; if it does not exist, of its folder with the file name.
pub(crate) fn resolved(path: &Path) -> Option<PathBuf> {
    match path.canonicalize() {
        Ok(whole) => Some(whole),
        Err(_) => Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_atomically_and_no_temporary_file_remains() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.txt");
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(same_file(&file, &folder.path().join("./a.txt")));
        assert!(!same_file(&file, &folder.path().join("b.txt")));
    }

    #[test]
    fn folder_that_cannot_be_created_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let CliError::Failed { message, hint } = ensure_writable(&file.join("out")).unwrap_err() else {
            panic!("expected a failure");
        };
        assert!(message.starts_with("cannot write into the output folder"), "{message}");
        assert!(message.ends_with("out") && hint.is_some());
    }
}
